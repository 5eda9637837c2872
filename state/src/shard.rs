//! One shard of feature values: the writer, owned by one thread.
//!
//! ```text
//! ShardBatch → apply: lane check → hot set (rows loaded on a miss) → gathered for the history
//!                       freeze: dirty rows copied out, positions taken → CommitWriter, on another thread → committed
//! ```
//! Under a flood a commit holds only positions and history; rows are written with every so many, and made anew from the history when
//! the shard is opened (`docs/semantics.md`, Delivery): a row that changes with each commit is so written once for many.
//!
//! Invariants:
//! - what a commit holds is exactly what was applied up to one moment: positions and history (I1, I3);
//! - rows on disk hold exactly what was applied up to one commit; the history of every commit after that one is kept;
//! - at most one commit is on its way;
//! - a writer that was interrupted half-way through a batch (panic, read error) refuses to go on; [`Store::shard_writer`]
//!   builds another from the last commit.
//!
//! [`Store::shard_writer`]: crate::Store::shard_writer

use std::{any::Any, sync::Arc, time::Duration};

use karst_types::{EventTime, Offset, ProcessingTime, ShardId, UpdateRef, Updates};

use crate::{
    changelog::{Changelog, Columns, Entry, Part},
    commit::{Committed, Content, FrozenCommit},
    core::{Core, Start},
    error::Result,
    hot::{Marked, NothingBeside},
    keys,
    lane::{Accept, LaneHead, LaneId, LanePosition, Lanes},
    row,
    window::{apply::Tiles, session::apply::Sessions},
};

/// Full commits after which rows are written. Bounds what is applied again when a shard is opened: a million updates by default.
const ROWS_EVERY: usize = 4;
/// History that a commit of a flood is made for: it costs little beside what it holds, and memory of this size is used again from one
/// commit to the next, where larger pieces would come from the system each time, and be filled with zeros first.
const HISTORY_OF_FLOOD: usize = 2 << 20;
/// However much comes.
const ROWS_AT_LEAST_EVERY: Duration = Duration::from_secs(2);

/// The effects of one batch of a partition on one shard.
pub struct ShardBatch {
    /// Its place in the lane.
    pub head: LaneHead,
    /// The updates of entities of this shard, by rising offset; often none.
    pub updates: Updates,
    /// When they were resolved; stored with every value.
    pub stored_at: ProcessingTime,
    /// The partition's log watermark at the end of the batch; `None` before its first event, and for what is replayed.
    pub watermark: Option<EventTime>,
    /// Given back (dropped) once the batch is applied.
    pub credit: Option<Box<dyn Any + Send>>,
}

/// What became of a lane message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Applied {
    /// It is in: visible to readers now, and part of the next commit.
    Applied {
        /// How many updates (or records) had an effect.
        new: usize,
        /// How many were in already, from before a replay.
        repeated: usize,
    },
    /// All of it was in already.
    Duplicate,
    /// Of an incarnation of the partition that is gone; dropped.
    OldEpoch,
    /// A message before it is missing: tell the partition to rewind.
    Gap,
}

/// What has been applied and not yet frozen.
struct Gathered {
    history: Entry,
    events: usize,
}

impl Gathered {
    fn with_capacity(history_bytes: usize) -> Self {
        Self { history: Entry::with_capacity(history_bytes), events: 0 }
    }
}

/// The only writer of one shard.
pub struct ShardWriter {
    id: ShardId,
    core: Arc<Core>,
    generation: u64,
    seq: u64, // of the last commit that was frozen
    lanes: Lanes,
    dirty: Marked,
    tiles: Tiles,
    sessions: Sessions,
    gathered: Gathered,
    gathered_max: usize, // bytes
    columns: Columns,    // a buffer
    in_flight: Option<Marked>,
    unwritten: Unwritten,
    interrupted: bool,
}

/// Updates that are committed in the history alone.
struct Unwritten {
    events: usize,
    bytes: usize, // of their history
    since: Duration,
}

impl ShardWriter {
    pub(crate) fn new(id: ShardId, core: Arc<Core>, gathered_max: usize) -> Result<Self> {
        let Start { generation, seq, rows, positions } = core.rebuild(|_| Ok(()))?;
        let mut writer = Self {
            id,
            generation,
            seq,
            lanes: Lanes::recovered(positions),
            dirty: Marked::default(),
            tiles: Tiles::default(),
            sessions: Sessions::default(),
            gathered: Gathered::with_capacity(0),
            gathered_max,
            columns: Columns::default(),
            in_flight: None,
            unwritten: Unwritten { events: 0, bytes: 0, since: core.clock.elapsed() },
            interrupted: false,
            core,
        };
        writer.apply_history(rows)?;
        Ok(writer)
    }

    /// Brings rows to the last commit: what was committed after commit `rows` is in the history alone.
    fn apply_history(&mut self, rows: u64) -> Result<()> {
        let changelog = Changelog::new(Arc::clone(&self.core));
        let mut seq = rows;
        while let Some(changes) = changelog.next(seq)? {
            seq = changes.version.seq;
            for batch in &changes.batches {
                self.apply_updates(&batch.updates, 0, batch.stored_at)?;
                self.unwritten.events += batch.updates.len();
            }
        }
        if self.unwritten.events > 0 {
            tracing::info!(shard = %self.core.name, events = self.unwritten.events, "rows were brought to the last commit from the history");
        }
        Ok(())
    }

    /// Which shard.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Applies a batch in memory. Takes `updates` and `credit` out of it once, and only if, all of it is in (or is not to be):
    /// after an error or a panic the batch is as it was.
    ///
    /// Reads rows that are not in memory from the disk; otherwise it takes some tens of nanoseconds per update.
    ///
    /// # Errors
    /// Whatever the error, build the writer anew.
    pub fn apply(&mut self, batch: &mut ShardBatch) -> Result<Applied> {
        self.core.check_writer(self.generation)?;
        if self.interrupted {
            return Err(self.core.interrupted());
        }
        let after = match self.lanes.accept(&batch.head) {
            Accept::Apply { after } => after,
            Accept::Duplicate => {
                self.core.metrics.duplicates.increment(1);
                batch.credit = None;
                return Ok(Applied::Duplicate);
            }
            Accept::OldEpoch => {
                self.core.metrics.old_epochs.increment(1);
                batch.credit = None;
                return Ok(Applied::OldEpoch);
            }
            Accept::Gap => {
                self.core.metrics.gaps.increment(1);
                batch.credit = None;
                return Ok(Applied::Gap);
            }
        };
        self.interrupted = true; // until all of the batch is in
        // A replayed record has its place in its partition, not in the replay log; its batch is taken whole.
        let from = if batch.head.lane().is_replay() { 0 } else { first_after(&batch.updates, after) };
        let (source, partition) = (batch.updates.source(), batch.updates.partition());
        let part = Part { stored_at: batch.stored_at, updates: &batch.updates, from };
        if part.len() > 0 {
            // First, since it reads the batch from its beginning to its end, and so brings it near for what jumps about in it.
            self.gathered.events += part.len();
            self.gathered.history.push(part, &mut self.columns);
        }
        let missed = self.apply_updates(&batch.updates, from, batch.stored_at)?;
        let applied = Applied::Applied { new: part.len(), repeated: from };
        self.core.metrics.updates.increment(part.len() as u64);
        self.core.metrics.hot_misses.increment(missed as u64);
        self.core.metrics.hot_hits.increment((part.len() - missed) as u64);
        self.core.set_applied_watermark(batch.head.lane(), batch.watermark);
        batch.updates = Updates::new(source, partition);
        batch.credit = None;
        self.interrupted = false;
        Ok(applied)
    }

    /// Returns how many of them met a row that was not in memory.
    fn apply_updates(&mut self, updates: &Updates, from: usize, stored_at: ProcessingTime) -> Result<usize> {
        let count = updates.len() - from;
        let mut adding = self.tiles.adding(&self.core);
        let nth = |index: usize| updates.get(from + index);
        let missed = self.core.hot.update(count, nth, stored_at, &mut self.dirty, &mut adding);
        if !missed.rows.is_empty() {
            let missing: Vec<_> = missed.rows.iter().map(|index| nth(*index)).collect();
            apply_missing(&self.core, &mut self.dirty, &missing, stored_at)?;
        }
        if self.core.hot.over_budget() {
            // Some four looks for every row that came in: more than enough to keep up, and bounded.
            let evicted = self.core.hot.evict(4 * missed.rows.len() + 256);
            self.core.metrics.hot_evicted.increment(evicted as u64);
        }
        adding.finish(&self.core, &mut self.dirty, updates, from, &missed.beside)?;
        self.sessions.apply(&self.core, &mut self.dirty, updates, from)?;
        Ok(missed.rows.len())
    }

    /// The handshake of a partition that starts or rewinds (control lane): its new epoch counts from now on. Returns where
    /// this shard stands.
    pub fn reset_lane(&mut self, lane: LaneId, epoch: u64) -> LanePosition {
        self.lanes.reset(lane, epoch)
    }

    /// Where this shard stands in a partition.
    pub fn position(&self, lane: LaneId) -> LanePosition {
        self.lanes.position(lane)
    }

    /// Whether anything was applied since the last [`ShardWriter::freeze`], be it only a frontier, or rows wait to be written. Then
    /// a commit is due when the mailbox is empty, or `commit_interval` after the last one.
    pub fn has_uncommitted(&self) -> bool {
        self.lanes.moved() > 0 || self.unwritten.events > 0
    }

    /// Updates applied since the last [`ShardWriter::freeze`] that wrote rows.
    pub fn uncommitted_events(&self) -> usize {
        self.gathered.events + self.unwritten.events
    }

    /// Whether a commit must not wait any longer: `commit_events` are reached, or the memory for what is not committed.
    pub fn must_commit(&self) -> bool {
        self.gathered.events >= self.core.settings().commit_events
            || self.gathered.history.len() >= self.gathered_max
            || (self.core.hot.over_budget() && 2 * self.dirty.len() > self.core.hot.len())
    }

    /// Whether so much comes that each row is better written for many updates at once: a commit may then wait for
    /// some `commit_interval`s, unless it must not.
    pub fn is_flooded(&self) -> bool {
        // Never by a commit without updates: it would leave rows behind that no history brings up, and nobody would ever write them.
        self.gathered.events >= (self.core.settings().commit_events / 16).max(1)
    }

    /// Whether there is enough for a commit, though it might wait: in a flood, unless each commit has to write its rows.
    pub fn may_commit(&self) -> bool {
        self.is_flooded() && self.gathered.history.len() >= HISTORY_OF_FLOOD && !self.core.hot.over_budget()
    }

    /// Whether a commit is on its way.
    pub fn commit_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the shard must take nothing more until the commit on its way is done: memory is bounded by this.
    pub fn is_full(&self) -> bool {
        self.commit_in_flight() && self.must_commit()
    }

    /// Takes out what is to be committed: some tens of nanoseconds per dirty row. `None` if there is nothing, or a commit is
    /// on its way.
    pub fn freeze(&mut self) -> Option<FrozenCommit> {
        if self.commit_in_flight() || !self.has_uncommitted() || self.interrupted {
            return None;
        }
        self.seq += 1;
        let with_rows = self.rows_due();
        let length = self.gathered.history.len(); // the next one's, about
        if with_rows {
            self.unwritten = Unwritten { events: 0, bytes: 0, since: self.core.clock.elapsed() };
        } else {
            self.unwritten.events += self.gathered.events;
            self.unwritten.bytes += length;
        }
        let dirty = if with_rows { std::mem::take(&mut self.dirty) } else { Marked::default() };
        let copied = self.core.hot.copy_out(&dirty);
        self.in_flight = Some(dirty);
        let next = Gathered::with_capacity(length + length / 8);
        let history = std::mem::replace(&mut self.gathered, next).history;
        self.core.metrics.dirty_rows.set(copied.rows.len() as f64);
        self.core.metrics.hot_entries.set(self.core.hot.len() as f64);
        self.core.metrics.hot_bytes.set(self.core.hot.bytes() as f64);
        let content = Content::Rows { copied: with_rows.then_some(copied), history };
        Some(FrozenCommit { generation: self.generation, seq: self.seq, positions: self.lanes.take_moved(), content })
    }

    /// Whether the next commit is to write rows: always, unless more comes than is worth to be written row by row each time.
    fn rows_due(&self) -> bool {
        let events_max = ROWS_EVERY * self.core.settings().commit_events;
        !self.is_flooded()
            || self.unwritten.events + self.gathered.events >= events_max
            || self.unwritten.bytes + self.gathered.history.len() >= ROWS_EVERY * self.gathered_max
            || self.core.hot.over_budget()
            || self.core.clock.elapsed().saturating_sub(self.unwritten.since) >= ROWS_AT_LEAST_EVERY
    }

    /// The commit is written: its rows may be evicted from memory, its positions be relied on.
    pub fn committed(&mut self, done: &Committed) {
        if done.generation != self.generation {
            return;
        }
        if let Some(in_flight) = self.in_flight.take() {
            self.core.hot.landed(&in_flight);
        }
        self.lanes.committed(done.positions.iter().copied());
    }
}

/// Applies updates of entities that were not in memory, of each in order; their rows are loaded first, all in one read.
fn apply_missing(core: &Core, dirty: &mut Marked, missing: &[UpdateRef<'_>], stored_at: ProcessingTime) -> Result<()> {
    let mut absent: Vec<usize> = (0..missing.len()).collect();
    if !core.hot.is_whole() {
        load_missing(core, missing)?;
        absent = core.hot.update(missing.len(), |index| missing[index], stored_at, dirty, &mut NothingBeside).rows;
    }
    for index in absent {
        // A new entity. Its first update puts in the row, into which it then brings nothing new; the others find it.
        let update = missing[index];
        let merge = |row: &mut Vec<u8>| row::merge(row, &update, stored_at);
        core.hot.change_or_insert(&update, dirty, || row::build(&update, stored_at), merge);
    }
    Ok(())
}

/// Brings the rows of these updates that are on disk into the hot set.
fn load_missing(core: &Core, missing: &[UpdateRef<'_>]) -> Result<()> {
    let mut wanted: Vec<(Vec<u8>, UpdateRef<'_>)> =
        missing.iter().map(|update| (keys::row(update.class, update.key), *update)).collect();
    wanted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    wanted.dedup_by(|(a, _), (b, _)| a == b);
    core.with_rocks(|rocks| {
        let found = rocks.get_sorted(wanted.iter().map(|(key, _)| &key[..]))?;
        for ((_, update), stored) in wanted.iter().zip(found) {
            let Some(stored) = stored else { continue };
            if !row::check(&stored) {
                return Err(rocks.corrupt(format!("the row of {:?}", update.entity())));
            }
            core.hot.insert_committed(update.class, update.key, update.hash, stored.to_vec());
        }
        Ok(())
    })
}

/// The index of the first update of a record after `after`; updates are in the order of their offsets.
fn first_after(updates: &Updates, after: Option<Offset>) -> usize {
    let Some(after) = after else { return 0 };
    let (mut low, mut high) = (0, updates.len());
    while low < high {
        let middle = low.midpoint(high);
        if updates.get(middle).version.offset <= after {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
