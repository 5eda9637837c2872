//! The tiles of one entity, packed into one row.
//!
//! ```text
//! format (1 byte) | fingerprint of the layout (u32) | (floor (i64) | rolled (i64) | archived (i64) | bytes (u32)) × level, the finest first
//! | tiles of the coarsest level | … | tiles of the finest level        each level by rising end
//! tile: end (i64) | fixed states | (length (u32) | state) × variable aggregates | length of the tile (u32), only if there are any
//! ```
//! Numbers are little-endian. The finest level comes last, where an event usually adds to the last tile or a new one behind it.
//!
//! Invariants, with levels 0 (the finest) to n:
//! - level 0 holds every event after its floor; level i > 0 holds every event after its floor and up to `rolled` of that level, which
//!   is a multiple of its hop. So each instant after the floors is covered by level 0, and by coarser tiles where these are complete;
//! - the floor of a level never passes `rolled` of the next coarser: what has not been rolled up is never dropped;
//! - no tile of a level is archived whose end is before `archived`;
//! - a level with a bottom keeps everything up to its floor in one tile whose end is `i64::MIN`.

use karst_types::{EventTime, UpdateRef};

use super::{
    aggregate::Input,
    layout::{ClassWindows, Place, Scratch, end_of},
    raw,
};
use crate::bytes;

const FORMAT: u8 = 1;
const HEAD: usize = 5;
const LEVEL: usize = 28;
const SIZE: usize = 24; // where the bytes of a level are said
/// The end of the tile at the bottom.
const BOTTOM: i64 = i64::MIN;
/// Expired tiles may stay for so many hops, so that the row is not moved together for each of them.
const LAZY: i64 = 8;

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Placed {
    /// Some tile of the row has it.
    pub(crate) live: bool,
    /// Bit i: level i has archived that time; the event belongs there.
    pub(crate) archived: u32,
}

pub(super) fn int(row: &[u8], at: usize) -> i64 {
    row[at..].first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
}
pub(super) fn put_int(row: &mut [u8], at: usize, value: i64) {
    row[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
pub(super) fn length(row: &[u8], at: usize) -> usize {
    row[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
}
pub(super) fn put_length(row: &mut [u8], at: usize, value: usize) {
    row[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
}
/// Makes room for `count` zeros at `at`.
pub(super) fn open(row: &mut Vec<u8>, at: usize, count: usize) {
    let end = row.len();
    row.resize(end + count, 0);
    if at < end {
        row.copy_within(at..end, at + count);
        row[at..at + count].fill(0);
    }
}

/// The row of an entity that has no event yet.
pub(crate) fn build(layout: &ClassWindows, watermark: EventTime) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEAD + layout.levels().len() * LEVEL + 2 * empty_len(layout));
    row.push(FORMAT);
    row.extend_from_slice(&layout.fingerprint().to_le_bytes());
    for level in layout.levels() {
        row.extend_from_slice(&i64::MIN.to_le_bytes());
        row.extend_from_slice(&floor_to(watermark.0, level.hop).to_le_bytes());
        row.extend_from_slice(&i64::MAX.to_le_bytes());
        row.extend_from_slice(&[0; 4]);
    }
    row
}

/// Down to a whole number of hops.
pub(super) fn floor_to(time: i64, hop: i64) -> i64 {
    if time == i64::MIN { time } else { time.div_euclid(hop) * hop }
}

fn empty_len(layout: &ClassWindows) -> usize {
    8 + layout.fixed_len() + if layout.variables() > 0 { 4 * layout.variables() + 4 } else { 0 }
}

/// Where the fields of a level are in the head.
fn field(level: usize) -> usize {
    HEAD + level * LEVEL
}
pub(crate) fn floor(row: &[u8], level: usize) -> i64 {
    int(row, field(level))
}
/// Up to where tiles of this level are complete; the finest is without end.
pub(crate) fn rolled(row: &[u8], level: usize) -> i64 {
    if level == 0 { i64::MAX } else { int(row, field(level) + 8) }
}
/// The end of the oldest tile that is archived; `i64::MAX`: none is.
pub(crate) fn archived(row: &[u8], level: usize) -> i64 {
    int(row, field(level) + 16)
}
/// A tile with this end is archived.
pub(crate) fn set_archived(row: &mut [u8], level: usize, end: i64) {
    let oldest = archived(row, level).min(end);
    put_int(row, field(level) + 16, oldest);
}
pub(crate) fn set_floor(row: &mut [u8], level: usize, floor: i64) {
    put_int(row, field(level), floor);
}
#[inline]
fn section(row: &[u8], layout: &ClassWindows, level: usize) -> (usize, usize) {
    if level == 0 {
        return (row.len() - length(row, field(0) + SIZE), row.len());
    }
    let levels = layout.levels().len();
    let coarser: usize = (level + 1..levels).map(|coarser| length(row, field(coarser) + SIZE)).sum();
    let start = field(levels) + coarser;
    (start, start + length(row, field(level) + SIZE))
}

/// Which layout a row says it has.
pub(crate) fn fingerprint_of(row: &[u8]) -> Option<u32> {
    let mut rest = row;
    (bytes::u8(&mut rest)? == FORMAT).then_some(())?;
    bytes::array(&mut rest).map(u32::from_le_bytes)
}

/// Whether the row is of this layout.
pub(crate) fn is_of(row: &[u8], layout: &ClassWindows) -> bool {
    row.first() == Some(&FORMAT) && length(row, 1) as u32 == layout.fingerprint()
}

/// Whether bytes from disk are a row of this layout, whole and with nothing after it, and its states are such.
pub(crate) fn check(row: &[u8], layout: &ClassWindows) -> bool {
    check_shape(row, layout)
        && (0..layout.levels().len()).all(|nth| {
            let (start, end) = section(row, layout, nth);
            tiles(&row[start..end], layout).all(|tile| tile.check(layout))
        })
}

/// The same without a look at the states.
pub(crate) fn check_shape(row: &[u8], layout: &ClassWindows) -> bool {
    let levels = layout.levels().len();
    if row.len() < field(levels) || !is_of(row, layout) {
        return false;
    }
    let sizes: usize = (0..levels).map(|level| length(row, field(level) + SIZE)).sum();
    field(levels) + sizes == row.len()
        && (0..levels).all(|level| {
            let (start, end) = section(row, layout, level);
            check_tiles(&row[start..end], layout)
        })
}

/// Whether these are whole tiles by rising end.
pub(crate) fn check_tiles(mut rest: &[u8], layout: &ClassWindows) -> bool {
    let mut last = None;
    while !rest.is_empty() {
        let whole = || {
            let start = rest;
            let mut rest = rest;
            let end = bytes::i64(&mut rest)?;
            bytes::slice(&mut rest, layout.fixed_len())?;
            for _ in 0..layout.variables() {
                let size = bytes::array(&mut rest).map(u32::from_le_bytes)? as usize;
                bytes::slice(&mut rest, size)?;
            }
            let size = start.len() - rest.len();
            if layout.variables() > 0 {
                (bytes::array(&mut rest).map(u32::from_le_bytes)? as usize == size + 4).then_some(())?;
            }
            last.is_none_or(|last| last < end).then_some((end, rest))
        };
        match whole() {
            Some((end, after)) => (last, rest) = (Some(end), after),
            None => return false,
        }
    }
    true
}

/// One tile.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    pub(crate) end: i64,
    bytes: &'a [u8],
}

impl<'a> Tile<'a> {
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
    /// Whether all states are such.
    pub(crate) fn check(&self, layout: &ClassWindows) -> bool {
        (0..layout.places().len()).all(|index| {
            let (aggregate, place) = layout.aggregate(index);
            aggregate.check(self.state(layout, place))
        }) && layout.raws().all(|place| raw::check(self.state(layout, place)))
    }
    /// The state of the aggregate at this place.
    pub(crate) fn state(&self, layout: &ClassWindows, place: Place) -> &'a [u8] {
        match place {
            Place::Fixed(at, size) => &self.bytes[8 + at..8 + at + size],
            Place::Variable(nth) => {
                let (start, size) = variable_at(self.bytes, layout, nth);
                &self.bytes[start..start + size]
            }
        }
    }
}

/// Where a variable state is in a tile, and its size.
fn variable_at(tile: &[u8], layout: &ClassWindows, nth: usize) -> (usize, usize) {
    let mut at = 8 + layout.fixed_len();
    for _ in 0..nth {
        at += 4 + length(tile, at);
    }
    (at + 4, length(tile, at))
}

fn tile_len(rest: &[u8], layout: &ClassWindows) -> usize {
    if layout.variables() == 0 {
        return 8 + layout.fixed_len();
    }
    let (start, size) = variable_at(rest, layout, layout.variables() - 1);
    start + size + 4
}

/// The tiles in a section, by rising end.
pub(crate) fn tiles<'a>(mut rest: &'a [u8], layout: &ClassWindows) -> impl Iterator<Item = Tile<'a>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (bytes, after) = rest.split_at(tile_len(rest, layout));
        rest = after;
        Some(Tile { end: int(bytes, 0), bytes })
    })
}

/// The tiles of a level, without the bottom.
pub(crate) fn level<'a>(row: &'a [u8], layout: &ClassWindows, level: usize) -> impl Iterator<Item = Tile<'a>> {
    let (start, end) = section(row, layout, level);
    tiles(&row[start..end], layout).skip_while(|tile| tile.end == BOTTOM)
}

/// Everything up to the floor of a level, if it has that.
pub(crate) fn bottom<'a>(row: &'a [u8], layout: &ClassWindows, level: usize) -> Option<Tile<'a>> {
    let (start, end) = section(row, layout, level);
    tiles(&row[start..end], layout).next().filter(|tile| tile.end == BOTTOM)
}

/// Tiles of one level, somewhere in a buffer: a section of a row, or an archive.
pub(crate) struct Section<'a> {
    pub(crate) row: &'a mut Vec<u8>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Section<'_> {
    /// Where the tile with this end starts; `Err`: where it would.
    fn look_up(&self, layout: &ClassWindows, end: i64) -> Result<usize, usize> {
        let mut at = self.end;
        while at > self.start {
            let size = if layout.variables() == 0 { 8 + layout.fixed_len() } else { length(self.row, at - 4) };
            let tile = at - size;
            match int(self.row, tile).cmp(&end) {
                std::cmp::Ordering::Equal => return Ok(tile),
                std::cmp::Ordering::Less => break,
                std::cmp::Ordering::Greater => at = tile,
            }
        }
        Err(at)
    }

    /// Where the tile with this end starts; an empty one is put in if there is none.
    pub(crate) fn find(&mut self, layout: &ClassWindows, end: i64) -> usize {
        let at = match self.look_up(layout, end) {
            Ok(at) => return at,
            Err(at) => at,
        };
        let size = empty_len(layout);
        open(self.row, at, size);
        put_int(self.row, at, end);
        if layout.variables() > 0 {
            put_length(self.row, at + size - 4, size);
        }
        self.end += size;
        at
    }

    /// Changes a state of variable length of the tile at `tile`.
    fn change(&mut self, layout: &ClassWindows, tile: usize, nth: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let (start, size) = variable_at(&self.row[tile..], layout, nth);
        let at = tile + start;
        let mut state = Vec::with_capacity(size + 32);
        state.extend_from_slice(&self.row[at..at + size]);
        change(&mut state);
        if state.len() > size {
            open(self.row, at + size, state.len() - size);
        } else {
            self.row.drain(at + state.len()..at + size);
        }
        self.row[at..at + state.len()].copy_from_slice(&state);
        put_length(self.row, at - 4, state.len());
        let whole = tile_len(&self.row[tile..], layout);
        put_length(self.row, tile + whole - 4, whole);
        self.end = self.end + state.len() - size;
    }

    /// Adds one input to the tile that starts at `tile`.
    fn add(&mut self, layout: &ClassWindows, tile: usize, index: usize, input: &Input<'_>, finest: bool) {
        let (aggregate, place) = layout.aggregate(index);
        match place {
            Place::Fixed(at, size) => aggregate.add(&mut self.row[tile + 8 + at..tile + 8 + at + size], input),
            Place::Variable(nth) => {
                let (start, size) = variable_at(&self.row[tile..], layout, nth);
                let state = tile + start..tile + start + size;
                if !aggregate.add_in_place(&mut self.row[state], input) {
                    self.change(layout, tile, nth, |state| aggregate.add_variable(state, input));
                }
            }
        }
        if finest && let Some(nth) = layout.raw(index) {
            self.change(layout, tile, nth, |state| raw::push(state, input));
        }
    }

    /// Adds all inputs of one event. `finest`: raw events are kept here, too.
    #[inline]
    pub(crate) fn add_update(
        &mut self,
        layout: &ClassWindows,
        update: &UpdateRef<'_>,
        end: i64,
        scratch: &mut Scratch,
        finest: bool,
    ) {
        let mut found = None; // the tile, if any aggregate sees this update; what is added to it moves only what comes after it
        if layout.variables() == 0 {
            return layout.inputs(update, scratch, |index, input| {
                let tile = *found.get_or_insert_with(|| self.find(layout, end));
                if let (aggregate, Place::Fixed(at, size)) = layout.aggregate(index) {
                    aggregate.add(&mut self.row[tile + 8 + at..][..size], input);
                }
            });
        }
        layout.inputs(update, scratch, |index, input| {
            let tile = *found.get_or_insert_with(|| self.find(layout, end));
            self.add(layout, tile, index, input, finest);
        });
    }

    /// Merges a tile into the one with this end.
    pub(crate) fn merge(&mut self, layout: &ClassWindows, end: i64, tile: Tile<'_>) {
        if let (Err(at), None) = (self.look_up(layout, end), layout.raws().next()) {
            open(self.row, at, tile.bytes.len());
            self.row[at..at + tile.bytes.len()].copy_from_slice(tile.bytes);
            put_int(self.row, at, end);
            self.end += tile.bytes.len();
            return;
        }
        let at = self.find(layout, end);
        self.merge_states(layout, at, tile);
    }

    /// Merges a tile into the one that starts at `at`.
    fn merge_states(&mut self, layout: &ClassWindows, at: usize, tile: Tile<'_>) {
        for (index, place) in layout.places().iter().enumerate() {
            self.merge_state(layout, at, index, tile.state(layout, *place));
        }
    }

    /// Merges the state of one aggregate into the tile that starts at `at`.
    pub(crate) fn merge_state(&mut self, layout: &ClassWindows, at: usize, index: usize, other: &[u8]) {
        let (aggregate, place) = layout.aggregate(index);
        match place {
            Place::Fixed(offset, size) => aggregate.merge(&mut self.row[at + 8 + offset..at + 8 + offset + size], other),
            Place::Variable(_) if other.is_empty() => {}
            Place::Variable(nth) => self.change(layout, at, nth, |state| aggregate.merge_variable(state, other)),
        }
    }
}

/// Lets `change` work on the tiles of a level, and writes down how long they are then.
fn with_section<R>(row: &mut Vec<u8>, layout: &ClassWindows, level: usize, change: impl FnOnce(&mut Section<'_>) -> R) -> R {
    let (start, end) = section(row, layout, level);
    let mut section = Section { row, start, end };
    let result = change(&mut section);
    let size = section.end - section.start;
    put_length(row, field(level) + SIZE, size);
    result
}

/// Puts a tile of another layout in wherever its end belongs; `fill` gets the section and the place.
pub(crate) fn put_tile(row: &mut Vec<u8>, layout: &ClassWindows, time: i64, fill: impl Fn(&mut Section<'_>, usize)) {
    for (level, declared) in layout.levels().iter().enumerate() {
        if time > rolled(row, level) {
            break;
        }
        let end = if time == BOTTOM { time } else { end_of(EventTime(time), declared.hop) };
        let end = if end > floor(row, level) {
            end
        } else if declared.bottom {
            BOTTOM
        } else {
            continue;
        };
        with_section(row, layout, level, |section| {
            let at = section.find(layout, end);
            fill(section, at);
        });
    }
}

/// Adds an event: to the finest tile, and to the coarser ones where these are complete already (it is late).
#[inline]
pub(crate) fn add(row: &mut Vec<u8>, layout: &ClassWindows, update: &UpdateRef<'_>, scratch: &mut Scratch) -> Placed {
    let time = update.version.event_time;
    let mut placed = Placed { live: false, archived: 0 };
    for (level, declared) in layout.levels().iter().enumerate() {
        if time.0 > rolled(row, level) {
            break; // nor is it in a coarser one
        }
        let end = scratch.end_of(level, time, declared.hop);
        let end = if end > floor(row, level) {
            end
        } else if declared.archive > 0 {
            placed.archived |= 1 << level;
            continue;
        } else if declared.bottom {
            BOTTOM
        } else {
            continue;
        };
        with_section(row, layout, level, |section| section.add_update(layout, update, end, scratch, level == 0));
        placed.live = true;
    }
    placed
}

/// Whether the watermark has passed something that asks for [`roll`].
#[inline]
pub(crate) fn is_due(row: &[u8], layout: &ClassWindows, watermark: EventTime) -> bool {
    if watermark.0 == i64::MIN {
        return false;
    }
    // This is asked with every event. Where there are coarser tiles, expired ones go when one of these is complete.
    if let Some(coarser) = layout.levels().get(1) {
        return watermark.0.saturating_sub(rolled(row, 1)) >= coarser.hop;
    }
    let (start, end) = section(row, layout, 0);
    start < end && {
        let oldest = int(row, start);
        oldest != BOTTOM && oldest < limit(row, layout, 0, watermark).saturating_sub(LAZY * layout.levels()[0].hop)
    }
}

/// Tiles whose end is not after this are not needed in the row any more.
fn limit(row: &[u8], layout: &ClassWindows, level: usize, watermark: EventTime) -> i64 {
    let declared = &layout.levels()[level];
    limit_of(row, layout, level, floor_to(watermark.0.saturating_sub(declared.keep), declared.hop))
}

/// The same, if no window needs what ends at `needed` or before.
fn limit_of(row: &[u8], layout: &ClassWindows, level: usize, needed: i64) -> i64 {
    // The watermark may have moved on since the row was rolled up: what is still to come into this level must find its place there.
    let complete = needed.min(rolled(row, level));
    if level + 1 < layout.levels().len() { complete.min(rolled(row, level + 1)) } else { complete }
}

/// Rolls complete tiles up into coarser ones, and drops those that no window reaches any more. Tiles of an archived level stay:
/// [`archivable`] names them.
pub(crate) fn roll(row: &mut Vec<u8>, layout: &ClassWindows, watermark: EventTime, scratch: &mut Scratch) {
    let Scratch { passed, rolled: coarse, .. } = scratch;
    passed.look(layout, watermark);
    let levels = layout.levels();
    for (level, declared) in levels.iter().enumerate().skip(1) {
        let (from, to) = (rolled(row, level), passed.levels[level].0);
        if to <= from {
            continue;
        }
        put_int(row, field(level) + 8, to);
        let (start, end) = section(row, layout, level - 1);
        // Beside the row: what changes in it moves everything that comes after it, and there may be thousands of finer tiles.
        coarse.clear();
        let mut section_of = Section { row: &mut *coarse, start: 0, end: 0 };
        let mut last = (0, i64::MIN); // where it is, and its end
        for tile in tiles(&row[start..end], layout).filter(|tile| tile.end > from && tile.end <= to) {
            if tile.end <= last.1 {
                section_of.merge_states(layout, last.0, tile);
            } else {
                last = (section_of.end, end_of(EventTime(tile.end), declared.hop));
                section_of.merge(layout, last.1, tile);
            }
        }
        if !coarse.is_empty() {
            // All tiles that are there already end at `from` or before.
            let (start, end) = section(row, layout, level);
            open(row, end, coarse.len());
            row[end..end + coarse.len()].copy_from_slice(coarse);
            put_length(row, field(level) + SIZE, end - start + coarse.len());
        }
    }
    for (level, declared) in levels.iter().enumerate() {
        if declared.archive == 0 {
            let limit = limit_of(row, layout, level, passed.levels[level].1);
            drop_until(row, layout, level, limit);
        }
    }
}

/// Drops the tiles of a level up to `limit`, which becomes its floor; what a bottom is for goes there.
pub(crate) fn drop_until(row: &mut Vec<u8>, layout: &ClassWindows, level: usize, limit: i64) {
    if limit <= floor(row, level) {
        return;
    }
    if self::level(row, layout, level).next().is_none_or(|oldest| oldest.end > limit) {
        return put_int(row, field(level), limit);
    }
    let gone = with_section(row, layout, level, |section| {
        let mut to = section.start;
        let mut from = None; // after the bottom
        for tile in tiles(&section.row[section.start..section.end], layout) {
            if tile.end != BOTTOM {
                from.get_or_insert(to);
                if tile.end > limit {
                    break;
                }
            }
            to += tile.bytes.len();
        }
        let from = from.unwrap_or(to);
        let gone = if layout.levels()[level].bottom { section.row[from..to].to_vec() } else { Vec::new() };
        section.row.drain(from..to);
        section.end -= to - from;
        gone
    });
    if !gone.is_empty() {
        for tile in tiles(&gone, layout) {
            with_section(row, layout, level, |section| section.merge(layout, BOTTOM, tile));
        }
    }
    put_int(row, field(level), limit);
}

/// Up to where tiles of an archived level are to go to the archive; `None` if it is not worth it yet.
pub(crate) fn archivable(row: &[u8], layout: &ClassWindows, level: usize, watermark: EventTime) -> Option<i64> {
    let declared = &layout.levels()[level];
    if declared.archive == 0 || watermark.0 == i64::MIN {
        return None;
    }
    let limit = limit(row, layout, level, watermark);
    let (start, end) = section(row, layout, level);
    let old = start < end && int(row, start) < limit.saturating_sub(LAZY * declared.hop);
    (limit > floor(row, level) && old).then_some(limit)
}
