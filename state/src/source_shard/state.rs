//! What writer, commit thread and readers of the source shard share, and what one commit does to it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use karst_types::{DeadLetter, Offset, Outcome, SourceId};
use parking_lot::RwLock;
use rocksdb::WriteBatch;

use super::tally::{Barrier, Tally};
use crate::{
    bytes,
    core::{CommitState, Core},
    dead::Letters,
    error::Result,
    keys,
    lane::LaneId,
    lateness::Lateness,
    replay::{self, ReplayEnd, ReplayRequest},
    restart::{self, RestartPoint, WatermarkState},
    rocks::Rocks,
};

/// What a commit of the source shard holds.
pub(crate) struct SourceContent {
    pub(super) tallies: Vec<(LaneId, Tally)>,
    pub(super) barriers: BTreeMap<LaneId, (Offset, Barrier)>,
    pub(super) letters: Vec<(LaneId, DeadLetter)>,
    pub(super) settled: Vec<Settled>,
    pub(super) requests: Vec<ReplayRequest>,
}

/// A replay that has come to its end.
pub(super) struct Settled {
    pub(super) lane: LaneId,
    pub(super) offset: Offset,
    pub(super) outcome: Outcome,
    pub(super) letter: Option<DeadLetter>,
}

/// What a commit did.
#[derive(Default)]
pub(crate) struct Filled {
    pruned: Vec<(LaneId, Offset)>,
    /// Letters queued, for each request.
    queued: Vec<u64>,
    replay_end: u64,
}

type Barriers = HashMap<LaneId, BTreeMap<Offset, WatermarkState>>;
/// Of the records at these barriers.
type Fingerprints = HashMap<LaneId, BTreeMap<Offset, u64>>;

/// What writer, commit thread and readers of the source shard share.
pub(crate) struct SourceState {
    pub(super) live: RwLock<BTreeMap<LaneId, Tally>>, // applied, like the hot set of a feature shard
    pub(super) barriers: RwLock<Barriers>,            // committed
    fingerprints: RwLock<Fingerprints>,               // committed; with the barriers
    begun: RwLock<HashMap<LaneId, Offset>>,           // stable
    pub(super) replay_end: ReplayEnd,
    shards: Vec<Arc<Core>>,
}

impl SourceState {
    pub(crate) fn new(shards: Vec<Arc<Core>>) -> Self {
        Self {
            live: RwLock::default(),
            barriers: RwLock::default(),
            fingerprints: RwLock::default(),
            begun: RwLock::default(),
            replay_end: ReplayEnd::default(),
            shards,
        }
    }

    /// Reads what is committed.
    pub(crate) fn reload(&self, rocks: &Rocks) -> Result<()> {
        let mut tallies: BTreeMap<LaneId, Tally> = BTreeMap::new();
        rocks.scan(&[keys::OUTCOMES], &[keys::OUTCOMES], |key, value| {
            let entry =
                keys::lane_of(key).zip(Tally::decode(value)).ok_or_else(|| rocks.corrupt("the outcomes of a partition"))?;
            tallies.insert(entry.0, entry.1);
            Ok(true)
        })?;
        rocks.scan(&[keys::LATENESS], &[keys::LATENESS], |key, value| {
            let entry = keys::lane_of(key).zip(Lateness::decode(value));
            let (lane, lateness) = entry.ok_or_else(|| rocks.corrupt("the lateness of a partition"))?;
            tallies.entry(lane).or_default().lateness = lateness;
            Ok(true)
        })?;
        let (mut barriers, mut fingerprints) = (Barriers::new(), Fingerprints::new());
        rocks.scan(&[keys::BARRIER], &[keys::BARRIER], |key, value| {
            let entry = keys::lane_of(key).zip(keys::offset_of(key)).zip(Barrier::decode(value));
            let ((lane, offset), barrier) = entry.ok_or_else(|| rocks.corrupt("the watermark history"))?;
            barriers.entry(lane).or_default().insert(offset, barrier.watermark);
            fingerprints.entry(lane).or_default().extend(barrier.fingerprint.map(|print| (offset, print)));
            Ok(true)
        })?;
        let mut begun = HashMap::new();
        rocks.scan(&[keys::BEGUN], &[keys::BEGUN], |key, value| {
            let entry = keys::lane_of(key).zip(bytes::i64(&mut &value[..]));
            let (lane, offset) = entry.ok_or_else(|| rocks.corrupt("where a partition was begun"))?;
            begun.insert(lane, Offset(offset));
            Ok(true)
        })?;
        let replay_next = rocks.get(&keys::meta("replay"))?.and_then(|next| bytes::u64(&mut &next[..]));
        self.replay_end.set(replay_next.unwrap_or(0)); // what was recovered is stable
        *self.live.write() = tallies;
        *self.begun.write() = begun;
        *self.barriers.write() = barriers;
        *self.fingerprints.write() = fingerprints;
        Ok(())
    }

    /// Adds the content to the commit; returns the barriers that go with it.
    pub(crate) fn fill(
        &self,
        content: &SourceContent,
        core: &Core,
        batch: &mut WriteBatch,
        state: &mut CommitState,
        rocks: &Rocks,
    ) -> Result<Filled> {
        for (lane, tally) in &content.tallies {
            batch.put(keys::outcomes(*lane), tally.encode());
            batch.put(keys::lateness(*lane), tally.lateness.encode());
        }
        let mut pruned = Vec::new();
        let known = self.barriers.read();
        for (lane, (offset, barrier)) in &content.barriers {
            batch.put(keys::barrier(*lane, *offset), barrier.encode());
            // Only what survives a power cut counts here: each shard may fall back to that on its own.
            let safe = self.shards.iter().map(|shard| shard.stable(*lane)).fold(core.stable(*lane), Ord::min);
            let needless = known.get(lane).map(|barriers| restart::needless_barriers(barriers, safe)).unwrap_or_default();
            needless.iter().for_each(|offset| batch.delete(keys::barrier(*lane, *offset)));
            pruned.extend(needless.into_iter().map(|offset| (*lane, offset)));
            let floor = known.get(lane).zip(safe).and_then(|(barriers, safe)| barriers.range(..=safe).next_back());
            if let (true, Some((floor, _))) = (lane.is_replay(), floor) {
                prune_replay_log(*lane, *floor, batch, rocks)?;
            }
        }
        let mut letters = Letters::new(&mut state.dead, core.settings(), rocks, core.clock.now(), letter_cursors(core));
        for (lane, letter) in &content.letters {
            letters.store(*lane, letter.clone())?;
        }
        for Settled { lane, offset, outcome, letter } in &content.settled {
            letters.settle(*lane, *offset, *outcome, letter.clone())?;
        }
        let before = state.replay_next;
        let mut queued = Vec::with_capacity(content.requests.len());
        for request in &content.requests {
            let first = state.replay_next;
            for (lane, offset) in &request.letters {
                if let Some(letter) = letters.queue(*lane, *offset)? {
                    let key = keys::replay(LaneId::replay(lane.source), Offset(state.replay_next as i64));
                    batch.put(key, replay::encode(lane.partition, &letter));
                    state.replay_next += 1;
                }
            }
            queued.push(state.replay_next - first);
        }
        letters.finish(batch)?;
        if state.replay_next > before {
            batch.put(keys::meta("replay"), state.replay_next.to_le_bytes());
            state.sync_now();
        }
        Ok(Filled { pruned, queued, replay_end: state.replay_next })
    }

    /// The commit is written: its barriers count from now on.
    pub(crate) fn committed(&self, content: SourceContent, filled: Filled) {
        self.replay_end.set(filled.replay_end);
        let (mut fingerprints, mut barriers) = (self.fingerprints.write(), self.barriers.write());
        for (lane, (offset, barrier)) in content.barriers {
            barriers.entry(lane).or_default().insert(offset, barrier.watermark);
            fingerprints.entry(lane).or_default().extend(barrier.fingerprint.map(|print| (offset, print)));
        }
        for (lane, offset) in filled.pruned {
            barriers.entry(lane).or_default().remove(&offset);
            fingerprints.entry(lane).or_default().remove(&offset);
        }
        drop((fingerprints, barriers));
        for (request, queued) in content.requests.into_iter().zip(filled.queued) {
            (request.answer)(queued);
        }
    }

    /// See [`Store::note_begun`](crate::Store::note_begun).
    pub(crate) fn note_begun(&self, core: &Core, lane: LaneId, from: Offset) -> Result<()> {
        let mut batch = WriteBatch::default();
        batch.put(keys::begun(lane), from.0.to_le_bytes());
        core.with_rocks(|rocks| rocks.write_synced(batch))?;
        self.begun.write().insert(lane, from);
        Ok(())
    }

    /// See [`Store::restart_point`](crate::Store::restart_point).
    pub(crate) fn restart_point(&self, core: &Core, lane: LaneId) -> RestartPoint {
        // Barriers first: positions read later are not before those that the barriers were pruned by.
        let barriers = self.barriers.read().get(&lane).cloned().unwrap_or_default();
        let committed = self.shards.iter().map(|shard| shard.committed(lane));
        let mut point = restart::restart_point(committed, core.committed(lane), &barriers);
        point.begun = self.begun.read().get(&lane).copied();
        let fingerprints = self.fingerprints.read();
        point.fingerprint = point.after.and_then(|after| fingerprints.get(&lane)?.get(&after).copied());
        point
    }
}

/// Drops the entries that no restart can need any more.
fn prune_replay_log(lane: LaneId, floor: Offset, batch: &mut WriteBatch, rocks: &Rocks) -> Result<()> {
    let prefix = keys::lane_prefix(keys::REPLAY_LOG, lane);
    rocks.scan(&prefix, &prefix, |key, _| {
        let goes = keys::offset_of(key).is_some_and(|seq| seq <= floor);
        if goes {
            batch.delete(key);
        }
        Ok(goes)
    })
}

/// Who wants letters forwarded durably, and up to where in their queue each source's were acknowledged.
fn letter_cursors(core: &Core) -> HashMap<SourceId, u64> {
    core.cursors().into_iter().filter_map(|(name, next)| Some((keys::letters_of(&name)?, next))).collect()
}
