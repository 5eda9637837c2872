//! Every metric of the runtime. Handles are looked up once, when a stage is spawned: install the recorder before that.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

const DEPTH: &str = "karst_runtime_mailbox_depth";
const WAIT: &str = "karst_runtime_mailbox_wait_seconds";
const HANDLED: &str = "karst_runtime_handled_total";
const HANDLE: &str = "karst_runtime_handle_seconds";
const RESTARTS: &str = "karst_runtime_restarts_total";
const POISONED: &str = "karst_runtime_poisoned_total";

/// Tells the installed recorder what the metrics of the runtime mean. All have the label `stage`, the stage's id.
pub fn describe_metrics() {
    describe_gauge!(DEPTH, Unit::Count, "Messages (batches) in the data lane of a stage, as of its last receive.");
    describe_histogram!(WAIT, Unit::Seconds, "Time a message spent in the data lane.");
    describe_counter!(HANDLED, Unit::Count, "Messages handled, those put aside included.");
    describe_histogram!(
        HANDLE,
        Unit::Seconds,
        "Time in the handler, waits for room downstream included; its sum is busy time."
    );
    describe_counter!(RESTARTS, Unit::Count, "Rebuilds of a stage, by cause: panic, error, stuck, build.");
    describe_counter!(POISONED, Unit::Count, "Records put aside because a stage panicked or hung on them twice.");
}

/// Why a stage was rebuilt; the label `cause`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    Panic,
    Error,
    Stuck,
    Build,
}

pub(crate) struct StageMetrics {
    depth: Gauge,
    wait: Histogram,
    handled: Counter,
    handle: Histogram,
    poisoned: Counter,
    panic: Counter,
    error: Counter,
    stuck: Counter,
    build: Counter,
}

impl StageMetrics {
    pub(crate) fn new(id: &str) -> Self {
        let restarts = |cause: &'static str| counter!(RESTARTS, "stage" => id.to_owned(), "cause" => cause);
        Self {
            depth: gauge!(DEPTH, "stage" => id.to_owned()),
            wait: histogram!(WAIT, "stage" => id.to_owned()),
            handled: counter!(HANDLED, "stage" => id.to_owned()),
            handle: histogram!(HANDLE, "stage" => id.to_owned()),
            poisoned: counter!(POISONED, "stage" => id.to_owned()),
            panic: restarts("panic"),
            error: restarts("error"),
            stuck: restarts("stuck"),
            build: restarts("build"),
        }
    }
    pub(crate) fn received(&self, depth: usize, waited: Option<Duration>) {
        self.depth.set(depth as f64);
        if let Some(waited) = waited {
            self.wait.record(waited.as_secs_f64());
        }
    }
    pub(crate) fn handled(&self, took: Duration) {
        self.handled.increment(1);
        self.handle.record(took.as_secs_f64());
    }
    pub(crate) fn poisoned(&self) {
        self.poisoned.increment(1);
    }
    pub(crate) fn restarted(&self, cause: Cause) {
        let counter = match cause {
            Cause::Panic => &self.panic,
            Cause::Error => &self.error,
            Cause::Stuck => &self.stuck,
            Cause::Build => &self.build,
        };
        counter.increment(1);
    }
}
