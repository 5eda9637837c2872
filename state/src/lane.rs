//! The lane protocol, the shard's side: pure, no I/O. (`docs/semantics.md`, Delivery; simulated in
//! `tests/simulation`.)
//!
//! A lane is the sequence of messages from one incarnation (*epoch*) of one partition to one shard. Every batch of a
//! partition sends exactly one message into each of its lanes, also where there is nothing for the shard, so that:
//! - a lost message is seen as a gap in `lane_seq`, at the latest when the next one comes;
//! - the end of every batch is a frontier: all records up to [`LaneHead::through`] have had their effect on this shard.
//!
//! Invariants:
//! - a message is accepted only right after its predecessor of the same epoch (I4);
//! - a message of an older epoch changes nothing (I5);
//! - `applied` never decreases while the value lives (I2).
//!
//! Offsets alone do not suffice: after a lost message the next one would move `applied` past the hole (945 of 2,000
//! simulated crash schedules lose data).

use std::collections::HashMap;

use karst_types::{Offset, PartitionId, SourceId};

use crate::replay::REPLAY;

/// A partition of a source, seen from a shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneId {
    /// The source.
    pub source: SourceId,
    /// Its partition.
    pub partition: PartitionId,
}

impl LaneId {
    /// The replay log of a source, which is read like one more partition.
    pub const fn replay(source: SourceId) -> Self {
        Self { source, partition: REPLAY }
    }
    /// Whether this is a replay log.
    pub const fn is_replay(self) -> bool {
        self.partition.0 == REPLAY.0
    }
}

/// What every lane message starts with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneHead {
    /// The source.
    pub source: SourceId,
    /// Its partition.
    pub partition: PartitionId,
    /// Which incarnation of the partition sent it: rises with every start and every rewind; starts at 1.
    pub epoch: u64,
    /// Its number in the lane: 1, 2, 3, … within one epoch.
    pub lane_seq: u64,
    /// The last offset of the batch: all records up to here are covered.
    pub through: Offset,
}

impl LaneHead {
    /// The lane's partition.
    pub const fn lane(&self) -> LaneId {
        LaneId { source: self.source, partition: self.partition }
    }
}

/// What to do with a lane message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Accept {
    /// Apply the effects of records after `after` (`None`: of all); those up to it are in already. A replayed batch may
    /// begin before `after`, since batches are cut anew on replay.
    Apply {
        /// What the shard had applied before.
        after: Option<Offset>,
    },
    /// All of it is in already.
    Duplicate,
    /// Of an incarnation that is gone: drop it.
    OldEpoch,
    /// A message before it is missing: the partition must rewind.
    Gap,
}

/// Where a shard stands in one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LanePosition {
    /// Applied in memory; only good for skipping what need not be sent again.
    pub applied: Option<Offset>,
    /// Committed; what a restart may rely on.
    pub committed: Option<Offset>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    epoch: u64,
    expected: u64,
    position: LanePosition,
    moved: bool, // since the last take_moved
}

/// All lanes that end in one shard.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: HashMap<LaneId, Lane>,
    moved: usize,
}

impl Lanes {
    /// The lanes as a shard knows them after it was opened: positions, but no expectation. So the next message of each lane
    /// is a gap unless it is the first of its epoch: a shard that restarts makes its partitions rewind.
    pub fn recovered(committed: impl IntoIterator<Item = (LaneId, Offset)>) -> Self {
        let lane =
            |offset| Lane { position: LanePosition { applied: Some(offset), committed: Some(offset) }, ..Lane::default() };
        Self { lanes: committed.into_iter().map(|(id, offset)| (id, lane(offset))).collect(), moved: 0 }
    }

    /// Judges a message, and moves the lane if it is accepted.
    pub fn accept(&mut self, head: &LaneHead) -> Accept {
        self.judge(head, None)
    }

    /// As [`Lanes::accept`], for messages that cannot be taken in part (`first` is the batch's first offset): one that
    /// straddles what was applied is a gap too. The partition avoids that by ending a replayed batch where this shard stands.
    pub fn accept_whole(&mut self, head: &LaneHead, first: Offset) -> Accept {
        self.judge(head, Some(first))
    }

    fn judge(&mut self, head: &LaneHead, whole_from: Option<Offset>) -> Accept {
        let lane = self.lanes.entry(head.lane()).or_default();
        if head.epoch < lane.epoch {
            return Accept::OldEpoch;
        }
        let expected = if head.epoch > lane.epoch { 1 } else { lane.expected.max(1) };
        let after = lane.position.applied;
        let straddles = whole_from.is_some_and(|first| after.is_some_and(|after| first <= after && after < head.through));
        lane.epoch = head.epoch;
        if head.lane_seq != expected || straddles {
            lane.expected = expected;
            return Accept::Gap;
        }
        lane.expected = expected + 1;
        if after.is_some_and(|after| head.through <= after) {
            return Accept::Duplicate;
        }
        lane.position.applied = Some(head.through);
        if !std::mem::replace(&mut lane.moved, true) {
            self.moved += 1;
        }
        Accept::Apply { after }
    }

    /// The handshake of a partition that starts or rewinds: messages of older epochs are dropped from now on, and the new
    /// epoch starts with 1. Returns where the shard stands; a restart may rely on `committed` only, since a shard that
    /// fails falls back to it.
    pub fn reset(&mut self, lane: LaneId, epoch: u64) -> LanePosition {
        let known = self.lanes.entry(lane).or_default();
        if epoch > known.epoch {
            known.epoch = epoch;
            known.expected = 1;
        }
        known.position
    }

    /// Where the shard stands in a partition.
    pub fn position(&self, lane: LaneId) -> LanePosition {
        self.lanes.get(&lane).map(|lane| lane.position).unwrap_or_default()
    }

    /// How many lanes have moved since [`Lanes::take_moved`].
    pub fn moved(&self) -> usize {
        self.moved
    }

    /// The lanes that have moved since the last call, with the applied offset and its epoch: what the next commit stores.
    pub fn take_moved(&mut self) -> Vec<(LaneId, Offset, u64)> {
        self.moved = 0;
        let mut moved = Vec::new();
        for (id, lane) in &mut self.lanes {
            if let (true, Some(applied)) = (std::mem::take(&mut lane.moved), lane.position.applied) {
                moved.push((*id, applied, lane.epoch));
            }
        }
        moved.sort_unstable();
        moved
    }

    /// Records that these positions are committed.
    pub fn committed(&mut self, positions: impl IntoIterator<Item = (LaneId, Offset)>) {
        for (id, offset) in positions {
            let position = &mut self.lanes.entry(id).or_default().position;
            debug_assert!(position.applied >= Some(offset), "what is committed was applied before");
            position.committed = position.committed.max(Some(offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: LaneId = LaneId { source: SourceId(1), partition: PartitionId(0) };

    fn head(epoch: u64, lane_seq: u64, through: i64) -> LaneHead {
        LaneHead { source: LANE.source, partition: LANE.partition, epoch, lane_seq, through: Offset(through) }
    }
    const fn apply(after: i64) -> Accept {
        Accept::Apply { after: Some(Offset(after)) }
    }

    #[test]
    fn a_message_is_applied_only_right_after_its_predecessor() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.accept(&head(1, 1, 9)), Accept::Apply { after: None });
        assert_eq!(lanes.accept(&head(1, 3, 29)), Accept::Gap);
        assert_eq!(lanes.accept(&head(1, 2, 19)), apply(9));
        assert_eq!(lanes.accept(&head(1, 2, 19)), Accept::Gap);
        assert_eq!(lanes.position(LANE).applied, Some(Offset(19)));
    }

    #[test]
    fn an_older_epoch_changes_nothing_and_a_newer_one_starts_at_one() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.accept(&head(2, 1, 9)), Accept::Apply { after: None });
        assert_eq!(lanes.accept(&head(1, 2, 19)), Accept::OldEpoch);
        assert_eq!(lanes.accept(&head(3, 2, 19)), Accept::Gap);
        assert_eq!(lanes.accept(&head(3, 1, 9)), Accept::Duplicate);
        assert_eq!(lanes.accept(&head(3, 2, 19)), apply(9));
    }

    #[test]
    fn after_a_restart_any_message_but_the_first_of_an_epoch_is_a_gap() {
        let mut lanes = Lanes::recovered([(LANE, Offset(9))]);
        assert_eq!(lanes.accept(&head(5, 7, 19)), Accept::Gap);
        assert_eq!(lanes.accept(&head(6, 1, 12)), apply(9));
    }

    #[test]
    fn a_reset_drops_the_messages_of_the_epoch_before_at_once() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.accept(&head(1, 1, 9)), Accept::Apply { after: None });
        assert_eq!(lanes.reset(LANE, 2), LanePosition { applied: Some(Offset(9)), committed: None });
        assert_eq!(lanes.accept(&head(1, 2, 19)), Accept::OldEpoch);
        assert_eq!(lanes.accept(&head(2, 1, 9)), Accept::Duplicate);
        assert_eq!(lanes.reset(LANE, 1).applied, Some(Offset(9)), "an older reset is answered and changes nothing");
        assert_eq!(lanes.accept(&head(2, 2, 19)), apply(9));
    }

    #[test]
    fn a_batch_that_cannot_be_cut_is_a_gap_when_it_straddles_what_was_applied() {
        let mut lanes = Lanes::recovered([(LANE, Offset(9))]);
        assert_eq!(lanes.accept_whole(&head(1, 1, 14), Offset(5)), Accept::Gap);
        assert_eq!(lanes.accept_whole(&head(2, 1, 9), Offset(5)), Accept::Duplicate);
        assert_eq!(lanes.accept_whole(&head(2, 2, 14), Offset(10)), apply(9));
    }

    #[test]
    fn only_lanes_that_moved_are_committed_again() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.accept(&head(4, 1, 9)), Accept::Apply { after: None });
        assert_eq!(lanes.moved(), 1);
        assert_eq!(lanes.take_moved(), [(LANE, Offset(9), 4)]);
        assert_eq!((lanes.moved(), lanes.take_moved()), (0, vec![]));
        lanes.committed([(LANE, Offset(9))]);
        assert_eq!(lanes.position(LANE).committed, Some(Offset(9)));
    }
}
