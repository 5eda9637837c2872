//! The writing end of the source shard: takes in batches, and freezes what is to be committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use karst_types::{DeadLetter, Offset, SourceId};

use super::{
    SourceBatch,
    state::{Settled, SourceContent, SourceState},
    tally::{Barrier, place},
};
use crate::{
    commit::{Committed, Content, FrozenCommit},
    core::{Core, Start},
    error::Result,
    lane::{Accept, LaneId, LanePosition, Lanes},
    replay::{ReplayRequest, Replayed},
    shard::Applied,
};

/// The only writer of the source shard.
pub struct SourceWriter {
    core: Arc<Core>,
    state: Arc<SourceState>,
    generation: u64,
    seq: u64,
    lanes: Lanes,
    barriers: BTreeMap<LaneId, (Offset, Barrier)>,
    letters: Vec<(LaneId, DeadLetter)>,
    settled: Vec<Settled>,
    requests: Vec<ReplayRequest>,
    /// Partitions whose sums changed by a replay.
    resettled: BTreeSet<LaneId>,
    letter_bytes: usize,
    records: usize,
    in_flight: bool,
}

/// Dead letters waiting for a commit, in bytes, at most.
const LETTER_BYTES_MAX: usize = 8 << 20;

impl SourceWriter {
    pub(crate) fn new(core: Arc<Core>, state: Arc<SourceState>) -> Result<Self> {
        let Start { generation, seq, positions, .. } = core.rebuild(|rocks| state.reload(rocks))?;
        let lanes = Lanes::recovered(positions);
        Ok(Self {
            core,
            state,
            generation,
            seq,
            lanes,
            barriers: BTreeMap::new(),
            letters: Vec::new(),
            settled: Vec::new(),
            requests: Vec::new(),
            resettled: BTreeSet::new(),
            letter_bytes: 0,
            records: 0,
            in_flight: false,
        })
    }

    /// Applies a batch in memory. Takes dead letters and credit out of it. A batch that begins before and ends after what was
    /// applied is a gap: end replayed batches at [`RestartPoint::source_shard`](crate::RestartPoint::source_shard).
    ///
    /// # Errors
    /// Whatever the error, build the writer anew.
    pub fn apply(&mut self, batch: &mut SourceBatch) -> Result<Applied> {
        self.core.check_writer(self.generation)?;
        debug_assert!(batch.first <= batch.head.through, "a batch has a record");
        let faults = batch.dead_letters.iter().filter(|letter| letter.reason.is_fault()).count() as u64;
        debug_assert!(batch.outcomes.conserved(), "every record has one outcome: {:?}", batch.outcomes);
        debug_assert_eq!(batch.outcomes.dead_letters, faults);
        let accepted = self.lanes.accept_whole(&batch.head, batch.first);
        batch.credit = None;
        match accepted {
            Accept::Apply { .. } => {}
            Accept::Duplicate => {
                self.core.metrics.duplicates.increment(1);
                return Ok(Applied::Duplicate);
            }
            Accept::OldEpoch => {
                self.core.metrics.old_epochs.increment(1);
                return Ok(Applied::OldEpoch);
            }
            Accept::Gap => {
                self.core.metrics.gaps.increment(1);
                return Ok(Applied::Gap);
            }
        }
        let lane = batch.head.lane();
        if let Some(replayed) = batch.replayed {
            self.settle(lane.source, replayed, batch.dead_letters.pop());
        } else {
            let mut live = self.state.live.write();
            let tally = live.entry(lane).or_default();
            tally.outcomes.add(&batch.outcomes);
            tally.lateness.add(&batch.lateness);
            let faults = batch.dead_letters.iter().filter(|letter| letter.reason.is_fault());
            faults.for_each(|letter| tally.reasons[place(letter.reason)] += 1);
            debug_assert!(tally.is_exact(), "at every frontier: {tally:?}");
        }
        let barrier = Barrier { watermark: batch.watermark, fingerprint: batch.fingerprint };
        self.barriers.insert(lane, (batch.head.through, barrier));
        let letters = std::mem::take(&mut batch.dead_letters);
        self.letter_bytes += letters.iter().map(|letter| letter.value.as_ref().map_or(0, Vec::len) + 256).sum::<usize>();
        self.letters.extend(letters.into_iter().map(|letter| (lane, letter)));
        let new = batch.outcomes.records as usize;
        self.records += new;
        Ok(Applied::Applied { new, repeated: 0 })
    }

    /// A replay has come to its end.
    fn settle(&mut self, source: SourceId, replayed: Replayed, letter: Option<DeadLetter>) {
        let Replayed { partition, offset, was, outcome } = replayed;
        let lane = LaneId { source, partition };
        let mut live = self.state.live.write();
        let tally = live.entry(lane).or_default();
        tally.resettle(was, outcome);
        debug_assert!(tally.is_exact(), "after a replay: {tally:?}");
        self.resettled.insert(lane);
        self.letter_bytes += letter.as_ref().map_or(0, |letter| letter.value.as_ref().map_or(0, Vec::len)) + 256;
        self.settled.push(Settled { lane, offset, outcome, letter });
    }

    /// Puts letters into the replay log of their source, with the next commit.
    ///
    /// # Errors
    /// [`Error::Fenced`](crate::Error::Fenced) or [`Error::Poisoned`](crate::Error::Poisoned): build the writer anew, and ask again.
    pub fn request_replay(&mut self, request: ReplayRequest) -> Result<()> {
        self.core.check_writer(self.generation)?;
        self.requests.push(request);
        Ok(())
    }

    /// As [`ShardWriter::reset_lane`](crate::ShardWriter::reset_lane).
    pub fn reset_lane(&mut self, lane: LaneId, epoch: u64) -> LanePosition {
        self.lanes.reset(lane, epoch)
    }
    /// Where this shard stands in a partition.
    pub fn position(&self, lane: LaneId) -> LanePosition {
        self.lanes.position(lane)
    }
    /// Whether anything was applied since the last [`SourceWriter::freeze`].
    pub fn has_uncommitted(&self) -> bool {
        self.lanes.moved() > 0 || !self.requests.is_empty()
    }
    /// Records applied since the last [`SourceWriter::freeze`].
    pub fn uncommitted_events(&self) -> usize {
        self.records
    }
    /// Whether a commit must not wait any longer.
    pub fn must_commit(&self) -> bool {
        self.records >= self.core.settings().commit_events || self.letter_bytes >= LETTER_BYTES_MAX
    }
    /// Whether a commit is on its way.
    pub fn commit_in_flight(&self) -> bool {
        self.in_flight
    }
    /// Whether it must take nothing more until the commit on its way is done.
    pub fn is_full(&self) -> bool {
        self.in_flight && self.must_commit()
    }

    /// Takes out what is to be committed; `None` if there is nothing, or a commit is on its way.
    pub fn freeze(&mut self) -> Option<FrozenCommit> {
        if self.in_flight || !self.has_uncommitted() {
            return None;
        }
        self.seq += 1;
        self.in_flight = true;
        (self.records, self.letter_bytes) = (0, 0);
        let positions = self.lanes.take_moved();
        let live = self.state.live.read();
        self.resettled.extend(positions.iter().map(|(lane, ..)| *lane));
        let changed = std::mem::take(&mut self.resettled);
        let content = SourceContent {
            tallies: changed.into_iter().filter_map(|lane| live.get(&lane).map(|tally| (lane, *tally))).collect(),
            barriers: std::mem::take(&mut self.barriers),
            letters: std::mem::take(&mut self.letters),
            settled: std::mem::take(&mut self.settled),
            requests: std::mem::take(&mut self.requests),
        };
        Some(FrozenCommit { generation: self.generation, seq: self.seq, positions, content: Content::Source(content) })
    }

    /// The commit is written.
    pub fn committed(&mut self, done: &Committed) {
        if done.generation == self.generation {
            self.in_flight = false;
            self.lanes.committed(done.positions.iter().copied());
        }
    }
}
