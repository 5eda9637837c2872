//! Tumbling windows and sessions that are over: found in the rows of their entities, when the watermark has passed their ends.
//!
//! There are no timers that could be lost: which windows ended between two instants is read from the tiles and segments themselves. What
//! has been let go before it was looked at can be told from what never was: [`Closing::bound`].

use std::collections::BTreeSet;

use karst_types::{EventTime, TimeSpan, Value, WindowKind, WindowLength, window::tile_end};

use super::{
    ClassSessions, ClassWindows, WindowRead, WindowValue, archive, expire,
    read::{self, ReadChunk},
    row,
    session::{self, row::Session},
};

/// A feature whose windows close.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closing {
    /// A tumbling window.
    Tumbling {
        /// The number of its aggregate.
        slot: u16,
        /// Its length.
        span: TimeSpan,
        /// The step of the tiles that it is made of.
        hop: TimeSpan,
    },
    /// A session.
    Session {
        /// The number of its aggregate.
        slot: u16,
    },
}

/// A window of one entity that is over.
#[derive(Clone, PartialEq, Debug)]
pub struct Closed {
    /// Where a tumbling window begins (it holds what is later than this); the first event of a session.
    pub from: EventTime,
    /// Where a tumbling window ends; the last event of a session, and the gap.
    pub end: EventTime,
    /// What is made of its events.
    pub value: Value,
}

impl Closing {
    /// Before this windows that ended may have been let go; `None`: nothing has.
    pub(crate) fn bound(&self, tiles: Option<&ClassWindows>, sessions: Option<&ClassSessions>) -> Option<i64> {
        match self {
            Self::Tumbling { span, hop, .. } => {
                let reach = expire::reach(tiles?, hop.micros())?;
                Some(reach.saturating_add(span.micros()))
            }
            Self::Session { slot } => {
                let (sessions, index) = sessions.and_then(|sessions| Some((sessions, sessions.index_of(*slot)?)))?;
                let floor = sessions.kept(index).floor(sessions.watermark());
                (sessions.watermark().0 != i64::MIN).then_some(floor)
            }
        }
    }
}

/// The windows of a row that ended after `from` and not after `to`, the earliest first.
pub(crate) fn tumbling(
    layout: &ClassWindows,
    live: &[u8],
    chunks: &mut ReadChunk<'_>,
    (slot, span, hop): (u16, TimeSpan, TimeSpan),
    (from, to): (i64, i64),
) -> crate::Result<Vec<Closed>> {
    let mut ends = BTreeSet::new();
    let mut note = |tile: i64| {
        let end = tile_end(EventTime(tile), span).0;
        if end > from && end <= to {
            ends.insert(end);
        }
    };
    for level in 0..layout.levels().len() {
        row::level(live, layout, level).for_each(|tile| note(tile.end));
        let (oldest, floor, hop) = (row::archived(live, level), row::floor(live, level), layout.levels()[level].hop);
        // Where a window that ends after `from` may begin.
        let begin = oldest.max(from.saturating_sub(span.micros()).saturating_add(1));
        if begin <= floor.min(to) {
            for chunk in archive::chunk_of(begin, hop)..=archive::chunk_of(floor.min(to), hop) {
                let Some(chunk) = chunks(level, chunk)? else { continue };
                archive::chunk(&chunk, layout).for_each(|tile| note(tile.end));
            }
        }
    }
    let mut closed = Vec::with_capacity(ends.len());
    for end in ends {
        closed.extend(tumbling_at(layout, live, chunks, (slot, span, hop), end)?);
    }
    Ok(closed)
}

/// The window of a row that ends so; `None` if it has been let go.
pub(crate) fn tumbling_at(
    layout: &ClassWindows,
    live: &[u8],
    chunks: &mut ReadChunk<'_>,
    (slot, span, hop): (u16, TimeSpan, TimeSpan),
    end: i64,
) -> crate::Result<Option<Closed>> {
    let wanted = WindowRead { slot, length: WindowLength::Span(span), kind: WindowKind::Tumbling, hop, exact: false };
    Ok(match read::read(layout, Some(live), chunks, &wanted, EventTime(end), &mut 0)? {
        WindowValue::Value { value, as_of } if as_of.0 == end => {
            Some(Closed { from: EventTime(end.saturating_sub(span.micros())), end: as_of, value })
        }
        _ => None,
    })
}

/// The sessions of a row that ended after `from` and not after `to`, the earliest first.
pub(crate) fn sessions(layout: &ClassSessions, stored: &[u8], slot: u16, (from, to): (i64, i64)) -> Vec<Closed> {
    let Some(index) = layout.index_of(slot) else { return Vec::new() };
    let all = session::row::sessions(stored, layout, index, i64::MAX);
    let all = all.map(|session| closed(layout, index, session)).skip_while(|closed| closed.end.0 > to);
    let mut within: Vec<_> = all.take_while(|closed| closed.end.0 > from).collect();
    within.reverse();
    within
}

/// The session that an event of this time is in; `None` if it has been let go.
pub(crate) fn session_at(layout: &ClassSessions, stored: &[u8], slot: u16, time: i64) -> Option<Closed> {
    let index = layout.index_of(slot)?;
    let mut all = session::row::sessions(stored, layout, index, i64::MAX);
    let session = all.find(|session| session.first <= time).filter(|session| time <= session.last)?;
    Some(closed(layout, index, session))
}

fn closed(layout: &ClassSessions, index: usize, session: Session) -> Closed {
    let end = session.last.saturating_add(layout.kept(index).gap);
    Closed { from: EventTime(session.first), end: EventTime(end), value: layout.aggregate(index).finish(&session.state) }
}
