//! The gauges of a partition that has stopped tell how it is, and not how it last was when it ran.
//!
//! In a process of its own: a recorder of metrics is for a whole process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use karst::{BrokerTime, EngineSettings, PartitionId, ProcessingTime, prelude::*, runtime::VirtualClock};
use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::world::{child, is_child, small, succeeded, until};

#[derive(Message)]
struct Tick {
    id: String,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Ticked {
    id: String,
    last: String,
}

#[stream(source = "ticks")]
fn on_tick(tick: Tick) -> Updates![Ticked::id, Ticked::last] {
    updates!(tick.id.clone(), tick.id)
}

/// Gauges as they were set last, by name and partition.
static GAUGES: Mutex<BTreeMap<(String, String), f64>> = Mutex::new(BTreeMap::new());

struct Last;
struct One((String, String));

impl GaugeFn for One {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}
    fn set(&self, value: f64) {
        GAUGES.lock().unwrap().insert(self.0.clone(), value);
    }
}

impl Recorder for Last {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match key.labels().find(|label| label.key() == "partition") {
            Some(partition) => Gauge::from_arc(Arc::new(One((key.name().to_owned(), partition.value().to_owned())))),
            None => Gauge::noop(),
        }
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn gauge(name: &str, partition: &str) -> Option<f64> {
    GAUGES.lock().unwrap().get(&(name.to_owned(), partition.to_owned())).copied()
}

const STARTS_S: i64 = 5_000;

async fn trip_and_look() -> karst::Result<()> {
    metrics::set_global_recorder(Last).map_err(|error| std::io::Error::other(error.to_string()))?;
    let dir = tempfile::tempdir()?;
    let clock = Arc::new(VirtualClock::at(ProcessingTime::from_secs(STARTS_S)));
    let source = MemorySource::json("ticks").partitions(2).batch_records(10).max_failing_percent(10).failing_window(200);
    let send = async |partition, value: &'static [u8]| {
        source.send_to(PartitionId(partition), BrokerTime::from_secs(1_000), None, Some(value)).await
    };
    for nth in 0..1_000 {
        send(0, if nth < 300 { b"{\"id\":\"x\"}".as_slice() } else { b"mad" }).await?;
        send(1, b"{\"id\":\"x\"}").await?;
    }
    let settings = EngineSettings { stuck_after_s: 1, ..small() };
    let engine = Engine::builder(dir.path()).settings(settings).clock(clock.clone()).source(source.clone()).resolver(on_tick);
    let engine = engine.start().await?;
    let handle = engine.handle();

    let tripped = |partition| gauge("karst_actors_partition_tripped", partition);
    until("it has tripped", || tripped("0") == Some(1.0) && tripped("1") == Some(0.0)).await;
    let holds = |partition| gauge("karst_actors_partition_holds_time", partition);
    until("it holds time back", || holds("0") == Some(1.0) && holds("1") == Some(0.0)).await;
    // What the source itself says, and what a stopped partition would have to be asked for.
    let lag = || gauge("karst_actors_lag_records", "0").unwrap();
    let is = || handle.status().sources[0].partitions[0].lag.unwrap() as f64;
    until("its lag is told", || is() > 100.0 && lag() == is()).await;
    for _ in 0..50 {
        send(0, b"mad").await?;
    }
    until("its lag grows", || lag() == is()).await;
    // So that the watchdog has surely looked, and what it thinks is stuck would be told.
    for hour in 1..=3 {
        clock.advance(Duration::from_secs(3_600));
        let behind = (STARTS_S - 1_000 + hour * 3_600) as f64;
        until("its watermark falls behind", || gauge("karst_actors_watermark_lag_seconds", "0") == Some(behind)).await;
    }
    assert_eq!(["0", "1"].map(|partition| gauge("karst_conservation_missing", partition)), [Some(0.0); 2]);
    assert_eq!(gauge("karst_actors_partition_paused", "1"), Some(0.0));
    let told = || handle.health().problems.into_iter().map(|problem| problem.what).collect::<Vec<_>>();
    until("it is told once", || told() == ["partition ticks[0]"]).await;
    drop(handle);
    engine.shutdown().await
}

#[test]
fn a_partition_that_has_stopped_is_measured_as_it_is_and_its_trouble_is_told_once() {
    if is_child() {
        return karst::run(trip_and_look()).unwrap();
    }
    let test = "gauges::a_partition_that_has_stopped_is_measured_as_it_is_and_its_trouble_is_told_once";
    succeeded(&child(test, &[]).output().unwrap());
}
