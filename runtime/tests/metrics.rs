//! The metrics of a stage, against a recorder of our own.

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
    time::Duration,
};

use common::{LONG, Lab, virtual_time};
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder,
};
use parking_lot::Mutex;

#[derive(Default)]
struct Book {
    counters: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    samples: Mutex<BTreeMap<String, Arc<Samples>>>,
}

#[derive(Default)]
struct Samples(Mutex<Vec<f64>>);

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        self.0.lock().push(value);
    }
}

fn name(key: &Key) -> String {
    let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    format!("{}{{{}}}", key.name(), labels.join(","))
}

impl Recorder for Book {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::clone(self.counters.lock().entry(name(key)).or_default()))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::clone(self.counters.lock().entry(name(key)).or_default()))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::clone(self.samples.lock().entry(name(key)).or_default()))
    }
}

impl Book {
    fn counter(&self, name: &str) -> u64 {
        self.counters.lock()[name].load(Ordering::Relaxed)
    }
    fn samples(&self, name: &str) -> Vec<f64> {
        self.samples.lock()[name].0.lock().clone()
    }
}

#[test]
fn restarts_are_counted_by_cause_messages_by_stage_and_waits_in_seconds() {
    let book = Book::default();
    virtual_time(async {
        let lab = with_local_recorder(&book, || Lab::new(|spec| spec));
        *lab.world.bad_builds.lock() = vec![true];
        lab.mailbox.try_send(common::batch("1")).unwrap();
        lab.clock.advance(Duration::from_secs(3));
        lab.send(&["2~", "3b", "4h"]).await;
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            lab.handle.abort_current();
        }
        lab.handle.stop(LONG).await;
    });
    let restarts = ["build", "panic", "error", "stuck"]
        .map(|cause| book.counter(&format!("karst_runtime_restarts_total{{stage=probe,cause={cause}}}")));
    assert_eq!(restarts, [1, 2, 1, 2]);
    assert_eq!(book.counter("karst_runtime_handled_total{stage=probe}"), 4);
    assert_eq!(book.counter("karst_runtime_poisoned_total{stage=probe}"), 2);
    assert_eq!(f64::from_bits(book.counter("karst_runtime_mailbox_depth{stage=probe}")), 0.0);
    assert_eq!(book.samples("karst_runtime_mailbox_wait_seconds{stage=probe}"), [3.0, 0.0, 0.0, 0.0]);
    assert_eq!(book.samples("karst_runtime_handle_seconds{stage=probe}").len(), 4);
}
