//! What every shard has, feature shards and the source shard alike: one RocksDB, commit numbers, positions, the right to write.
//!
//! Invariants:
//! - commits are numbered without a gap; each is one RocksDB batch with its number, its ring slot and the positions it holds;
//! - only the newest writer generation may commit: rebuilding a writer waits for the commit on its way and fences what comes
//!   after;
//! - after a failed write the shard is poisoned until it was opened again ([`crate::poison`]).

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use karst_types::{Clock, EventTime, KillPoint, Offset, kill_point};
use parking_lot::{Mutex, RwLock};
use rocksdb::WriteBatch;

use crate::{
    bytes,
    changelog::ChangeVersion,
    dead::DeadState,
    error::{Error, Result, ShardName},
    hot::HotSet,
    keys,
    lane::LaneId,
    layout::{DirLock, Identity, boot_id, property},
    lineage::Lineage,
    metrics::ShardMetrics,
    poison::Poison,
    ring,
    rocks::{Rocks, Shared},
    settings::{Durability, StoreSettings},
    window::Windows,
};

/// Commits between two syncs of the log while `durability = process`. It bounds how much a power cut rolls back, and with it
/// how many barriers must be kept; a sync takes milliseconds of the commit thread.
const SYNC_EVERY: u64 = 256;

/// What changes with every commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommitState {
    pub(crate) version: ChangeVersion,
    pub(crate) log: LogState,
    pub(crate) dead: DeadState,
    /// The number of the next entry of a replay log.
    pub(crate) replay_next: u64,
    /// The commit up to which rows on disk hold everything; what came after is in the history alone.
    pub(crate) rows: u64,
    since_sync: u64,
    since_flush: u64,
}

impl CommitState {
    fn rows_behind(&self) -> bool {
        self.rows < self.version.seq
    }
    /// This commit is to be on stable storage before anyone relies on it.
    pub(crate) fn sync_now(&mut self) {
        self.since_sync = SYNC_EVERY;
    }
}

/// Extent of the changelog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogState {
    /// The first commit that may have an entry.
    pub(crate) oldest: u64,
    /// Sum of the entries' sizes.
    pub(crate) bytes: u64,
    /// The last entry that was dropped; 0: none was.
    pub(crate) trimmed: u64,
}

impl LogState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.oldest, self.bytes, self.trimmed].map(u64::to_le_bytes).concat()
    }
    pub(crate) fn decode(mut stored: &[u8]) -> Option<Self> {
        let (oldest, bytes) = (bytes::u64(&mut stored)?, bytes::u64(&mut stored)?);
        // Earlier programs did not say it.
        let trimmed = bytes::u64(&mut stored).unwrap_or_else(|| oldest.saturating_sub(1));
        Some(Self { oldest, bytes, trimmed })
    }
}

impl Default for LogState {
    fn default() -> Self {
        Self { oldest: 1, bytes: 0, trimmed: 0 }
    }
}

/// What a shard has of one partition.
#[derive(Clone, Copy, Debug)]
struct Held {
    committed: Offset,
    stable: Option<Offset>, // survives the loss of power
}

type Positions = HashMap<LaneId, Held>;

/// What a rebuilt writer starts from.
pub(crate) struct Start {
    pub(crate) generation: u64,
    pub(crate) seq: u64,
    pub(crate) rows: u64,
    pub(crate) positions: Vec<(LaneId, Offset)>,
}

pub(crate) struct Core {
    pub(crate) name: ShardName,
    path: PathBuf,
    identity: Identity,
    shared: Arc<Shared>,
    settings: StoreSettings,
    rocks: RwLock<Option<Rocks>>, // None while it is opened again, or could not be
    state: Mutex<CommitState>,
    positions: RwLock<Positions>,
    newest: RwLock<ChangeVersion>,
    oldest_change: AtomicU64,
    rows_behind: AtomicBool,
    /// The log watermark of each lane, as of what is applied.
    applied_watermarks: Mutex<HashMap<LaneId, EventTime>>,
    cursors: Mutex<BTreeMap<String, u64>>,
    generation: AtomicU64,
    pub(crate) hot: HotSet,
    pub(crate) poison: Poison,
    pub(crate) metrics: ShardMetrics,
    pub(crate) clock: Arc<dyn Clock>,
    _lock: Arc<DirLock>, // of the directory; after the database
}

struct Loaded {
    rocks: Rocks,
    state: CommitState,
    positions: Positions,
    cursors: BTreeMap<String, u64>,
}

/// What opening a shard needs to know.
pub(crate) struct Place {
    pub(crate) name: ShardName,
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) create: bool,
    pub(crate) hot_bytes: usize,
    pub(crate) lock: Arc<DirLock>,
}

impl Core {
    pub(crate) fn open(place: Place, settings: &StoreSettings, shared: Arc<Shared>, clock: Arc<dyn Clock>) -> Result<Self> {
        let Place { name, path, identity, create, hot_bytes, lock } = place;
        let core = Self {
            metrics: ShardMetrics::new(name),
            name,
            path,
            identity,
            shared,
            settings: settings.clone(),
            rocks: RwLock::default(),
            state: Mutex::default(),
            positions: RwLock::default(),
            newest: RwLock::default(),
            oldest_change: AtomicU64::new(1),
            rows_behind: AtomicBool::new(false),
            applied_watermarks: Mutex::default(),
            cursors: Mutex::default(),
            generation: AtomicU64::new(0),
            hot: HotSet::new(hot_bytes),
            poison: Poison::default(),
            clock,
            _lock: lock,
        };
        let loaded = core.load(create, None)?;
        core.adopt(loaded, &mut core.state.lock());
        Ok(core)
    }

    /// Opens the database, and checks that it is this shard and whole. `acknowledged` is the newest commit that was reported.
    fn load(&self, create: bool, acknowledged: Option<u64>) -> Result<Loaded> {
        let sync = self.settings.durability == Durability::Power;
        let rocks = Rocks::open(self.name, &self.path, create, sync, &self.shared)?;
        kill_point::here(KillPoint::OpenShard);
        let fresh = rocks.get(&keys::meta("format"))?.is_none();
        if fresh && create {
            let mut batch = WriteBatch::default();
            self.fields().iter().for_each(|(field, text)| batch.put(keys::meta(field), text));
            batch.put(keys::meta("incarnation"), 1u64.to_le_bytes());
            batch.put(keys::meta("boot"), boot_id().unwrap_or_default());
            rocks.write_synced(batch)?;
        }
        for (field, expected) in self.fields() {
            let got = rocks.get(&keys::meta(field))?.ok_or_else(|| rocks.corrupt(format!("meta entry \"{field}\"")))?;
            let got = String::from_utf8_lossy(&got).into_owned();
            if got != expected {
                return Err(Error::Mismatch { what: property(field), path: self.path.clone(), expected, got });
            }
        }
        let mut state = load_state(&rocks)?;
        check_ring(&rocks, state.version.seq).map_err(|missing| match missing {
            Ok(missing) => Error::WalHole { shard: self.name, path: self.path.clone(), newest: state.version.seq, missing },
            Err(error) => error,
        })?;
        // A version must never repeat with other content. Within one boot of the machine nothing that was written is lost;
        // after another, or when less is there than was reported, the shard may have fallen back.
        let boot = boot_id().unwrap_or_default();
        let same_boot = !boot.is_empty() && rocks.get(&keys::meta("boot"))?.is_some_and(|stored| *stored == *boot.as_bytes());
        if !same_boot || acknowledged.is_some_and(|acknowledged| acknowledged > state.version.seq) {
            let mut batch = WriteBatch::default();
            let before = state.version.incarnation;
            state.version.incarnation += 1;
            let mut lineage = rocks.get(&keys::meta("bases"))?.map_or_else(Lineage::default, |stored| Lineage::decode(&stored));
            lineage.begin(before, state.version.incarnation, state.version.seq);
            batch.put(keys::meta("bases"), lineage.encode());
            batch.put(keys::meta("incarnation"), state.version.incarnation.to_le_bytes());
            batch.put(keys::meta("boot"), boot);
            rocks.write_synced(batch)?;
        }
        rocks.sync()?; // so that what was recovered is stable from here on
        kill_point::here(KillPoint::OpenChecked);
        let mut positions = Positions::new();
        rocks.scan(&[keys::APPLIED], &[keys::APPLIED], |key, value| {
            let (lane, offset) =
                keys::lane_of(key).zip(bytes::i64(&mut &value[..])).ok_or_else(|| rocks.corrupt("an applied position"))?;
            positions.insert(lane, Held { committed: Offset(offset), stable: Some(Offset(offset)) });
            Ok(true)
        })?;
        let mut cursors = BTreeMap::new();
        rocks.scan(&[keys::CURSOR], &[keys::CURSOR], |key, value| {
            let seq = bytes::u64(&mut &value[..]).ok_or_else(|| rocks.corrupt("a cursor"))?;
            cursors.insert(String::from_utf8_lossy(&key[1..]).into_owned(), seq);
            Ok(true)
        })?;
        Ok(Loaded { rocks, state, positions, cursors })
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = self.identity.fields().to_vec();
        fields.push(("shard", self.name.label()));
        fields
    }

    fn adopt(&self, loaded: Loaded, state: &mut CommitState) {
        *self.newest.write() = loaded.state.version;
        self.oldest_change.store(loaded.state.log.oldest, SeqCst);
        self.rows_behind.store(loaded.state.rows_behind(), SeqCst);
        *self.positions.write() = loaded.positions;
        *self.cursors.lock() = loaded.cursors;
        *state = loaded.state;
        *self.rocks.write() = Some(loaded.rocks);
    }

    /// Hands the right to write to a new writer, and returns what it starts from. Waits for a commit that is on its way.
    /// What was applied and not committed is forgotten. A poisoned shard is opened again first; `reload` is run then, before
    /// anyone may write.
    ///
    /// # Errors
    /// Of opening; the shard stays poisoned then.
    pub(crate) fn rebuild(&self, reload: impl FnOnce(&Rocks) -> Result<()>) -> Result<Start> {
        let mut state = self.state.lock();
        let generation = self.generation.fetch_add(1, SeqCst) + 1;
        if self.poison.is_set() {
            *self.rocks.write() = None; // waits for readers in the middle of a read, and closes
            let loaded = self.load(false, Some(state.version.seq))?;
            tracing::warn!(shard = %self.name, seq = loaded.state.version.seq, "shard opened again at its last commit");
            self.adopt(loaded, &mut state);
        }
        self.hot.clear();
        self.applied_watermarks.lock().clear();
        self.with_rocks(reload)?;
        if !self.with_rocks(Rocks::has_rows)? {
            self.hot.set_whole();
        }
        self.poison.clear();
        let positions = self.positions.read().iter().map(|(lane, held)| (*lane, held.committed)).collect();
        Ok(Start { generation, seq: state.version.seq, rows: state.rows, positions })
    }

    /// As long as this is held, no commit is written.
    pub(crate) fn hold_commits(&self) -> parking_lot::MutexGuard<'_, CommitState> {
        self.state.lock()
    }

    /// Numbers below `next` of replay logs are not given again. Before the first commit.
    pub(crate) fn skip_replays(&self, next: u64) {
        let mut state = self.state.lock();
        state.replay_next = state.replay_next.max(next);
    }

    /// Whether `generation` may still write.
    pub(crate) fn check_writer(&self, generation: u64) -> Result<()> {
        if let Some(cause) = self.poison.cause() {
            return Err(self.poisoned(cause));
        }
        if self.generation.load(SeqCst) != generation {
            return Err(Error::Fenced { shard: self.name });
        }
        Ok(())
    }

    fn poisoned(&self, cause: String) -> Error {
        Error::Poisoned { shard: self.name, path: self.path.clone(), cause }
    }

    /// The writer was left in the middle of a batch: what is in memory is the state of no moment.
    pub(crate) fn interrupted(&self) -> Error {
        self.poison.set("its writer was interrupted in the middle of a batch".to_owned());
        self.poisoned("its writer was interrupted in the middle of a batch".to_owned())
    }

    /// The windows of all classes; none until they are declared.
    pub(crate) fn windows(&self) -> &Windows {
        static NONE: Windows = Windows::none();
        self.shared.windows.get().unwrap_or(&NONE)
    }

    /// Stops the shard.
    pub(crate) fn stop(&self, error: Error) -> Error {
        let cause = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        tracing::error!(shard = %self.name, cause, "shard stopped");
        self.metrics.poisoned.increment(1);
        self.poison.set(cause);
        error
    }

    /// Writes one commit. `fill` adds its content, of about `size` bytes, to the batch, and brings the state up to date.
    pub(crate) fn commit(
        &self,
        generation: u64,
        seq: u64,
        positions: &[(LaneId, Offset, u64)],
        size: usize,
        fill: impl FnOnce(&mut WriteBatch, &mut CommitState, &Rocks) -> Result<()>,
    ) -> Result<ChangeVersion> {
        let started = self.clock.elapsed();
        let (before, after) = match self.name {
            ShardName::Shard(_) => (KillPoint::CommitBefore, KillPoint::CommitAfter),
            ShardName::Source => (KillPoint::FactsBefore, KillPoint::FactsAfter),
        };
        let mut state = self.state.lock();
        self.check_writer(generation)?;
        let unsettled = Unsettled(self);
        assert_eq!(seq, state.version.seq + 1, "commits of {} are numbered without a gap", self.name);
        let mut next = state.clone();
        next.version.seq = seq;
        let written = self.with_rocks(|rocks| {
            let mut batch = WriteBatch::with_capacity_bytes(size + 64 * positions.len() + 256);
            for (lane, offset, epoch) in positions {
                batch.put(keys::applied(*lane), [offset.0.to_le_bytes(), epoch.to_le_bytes()].concat());
            }
            fill(&mut batch, &mut next, rocks)?;
            batch.put(keys::meta("seq"), seq.to_le_bytes());
            batch.put(keys::meta("rows"), next.rows.to_le_bytes());
            batch.put(keys::ring(ring::slot(seq)), seq.to_le_bytes());
            batch.put(keys::meta("log"), next.log.encode());
            rocks.moment(before, "write")?;
            rocks.write(batch)?;
            rocks.moment(after, "write")
        });
        written.map_err(|error| self.stop(error))?;
        self.make_stable(&mut next, positions).map_err(|error| self.stop(error))?;
        *self.newest.write() = next.version;
        self.oldest_change.store(next.log.oldest, SeqCst);
        self.rows_behind.store(next.rows_behind(), SeqCst);
        *state = next;
        std::mem::forget(unsettled);
        self.metrics.commits.increment(1);
        self.metrics.commit_seconds.record(self.clock.elapsed().saturating_sub(started).as_secs_f64());
        Ok(state.version)
    }

    /// Notes the positions of a commit that is written, and syncs or flushes when it is time.
    fn make_stable(&self, state: &mut CommitState, positions: &[(LaneId, Offset, u64)]) -> Result<()> {
        state.since_sync += 1;
        state.since_flush += 1;
        let flush = state.since_flush >= ring::FLUSH_EVERY;
        let sync = state.since_sync >= SYNC_EVERY;
        if flush {
            kill_point::here(KillPoint::FlushBefore);
            self.with_rocks(Rocks::flush)?;
            kill_point::here(KillPoint::FlushAfter);
            state.since_flush = 0;
        } else if sync {
            self.with_rocks(Rocks::sync)?;
        }
        if flush || sync {
            state.since_sync = 0;
        }
        let stable = flush || sync || self.settings.durability == Durability::Power;
        let mut held = self.positions.write();
        for (lane, offset, _) in positions {
            held.entry(*lane).or_insert(Held { committed: *offset, stable: None }).committed = *offset;
        }
        if stable {
            held.values_mut().for_each(|held| held.stable = Some(held.committed));
        }
        Ok(())
    }

    /// Runs `use_it` on the database. The lock is shared: it waits only while the shard is opened again.
    pub(crate) fn with_rocks<R>(&self, use_it: impl FnOnce(&Rocks) -> Result<R>) -> Result<R> {
        match &*self.rocks.read() {
            Some(rocks) => use_it(rocks),
            None => Err(self.poisoned(self.poison.cause().unwrap_or_else(|| "it could not be opened again".to_owned()))),
        }
    }

    pub(crate) fn newest(&self) -> ChangeVersion {
        *self.newest.read()
    }
    pub(crate) fn oldest_change(&self) -> u64 {
        self.oldest_change.load(SeqCst)
    }
    /// Notes how far a lane has come; it never goes back.
    pub(crate) fn set_applied_watermark(&self, lane: LaneId, watermark: Option<EventTime>) {
        if let Some(watermark) = watermark {
            let mut all = self.applied_watermarks.lock();
            let known = all.entry(lane).or_insert(watermark);
            *known = watermark.max(*known);
        }
    }
    pub(crate) fn applied_watermark(&self, lane: LaneId) -> Option<EventTime> {
        self.applied_watermarks.lock().get(&lane).copied()
    }
    /// Whether something is committed that rows on disk do not hold yet.
    pub(crate) fn rows_behind(&self) -> bool {
        self.rows_behind.load(SeqCst)
    }
    /// What is committed of a partition.
    pub(crate) fn committed(&self, lane: LaneId) -> Option<Offset> {
        self.positions.read().get(&lane).map(|held| held.committed)
    }
    /// What of a partition survives the loss of power.
    pub(crate) fn stable(&self, lane: LaneId) -> Option<Offset> {
        self.positions.read().get(&lane).and_then(|held| held.stable)
    }
    pub(crate) fn all_committed(&self) -> Vec<(LaneId, Offset)> {
        let mut all: Vec<_> = self.positions.read().iter().map(|(lane, held)| (*lane, held.committed)).collect();
        all.sort_unstable();
        all
    }

    pub(crate) fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    pub(crate) fn cursors(&self) -> Vec<(String, u64)> {
        self.cursors.lock().iter().map(|(name, seq)| (name.clone(), *seq)).collect()
    }
    /// Up to where every durable reader has read; `None` if there is none.
    pub(crate) fn slowest_cursor(&self) -> Option<u64> {
        self.cursors.lock().values().min().copied()
    }
    pub(crate) fn set_cursor(&self, name: &str, seq: Option<u64>) -> Result<()> {
        let mut batch = WriteBatch::default();
        match seq {
            Some(seq) => batch.put(keys::cursor(name), seq.to_le_bytes()),
            None => batch.delete(keys::cursor(name)),
        }
        self.with_rocks(|rocks| {
            let mut cursors = self.cursors.lock(); // inside, as a commit takes the two locks
            rocks.write(batch)?;
            match seq {
                Some(seq) => cursors.insert(name.to_owned(), seq),
                None => cursors.remove(name),
            };
            Ok(())
        })
    }
}

/// A commit that is neither known to be written nor known not to be. Dropped by a panic, it stops the shard, which is then opened
/// again and finds out: going on from what is in memory would give the commit's number a second time.
struct Unsettled<'a>(&'a Core);

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.0.poison.set("the writing of a commit did not come to its end".to_owned());
    }
}

fn load_state(rocks: &Rocks) -> Result<CommitState> {
    let read = |name: &str| -> Result<Option<Vec<u8>>> { Ok(rocks.get(&keys::meta(name))?.map(|value| value.to_vec())) };
    let number = |name: &str| -> Result<Option<u64>> {
        let wrong = || rocks.corrupt(format!("meta entry \"{name}\""));
        read(name)?.map(|value| bytes::u64(&mut &value[..]).ok_or_else(wrong)).transpose()
    };
    let mut state = CommitState::default();
    state.version.seq = number("seq")?.unwrap_or(0);
    state.replay_next = number("replay")?.unwrap_or(0);
    state.rows = number("rows")?.unwrap_or(state.version.seq); // a directory from before it was said: every commit wrote its rows
    state.version.incarnation = number("incarnation")?.ok_or_else(|| rocks.corrupt("meta entry \"incarnation\""))?;
    if let Some(log) = read("log")? {
        state.log = LogState::decode(&log).ok_or_else(|| rocks.corrupt("meta entry \"log\""))?;
    }
    if let Some(dead) = read("dead")? {
        state.dead = DeadState::decode(&dead).ok_or_else(|| rocks.corrupt("meta entry \"dead\""))?;
    }
    Ok(state)
}

/// `Err(Ok(seq))`: commit `seq` is missing.
fn check_ring(rocks: &Rocks, newest: u64) -> Result<(), std::result::Result<u64, Error>> {
    let mut slots = HashMap::new();
    rocks
        .scan(&[keys::RING], &[keys::RING], |key, value| {
            let slot = key.get(1..).and_then(|slot| slot.first_chunk::<2>()).map(|slot| u16::from_be_bytes(*slot));
            let entry = slot.zip(bytes::u64(&mut &value[..])).ok_or_else(|| rocks.corrupt("the commit ring"))?;
            slots.insert(entry.0, entry.1);
            Ok(true)
        })
        .map_err(Err)?;
    match ring::hole(newest, |slot| slots.get(&slot).copied()) {
        Some(missing) => Err(Ok(missing)),
        None => Ok(()),
    }
}
