//! Sessions: the events of an entity with less than a gap between each and the next.
//!
//! What is kept is not sessions but *segments*: the events of one short tile, with the times of the first and the last of them and the
//! state of the aggregate. No tile is longer than the gap, so a segment is of one session, and which segments make a session is found
//! when it is read, by the times between them. So an event that comes late is added to the segment of its tile, and may join two
//! sessions without anything being moved.
//!
//! ```text
//! events:    ··  ·   ·· ·                    ·  ··   ·            gap: 10 m
//! segments:  [ ] |   [ ] |                   |  []   |            tiles of a minute, later of ten
//! sessions:  └───────────┘                   └───────┘
//! ```
//! As the watermark goes on, segments are merged to longer ones; what no question can reach any more is let go, but for the old part of a
//! session that still goes on: that is one segment, at the bottom.
//!
//! Each aggregate has its own sessions, of the updates that it sees. All of an entity are in one row, under a class of its own.

pub(crate) mod apply;
pub(crate) mod row;

use karst_types::{ClassId, EventTime, TimeSpan, window::session_hops};

use super::{
    aggregate::Aggregate,
    layout::{AggregateDeclaration, ClassWindows, SLACK},
    read::WindowValue,
};
use row::floor_to;

/// Both bits of the classes of tiles.
const SESSIONS: u16 = 0xC000;

/// An aggregate over sessions.
#[derive(Clone, Debug)]
pub struct SessionDeclaration {
    /// What is aggregated; by no group, and never exact.
    pub aggregate: AggregateDeclaration,
    /// The gap that ends a session.
    pub gap: TimeSpan,
    /// How far before the watermark "now" may lie.
    pub retention: TimeSpan,
}

/// How the sessions of one aggregate are kept; in µs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) gap: i64,
    /// The tiles of the newest events.
    pub(crate) fine: i64,
    /// The tiles of the past.
    pub(crate) coarse: i64,
    /// How long before the watermark everything is kept.
    keep: i64,
}

impl Kept {
    fn new(gap: i64, retention: i64) -> Self {
        let (fine, coarse) = session_hops(TimeSpan::from_micros(gap));
        // A session that has just ended can be asked for as long again as it took to end.
        let keep = retention.saturating_add(gap.max(SLACK));
        Self { gap, fine: fine.micros(), coarse: coarse.micros(), keep }
    }
    /// Before this nothing is told, and what ended before it is let go. The end of a coarse tile; `i64::MIN`: there is no such bound.
    pub(crate) fn floor(&self, watermark: EventTime) -> i64 {
        floor_to(watermark.0.saturating_sub(self.keep), self.coarse)
    }
    /// Up to here segments are coarse. The end of a fine tile, and never before the floor.
    fn rolled(&self, watermark: EventTime) -> i64 {
        floor_to(watermark.0.saturating_sub(SLACK), self.fine)
    }
}

/// The sessions of one feature class.
pub struct ClassSessions {
    /// What sees an update, its states, and the watermark.
    seen: ClassWindows,
    kept: Vec<Kept>,
}

impl ClassSessions {
    /// # Panics
    /// If the class's number is too large, or a gap is not above zero: the declaration was checked before.
    pub fn new(class: ClassId, sessions: &[SessionDeclaration]) -> Self {
        assert!(sessions.iter().all(|session| session.gap > TimeSpan::ZERO), "gaps are above zero");
        let aggregates: Vec<_> = sessions.iter().map(|session| session.aggregate.clone()).collect();
        let kept = sessions.iter().map(|session| Kept::new(session.gap.micros(), session.retention.micros())).collect();
        Self { seen: ClassWindows::without_levels(class, &aggregates), kept }
    }

    /// The class whose updates are aggregated.
    pub fn class(&self) -> ClassId {
        self.seen.class()
    }
    /// Up to where nothing more is to come, but late events.
    pub fn watermark(&self) -> EventTime {
        self.seen.watermark()
    }
    /// Moves it on; it never goes back.
    pub fn advance(&self, watermark: EventTime) {
        self.seen.advance(watermark);
    }

    /// The class under which the sessions of an entity are stored.
    pub(crate) fn stored(class: ClassId) -> ClassId {
        ClassId(class.0 | SESSIONS)
    }
    pub(crate) fn is_stored(class: ClassId) -> bool {
        class.0 & SESSIONS == SESSIONS
    }
    pub(crate) fn slots(&self) -> &[u16] {
        self.seen.slots()
    }
    pub(crate) fn sees(&self, update: &karst_types::UpdateRef<'_>) -> Vec<u16> {
        self.seen.sees(update)
    }
    pub(crate) fn index_of(&self, slot: u16) -> Option<usize> {
        self.seen.index_of(slot)
    }
    pub(crate) fn aggregate(&self, index: usize) -> &Aggregate {
        self.seen.aggregate(index).0
    }
    pub(crate) fn kept(&self, index: usize) -> &Kept {
        &self.kept[index]
    }

    /// The aggregate over the session that is open at `now`, as far as it has come then; of nothing, if none is.
    ///
    /// An instant in the past that cuts a coarse segment is rounded down to the end of the tile before.
    pub(crate) fn read(&self, stored: Option<&[u8]>, slot: u16, now: EventTime) -> WindowValue {
        let Some(index) = self.index_of(slot) else { return WindowValue::Unknown };
        let (kept, aggregate) = (self.kept(index), self.aggregate(index));
        // Whether or not the writer has let it go already: the answer must not depend on that.
        let floor = kept.floor(self.watermark()).max(stored.map_or(i64::MIN, |stored| row::floor(stored, index)));
        if now.0 < floor {
            return WindowValue::Expired;
        }
        let Some(stored) = stored else {
            return WindowValue::Value { value: aggregate.finish(&row::identity(aggregate)), as_of: now };
        };
        let rolled = row::rolled(stored, index);
        let cut = |segment: &row::Segment<'_>| segment.first <= now.0 && now.0 < segment.last && segment.first <= rolled;
        let is_cut = row::segments(stored, index).find(|segment| segment.first <= now.0).is_some_and(|segment| cut(&segment));
        let as_of = if is_cut { floor_to(now.0, kept.coarse) } else { now.0 };
        let open =
            row::sessions(stored, self, index, as_of).next().filter(|session| session.last.saturating_add(kept.gap) > as_of);
        let state = open.map_or_else(|| row::identity(aggregate), |session| session.state);
        WindowValue::Value { value: aggregate.finish(&state), as_of: EventTime(as_of) }
    }

    /// Whether nothing of a stored row can be asked for any more. Of what is not understood nothing is let go.
    pub(crate) fn has_expired(&self, stored: &[u8]) -> bool {
        let watermark = self.watermark();
        let over = |index: usize| {
            let kept = self.kept(index);
            let floor = kept.floor(watermark);
            row::segments(stored, index).next().is_none_or(|newest| newest.last.saturating_add(kept.gap) <= floor)
        };
        watermark.0 != i64::MIN && row::is_of(stored, self) && row::check_shape(stored) && (0..self.kept.len()).all(over)
    }
}
