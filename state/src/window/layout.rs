//! What the tiles of one feature class look like, and what goes into them: made once from the declarations.
//!
//! Tiles come in levels, the finest first, each hop a multiple of the one before. An event is written to the finest level only;
//! when the watermark has passed the end of a coarser tile, the finer tiles in it are rolled up into it ([`super::row`]).

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use karst_types::{
    Aggregation, ClassId, EventTime, Expr, FeatureSlot, TimeSpan, UpdateRef, Value, ValueType, WindowKind, WindowLength,
    entity::key_hash,
    window::{default_hop, tile_end},
};

use super::{
    aggregate::{Aggregate, Input},
    row::floor_to,
};
use crate::bytes;

/// Classes above this number are ours: the tiles of a class are rows of a class of their own.
pub const CLASSES_MAX: u16 = 0x4000;
const LIVE: u16 = 0x8000;
const ARCHIVE: u16 = 0x4000;

/// The finest tile, unless a window hops in smaller steps.
const HEAD: TimeSpan = TimeSpan::from_secs(60);
/// Tiles finer than a window's hop are kept so much longer than they are needed at the watermark, at least: clocks that ask for
/// "now" may be behind it.
pub(super) const SLACK: i64 = 600_000_000;

/// One aggregate of a class, over however many windows.
#[derive(Clone, Debug)]
pub struct AggregateDeclaration {
    /// Its number in the class, given once by name for ever.
    pub slot: u16,
    /// What is made of the values.
    pub aggregation: Aggregation,
    /// The values and their type; `None`: rows are counted.
    pub input: Option<(Expr<FeatureSlot>, ValueType)>,
    /// What `min_by_n` and `max_by_n` order by.
    pub by: Option<Expr<FeatureSlot>>,
    /// Rows for which this is not true are passed over.
    pub filter: Option<Expr<FeatureSlot>>,
    /// The group within the entity, and how many there may be.
    pub group_by: Option<(Expr<FeatureSlot>, u32)>,
    /// Raw events are kept, for windows that are to be exact.
    pub exact: bool,
}

/// One window of a class; which aggregate is read over it is asked with every read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowDeclaration {
    /// Its length.
    pub length: WindowLength,
    /// Its kind. Sessions are kept elsewhere.
    pub kind: WindowKind,
    /// The step of its tail; `None`: by its length ([`default_hop`]).
    pub hop: Option<TimeSpan>,
    /// How far before the watermark "now" may lie.
    pub retention: TimeSpan,
    /// Whether its edges are exact to the event.
    pub exact: bool,
}

impl WindowDeclaration {
    /// The step of its tail.
    pub fn hop(&self) -> TimeSpan {
        self.hop.unwrap_or_else(|| default_hop(self.length))
    }
}

pub(crate) struct Level {
    /// In µs.
    pub(crate) hop: i64,
    /// How long before the watermark a tile's end may lie so that it is still in the entity's row. `i64::MAX`: for ever.
    pub(crate) keep: i64,
    /// How much longer than that it is archived; 0: not at all.
    pub(crate) archive: i64,
    /// The entity's whole past before its oldest tile is kept in one.
    pub(crate) bottom: bool,
}

struct Bound {
    aggregate: Aggregate,
    value: Source,
    by: Source,
    group: Source,
    filter: Option<Expr<FeatureSlot>>,
    /// An update that does not write all of these of [`ClassWindows::reads`] is not seen.
    needs: Vec<usize>,
    /// Neither by nor group, and the value, if any, is a cell.
    simple: bool,
}

/// Where an operand comes from.
enum Source {
    None,
    /// The cell of this one of [`ClassWindows::reads`].
    Cell(usize),
    Computed(Expr<FeatureSlot>),
}

/// Where the state of an aggregate is in a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// At this offset, so many bytes.
    Fixed(usize, usize),
    /// The n-th of variable length.
    Variable(usize),
}

/// The windows of one feature class.
pub struct ClassWindows {
    class: ClassId,
    /// Empty if this is only remembered from an earlier declaration.
    aggregates: Vec<Bound>,
    /// The features that any of them reads, by rising slot.
    reads: Vec<FeatureSlot>,
    slots: Vec<u16>,
    places: Vec<Place>,
    /// Indexes of the aggregates whose raw events are kept: variable states after those of the aggregates.
    raw: Vec<usize>,
    fixed_len: usize,
    variables: usize,
    levels: Vec<Level>,
    fingerprint: u32,
    watermark: AtomicI64,
}

impl ClassWindows {
    /// # Panics
    /// If there is no window, hops do not nest, or the class's number is too large: the declaration was checked before.
    pub fn new(class: ClassId, aggregates: &[AggregateDeclaration], windows: &[WindowDeclaration]) -> Self {
        assert!(!windows.is_empty(), "a class with windows");
        let raw = (0..aggregates.len()).filter(|index| aggregates[*index].exact).collect();
        Self::bound(class, aggregates, raw, levels(windows))
    }

    /// What sees the updates of a class, and what it makes of them, for whoever keeps it in other ways than in tiles of levels.
    pub(super) fn without_levels(class: ClassId, aggregates: &[AggregateDeclaration]) -> Self {
        Self::bound(class, aggregates, Vec::new(), Vec::new())
    }

    fn bound(class: ClassId, aggregates: &[AggregateDeclaration], raw: Vec<usize>, levels: Vec<Level>) -> Self {
        assert!(class.0 < CLASSES_MAX, "the number of a class of a user");
        let mut reads: Vec<FeatureSlot> = aggregates.iter().flat_map(read_by).collect();
        reads.sort_unstable();
        reads.dedup();
        let bound: Vec<Bound> = aggregates.iter().map(|declared| bind(declared, &reads)).collect();
        let states =
            aggregates.iter().zip(&bound).map(|(declared, bound)| (declared.slot, bound.aggregate.fixed_len())).collect();
        Self { aggregates: bound, reads, ..Self::shaped(class, states, raw, levels) }
    }

    fn shaped(class: ClassId, states: Vec<(u16, Option<usize>)>, raw: Vec<usize>, levels: Vec<Level>) -> Self {
        let (mut fixed_len, mut variables) = (0, 0);
        let places = states.iter().map(|(_, size)| match size {
            Some(size) => {
                fixed_len += size;
                Place::Fixed(fixed_len - size, *size)
            }
            None => {
                variables += 1;
                Place::Variable(variables - 1)
            }
        });
        let places = places.collect();
        variables += raw.len();
        let slots = states.into_iter().map(|(slot, _)| slot).collect();
        let mut shaped = Self {
            class,
            aggregates: Vec::new(),
            reads: Vec::new(),
            slots,
            places,
            raw,
            fixed_len,
            variables,
            levels,
            fingerprint: 0,
            watermark: AtomicI64::new(i64::MIN),
        };
        shaped.fingerprint = key_hash(shaped.describe().as_bytes()) as u32;
        shaped
    }

    /// What has to be known to read rows of this layout, on one line: the class, then hops in µs (`+`: with a bottom), then aggregates
    /// and the size of their states (`*`: of any length), then those whose raw events are kept.
    pub(crate) fn describe(&self) -> String {
        let levels = self.levels.iter().map(|level| format!(" {}{}", level.hop, if level.bottom { "+" } else { "" }));
        let states = self.slots.iter().zip(&self.places).map(|(slot, place)| match place {
            Place::Fixed(_, size) => format!(" {slot}={size}"),
            Place::Variable(_) => format!(" {slot}=*"),
        });
        let raw = self.raw.iter().map(|index| format!(" {}!", self.slots[*index]));
        format!("{}{}{}{}", self.class.0, levels.collect::<String>(), states.collect::<String>(), raw.collect::<String>())
    }

    /// A layout as it was described.
    pub(crate) fn remembered(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let class = ClassId(words.next()?.parse().ok()?);
        let (mut states, mut raw, mut levels) = (Vec::new(), Vec::new(), Vec::new());
        for word in words {
            match word.split_once('=') {
                None if word.ends_with('!') => {
                    let slot: u16 = word.trim_end_matches('!').parse().ok()?;
                    raw.push(states.iter().position(|(known, _)| *known == slot)?);
                }
                Some((slot, "*")) => states.push((slot.parse().ok()?, None)),
                Some((slot, size)) => states.push((slot.parse().ok()?, Some(size.parse().ok()?))),
                None => {
                    let hop: i64 = word.trim_end_matches('+').parse().ok().filter(|hop| *hop > 0)?;
                    levels.push(Level { hop, keep: 0, archive: 0, bottom: word.ends_with('+') });
                }
            }
        }
        (!levels.is_empty()).then(|| Self::shaped(class, states, raw, levels))
    }

    /// The class whose updates are aggregated.
    pub fn class(&self) -> ClassId {
        self.class
    }
    /// The class under which the tiles of an entity are stored.
    pub(crate) fn live_of(class: ClassId) -> ClassId {
        ClassId(class.0 | LIVE)
    }
    /// The class under which older tiles are.
    pub(crate) fn archive_of(class: ClassId) -> ClassId {
        ClassId(class.0 | ARCHIVE)
    }
    pub(crate) fn archive(&self) -> ClassId {
        Self::archive_of(self.class)
    }
    /// The index of an aggregate by its number.
    pub(crate) fn index_of(&self, slot: u16) -> Option<usize> {
        self.slots.iter().position(|known| *known == slot)
    }
    pub(crate) fn aggregate(&self, index: usize) -> (&Aggregate, Place) {
        (&self.aggregates[index].aggregate, self.places[index])
    }
    /// The numbers of the aggregates.
    pub(crate) fn slots(&self) -> &[u16] {
        &self.slots
    }
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }
    /// Which variable state has the raw events of an aggregate.
    pub(crate) fn raw(&self, index: usize) -> Option<usize> {
        let nth = self.raw.iter().position(|known| *known == index)?;
        Some(self.variables - self.raw.len() + nth)
    }
    /// The variable states that are raw events.
    pub(crate) fn raws(&self) -> impl Iterator<Item = Place> {
        (self.variables - self.raw.len()..self.variables).map(Place::Variable)
    }
    pub(crate) fn place(&self, index: usize) -> Place {
        self.places[index]
    }
    pub(crate) fn fixed_len(&self) -> usize {
        self.fixed_len
    }
    pub(crate) fn variables(&self) -> usize {
        self.variables
    }
    pub(crate) fn levels(&self) -> &[Level] {
        &self.levels
    }
    /// Tells rows of one layout from those of another.
    pub(crate) fn fingerprint(&self) -> u32 {
        self.fingerprint
    }

    /// Up to where nothing more is to come, but late events: drives roll-over and expiry.
    pub fn watermark(&self) -> EventTime {
        EventTime(self.watermark.load(Relaxed))
    }
    /// Moves it on; it never goes back.
    pub fn advance(&self, watermark: EventTime) {
        self.watermark.fetch_max(watermark.0, Relaxed);
    }

    /// The numbers of the aggregates that see this update.
    pub(crate) fn sees(&self, update: &UpdateRef<'_>) -> Vec<u16> {
        let mut seen = Vec::new();
        self.inputs(update, &mut Scratch::default(), |index, _| seen.push(self.slots[index]));
        seen
    }

    /// Calls `each` with the index and input of every aggregate that sees this update.
    #[inline]
    pub(crate) fn inputs(&self, update: &UpdateRef<'_>, scratch: &mut Scratch, mut each: impl FnMut(usize, &Input<'_>)) {
        let block = update.cells;
        let all = self.find_cells(block, scratch);
        let Scratch { written, computed, .. } = scratch;
        let cell = |read: usize| &block[written[read].0..written[read].1];
        for (index, bound) in self.aggregates.iter().enumerate() {
            if !all && bound.needs.iter().any(|read| written[*read] == ABSENT) {
                continue;
            }
            if let Some(filter) = &bound.filter
                && filter.evaluate(block) != Value::Bool(true)
            {
                continue;
            }
            if bound.simple {
                let value = if let Source::Cell(read) = bound.value { cell(read) } else { &[] };
                each(index, &Input { value, by: None, group: None, version: &update.version });
                continue; // most are so
            }
            computed.clear();
            let mut operand = |source: &Source| match source {
                Source::None => Operand::None,
                Source::Cell(read) => Operand::Cell(*read),
                Source::Computed(expr) => {
                    let start = computed.len();
                    expr.evaluate(block).encode(computed);
                    Operand::Computed(start, computed.len())
                }
            };
            let [value, by, group] = [&bound.value, &bound.by, &bound.group].map(&mut operand);
            let bytes = |operand: Operand| match operand {
                Operand::None => None,
                Operand::Cell(read) => Some(cell(read)),
                Operand::Computed(start, end) => Some(&computed[start..end]),
            };
            let value = bytes(value).unwrap_or_default();
            each(index, &Input { value, by: bytes(by), group: bytes(group), version: &update.version });
        }
    }

    /// Finds what is read in a cells block; slots rise in both. Says whether all of it is there.
    #[inline]
    fn find_cells(&self, block: &[u8], scratch: &mut Scratch) -> bool {
        let head = 2 + 2 * block.first_chunk::<2>().map_or(0, |count| usize::from(u16::from_le_bytes(*count)));
        let known =
            scratch.class == Some(self.class) && block.get(..head).is_some_and(|slots| bytes::same(slots, &scratch.slots));
        if !known {
            self.learn(block.get(..head).unwrap_or_default(), scratch);
        }
        let (mut at, mut nth) = (head, 0);
        for (wanted, place) in scratch.nth.iter().zip(&mut scratch.written) {
            if *wanted == NOWHERE {
                continue;
            }
            // Up to that cell, and behind it.
            loop {
                let Some(length) = block.get(at..).and_then(Value::encoded_len) else {
                    scratch.written.iter_mut().for_each(|place| *place = ABSENT);
                    scratch.class = None;
                    return false;
                };
                at += length;
                nth += 1;
                if nth > *wanted {
                    *place = (at - length, at);
                    break;
                }
            }
        }
        scratch.all
    }

    /// Which of an update's cells are read, from its slots: nearly all updates write the same.
    #[cold]
    fn learn(&self, slots: &[u8], scratch: &mut Scratch) {
        let written: Vec<&[u8]> = slots.get(2..).unwrap_or_default().chunks_exact(2).collect();
        let nth = |wanted: &FeatureSlot| written.iter().position(|slot| **slot == wanted.0.to_le_bytes());
        scratch.nth = self.reads.iter().map(|wanted| nth(wanted).map_or(NOWHERE, |nth| nth as u32)).collect();
        scratch.all = scratch.nth.iter().all(|nth| *nth != NOWHERE);
        scratch.written = vec![ABSENT; self.reads.len()];
        scratch.slots = slots.to_vec();
        scratch.class = Some(self.class);
    }
}

/// Not written by updates of these slots.
const NOWHERE: u32 = u32::MAX;

/// No such cell.
const ABSENT: (usize, usize) = (usize::MAX, usize::MAX);

/// What is used again for every update: memory, and what was found out for the one before. Belongs to one layout of each class.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The class and the slots of the last update, and which of its cells are read.
    class: Option<ClassId>,
    slots: Vec<u8>,
    nth: Vec<u32>,
    all: bool,
    /// Where the cells that are read are in the cells block.
    written: Vec<(usize, usize)>,
    computed: Vec<u8>,
    /// Hops, and the end of the tile in which the last event was.
    ends: Vec<(i64, i64)>,
    pub(crate) passed: Passed,
    /// Tiles that are rolled up.
    pub(crate) rolled: Vec<u8>,
}

impl Scratch {
    /// As [`end_of`]: most events are in the same tile as the one before, and dividing takes as long as all else that is done for one.
    #[inline]
    pub(crate) fn end_of(&mut self, level: usize, time: EventTime, hop: i64) -> i64 {
        if let Some((of, end)) = self.ends.get(level)
            && *of == hop
            && time.0 <= *end
            && time.0 > end.saturating_sub(hop)
        {
            return *end;
        }
        let end = end_of(time, hop);
        self.ends.resize(self.ends.len().max(level + 1), (0, 0));
        self.ends[level] = (hop, end);
        end
    }
}

/// What a watermark has passed: the same for all rows of a class.
#[derive(Default)]
pub(crate) struct Passed {
    of: Option<(ClassId, i64)>,
    /// Of each level, up to where tiles are complete; and the end of the last tile that no window needs.
    pub(crate) levels: Vec<(i64, i64)>,
}

impl Passed {
    pub(crate) fn look(&mut self, layout: &ClassWindows, watermark: EventTime) {
        if self.of != Some((layout.class, watermark.0)) {
            let of = |level: &Level| {
                let needed = floor_to(watermark.0.saturating_sub(level.keep), level.hop);
                (floor_to(watermark.0, level.hop), needed)
            };
            self.levels = layout.levels.iter().map(of).collect();
            self.of = Some((layout.class, watermark.0));
        }
    }
}

#[derive(Clone, Copy)]
enum Operand {
    None,
    Cell(usize),
    Computed(usize, usize),
}

/// The features that an aggregate reads.
fn read_by(declared: &AggregateDeclaration) -> impl Iterator<Item = FeatureSlot> {
    let (input, group) = (declared.input.as_ref(), declared.group_by.as_ref());
    let all = [input.map(|(expr, _)| expr), declared.by.as_ref(), declared.filter.as_ref(), group.map(|(expr, _)| expr)];
    all.into_iter().flatten().flat_map(Expr::features).copied()
}

fn bind(declared: &AggregateDeclaration, reads: &[FeatureSlot]) -> Bound {
    let place = |slot: FeatureSlot| reads.partition_point(|read| *read < slot);
    let source = |expr: Option<&Expr<FeatureSlot>>| match expr {
        None => Source::None,
        Some(Expr::Feature(slot)) => Source::Cell(place(*slot)),
        Some(expr) => Source::Computed(expr.clone()),
    };
    let mut needs: Vec<usize> = read_by(declared).map(place).collect();
    needs.sort_unstable();
    needs.dedup();
    let groups_max = declared.group_by.as_ref().map(|(_, max)| *max);
    let value = source(declared.input.as_ref().map(|(expr, _)| expr));
    let [by, group] = [declared.by.as_ref(), declared.group_by.as_ref().map(|(expr, _)| expr)].map(source);
    Bound {
        aggregate: Aggregate::new(declared.aggregation, declared.input.as_ref().map(|(_, ty)| *ty), groups_max),
        simple: matches!((&value, &by, &group), (Source::None | Source::Cell(_), Source::None, Source::None)),
        value,
        by,
        group,
        filter: declared.filter.clone(),
        needs,
    }
}

fn levels(windows: &[WindowDeclaration]) -> Vec<Level> {
    let mut hops: Vec<i64> = windows.iter().map(|window| window.hop().micros()).collect();
    let finest = hops.iter().copied().min().unwrap_or(HEAD.micros());
    hops.push(if finest % HEAD.micros() == 0 { HEAD.micros() } else { finest });
    hops.sort_unstable();
    hops.dedup();
    assert!(hops.is_sorted_by(|finer, coarser| coarser % finer == 0), "hops nest");
    (0..hops.len())
        .map(|index| {
            let hop = hops[index];
            let tails = windows.iter().filter(|window| window.hop().micros() == hop);
            let mut level = Level { hop, keep: 0, archive: 0, bottom: false };
            if index == 0 {
                // A window's edge may cut any tile between its tail and its head.
                let exact = windows.iter().filter(|window| window.exact).filter_map(|window| match window.length {
                    WindowLength::Span(span) => Some(span.micros() + hop),
                    WindowLength::All => None,
                });
                level.keep = exact.max().unwrap_or(0);
            }
            for window in tails {
                // A window that has closed can be asked for until the next one does: whoever is to be told its last value may be late.
                let times = if window.kind == WindowKind::Tumbling { 2 } else { 1 };
                match window.length {
                    WindowLength::Span(span) => level.keep = level.keep.max(times * span.micros() + hop),
                    WindowLength::All if window.retention == TimeSpan::ZERO => level.bottom = true,
                    WindowLength::All => level.archive = i64::MAX,
                }
                level.archive = level.archive.max(window.retention.micros());
            }
            // The head of the next coarser level's windows.
            let next = hops.get(index + 1).map_or(0, |next| next + SLACK.max(*next));
            level.keep = level.keep.max(next).max(hop + SLACK);
            level
        })
        .collect()
}

/// The end of the tile of `hop` µs that holds `time`.
pub(crate) fn end_of(time: EventTime, hop: i64) -> i64 {
    tile_end(time, TimeSpan::from_micros(hop)).0
}
