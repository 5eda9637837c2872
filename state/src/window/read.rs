//! The value of an aggregate over a window at an instant: which tiles cover it, and their merge.
//!
//! The window is walked from its tail to its head, each time as far as the coarsest tiles go that are complete there. What is left at the
//! head is read from finer tiles while these are kept; an instant too far in the past for that is rounded down to the hop.

use karst_types::{EventTime, TimeSpan, Value, WindowKind, WindowLength, window::tile_end};

use super::{
    aggregate::Aggregate,
    archive, expire,
    layout::{ClassWindows, Level, Place},
    raw, row,
};

/// What to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowRead {
    /// The number of the aggregate.
    pub slot: u16,
    /// The length of the window.
    pub length: WindowLength,
    /// Its kind.
    pub kind: WindowKind,
    /// The step of its tail.
    pub hop: TimeSpan,
    /// Whether its edges are to be exact to the event.
    pub exact: bool,
}

/// What was read.
#[derive(Clone, PartialEq, Debug)]
pub enum WindowValue {
    /// The value. What an empty window has is chalk's: 0, false, true or null.
    Value {
        /// The value.
        value: Value,
        /// The instant it is of: the one asked for, or that rounded down to the hop.
        as_of: EventTime,
    },
    /// Tiles that the window needs have expired: the instant lies too far before the watermark.
    Expired,
    /// There is no such aggregate.
    Unknown,
}

/// Tiles of one level whose end is after `from`, and whose beginning is before `to`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    level: usize,
    from: i64,
    to: i64,
}

fn down(time: i64, hop: i64) -> i64 {
    if time == i64::MIN { time } else { time.div_euclid(hop).saturating_mul(hop) }
}

/// The pieces that cover `(tail, now]`; `None` if tiles of it have expired.
fn pieces(live: &[u8], layout: &ClassWindows, tail: i64, now: i64) -> Option<Vec<Piece>> {
    let (levels, watermark) = (layout.levels(), layout.watermark().0);
    // Up to where a level may be read at most, if one ends at `now`.
    let reach = |nth: usize| if nth == 0 { now } else { row::rolled(live, nth).min(down(now, levels[nth].hop)) };
    // Whether a level has everything from `at` on.
    let has = |nth: usize, at: i64| {
        let (level, floor) = (&levels[nth], row::floor(live, nth));
        match level {
            Level { bottom: true, .. } if at == i64::MIN => floor <= reach(nth),
            Level { archive: i64::MAX, .. } => true,
            Level { archive: 0, .. } => floor <= at,
            _ => watermark == i64::MIN || floor.min(watermark.saturating_sub(level.keep).saturating_sub(level.archive)) <= at,
        }
    };
    let starts = |nth: usize, at: i64| (at == i64::MIN || at % levels[nth].hop == 0) && reach(nth) > at && has(nth, at);
    let (mut pieces, mut at) = (Vec::new(), tail);
    while at < now {
        let level = (0..levels.len()).rev().find(|nth| starts(*nth, at))?;
        // Only as far as to where a coarser one can take over.
        let coarser = (level + 1..levels.len())
            .map(|nth| tile_end(EventTime(at.saturating_add(1)), TimeSpan::from_micros(levels[nth].hop)).0)
            .zip(level + 1..)
            .filter(|(next, nth)| at != i64::MIN && starts(*nth, *next))
            .map(|(next, _)| next);
        let to = coarser.chain([reach(level)]).min().unwrap_or(now);
        pieces.push(Piece { level, from: at, to });
        at = to;
    }
    Some(pieces)
}

/// Reads a chunk of the archive by level and number.
pub(crate) type ReadChunk<'a> = dyn FnMut(usize, i64) -> crate::Result<Option<Vec<u8>>> + 'a;

/// Reads one window of an entity's row (`None`: it never had an event). `overflowed` counts those of which not all groups fit.
pub(crate) fn read(
    layout: &ClassWindows,
    live: Option<&[u8]>,
    chunks: &mut ReadChunk<'_>,
    wanted: &WindowRead,
    now: EventTime,
    overflowed: &mut u64,
) -> crate::Result<WindowValue> {
    let Some(index) = layout.index_of(wanted.slot) else { return Ok(WindowValue::Unknown) };
    let aggregate = layout.aggregate(index).0;
    let hop = wanted.hop.micros();
    let tail = |now: i64| match (wanted.kind, wanted.length) {
        (_, WindowLength::All) => i64::MIN,
        (WindowKind::Tumbling, WindowLength::Span(span)) => tile_end(EventTime(now), span).0.saturating_sub(span.micros()),
        (_, WindowLength::Span(span)) => down(now.saturating_sub(span.micros()), hop),
    };
    // Also where the tiles happen to be there still, or no row is: the answer must not depend on when the disk was tidied.
    if expire::reach(layout, hop).is_some_and(|reach| tail(now.0) != i64::MIN && tail(now.0) < reach) {
        return Ok(WindowValue::Expired);
    }
    let Some(live) = live else {
        let identity = vec![0; aggregate.fixed_len().unwrap_or(0)];
        return Ok(WindowValue::Value { value: aggregate.finish(&identity), as_of: now });
    };
    let exact = layout.raw(index).zip(match (wanted.exact, wanted.kind, wanted.length) {
        (true, WindowKind::Sliding, WindowLength::Span(span)) => Some(now.0.saturating_sub(span.micros())),
        _ => None,
    });
    if let Some((raw, from)) = exact {
        let state = exactly(layout, live, chunks, index, raw, EventTime(from), now)?;
        let value = state.map(|state| finish(aggregate, &state, overflowed));
        return Ok(value.map_or(WindowValue::Expired, |value| WindowValue::Value { value, as_of: now }));
    }
    // At the instant asked for, or else at the last whole hop before it.
    let covered = [now.0, down(now.0, hop)].into_iter().find_map(|now| Some((pieces(live, layout, tail(now), now)?, now)));
    let Some((pieces, as_of)) = covered else { return Ok(WindowValue::Expired) };
    let mut state = vec![0; aggregate.fixed_len().unwrap_or(0)];
    merge_pieces(layout, live, chunks, index, &pieces, &mut state)?;
    Ok(WindowValue::Value { value: finish(aggregate, &state, overflowed), as_of: EventTime(as_of) })
}

fn finish(aggregate: &Aggregate, state: &[u8], overflowed: &mut u64) -> Value {
    *overflowed += u64::from(aggregate.overflow(state) > 0);
    aggregate.finish(state)
}

fn merge_pieces(
    layout: &ClassWindows,
    live: &[u8],
    chunks: &mut ReadChunk<'_>,
    index: usize,
    pieces: &[Piece],
    state: &mut Vec<u8>,
) -> crate::Result<()> {
    let (aggregate, place) = layout.aggregate(index);
    let mut merge = |tile: row::Tile<'_>| match place {
        Place::Fixed(..) => aggregate.merge(state, tile.state(layout, place)),
        Place::Variable(_) => aggregate.merge_variable(state, tile.state(layout, place)),
    };
    for piece in pieces {
        let (hop, floor) = (layout.levels()[piece.level].hop, row::floor(live, piece.level));
        let within = |end: i64| end > piece.from && end.saturating_sub(hop) < piece.to;
        if piece.from == i64::MIN
            && let Some(bottom) = row::bottom(live, layout, piece.level)
        {
            merge(bottom);
        }
        let oldest = row::archived(live, piece.level);
        if piece.from < floor && oldest <= floor {
            let first = archive::chunk_of(oldest.max(piece.from.saturating_add(hop)), hop);
            for chunk in first..=archive::chunk_of(floor.min(piece.to), hop) {
                let Some(chunk) = chunks(piece.level, chunk)? else { continue };
                archive::chunk(&chunk, layout).filter(|tile| tile.end <= floor && within(tile.end)).for_each(&mut merge);
            }
        }
        row::level(live, layout, piece.level).filter(|tile| tile.end > floor && within(tile.end)).for_each(&mut merge);
    }
    Ok(())
}

/// The state of the window `(from, now]` to the event: the tiles that its edges cut are counted from their raw events.
fn exactly(
    layout: &ClassWindows,
    live: &[u8],
    chunks: &mut ReadChunk<'_>,
    index: usize,
    raw: usize,
    from: EventTime,
    now: EventTime,
) -> crate::Result<Option<Vec<u8>>> {
    let (aggregate, place) = layout.aggregate(index);
    let finest = TimeSpan::from_micros(layout.levels()[0].hop);
    let (first, last) = (tile_end(from, finest).0, tile_end(now, finest).0);
    if row::floor(live, 0) > first.saturating_sub(finest.micros()) {
        return Ok(None);
    }
    let mut state = vec![0; aggregate.fixed_len().unwrap_or(0)];
    let whole_to = down(now.0, finest.micros());
    if first < whole_to {
        let Some(pieces) = pieces(live, layout, first, whole_to) else { return Ok(None) };
        merge_pieces(layout, live, chunks, index, &pieces, &mut state)?;
    }
    let cut = |end: i64| (end == first && from.0 < first) || (end == last && whole_to < now.0);
    for tile in row::level(live, layout, 0).filter(|tile| cut(tile.end)) {
        raw::within(tile.state(layout, Place::Variable(raw)), from, now, |input| match place {
            Place::Fixed(..) => aggregate.add(&mut state, input),
            Place::Variable(_) => aggregate.add_variable(&mut state, input),
        });
    }
    Ok(Some(state))
}
