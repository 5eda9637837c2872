//! The last batch of a log is lost inside the engine, so that no later one shows the gap: the watchdog finds out, and the
//! partition reads it again.
//!
//! The batch is lost as a fault of ours would lose it: the stage panics when it has already taken the records apart. The
//! panic comes from outside, from a recorder of metrics.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use karst::{EngineSettings, prelude::*};
use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde_json::json;

use crate::world::{child, column, is_child, outcomes, small, succeeded, until};

#[derive(Message)]
struct Click {
    user: String,
    nth: i64,
}

#[features(key = "id")]
#[allow(dead_code)]
struct User {
    id: String,
    last: i64,
}

#[stream(source = "clicks")]
fn on_click(click: &Click) -> Updates![User::id, User::last] {
    updates!(click.user.clone(), click.nth)
}

/// Panics once after it was armed, where `parse_stage` counts what it has judged.
static ARMED: AtomicBool = AtomicBool::new(false);

struct Trap;

impl CounterFn for Trap {
    fn increment(&self, _: u64) {
        assert!(!ARMED.swap(false, Ordering::SeqCst), "a fault in the middle of a batch");
    }
    fn absolute(&self, _: u64) {}
}

impl Recorder for Trap {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == "karst_actors_events_total" { Counter::from_arc(Arc::new(Self)) } else { Counter::noop() }
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

async fn lose_the_last_batch() -> karst::Result<()> {
    metrics::set_global_recorder(Trap).map_err(|error| std::io::Error::other(error.to_string()))?;
    let dir = tempfile::tempdir()?;
    let source = MemorySource::json("clicks");
    let settings = EngineSettings { stuck_after_s: 1, ..small() };
    let engine = Engine::builder(dir.path()).settings(settings).source(source.clone()).resolver(on_click).start().await?;
    let handle = engine.handle();
    for nth in 0..100 {
        source.send(json!({ "user": "ada", "nth": nth }).to_string()).await?;
    }
    engine.drain().await?;
    ARMED.store(true, Ordering::SeqCst);
    source.send(json!({ "user": "bob", "nth": 100 }).to_string()).await?;
    until("the batch is lost", || !ARMED.load(Ordering::SeqCst)).await;
    // Nothing follows it. Only the clock tells that something is missing.
    until("the last record is there", || column(&handle, "user", "last").contains_key("bob")).await;
    engine.drain().await?;
    assert_eq!(outcomes(&engine).applied, 101);
    let partition = handle.status().sources[0].partitions[0].clone();
    assert_eq!(partition.rewinds, 1, "the watchdog, once");
    until("all is well again", || handle.health().healthy).await;
    drop(handle);
    engine.shutdown().await
}

#[test]
fn the_last_batch_of_a_log_is_read_again_when_it_was_lost() {
    if is_child() {
        return karst::run(lose_the_last_batch()).unwrap();
    }
    // In a process of its own: there is one recorder in a process.
    succeeded(&child("lost_batch::the_last_batch_of_a_log_is_read_again_when_it_was_lost", &[]).output().unwrap());
}
