//! The process's metrics recorder, and the server's own metrics.

use std::sync::{Mutex, OnceLock, PoisonError};

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{Error, Result};

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
static INSTALLING: Mutex<()> = Mutex::new(());

/// Upper bounds of the buckets of every `…_seconds`: two to four per decade, from a stored value's microsecond to a stuck disk.
const SECONDS: [f64; 22] = [
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 5.0, 60.0,
    3600.0,
];
/// Of everything else that is counted in a histogram (records of a batch, bytes).
const SIZES: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    268_435_456.0,
];

/// Installs the recorder that `/metrics` prints, once per process; again does nothing.
///
/// Call it **before the engine starts**: handles that were made before it count into nothing. [`serve`](crate::serve) calls it
/// too, which is early enough only for what is made afterwards.
///
/// # Errors
/// [`Error::Recorder`] if somebody else's recorder is installed.
pub fn install() -> Result<()> {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if RECORDER.get().is_some() {
        return Ok(());
    }
    let recorder = |error: &dyn std::fmt::Display| Error::Recorder(error.to_string());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| builder.set_buckets(&SIZES))
        .map_err(|error| recorder(&error))?
        .install_recorder()
        .map_err(|error| recorder(&error))?;
    let _ = RECORDER.set(handle); // only this function sets it, one caller at a time
    describe();
    karst::describe_metrics();
    Ok(())
}

/// The metrics as text, in the format of Prometheus; `None` without a recorder.
pub(crate) fn render() -> Option<String> {
    RECORDER.get().map(PrometheusHandle::render)
}

/// Folds what histograms have gathered; without it their memory grows until somebody asks for `/metrics`.
pub(crate) fn upkeep() {
    if let Some(handle) = RECORDER.get() {
        handle.run_upkeep();
    }
}

fn describe() {
    describe_histogram!(QUERY_SECONDS, Unit::Seconds, "Time from the parsed body of an online query to the engine's answer.");
    describe_histogram!(QUERY_OUTPUTS, Unit::Count, "Values in the answer of an online query.");
    describe_gauge!(SUBSCRIBERS, Unit::Count, "Subscribers that are connected.");
    describe_counter!(CHANGES, Unit::Count, "Changes told to subscribers.");
    describe_counter!(REQUESTS, Unit::Count, "Requests answered, by route and status.");
}

const QUERY_SECONDS: &str = "karst_server_query_seconds";
const QUERY_OUTPUTS: &str = "karst_server_query_outputs";
const SUBSCRIBERS: &str = "karst_server_subscribers";
const CHANGES: &str = "karst_server_changes_told_total";
const REQUESTS: &str = "karst_server_requests_total";

/// Handles for what happens on every query.
#[derive(Clone)]
pub(crate) struct QueryMetrics {
    pub(crate) seconds: Histogram,
    pub(crate) outputs: Histogram,
}

impl QueryMetrics {
    pub(crate) fn new() -> Self {
        Self { seconds: histogram!(QUERY_SECONDS), outputs: histogram!(QUERY_OUTPUTS) }
    }
}

/// The counter of one route and status. The routes are ours, never the client's text, so that labels stay few.
pub(crate) fn requests(route: &'static str, status: u16) -> Counter {
    counter!(REQUESTS, "route" => route, "status" => status.to_string())
}

/// So many subscribers are connected now.
pub(crate) fn subscribers(count: usize) {
    gauge!(SUBSCRIBERS).set(count as f64);
}
/// So many changes more have been told.
pub(crate) fn changes_told(count: usize) {
    counter!(CHANGES).increment(count as u64);
}
