//! The source shard: what belongs to partitions rather than to entities. Outcomes, watermark history, dead letters.
//!
//! Same lane rule, same commit rule, same place in the minimum of a restart as every other shard. Invariants:
//! - I8: the outcomes of a partition sum up its records up to the applied position, each once;
//! - I12: the watermark as of every recorded barrier is the one that the log gives;
//! - I15: a dead letter is stored once, whatever is replayed;
//! - the last batch end of every commit is a barrier; barriers go when every shard holds a later one safely.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use karst_types::{DeadLetter, EventTime, Offset, Outcome, Outcomes, PartitionId, ProcessingTime, Reason, SourceId};
use parking_lot::RwLock;
use rocksdb::WriteBatch;

use crate::{
    bytes,
    commit::{Committed, Content, FrozenCommit},
    core::{CommitState, Core, Start},
    dead::{self, LetterState, Letters},
    error::{Error, Result},
    keys,
    lane::{Accept, LaneHead, LaneId, LanePosition, Lanes},
    lateness::Lateness,
    replay::{self, ReplayEnd, ReplayEntry, ReplayRequest, Replayed},
    restart::{self, RestartPoint, WatermarkState},
    rocks::Rocks,
    shard::Applied,
};

const FORMAT: u8 = 1;

/// What one batch of a partition means for the partition.
pub struct SourceBatch {
    /// Its place in the lane.
    pub head: LaneHead,
    /// Offset of the batch's first record.
    pub first: Offset,
    /// What became of its records, and how many were read.
    pub outcomes: Outcomes,
    /// Those that were put aside, by rising offset; late ones that are kept included.
    pub dead_letters: Vec<DeadLetter>,
    /// The watermark as of the batch's end.
    pub watermark: WatermarkState,
    /// How late its events were.
    pub lateness: Lateness,
    /// In a batch of a replay log: whose replay this is. `outcomes` and `dead_letters` are of that record then.
    pub replayed: Option<Replayed>,
    /// Given back (dropped) once the batch is applied.
    pub credit: Option<Box<dyn Any + Send>>,
}

/// Sums of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionOutcomes {
    /// The source.
    pub source: SourceId,
    /// Its partition.
    pub partition: PartitionId,
    /// The sums.
    pub outcomes: Outcomes,
    /// The dead letters among them by reason; reasons without any are left out.
    pub reasons: Vec<(Reason, u64)>,
    /// How late its events were.
    pub lateness: Lateness,
}

/// A dead letter and whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredDeadLetter {
    /// The source.
    pub source: SourceId,
    /// Its partition.
    pub partition: PartitionId,
    /// The letter.
    pub letter: DeadLetter,
    /// Where it is on its way.
    pub state: LetterState,
    /// When it was stored first.
    pub stored_at: ProcessingTime,
}

/// How many dead letters there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LetterCounts {
    /// Kept, those that were replayed included.
    pub kept: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Let go before anyone replayed them, because there were too many or they were too old; since the directory was made.
    pub let_go: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    outcomes: Outcomes,
    reasons: [u64; Reason::ALL.len()],
    /// Under a key of its own: directories of older versions have none.
    lateness: Lateness,
}

impl Tally {
    /// I8: every record has one outcome, and every dead one a reason.
    fn is_exact(&self) -> bool {
        self.outcomes.conserved() && self.reasons.iter().sum::<u64>() == self.outcomes.dead_letters
    }

    /// A record that was counted as dead or late has another outcome now.
    fn resettle(&mut self, was: Reason, outcome: Outcome) {
        let sums = &mut self.outcomes;
        let before = if was.is_fault() { &mut sums.dead_letters } else { &mut sums.late };
        debug_assert!(*before > 0, "what is replayed was counted");
        *before = before.saturating_sub(1);
        sums.count(outcome);
        sums.records -= 1; // it is not a new one
        if was.is_fault() {
            self.reasons[place(was)] = self.reasons[place(was)].saturating_sub(1);
        }
        if let Outcome::Dead(reason) = outcome {
            self.reasons[place(reason)] += 1;
        }
    }

    fn encode(&self) -> Vec<u8> {
        let Outcomes { records, applied, skipped, late, tombstones, dead_letters } = self.outcomes;
        let mut out = vec![FORMAT];
        [records, applied, skipped, late, tombstones, dead_letters].iter().for_each(|sum| bytes::put_varint(&mut out, *sum));
        for (reason, count) in Reason::ALL.iter().zip(self.reasons).filter(|(_, count)| *count > 0) {
            bytes::put_sized(&mut out, reason.as_str().as_bytes());
            bytes::put_varint(&mut out, count);
        }
        out
    }

    fn decode(mut value: &[u8]) -> Option<Self> {
        let rest = &mut value;
        (bytes::u8(rest)? == FORMAT).then_some(())?;
        let mut sums = [0; 6];
        for sum in &mut sums {
            *sum = bytes::varint(rest)?;
        }
        let [records, applied, skipped, late, tombstones, dead_letters] = sums;
        let outcomes = Outcomes { records, applied, skipped, late, tombstones, dead_letters };
        let mut tally = Self { outcomes, ..Self::default() };
        while !rest.is_empty() {
            let reason = Reason::parse(std::str::from_utf8(bytes::sized(rest)?).ok()?)?;
            tally.reasons[place(reason)] = bytes::varint(rest)?;
        }
        Some(tally)
    }
}

fn place(reason: Reason) -> usize {
    Reason::ALL.iter().position(|known| *known == reason).expect("ALL has every reason")
}

fn encode_watermark(watermark: &WatermarkState) -> Vec<u8> {
    let mut out = vec![FORMAT];
    if let Some(at) = watermark.max_event_time {
        out.extend_from_slice(&at.0.to_le_bytes());
    }
    out
}

fn decode_watermark(mut value: &[u8]) -> Option<WatermarkState> {
    (bytes::u8(&mut value)? == FORMAT).then_some(())?;
    let max_event_time = if value.is_empty() { None } else { Some(EventTime(bytes::i64(&mut value)?)) };
    Some(WatermarkState { max_event_time })
}

/// What a commit of the source shard holds.
pub(crate) struct SourceContent {
    tallies: Vec<(LaneId, Tally)>,
    barriers: BTreeMap<LaneId, (Offset, WatermarkState)>,
    letters: Vec<(LaneId, DeadLetter)>,
    settled: Vec<Settled>,
    requests: Vec<ReplayRequest>,
}

/// A replay that has come to its end.
struct Settled {
    lane: LaneId,
    offset: Offset,
    outcome: Outcome,
    letter: Option<DeadLetter>,
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

/// What writer, commit thread and readers of the source shard share.
pub(crate) struct SourceState {
    live: RwLock<BTreeMap<LaneId, Tally>>, // applied, like the hot set of a feature shard
    barriers: RwLock<Barriers>,            // committed
    replay_end: ReplayEnd,
    shards: Vec<Arc<Core>>,
}

impl SourceState {
    pub(crate) fn new(shards: Vec<Arc<Core>>) -> Self {
        Self { live: RwLock::default(), barriers: RwLock::default(), replay_end: ReplayEnd::default(), shards }
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
        let mut barriers = Barriers::new();
        rocks.scan(&[keys::BARRIER], &[keys::BARRIER], |key, value| {
            let entry = keys::lane_of(key).zip(keys::offset_of(key)).zip(decode_watermark(value));
            let ((lane, offset), watermark) = entry.ok_or_else(|| rocks.corrupt("the watermark history"))?;
            barriers.entry(lane).or_default().insert(offset, watermark);
            Ok(true)
        })?;
        let replay_next = rocks.get(&keys::meta("replay"))?.and_then(|next| bytes::u64(&mut &next[..]));
        self.replay_end.set(replay_next.unwrap_or(0)); // what was recovered is stable
        *self.live.write() = tallies;
        *self.barriers.write() = barriers;
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
        for (lane, (offset, watermark)) in &content.barriers {
            batch.put(keys::barrier(*lane, *offset), encode_watermark(watermark));
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
        let mut letters = Letters::new(&mut state.dead, core.settings(), rocks, core.clock.now());
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
        let mut barriers = self.barriers.write();
        for (lane, (offset, watermark)) in content.barriers {
            barriers.entry(lane).or_default().insert(offset, watermark);
        }
        for (lane, offset) in filled.pruned {
            barriers.entry(lane).or_default().remove(&offset);
        }
        drop(barriers);
        for (request, queued) in content.requests.into_iter().zip(filled.queued) {
            (request.answer)(queued);
        }
    }

    /// See [`Store::restart_point`](crate::Store::restart_point).
    pub(crate) fn restart_point(&self, core: &Core, lane: LaneId) -> RestartPoint {
        // Barriers first: positions read later are not before those that the barriers were pruned by.
        let barriers = self.barriers.read().get(&lane).cloned().unwrap_or_default();
        restart::restart_point(self.shards.iter().map(|shard| shard.committed(lane)), core.committed(lane), &barriers)
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

/// The only writer of the source shard.
pub struct SourceWriter {
    core: Arc<Core>,
    state: Arc<SourceState>,
    generation: u64,
    seq: u64,
    lanes: Lanes,
    barriers: BTreeMap<LaneId, (Offset, WatermarkState)>,
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
        let Start { generation, seq, positions } = core.rebuild(|rocks| state.reload(rocks))?;
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
    /// applied is a gap: end replayed batches at [`RestartPoint::source_shard`].
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
        self.barriers.insert(lane, (batch.head.through, batch.watermark));
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
    /// [`Error::Fenced`] or [`Error::Poisoned`](crate::Error::Poisoned): build the writer anew, and ask again.
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

/// Reads the source shard. Clone it; waits for no writer.
#[derive(Clone)]
pub struct SourceReader {
    core: Arc<Core>,
    state: Arc<SourceState>,
}

impl SourceReader {
    pub(crate) fn new(core: Arc<Core>, state: Arc<SourceState>) -> Self {
        Self { core, state }
    }

    /// The sums of every partition, as applied (at most one commit ahead of what is committed).
    pub fn outcomes(&self) -> Vec<PartitionOutcomes> {
        let reasons = |tally: &Tally| Reason::ALL.into_iter().zip(tally.reasons).filter(|(_, count)| *count > 0).collect();
        let live = self.state.live.read();
        live.iter()
            .filter(|(lane, _)| !lane.is_replay())
            .map(|(lane, tally)| PartitionOutcomes {
                source: lane.source,
                partition: lane.partition,
                outcomes: tally.outcomes,
                reasons: reasons(tally),
                lateness: tally.lateness,
            })
            .collect()
    }

    /// The committed positions.
    pub fn positions(&self) -> Vec<(LaneId, Offset)> {
        self.core.all_committed()
    }

    /// Committed dead letters of a partition from offset `from` on, at most `limit`, by rising offset.
    ///
    /// # Errors
    /// Of the disk, or if one is corrupt.
    pub fn dead_letters(&self, lane: LaneId, from: Offset, limit: usize) -> Result<Vec<StoredDeadLetter>> {
        let mut letters = Vec::new();
        self.each_dead_letter(lane, from, |letter| {
            let room = letters.len() < limit;
            letters.extend(room.then_some(letter));
            room
        })?;
        Ok(letters)
    }

    /// Shows committed dead letters of a partition from offset `from` on, by rising offset, as long as `visit` says so.
    ///
    /// # Errors
    /// Of the disk, or if one is corrupt.
    pub fn each_dead_letter(&self, lane: LaneId, from: Offset, mut visit: impl FnMut(StoredDeadLetter) -> bool) -> Result<()> {
        self.core.with_rocks(|rocks| {
            rocks.scan(&keys::lane_prefix(keys::DEAD, lane), &keys::dead(lane, from), |key, value| {
                let wrong = || -> Error { rocks.corrupt("a dead letter") };
                let offset = keys::offset_of(key).ok_or_else(wrong)?;
                let dead::Kept { letter, state, stored_at } = dead::decode(offset, value).ok_or_else(wrong)?;
                Ok(visit(StoredDeadLetter { source: lane.source, partition: lane.partition, letter, state, stored_at }))
            })
        })
    }

    /// Dead letters of a source in the order in which they were stored, from number `from` of their queue on: at most `limit`,
    /// and not many more than `bytes`. Also the number to go on from.
    ///
    /// # Errors
    /// Of the disk, or if one is corrupt.
    pub fn letters_from(
        &self,
        source: SourceId,
        from: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<(Vec<StoredDeadLetter>, u64)> {
        self.core.with_rocks(|rocks| {
            let (mut letters, mut next, mut size) = (Vec::new(), from, 0);
            rocks.scan(&[keys::DEAD_QUEUE], &keys::dead_queue(from), |queued, entry| {
                if letters.len() == limit || size >= bytes {
                    return Ok(false);
                }
                let wrong = || rocks.corrupt("the queue of dead letters");
                let key = entry.get(8..).ok_or_else(wrong)?;
                let (lane, offset) = keys::lane_of(key).zip(keys::offset_of(key)).ok_or_else(wrong)?;
                next = keys::number_of(queued).ok_or_else(wrong)? + 1;
                if lane.source != source {
                    return Ok(true);
                }
                if let Some(value) = rocks.get(key)? {
                    let dead::Kept { letter, state, stored_at } = dead::decode(offset, &value).ok_or_else(wrong)?;
                    size += value.len();
                    letters.push(StoredDeadLetter { source, partition: lane.partition, letter, state, stored_at });
                }
                Ok(true)
            })?;
            Ok((letters, next))
        })
    }

    /// Up to where a durable reader of dead letters has read; 0 if it never did.
    pub fn letter_cursor(&self, name: &str) -> u64 {
        self.core.cursors().into_iter().find(|(known, _)| known == name).map_or(0, |(_, next)| next)
    }

    /// Records where a durable reader goes on.
    ///
    /// # Errors
    /// Of the disk.
    pub fn set_letter_cursor(&self, name: &str, next: u64) -> Result<()> {
        self.core.set_cursor(name, Some(next))
    }

    /// Entries of a source's replay log behind `after` that may be read, at most `limit`.
    ///
    /// # Errors
    /// Of the disk, or if one is corrupt.
    pub fn replay_log(&self, source: SourceId, after: Option<Offset>, limit: usize) -> Result<Vec<ReplayEntry>> {
        let lane = LaneId::replay(source);
        let from = after.map_or(Offset(0), Offset::next);
        self.core.with_rocks(|rocks| {
            let mut entries = Vec::new();
            rocks.scan(&keys::lane_prefix(keys::REPLAY_LOG, lane), &keys::replay(lane, from), |key, value| {
                let wrong = || rocks.corrupt("an entry of a replay log");
                let seq = keys::offset_of(key).ok_or_else(wrong)?;
                if entries.len() == limit || self.state.replay_end.is_before(seq) {
                    return Ok(false);
                }
                entries.push(replay::decode(seq, value).ok_or_else(wrong)?);
                Ok(true)
            })?;
            Ok(entries)
        })
    }

    /// How many dead letters are kept, and how many were let go.
    ///
    /// # Errors
    /// Of the disk.
    pub fn dead_letter_counts(&self) -> Result<LetterCounts> {
        self.core.with_rocks(|rocks| {
            let stored = rocks.get(&keys::meta("dead"))?;
            let state = stored.and_then(|state| dead::DeadState::decode(&state)).unwrap_or_default();
            Ok(LetterCounts { kept: state.kept, bytes: state.bytes, let_go: state.let_go })
        })
    }

    /// The sums of one partition; `None` if it never had a record.
    pub fn outcomes_of(&self, lane: LaneId) -> Option<Outcomes> {
        self.state.live.read().get(&lane).map(|tally| tally.outcomes)
    }

    /// The recorded watermark history of a partition, by offset.
    pub fn barriers(&self, lane: LaneId) -> BTreeMap<Offset, WatermarkState> {
        self.state.barriers.read().get(&lane).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_watermarks_read_back() {
        let outcomes = Outcomes { records: 300, applied: 298, dead_letters: 2, ..Outcomes::default() };
        let mut tally = Tally { outcomes, ..Tally::default() };
        tally.reasons[place(Reason::Malformed)] = 2;
        assert_eq!(Tally::decode(&tally.encode()), Some(tally));
        assert_eq!(Tally::decode(&tally.encode()[..8]), None);
        for max_event_time in [None, Some(EventTime(-7)), Some(EventTime::MAX)] {
            let watermark = WatermarkState { max_event_time };
            assert_eq!(decode_watermark(&encode_watermark(&watermark)), Some(watermark));
        }
    }
}
