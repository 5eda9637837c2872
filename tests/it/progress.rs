//! The progress watermark in the whole engine: with more threads than partitions, and as a function of logs, ends and clock alone.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use karst::{
    BrokerTime, EngineHandle, EngineSettings, PartitionId, ProcessingTime, SourceWatermark, prelude::*, runtime::VirtualClock,
};
use serde_json::json;

use crate::world::{Random, once_unlocked, outcomes, small, until};

#[derive(Message)]
struct Tick {
    id: String,
    #[serde(default)]
    gated: bool,
    #[message(event_time)]
    at: EventTime,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Watch {
    id: String,
    at: EventTime,
}

/// Closed until the test opens it.
static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
/// How many wait, or have waited, there.
static AT_GATE: AtomicU64 = AtomicU64::new(0);

#[stream(source = "ticks")]
fn on_tick(tick: Tick) -> Updates![Watch::id, Watch::at] {
    if tick.gated {
        AT_GATE.fetch_add(1, SeqCst);
        drop(GATE.1.wait_while(GATE.0.lock().unwrap(), |open| !*open).unwrap());
    }
    updates!(tick.id, tick.at)
}

fn seconds(at: Option<EventTime>) -> Option<i64> {
    at.map(|at| at.0 / 1_000_000)
}
fn progress(engine: &EngineHandle) -> SourceWatermark {
    engine.watermarks().into_iter().next().unwrap()
}

async fn start(dir: &Path, source: &MemorySource, clock: &Arc<VirtualClock>, workers: usize) -> karst::Result<Engine> {
    let mut settings = EngineSettings { workers, ..small() };
    settings.store.commit_interval = TimeSpan::from_millis(2);
    let engine = || Engine::builder(dir).settings(settings.clone()).clock(clock.clone()).source(source.clone());
    once_unlocked(async || engine().resolver(on_tick).start().await).await
}

async fn send(source: &MemorySource, partition: usize, event_s: i64, broker_s: i64, gated: bool) -> karst::Result<()> {
    let value = json!({ "id": format!("{partition}"), "gated": gated, "at": event_s * 1_000_000 }).to_string();
    source.send_to(PartitionId(partition as i32), BrokerTime::from_secs(broker_s), None, Some(value.as_bytes())).await?;
    Ok(())
}

/// ArroyoSystems/arroyo#222, apache/flink#4967: tasks without a partition held time back for good, or sent it to its end.
#[test]
fn with_more_tasks_than_partitions_time_goes_on_and_nobody_counts_as_idle_who_has_records() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let clock = Arc::new(VirtualClock::at(ProcessingTime::from_secs(10_000)));
        let source = MemorySource::json("ticks").partitions(2).batch_records(1);
        for second in 100..120 {
            for partition in 0..2 {
                send(&source, partition, second, second, second == 110).await?;
            }
        }
        let engine = start(dir.path(), &source, &clock, 8).await?;
        let handle = engine.handle();
        until("each is read up to the gate", || AT_GATE.load(SeqCst) == 2).await;
        let what_came_before = |now: &SourceWatermark| seconds(now.watermark).is_some_and(|at| (100..110).contains(&at));
        until("what came before it has had its effect", || what_came_before(&progress(&handle))).await;
        let stages = handle.topology().stages;
        assert_eq!(stages.iter().filter(|stage| stage.hop == "source_partition").count(), 2);
        let busy: BTreeSet<&str> = stages.iter().map(|stage| &*stage.thread).filter(|name| name.contains("path")).collect();
        assert!((1..=6).contains(&busy.len()), "two partitions of three stages leave threads without any: {busy:?}");
        for _ in 0..100 {
            clock.advance(Duration::from_secs(60)); // a timer would say: idle
            let now = progress(&handle);
            assert!(now.partitions.iter().all(|one| ["active", "starved"].contains(&one.state.name())), "{now:?}");
            assert!(what_came_before(&now), "neither at the end of its log nor at the clock: {now:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        *GATE.0.lock().unwrap() = true;
        GATE.1.notify_all();
        engine.drain().await?;
        until("both follow the clock", || seconds(progress(&handle).watermark) == Some(16_000)).await;
        assert_eq!((outcomes(&engine).applied, outcomes(&engine).late), (40, 0));
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}

const PARTITIONS: usize = 3;
const SKEW_S: i64 = 50;
const DISORDER_S: i64 = 4;

/// Event time and broker time, in seconds.
type Log = Vec<(i64, i64)>;

/// `docs/semantics.md`, Watermark and lateness, read word by word: the log watermark after so many records.
fn log_watermark(log: &[(i64, i64)]) -> Option<i64> {
    log.iter().map(|(event, broker)| (*event).min(broker + SKEW_S) - DISORDER_S).max()
}

/// The least over the partitions, all at their ends, of the log watermark and the clock less disorder.
fn progress_by_the_book(logs: &[Log], read: &[usize], now_s: i64) -> Option<i64> {
    logs.iter().zip(read).map(|(log, read)| log_watermark(&log[..*read]).max(Some(now_s - DISORDER_S))).min().flatten()
}

/// Stops, crashes and restarts in the middle of disorder on one side, a single reading from the beginning on the other. The
/// clock stands among the event times, so that it is ahead of some partitions and behind others.
#[test]
fn restored_through_stops_and_crashes_both_watermarks_equal_those_recomputed_from_the_log() {
    for seed in 1..=4 {
        let mut random = Random::new(seed);
        let logs: Vec<Log> = (0..PARTITIONS as i64)
            .map(|partition| {
                let one = |nth: i64| {
                    let broker = 1_000 + partition * 150 + nth * 2;
                    let event = match random.below(40) {
                        0 => broker + random.below(5_000) as i64,
                        _ => broker - random.below(300) as i64,
                    };
                    (event, broker)
                };
                (0..300).map(one).collect()
            })
            .collect();
        let clock = Arc::new(VirtualClock::at(ProcessingTime::from_secs(900)));
        let mut now_s = 900;
        let source = MemorySource::json("ticks").partitions(PARTITIONS).batch_records(1 + random.below(20) as usize);
        let source = source.disorder(TimeSpan::from_secs(DISORDER_S)).max_future_skew(TimeSpan::from_secs(SKEW_S));
        let (restored, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        karst::run(async {
            let mut read = [0; PARTITIONS];
            while read != [300; PARTITIONS] {
                let engine = start(restored.path(), &source, &clock, 2).await?;
                for (partition, read) in read.iter_mut().enumerate() {
                    let more = (random.below(90) as usize).min(300 - *read);
                    for (event, broker) in &logs[partition][*read..*read + more] {
                        send(&source, partition, *event, *broker, false).await?;
                    }
                    *read += more;
                }
                let step = random.below(120) as i64;
                now_s += step;
                clock.advance(Duration::from_secs(step as u64));
                if random.below(3) == 0 {
                    continue; // it is dropped with whatever it was doing
                }
                engine.drain().await?;
                let handle = engine.handle();
                let book = progress_by_the_book(&logs, &read, now_s);
                until("it is what logs and clock give", || seconds(progress(&handle).watermark) == book).await;
                drop(handle);
                engine.shutdown().await?;
            }
            let mut found = Vec::new();
            for dir in [&restored, &fresh] {
                let engine = start(dir.path(), &source, &clock, 2).await?;
                let handle = engine.handle();
                engine.drain().await?;
                let book = progress_by_the_book(&logs, &read, now_s);
                until("it is what logs and clock give", || seconds(progress(&handle).watermark) == book).await;
                let now = progress(&handle);
                let of_logs: Vec<Option<i64>> = now.partitions.iter().map(|one| seconds(one.watermark)).collect();
                assert_eq!(of_logs, logs.iter().map(|log| log_watermark(log)).collect::<Vec<_>>(), "seed {seed}");
                found.push((of_logs, now.partitions.iter().map(|one| one.reach).collect::<Vec<_>>(), now.watermark));
                drop(handle);
                engine.shutdown().await?;
            }
            assert_eq!(found[0], found[1], "restored, and recomputed; seed {seed}");
            Ok(())
        })
        .unwrap();
    }
}
