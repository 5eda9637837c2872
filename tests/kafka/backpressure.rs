//! A resolver that does not get on: partitions pause, and what is held in memory stays bounded.

use std::sync::{Arc, Condvar, Mutex};

use karst::{
    ByteSize, Clock, Engine, EngineHandle, EngineSettings, KafkaSource, PartitionId, Source, SourceSettings,
    connectors::{BoxFuture, PartitionReader, RunningSource, SourceHealth},
    prelude::*,
};

use crate::{
    declare::{self, Flight, Route},
    gate::Gate,
    world::{check, drain, kafka, rows, small, until},
};

const BUFFER: u64 = 256 << 10;
const BATCH: u64 = 64 << 10;
/// A partition's buffer passes its limit by what one call of librdkafka had in hand: 4,096 records of all partitions.
const ONE_CALL: u64 = 4_096 * 300;
const CREDITS: usize = 2;

/// Closed until the test opens it.
static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// The route's resolver, behind the gate.
#[stream(source = "flights")]
fn gated_route(
    flight: &Flight,
) -> Option<Updates![Route::id, Route::last_carrier, Route::last_departure_at, Route::last_air_time_minutes]> {
    let mut open = GATE.0.lock().unwrap();
    while !*open {
        open = GATE.1.wait(open).unwrap();
    }
    declare::route::call(flight)
}

/// A source whose health the test can look at.
struct Watched(KafkaSource, Arc<Mutex<Option<Arc<dyn RunningSource>>>>);

impl Source for Watched {
    fn settings(&self) -> &SourceSettings {
        self.0.settings()
    }
    fn kind(&self) -> &'static str {
        self.0.kind()
    }
    fn start(&self, clock: Arc<dyn Clock>) -> karst::connectors::Result<Box<dyn RunningSource>> {
        let running: Arc<dyn RunningSource> = Arc::new(self.0.start_kafka(clock)?);
        *self.1.lock().unwrap() = Some(Arc::clone(&running));
        Ok(Box::new(Running(running)))
    }
}

struct Running(Arc<dyn RunningSource>);

impl RunningSource for Running {
    fn partitions(&self) -> BoxFuture<'_, karst::connectors::Result<Vec<PartitionId>>> {
        self.0.partitions()
    }
    fn reader(&self, partition: PartitionId) -> karst::connectors::Result<Box<dyn PartitionReader>> {
        self.0.reader(partition)
    }
    fn health(&self) -> SourceHealth {
        self.0.health()
    }
    fn stop(&self) -> BoxFuture<'_, ()> {
        self.0.stop()
    }
}

/// Memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// For a while: every partition is paused, and no more is held than the settings allow.
async fn stands_still(handle: &EngineHandle, watched: &Mutex<Option<Arc<dyn RunningSource>>>, batches: usize) {
    for _ in 0..500 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let health = watched.lock().unwrap().as_ref().map(|running| running.health()).unwrap();
        for partition in health.partitions {
            assert!(partition.buffered_bytes <= BUFFER + ONE_CALL, "{partition:?}");
        }
        for partition in &handle.status().sources[0].partitions {
            assert!(partition.paused, "nothing has changed: {partition:?}");
            let read = partition.fetched.map_or(0, |offset| offset.0 as usize + 1);
            assert!(read <= batches * 100, "{read} records of {} are on their way", partition.partition);
        }
    }
}

#[test]
fn a_slow_resolver_pauses_the_partitions_and_memory_stays_bounded() {
    let Some(kafka) = kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    let topic = kafka.flights();
    let rows = rows();
    karst::run(async {
        let watched = Arc::default();
        let source = kafka.source(topic).buffer_bytes(ByteSize(BUFFER)).batch_bytes(ByteSize(BATCH)).batch_records(100);
        let source = Watched(source, Arc::clone(&watched));
        let settings = EngineSettings { credits: CREDITS, mailbox: 2, ..small() };
        let builder = Engine::builder(dir.path()).settings(settings).source(source);
        let before = resident();
        let engine = builder.resolver(declare::aircraft).resolver(gated_route).start().await?;
        let handle = engine.handle();
        let partitions = || handle.status().sources[0].partitions.clone();
        until("all partitions are paused", || partitions().len() == 3 && partitions().iter().all(|partition| partition.paused))
            .await;
        stands_still(&handle, &watched, CREDITS).await;
        let grown = resident().saturating_sub(before);
        assert!(grown < 96 << 20, "{} MiB for a log that stands still", grown >> 20);
        assert_eq!(handle.status().outcomes().records, 0);
        assert!(handle.status().lag() > 336_000, "the lag tells what waits: {}", handle.status().lag());

        *GATE.0.lock().unwrap() = true;
        GATE.1.notify_all();
        drain(&engine).await?;
        check(&engine, rows, TimeSpan::INFINITY);
        assert!(partitions().iter().all(|partition| !partition.paused && partition.rewinds == 0), "{:?}", partitions());
        drop(handle);
        *watched.lock().unwrap() = None;
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_slow_shard_pauses_the_partitions_and_memory_stays_bounded() {
    let Some(kafka) = kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    let topic = kafka.flights();
    let rows = rows();
    let closed = Gate::of_process().closed();
    karst::run(async {
        let watched = Arc::default();
        let source = kafka.source(topic).buffer_bytes(ByteSize(BUFFER)).batch_bytes(ByteSize(BATCH)).batch_records(100);
        let source = Watched(source, Arc::clone(&watched));
        let settings = EngineSettings { credits: CREDITS, mailbox: 2, ..small() };
        let builder = Engine::builder(dir.path()).settings(settings).source(source);
        let before = resident();
        let engine = builder.resolver(declare::aircraft).resolver(declare::route).start().await?;
        let handle = engine.handle();
        let partitions = || handle.status().sources[0].partitions.clone();
        until("all partitions are paused", || partitions().len() == 3 && partitions().iter().all(|partition| partition.paused))
            .await;
        // The batch on which the shard is held counts as applied.
        stands_still(&handle, &watched, CREDITS + 1).await;
        let grown = resident().saturating_sub(before);
        assert!(grown < 96 << 20, "{} MiB for a log that stands still", grown >> 20);
        assert!(partitions().iter().all(|partition| partition.committed.is_none()), "what one shard lacks is not committed");
        drop(closed);
        drain(&engine).await?;
        check(&engine, rows, TimeSpan::INFINITY);
        assert!(partitions().iter().all(|partition| !partition.paused && partition.rewinds == 0), "{:?}", partitions());
        drop(handle);
        *watched.lock().unwrap() = None;
        engine.shutdown().await
    })
    .unwrap();
}
