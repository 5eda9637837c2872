//! The segments of one entity, packed into one row.
//!
//! ```text
//! format (1 byte) | sections (u16) | (aggregate (u16) | rolled (i64) | floor (i64) | bytes (u32)) × section
//! | segments of the first aggregate | …                                each by rising time
//! segment: first (i64) | last (i64) | state | length of the segment (u32)
//! ```
//! Numbers are little-endian. A segment can be skipped from behind, where an event usually belongs.
//!
//! Invariants, of each section:
//! - a segment that begins after `rolled` holds the events of one fine tile, one that begins after `floor` those of one coarse tile up to
//!   `rolled`; both are whole numbers of these tiles;
//! - at most one begins at or before `floor`, and it ends there: the past of a session that went on until then, or later;
//! - every event after `floor` is in a segment, and no session that was let go would have gone on after it.

use karst_types::{EventTime, TimeSpan, window::tile_end};

use super::{ClassSessions, Kept};
use crate::window::{
    aggregate::{Aggregate, Input},
    row::{int, length, open, put_int, put_length},
};

pub(super) use crate::window::row::floor_to;

const FORMAT: u8 = 1;
const HEAD: usize = 3;
const SECTION: usize = 22;
const ROLLED: usize = 2;
const FLOOR: usize = 10;
const SIZE: usize = 18; // where the bytes of a section are said
/// First and last.
const TIMES: usize = 16;
/// Rolling up may wait for so long, so that a row is not moved together for each minute.
const STEP: i64 = 300_000_000;

/// The row of an entity that has no event yet.
pub(crate) fn build(layout: &ClassSessions, watermark: EventTime) -> Vec<u8> {
    let mut row = vec![FORMAT];
    row.extend_from_slice(&(layout.slots().len() as u16).to_le_bytes());
    for (index, slot) in layout.slots().iter().enumerate() {
        let kept = layout.kept(index);
        row.extend_from_slice(&slot.to_le_bytes());
        row.extend_from_slice(&kept.rolled(watermark).to_le_bytes());
        row.extend_from_slice(&kept.floor(watermark).to_le_bytes());
        row.extend_from_slice(&[0; 4]);
    }
    row
}

fn sections(row: &[u8]) -> usize {
    row.get(1..).and_then(|rest| rest.first_chunk()).map_or(0, |count| usize::from(u16::from_le_bytes(*count)))
}
fn field(index: usize) -> usize {
    HEAD + index * SECTION
}
fn slot(row: &[u8], index: usize) -> u16 {
    row[field(index)..].first_chunk().map_or(0, |slot| u16::from_le_bytes(*slot))
}
pub(crate) fn rolled(row: &[u8], index: usize) -> i64 {
    int(row, field(index) + ROLLED)
}
pub(crate) fn floor(row: &[u8], index: usize) -> i64 {
    int(row, field(index) + FLOOR)
}
fn section(row: &[u8], index: usize) -> (usize, usize) {
    let size = |index: usize| length(row, field(index) + SIZE);
    let start = field(sections(row)) + (0..index).map(size).sum::<usize>();
    (start, start + size(index))
}

/// Whether the row has the sections of this layout, in its order.
pub(crate) fn is_of(row: &[u8], layout: &ClassSessions) -> bool {
    let slots = layout.slots();
    row.first() == Some(&FORMAT)
        && sections(row) == slots.len()
        && row.len() >= field(slots.len())
        && (0..slots.len()).all(|index| slot(row, index) == slots[index])
}

/// Whether bytes are sections of whole segments, by rising time, and nothing after them.
pub(crate) fn check_shape(row: &[u8]) -> bool {
    let count = sections(row);
    if row.first() != Some(&FORMAT) || row.len() < field(count) {
        return false;
    }
    let all: usize = (0..count).map(|index| length(row, field(index) + SIZE)).sum();
    let rising = |index: usize| {
        let (start, mut end) = section(row, index);
        let mut next = None; // the beginning of the segment behind
        while end > start {
            let size = if end - start >= TIMES + 4 { length(row, end - 4) } else { 0 };
            if size < TIMES + 4 || size > end - start {
                return false;
            }
            let (first, last) = (int(row, end - size), int(row, end - size + 8));
            if first > last || next.is_some_and(|next| last >= next) {
                return false;
            }
            (next, end) = (Some(first), end - size);
        }
        true
    };
    field(count) + all == row.len() && (0..count).all(rising)
}

/// A stored row with the sections of this layout: those of an aggregate that is not declared any more are left out, those of a new one are
/// empty. `None` if the bytes are no such row.
pub(crate) fn adopt(stored: &[u8], layout: &ClassSessions) -> Option<Vec<u8>> {
    if !check_shape(stored) {
        return None;
    }
    let mut row = if is_of(stored, layout) { stored.to_vec() } else { convert(stored, layout) };
    row.shrink_to_fit();
    let sound = |index: usize| segments(&row, index).all(|segment| layout.aggregate(index).check(segment.state));
    (0..layout.slots().len()).all(sound).then_some(row)
}

fn convert(stored: &[u8], layout: &ClassSessions) -> Vec<u8> {
    let mut row = build(layout, EventTime(i64::MIN));
    for (index, wanted) in layout.slots().iter().enumerate() {
        let Some(old) = (0..sections(stored)).find(|old| slot(stored, *old) == *wanted) else { continue };
        let (start, end) = section(stored, old);
        row[field(index)..field(index) + SECTION].copy_from_slice(&stored[field(old)..field(old) + SECTION]);
        row.extend_from_slice(&stored[start..end]);
    }
    row
}

/// The events of one tile.
#[derive(Clone, Copy)]
pub(crate) struct Segment<'a> {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) state: &'a [u8],
}

/// The segments of an aggregate, the newest first.
pub(crate) fn segments(row: &[u8], index: usize) -> impl Iterator<Item = Segment<'_>> {
    let (start, mut end) = section(row, index);
    std::iter::from_fn(move || {
        if end <= start {
            return None;
        }
        let at = end - length(row, end - 4);
        let segment = Segment { first: int(row, at), last: int(row, at + 8), state: &row[at + TIMES..end - 4] };
        end = at;
        Some(segment)
    })
}

/// A session, or what there was of it.
pub(crate) struct Session {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) state: Vec<u8>,
}

/// The state of no event.
pub(crate) fn identity(aggregate: &Aggregate) -> Vec<u8> {
    vec![0; aggregate.fixed_len().unwrap_or(0)]
}

/// The sessions of an aggregate as of an instant, the newest first: of the segments that begin up to then.
pub(crate) fn sessions<'a>(
    row: &'a [u8],
    layout: &'a ClassSessions,
    index: usize,
    as_of: i64,
) -> impl Iterator<Item = Session> + 'a {
    let (aggregate, gap) = (layout.aggregate(index), layout.kept(index).gap);
    let mut left = segments(row, index).skip_while(move |segment| segment.first > as_of).peekable();
    std::iter::from_fn(move || {
        let newest = left.next()?;
        let mut session = Session { first: newest.first, last: newest.last, state: newest.state.to_vec() };
        while let Some(before) = left.next_if(|before| session.first.saturating_sub(before.last) < gap) {
            session.first = before.first;
            merge(aggregate, &mut session.state, before.state);
        }
        Some(session)
    })
}

fn merge(aggregate: &Aggregate, state: &mut Vec<u8>, other: &[u8]) {
    match aggregate.fixed_len() {
        Some(_) => aggregate.merge(state, other),
        None => aggregate.merge_variable(state, other),
    }
}

fn end_of(time: i64, hop: i64) -> i64 {
    tile_end(EventTime(time), TimeSpan::from_micros(hop)).0
}

/// Where an event belongs.
enum Place {
    Segment(usize),
    New(usize),
    TooOld,
}

fn place(row: &[u8], index: usize, kept: &Kept, time: i64) -> Place {
    let (rolled, floor, (start, end)) = (rolled(row, index), floor(row, index), section(row, index));
    let hop = if time <= rolled { kept.coarse } else { kept.fine };
    let mut at = end;
    while at > start {
        let segment = at - length(row, at - 4);
        let first = int(row, segment);
        let same = if time <= floor {
            first <= time // the bottom
        } else {
            // An event of the coarse part is in no tile with one of the fine part.
            first > floor && (first <= rolled) == (time <= rolled) && end_of(first, hop) == end_of(time, hop)
        };
        if same {
            return Place::Segment(segment);
        }
        if first < time {
            break;
        }
        at = segment;
    }
    if time <= floor { Place::TooOld } else { Place::New(at) }
}

/// Adds an event to the sessions of an aggregate; `false` if it is too old for all that is kept.
pub(crate) fn add(row: &mut Vec<u8>, layout: &ClassSessions, index: usize, input: &Input<'_>) -> bool {
    let (aggregate, time) = (layout.aggregate(index), input.version.event_time.0);
    let at = match place(row, index, layout.kept(index), time) {
        Place::TooOld => return false,
        Place::Segment(at) => at,
        Place::New(at) => {
            let size = TIMES + aggregate.fixed_len().unwrap_or(0) + 4;
            open(row, at, size);
            put_int(row, at, time);
            put_int(row, at + 8, time);
            put_length(row, at + size - 4, size);
            resize_section(row, index, size as isize);
            at
        }
    };
    let (first, last) = (int(row, at), int(row, at + 8));
    put_int(row, at, first.min(time));
    put_int(row, at + 8, last.max(time));
    match aggregate.fixed_len() {
        Some(size) => aggregate.add(&mut row[at + TIMES..at + TIMES + size], input),
        None => add_variable(row, index, at, aggregate, input),
    }
    true
}

fn add_variable(row: &mut Vec<u8>, index: usize, at: usize, aggregate: &Aggregate, input: &Input<'_>) {
    // Its length is behind it, so it is found from the end of its section.
    let (_, mut end) = section(row, index);
    while end - length(row, end - 4) != at {
        end -= length(row, end - 4);
    }
    let (from, to) = (at + TIMES, end - 4);
    if aggregate.add_in_place(&mut row[from..to], input) {
        return;
    }
    let mut state = row[from..to].to_vec();
    aggregate.add_variable(&mut state, input);
    let grown = state.len() as isize - (to - from) as isize;
    let size = TIMES + state.len() + 4;
    row.splice(from..to, state);
    put_length(row, at + size - 4, size);
    resize_section(row, index, grown);
}

fn resize_section(row: &mut [u8], index: usize, by: isize) {
    let place = field(index) + SIZE;
    let size = length(row, place);
    put_length(row, place, size.wrapping_add_signed(by));
}

/// Whether the watermark has gone so far that [`roll`] is worth it.
pub(crate) fn is_due(row: &[u8], layout: &ClassSessions, watermark: EventTime) -> bool {
    let behind = |index: usize| layout.kept(index).rolled(watermark).saturating_sub(rolled(row, index)) >= STEP;
    watermark.0 != i64::MIN && (0..layout.slots().len()).any(behind)
}

/// Merges segments of the past to coarse ones, and lets go of sessions that nothing can ask for.
pub(crate) fn roll(row: &mut Vec<u8>, layout: &ClassSessions, watermark: EventTime) {
    for index in 0..layout.slots().len() {
        let (kept, aggregate) = (layout.kept(index), layout.aggregate(index));
        let (to, bottom) = (kept.rolled(watermark), kept.floor(watermark).max(floor(row, index)));
        if to <= rolled(row, index) {
            continue;
        }
        let mut merged: Vec<Session> = Vec::new();
        let mut all: Vec<Segment<'_>> = segments(row, index).collect();
        all.reverse();
        for Segment { first, last, state } in all {
            let joins = |before: &&mut Session| {
                if first <= bottom {
                    first.saturating_sub(before.last) < kept.gap
                } else {
                    before.first > bottom && first <= to && end_of(before.first, kept.coarse) == end_of(first, kept.coarse)
                }
            };
            match merged.last_mut().filter(joins) {
                Some(before) => {
                    before.last = last;
                    merge(aggregate, &mut before.state, state);
                }
                None => merged.push(Session { first, last, state: state.to_vec() }),
            }
        }
        // Of what is wholly in the past only the last session can go on.
        let past = merged.iter().take_while(|session| session.first <= bottom).count();
        let goes_on = |at: usize| {
            let end = merged[at].last.saturating_add(kept.gap);
            end > bottom || merged.get(at + 1).is_some_and(|next| next.first < end)
        };
        let gone = past - usize::from(past > 0 && goes_on(past - 1));
        let mut packed = Vec::new();
        for Session { first, last, state } in merged.drain(gone..) {
            packed.extend_from_slice(&first.to_le_bytes());
            packed.extend_from_slice(&last.to_le_bytes());
            packed.extend_from_slice(&state);
            packed.extend_from_slice(&((TIMES + state.len() + 4) as u32).to_le_bytes());
        }
        let (start, end) = section(row, index);
        put_length(row, field(index) + SIZE, packed.len());
        row.splice(start..end, packed);
        put_int(row, field(index) + ROLLED, to);
        put_int(row, field(index) + FLOOR, bottom);
    }
}
