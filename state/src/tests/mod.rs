//! Whole stores on disk, against an oracle that replays the log in a `HashMap`.

mod backups;
mod directory;
mod files;
mod history;
mod hot_and_cold;
mod letters;
mod poison;
mod power;
mod recovery;
mod sessions;
#[path = "../../../tests/support/tried.rs"]
mod tried;
mod wal_damage;
mod windows;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use karst_types::{
    BrokerTime, ByteSize, ClassId, Clock, DeadLetter, EventTime, FeatureSlot, FeatureValue, Offset, Outcome, Outcomes,
    PartitionId, ProcessingTime, Reason, ShardCount, SourceId, TimeSpan, Updates, Value, entity::key_hash, shard_of,
    update::Cause,
};

use self::tried::tried;
use crate::{
    Applied, CommitWriter, LaneHead, LaneId, Lateness, Row, ShardBatch, ShardWriter, SourceBatch, SourceWriter, Store,
    StoreSettings, WatermarkState, rocks::Shared,
};

pub(crate) struct StoppedClock;
impl Clock for StoppedClock {
    fn now(&self) -> ProcessingTime {
        ProcessingTime(0)
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

pub(crate) fn settings(shards: u16) -> StoreSettings {
    StoreSettings { memory: ByteSize::mib(32), shards, ..StoreSettings::default() }
}

pub(crate) fn open(dir: &Path, shards: u16) -> crate::Result<Store> {
    Store::open(dir, &settings(shards), Arc::new(StoppedClock))
}

pub(crate) const CLASS: ClassId = ClassId(1);
pub(crate) const LANE: LaneId = LaneId { source: SourceId(2), partition: PartitionId(0) };

fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The log: what record `offset` says is a function of its offset.
#[derive(Clone, Copy)]
pub(crate) struct Log {
    pub(crate) keys: u64,
}

impl Log {
    fn outcome(self, offset: i64) -> Outcome {
        match mix(offset as u64) % 20 {
            0 => Outcome::Dead(Reason::Malformed),
            1 => Outcome::Skipped,
            _ => Outcome::Applied,
        }
    }
    fn time(offset: i64) -> EventTime {
        EventTime(offset * 10 - (mix(offset as u64 + 7) % 60) as i64)
    }
    /// Key and values of a record that was applied: slots 0 and 1, or slot 1 alone.
    fn write(self, offset: i64) -> (String, Vec<(u16, Value)>) {
        let random = mix(offset as u64 + 99);
        let both = vec![(0, Value::Int(offset)), (1, Value::Str(format!("value {offset}").into()))];
        (format!("key {}", random % self.keys), if random >> 40 & 3 == 0 { both[1..].to_vec() } else { both })
    }
    fn watermark(through: i64) -> WatermarkState {
        WatermarkState { max_event_time: (0..=through).map(Self::time).max() }
    }

    fn lateness(first: i64, through: i64) -> Lateness {
        let mut lateness = Lateness::default();
        for random in (first..=through).map(|offset| mix(offset as u64 + 13)) {
            lateness.events.record(TimeSpan::from_secs((random % 1_000) as i64));
            lateness.corrected += random >> 32 & 1;
        }
        lateness
    }

    /// The oracle: rows of a shard after the records up to `through`, as (time, offset, value) per slot.
    pub(crate) fn fold(self, through: i64, shard: u16, shards: u16) -> HashMap<String, BTreeMap<u16, (i64, i64, Value)>> {
        let mut rows: HashMap<String, BTreeMap<u16, (i64, i64, Value)>> = HashMap::new();
        for offset in (0..=through).filter(|offset| self.outcome(*offset) == Outcome::Applied) {
            let (key, values) = self.write(offset);
            if shard_of(key_hash(key.as_bytes()), ShardCount::new(shards).unwrap()).0 != shard {
                continue;
            }
            let time = Self::time(offset).0;
            for (slot, value) in values {
                let row = rows.entry(key.clone()).or_default();
                let newest = row.get(&slot).is_none_or(|(at, of, _)| (*at, *of) < (time, offset));
                if newest {
                    row.insert(slot, (time, offset, value));
                }
            }
        }
        rows
    }
}

pub(crate) fn content(row: &Row) -> BTreeMap<u16, (i64, i64, Value)> {
    row.cells().map(|(slot, cell)| (slot.0, (cell.version.event_time.0, cell.version.offset.0, cell.value))).collect()
}

/// A partition and all shards, driven by hand.
pub(crate) struct Driver {
    pub(crate) store: Store,
    pub(crate) log: Log,
    pub(crate) shards: Vec<ShardWriter>,
    pub(crate) source: SourceWriter,
    commits: Vec<CommitWriter>,
    epoch: u64,
    lane_seq: u64,
    pub(crate) next: i64,
    source_applied: Option<i64>,
}

impl Driver {
    pub(crate) fn new(store: Store, log: Log) -> Self {
        let shards = store.shards().shards().map(|id| store.shard_writer(id).unwrap()).collect();
        let mut commits: Vec<_> = store.shards().shards().map(|id| store.commit_writer(id)).collect();
        commits.push(store.source_commit_writer());
        let source = store.source_writer().unwrap();
        let mut driver = Self { store, log, shards, source, commits, epoch: 0, lane_seq: 0, next: 0, source_applied: None };
        driver.rewind();
        driver
    }

    /// What a partition does when it starts, or was told of a gap.
    pub(crate) fn rewind(&mut self) {
        self.epoch += 1;
        self.lane_seq = 0;
        for shard in &mut self.shards {
            shard.reset_lane(LANE, self.epoch);
        }
        let point = self.store.restart_point(LANE);
        self.source_applied = self.source.reset_lane(LANE, self.epoch).applied.map(|offset| offset.0);
        self.next = point.after.map_or(0, |offset| offset.0 + 1);
        assert_eq!(point.watermark, Log::watermark(self.next - 1), "the watermark as of the restart offset");
    }

    /// The batch of the next `records` records, cut where the source shard stands.
    pub(crate) fn batch(&mut self, records: i64) -> (Vec<ShardBatch>, SourceBatch) {
        let first = self.next;
        let mut through = first + records - 1;
        if let Some(applied) = self.source_applied.filter(|applied| (first..through).contains(applied)) {
            through = applied;
        }
        self.next = through + 1;
        self.lane_seq += 1;
        let head = LaneHead {
            source: LANE.source,
            partition: LANE.partition,
            epoch: self.epoch,
            lane_seq: self.lane_seq,
            through: Offset(through),
        };
        let count = self.store.shards();
        let mut updates: Vec<_> = count.shards().map(|_| Updates::new(LANE.source, LANE.partition)).collect();
        let mut outcomes = Outcomes::default();
        let mut dead_letters = Vec::new();
        for offset in first..=through {
            let outcome = self.log.outcome(offset);
            outcomes.count(outcome);
            if let Outcome::Dead(reason) = outcome {
                dead_letters.push(letter(offset, reason));
            }
            if outcome == Outcome::Applied {
                let (key, values) = self.log.write(offset);
                let slots: Vec<_> = values.iter().map(|(slot, _)| FeatureSlot(*slot)).collect();
                let cause = Cause { offset: Offset(offset), event_time: Log::time(offset) };
                let shard = shard_of(key_hash(key.as_bytes()), count);
                let cells = |out: &mut Vec<u8>| values.iter().for_each(|(_, value)| value.encode(out));
                updates[usize::from(shard.0)].push(CLASS, cause, &slots, |out| key.encode_key(out), cells);
            }
        }
        let stored_at = ProcessingTime(first);
        let shards =
            updates.into_iter().map(|updates| ShardBatch { head, updates, stored_at, watermark: None, credit: None }).collect();
        let watermark = Log::watermark(through);
        let lateness = Log::lateness(first, through);
        let replayed = None;
        (
            shards,
            SourceBatch {
                head,
                first: Offset(first),
                outcomes,
                dead_letters,
                watermark,
                fingerprint: Some(mix(through as u64)),
                lateness,
                replayed,
                credit: None,
            },
        )
    }

    /// Sends the next batch to every shard.
    pub(crate) fn send(&mut self, records: i64) {
        let (batches, mut source) = self.batch(records);
        for (shard, mut batch) in self.shards.iter_mut().zip(batches) {
            let applied = shard.apply(&mut batch).unwrap();
            assert!(matches!(applied, Applied::Applied { .. } | Applied::Duplicate), "{applied:?}");
        }
        let applied = self.source.apply(&mut source).unwrap();
        assert!(matches!(applied, Applied::Applied { .. } | Applied::Duplicate), "{applied:?}");
    }

    pub(crate) fn commit_shard(&mut self, shard: usize) -> crate::Result<()> {
        if let Some(frozen) = self.shards[shard].freeze() {
            let done = self.commits[shard].write(frozen)?;
            self.shards[shard].committed(&done);
        }
        Ok(())
    }
    pub(crate) fn commit_source(&mut self) {
        if let Some(frozen) = self.source.freeze() {
            let done = self.commits.last().unwrap().write(frozen).unwrap();
            self.source.committed(&done);
        }
    }
    pub(crate) fn commit_all(&mut self) {
        (0..self.shards.len()).for_each(|shard| self.commit_shard(shard).unwrap());
        self.commit_source();
    }
    pub(crate) fn commits(&self, shard: usize) -> CommitWriter {
        self.commits[shard].clone()
    }

    pub(crate) fn check_committed(&self) {
        check_committed(&self.store, self.log);
    }
}

fn letter(offset: i64, reason: Reason) -> DeadLetter {
    DeadLetter {
        offset: Offset(offset),
        broker_time: BrokerTime(offset),
        stage: "parse_stage".to_owned(),
        reason,
        error: "not JSON".to_owned(),
        attempt: 1,
        watermark: None,
        key: None,
        value: Some(format!("record {offset}").into_bytes()),
        value_len: format!("record {offset}").len() as u64,
        headers: vec![],
    }
}

/// I1, I8, I15: every shard is the fold of the log up to its own position; so are the sums and the dead letters.
pub(crate) fn check_committed(store: &Store, log: Log) {
    let count = store.shards().get();
    for shard in store.reader().shards() {
        let positions: HashMap<_, _> = shard.positions().into_iter().collect();
        let through = positions.get(&LANE).map_or(-1, |offset| offset.0);
        let expected = log.fold(through, shard.id().0, count);
        let rows = shard.rows(CLASS, b"", usize::MAX).unwrap();
        let got: HashMap<_, _> =
            rows.iter().map(|(key, row)| (String::from_utf8_lossy(key).into_owned(), content(row))).collect();
        assert!(got == expected, "shard {} at {through}: {} rows, expected {}", shard.id(), got.len(), expected.len());
    }
}

/// As [`check_committed`], for the source shard; its sums are those of the applied state.
pub(crate) fn check_source(store: &Store, log: Log, through: i64) {
    let reader = store.source_reader();
    let expected: Outcomes = (0..=through).map(|offset| log.outcome(offset)).collect();
    assert_eq!(reader.outcomes()[0].outcomes, expected);
    assert_eq!(reader.outcomes()[0].lateness, Log::lateness(0, through), "each event counts once");
    assert_eq!(reader.outcomes()[0].reasons, [(Reason::Malformed, expected.dead_letters)]);
}

/// Copies a folder, as kill -9 leaves it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
