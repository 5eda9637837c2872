//! Measures CPU-nanoseconds per update applied, committed and written to the history by one shard (whole process, ns/update).
//!
//! `cargo bench --profile dev -p karst-state --bench apply -- [updates] [updates per commit] [keys]`. Zipf-distributed keys,
//! lane messages of 1,024 updates of 4 features, commits on a second thread. Machines are noisy: compare within one run.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // a bench reads the clock and prints
#![allow(clippy::unwrap_used)] // as in tests
#![allow(missing_docs)]

use std::{
    fs,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use karst_state::{Applied, LaneHead, ShardBatch, Store, StoreSettings};
use karst_types::{
    ClassId, Clock, EventTime, FeatureSlot, FeatureValue, Offset, PartitionId, ProcessingTime, ShardId, SourceId, Updates,
    update::Cause,
};

struct SystemClock(Instant);
impl Clock for SystemClock {
    fn now(&self) -> ProcessingTime {
        ProcessingTime(0)
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// User and system time of the process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Keys in about the frequencies of Zipf's law with exponent 1.
fn zipf(state: &mut u64, keys: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let uniform = (*state >> 11) as f64 / (1u64 << 53) as f64;
    ((keys as f64).powf(uniform) as u64).min(keys) - 1
}

fn batch(state: &mut u64, keys: u64, number: u64) -> Updates {
    let mut updates = Updates::with_capacity(SourceId(0), PartitionId(0), 1024, 1024 * 90);
    let slots = [0, 1, 2, 3].map(FeatureSlot);
    for index in 0..1024u64 {
        let user = zipf(state, keys).wrapping_mul(7919) % keys;
        let offset = (number * 1024 + index) as i64;
        let at = EventTime(1_700_000_000_000_000 + offset * 46_800 - (*state >> 40) as i64 % 120_000_000);
        let cause = Cause { offset: Offset(offset), event_time: at };
        let merchant = format!("merchant_{:04}", *state >> 33 & 1023);
        let cells = |out: &mut Vec<u8>| {
            merchant.encode(out);
            ((*state >> 20 & 0xffff) as f64 / 100.0).encode(out);
            "approved".encode(out);
            at.encode(out);
        };
        updates.push(ClassId(0), cause, &slots, |out| format!("user_{user:06}").encode_key(out), cells);
    }
    updates
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let (updates, per_commit, keys) =
        (numbers.next().unwrap_or(2_000_000), numbers.next().unwrap_or(50_000), numbers.next().unwrap_or(100_000));
    let mut state = 42;
    let batches: Vec<Updates> = (0..updates / 1024).map(|number| batch(&mut state, keys, number)).collect();
    let updates = batches.len() as u64 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings { shards: 1, commit_events: per_commit as usize, ..StoreSettings::default() };
    let store = Store::open(dir.path(), &settings, Arc::new(SystemClock(Instant::now()))).unwrap();
    let mut writer = store.shard_writer(ShardId(0)).unwrap();
    let commits = store.commit_writer(ShardId(0));
    let (to_disk, frozen) = mpsc::sync_channel(1);
    let (done, committed) = mpsc::sync_channel(1);
    let (cpu, started) = (cpu_seconds(), Instant::now());
    let (mut applying, mut freezing) = (Duration::ZERO, Duration::ZERO);
    let (mut rows, mut history, mut count) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(move || frozen.into_iter().for_each(|commit| done.send(commits.write(commit).unwrap()).unwrap()));
        let mut landed = |writer: &mut karst_state::ShardWriter, commit: karst_state::Committed| {
            writer.committed(&commit);
            rows += commit.rows;
            history += commit.history_bytes;
            count += 1;
        };
        for (number, updates) in batches.into_iter().enumerate() {
            let head = LaneHead {
                source: SourceId(0),
                partition: PartitionId(0),
                epoch: 1,
                lane_seq: number as u64 + 1,
                through: Offset(number as i64 * 1024 + 1023),
            };
            let mut message =
                ShardBatch { head, updates, stored_at: ProcessingTime(number as i64), watermark: None, credit: None };
            let before = Instant::now();
            assert!(matches!(writer.apply(&mut message), Ok(Applied::Applied { new: 1024, .. })));
            applying += before.elapsed();
            if let Ok(commit) = committed.try_recv() {
                landed(&mut writer, commit);
            }
            if writer.must_commit() {
                if writer.commit_in_flight() {
                    landed(&mut writer, committed.recv().unwrap());
                }
                let before = Instant::now();
                to_disk.send(writer.freeze().unwrap()).unwrap();
                freezing += before.elapsed();
            }
        }
        if writer.commit_in_flight() {
            landed(&mut writer, committed.recv().unwrap());
        }
        if let Some(commit) = writer.freeze() {
            to_disk.send(commit).unwrap();
            landed(&mut writer, committed.recv().unwrap());
        }
        drop(to_disk);
    });
    let (cpu, wall) = (cpu_seconds() - cpu, started.elapsed());
    println!(
        "apply updates={updates} keys={keys} per_commit={per_commit} cpu_ns_per_update={:.0} apply_ns={:.0} freeze_ns={:.0} \
         rows_per_update={:.3} history_bytes_per_update={:.1} commits={count} updates_per_s={:.0}",
        cpu * 1e9 / updates as f64,
        applying.as_nanos() as f64 / updates as f64,
        freezing.as_nanos() as f64 / updates as f64,
        rows as f64 / updates as f64,
        history as f64 / updates as f64,
        updates as f64 / wall.as_secs_f64(),
    );
}
