//! The progress watermark in the whole engine. The clock is virtual: it stands where a test put it, so whatever moves moves because
//! of the log. Several of these are failures that users of other systems have reported.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use karst::{
    BrokerTime, EngineHandle, EngineSettings, PartitionId, PartitionTime, ProcessingTime, SourceWatermark, StartAt, prelude::*,
    runtime::VirtualClock,
};
use serde_json::json;

use crate::world::{Random, outcomes, small, until};

#[derive(Message)]
struct Beat {
    id: String,
    #[serde(default)]
    gated: bool,
    #[message(event_time)]
    at: EventTime,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Heart {
    id: String,
    at: EventTime,
}

/// Closed until the test opens it.
static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

#[stream(source = "beats")]
fn on_beat(beat: Beat) -> Updates![Heart::id, Heart::at] {
    if beat.gated {
        let mut open = GATE.0.lock().unwrap();
        while !*open {
            open = GATE.1.wait(open).unwrap();
        }
    }
    updates!(beat.id, beat.at)
}

fn clock(secs: i64) -> Arc<VirtualClock> {
    Arc::new(VirtualClock::at(ProcessingTime::from_secs(secs)))
}

async fn start(dir: &Path, source: &MemorySource, clock: &Arc<VirtualClock>) -> karst::Result<Engine> {
    let settings = EngineSettings { workers: 4, ..small() };
    Engine::builder(dir).settings(settings).clock(clock.clone()).source(source.clone()).resolver(on_beat).start().await
}

async fn send(source: &MemorySource, partition: i32, event_s: i64, broker_s: i64) -> karst::Result<()> {
    let value = json!({ "id": format!("{partition}"), "at": event_s * 1_000_000 }).to_string();
    source.send_to(PartitionId(partition), BrokerTime::from_secs(broker_s), None, Some(value.as_bytes())).await?;
    Ok(())
}

fn source_of(engine: &EngineHandle) -> SourceWatermark {
    engine.watermarks().into_iter().next().unwrap()
}
fn watermark(engine: &EngineHandle) -> Option<i64> {
    source_of(engine).watermark.map(|at| at.0 / 1_000_000)
}
fn partition(engine: &EngineHandle, id: i32) -> Option<PartitionTime> {
    source_of(engine).partitions.into_iter().find(|partition| partition.partition == PartitionId(id))
}
fn state(engine: &EngineHandle, id: i32) -> &'static str {
    partition(engine, id).map_or("unknown", |partition| partition.state.name())
}

/// apache/beam#40176, numaproj/numaflow#3006. There are more threads than partitions, too: ArroyoSystems/arroyo#222.
#[test]
fn a_partition_that_never_had_a_record_does_not_hold_time_back() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let clock = clock(10_000);
        let source = MemorySource::json("beats").partitions(2).disorder("5s");
        let engine = start(dir.path(), &source, &clock).await?;
        let handle = engine.handle();
        send(&source, 0, 500, 500).await?;
        engine.drain().await?;
        until("both follow the clock", || watermark(&handle) == Some(9_995)).await;
        assert_eq!((state(&handle, 0), state(&handle, 1)), ("caught_up", "caught_up"));
        assert_eq!(partition(&handle, 1).unwrap().watermark, None, "it had no record");
        clock.advance(std::time::Duration::from_secs(60));
        assert_eq!(watermark(&handle), Some(10_055), "asked again, the source holds nothing more");
        assert!(source_of(&handle).why.contains("nothing: beats["), "{}", source_of(&handle).why);
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}

/// numaproj/numaflow#3399: a source that backpressure held up was taken for idle, and records on their way became late.
#[test]
fn a_partition_that_is_held_up_is_not_idle_however_long_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let clock = clock(10_000);
        let source = MemorySource::json("beats").partitions(2).batch_records(1);
        let engine = start(dir.path(), &source, &clock).await?;
        let handle = engine.handle();
        send(&source, 0, 100, 100).await?;
        engine.drain().await?;
        until("both follow the clock", || watermark(&handle) == Some(10_000)).await;
        for nth in 0..50i64 {
            let value = json!({ "id": "0", "gated": true, "at": (10_001 + nth) * 1_000_000 }).to_string();
            source.send_to(PartitionId(0), BrokerTime::from_secs(10_001), None, Some(value.as_bytes())).await?;
        }
        until("its credits are used up", || state(&handle, 0) == "starved").await;
        let before = watermark(&handle);
        clock.advance(std::time::Duration::from_secs(3_600)); // a timer would say: idle for an hour
        // Between two tries for a credit it is active for a moment; idle it never is.
        let mut now = source_of(&handle);
        until("it is seen as starved", || {
            now = source_of(&handle);
            let states: Vec<&str> = now.partitions.iter().map(|partition| partition.state.name()).collect();
            assert!(["starved", "active"].contains(&states[0]) && states[1] == "caught_up", "{now:?}");
            states[0] == "starved"
        })
        .await;
        assert_eq!((now.watermark.map(|at| at.0 / 1_000_000), now.held_by), (before, Some(PartitionId(0))));
        assert_eq!(before, Some(10_000), "what it holds back has not happened yet");
        assert!(now.why.contains("held up by what comes after it") && now.hint.contains("karst topology"), "{now:?}");
        *GATE.0.lock().unwrap() = true;
        GATE.1.notify_all();
        engine.drain().await?;
        until("time goes on", || watermark(&handle) == Some(13_600)).await;
        assert_eq!((outcomes(&engine).applied, outcomes(&engine).late), (51, 0));
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}

/// apache/metron#1197: one record two days ahead moved time, and all that was right became late.
#[test]
fn a_record_two_days_in_the_future_makes_nothing_late() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let clock = clock(1_000);
        let source = MemorySource::json("beats").late_arrival_deadline("10m").max_future_skew("5m");
        let engine = start(dir.path(), &source, &clock).await?;
        let handle = engine.handle();
        send(&source, 0, 1_000 + 2 * 86_400, 1_000).await?;
        for second in 0..100 {
            send(&source, 0, 1_000 + second, 1_000 + second).await?;
        }
        engine.drain().await?;
        assert_eq!((outcomes(&engine).late, outcomes(&engine).applied), (0, 101));
        assert_eq!(watermark(&handle), Some(1_300), "the skew, and no further");
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}

/// Event times of one partition, back and forth: every restart falls into the middle of disorder.
fn disordered(random: &mut Random) -> Vec<i64> {
    (0..400).map(|nth| 1_000 + nth * 10 - random.below(500) as i64).collect()
}

/// volga-project/volga#169: after a restart the frontier was ahead of the replay, and rows in time were dropped as late.
#[test]
fn restored_in_the_middle_of_disorder_it_equals_what_the_log_gives() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(7);
    let logs: Vec<Vec<i64>> = (0..3).map(|_| disordered(&mut random)).collect();
    let book =
        |read: &[usize]| logs.iter().zip(read).map(|(log, read)| log[..*read].iter().max().map(|max| max - 3)).min().unwrap();
    karst::run(async {
        // At the beginning of time the clock adds nothing to what the log says.
        let clock = clock(0);
        let source = MemorySource::json("beats").partitions(3).disorder("3s").max_future_skew("infinity").batch_records(7);
        let source = source.late_arrival_deadline("200s");
        let mut read = [0; 3];
        for round in 0..6 {
            let engine = start(dir.path(), &source, &clock).await?;
            let handle = engine.handle();
            if round > 0 {
                until("its partitions are found", || source_of(&handle).held_by.is_some()).await;
                assert_eq!(watermark(&handle), book(&read), "round {round}: restored, before anything more was read");
            }
            for (partition, log) in logs.iter().enumerate() {
                let more = random.below(100) as usize;
                for event in log.iter().skip(read[partition]).take(more) {
                    send(&source, partition as i32, *event, *event).await?;
                }
                read[partition] = log.len().min(read[partition] + more);
            }
            engine.drain().await?;
            until("it is what the log gives", || watermark(&handle) == book(&read)).await;
            drop(handle);
            engine.shutdown().await?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_partition_that_is_added_is_found_read_from_its_beginning_and_holds_time_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let clock = clock(0);
        let source = MemorySource::json("beats").discover_interval("20ms").start_at(StartAt::Latest);
        let engine = start(dir.path(), &source, &clock).await?;
        let handle = engine.handle();
        until("it is read", || state(&handle, 0) == "caught_up").await;
        send(&source, 0, 5_000, 5_000).await?;
        engine.drain().await?;
        assert_eq!(watermark(&handle), Some(5_000));
        source.add_partitions(1);
        for second in [40, 10, 70] {
            send(&source, 1, second, second).await?; // before it is found, and long ago
        }
        until("it is found", || partition(&handle, 1).is_some_and(|found| found.watermark == Some(EventTime::from_secs(70))))
            .await;
        assert_eq!(outcomes(&engine).applied, 4, "from its beginning, although the source starts at the latest");
        let now = source_of(&handle);
        assert_eq!(
            (now.watermark, now.held_by),
            (Some(EventTime::from_secs(5_000)), Some(PartitionId(1))),
            "it never goes back"
        );
        assert_eq!(now.partitions[1].reach, Some(EventTime::from_secs(70)));
        send(&source, 1, 6_000, 6_000).await?;
        until("it is the other one", || source_of(&handle).held_by == Some(PartitionId(0))).await;
        drop(handle);
        engine.shutdown().await?;

        // And after a restart it goes on where it was.
        let engine = start(dir.path(), &source, &clock).await?;
        send(&source, 1, 7_000, 7_000).await?;
        send(&source, 0, 7_000, 7_000).await?;
        engine.drain().await?;
        assert_eq!(outcomes(&engine).applied, 7);
        engine.shutdown().await
    })
    .unwrap();
}

/// apache/flink#4967: what nobody reads must neither hold time back nor push it to its end.
#[test]
fn a_partition_that_is_gone_is_unassigned_and_left_out() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let clock = clock(0);
        let source = MemorySource::json("beats").partitions(2);
        let engine = start(dir.path(), &source, &clock).await?;
        send(&source, 0, 900, 900).await?;
        send(&source, 1, 100, 100).await?;
        engine.drain().await?;
        assert_eq!(watermark(&engine.handle()), Some(100));
        engine.shutdown().await?;

        let smaller = MemorySource::json("beats");
        send(&smaller, 0, 900, 900).await?;
        let engine = start(dir.path(), &smaller, &clock).await?;
        let handle = engine.handle();
        until("one is gone", || state(&handle, 1) == "unassigned").await;
        engine.drain().await?;
        assert_eq!((watermark(&handle), source_of(&handle).held_by), (Some(900), Some(PartitionId(0))));
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_partition_that_cannot_go_on_holds_time_back_and_is_named_with_its_fault_and_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let clock = clock(0);
        let source = MemorySource::json("beats").partitions(2).max_drift("10s").max_future_skew("infinity").batch_records(1);
        let engine = start(dir.path(), &source, &clock).await?;
        send(&source, 0, 100, 100).await?;
        send(&source, 1, 100, 100).await?;
        engine.drain().await?;
        engine.shutdown().await?;

        for second in 101..200 {
            send(&source, 0, second * 10, second * 10).await?;
            send(&source, 1, second * 10, second * 10).await?;
        }
        source.truncate_front(PartitionId(1), karst::Offset(50)); // retention was faster
        let engine = start(dir.path(), &source, &clock).await?;
        let handle = engine.handle();
        until("the other one is read to its end, far beyond max_drift", || {
            partition(&handle, 0).is_some_and(|read| read.watermark == Some(EventTime::from_secs(1_990)))
        })
        .await;
        let now = source_of(&handle);
        assert_eq!((now.watermark, now.held_by), (Some(EventTime::from_secs(100)), Some(PartitionId(1))));
        assert!(now.why.contains("beats[1] stands still") && now.hint.contains("karst health"), "{now:?}");
        drop((handle, engine));
        Ok(())
    })
    .unwrap();
}

const DRIFT_S: i64 = 300;
const STEPS: i64 = 6_000;

/// Event time of the last record that was resolved, by partition; and how far apart the two ever were.
static SEEN: Mutex<(BTreeMap<String, i64>, i64)> = Mutex::new((BTreeMap::new(), 0));

#[derive(Message)]
struct Lap {
    runner: String,
    #[message(event_time)]
    at: EventTime,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Runner {
    id: String,
    at: EventTime,
}

#[stream(source = "laps")]
fn on_lap(lap: Lap) -> Updates![Runner::id, Runner::at] {
    if lap.runner == "slow" {
        (0..20_000).for_each(|nth| _ = std::hint::black_box(nth)); // it is the slower one, whatever the machine does
    }
    let mut seen = SEEN.lock().unwrap();
    seen.0.insert(lap.runner.clone(), lap.at.0 / 1_000_000);
    let ends = STEPS - 1;
    if let (Some(fast), Some(slow)) = (seen.0.get("fast"), seen.0.get("slow"))
        && *slow < ends
    {
        seen.1 = seen.1.max(fast - slow);
    }
    updates!(lap.runner, lap.at)
}

/// apache/flink#22847 and #22969: alignment that hangs.
#[test]
fn with_a_max_drift_the_fast_partition_waits_for_the_slow_one_and_both_come_to_their_end() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("laps").partitions(3).capacity(10_000).batch_records(5);
        let source = source.max_drift(TimeSpan::from_secs(DRIFT_S)).max_future_skew("infinity"); // the third one stays empty
        for at in 0..STEPS {
            for (partition, runner) in [(0, "fast"), (1, "slow")] {
                let value = json!({ "runner": runner, "at": at * 1_000_000 }).to_string();
                source.send_to(PartitionId(partition), BrokerTime::from_secs(at), None, Some(value.as_bytes())).await?;
            }
        }
        let settings = EngineSettings { workers: 4, credits: 4, mailbox: 2, ..small() };
        let engine = Engine::builder(dir.path()).settings(settings).source(source.clone()).resolver(on_lap).start().await?;
        let handle = engine.handle();
        until("the fast one waits", || partition(&handle, 0).is_some_and(|fast| fast.waits_for == Some(PartitionId(1)))).await;
        assert_ne!(state(&handle, 0), "caught_up");
        engine.drain().await?;
        assert_eq!(outcomes(&engine).applied, 2 * STEPS as u64, "nobody waits for ever, also not for the empty partition");
        // Ahead by the drift at most when it is read, and by what is on its way: a credit is a batch of five seconds.
        let apart = SEEN.lock().unwrap().1;
        assert!(apart > DRIFT_S / 2 && apart <= DRIFT_S + 2 * 4 * 5 + 10, "they were {apart} s apart");
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_drift_of_nothing_is_refused() {
    for (drift, part) in [("0s", "longer than zero"), ("-1s", "longer than zero"), ("soon", "is not a duration")] {
        let dir = tempfile::tempdir().unwrap();
        let source = MemorySource::json("beats").max_drift(drift);
        let error = karst::run(start(dir.path(), &source, &clock(0))).err().unwrap().to_string();
        assert!(error.contains("max_drift") && error.contains(part), "{error}");
    }
}
