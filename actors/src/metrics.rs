//! The metrics of the path. Handles are made once per stage and counted once per batch (a lookup per event costs more than
//! applying the event: reference figures in ARCHITECTURE.md).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use karst_connectors::LateLane;
use karst_runtime::progress_watermark::{PartitionState, Progress};
use karst_state::Lateness;
use karst_types::{Outcome, Outcomes, ProcessingTime, Reason, Records, Updates, lateness::BORDERS};
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use karst_state::LetterCounts;

use crate::{late::ResolverLateness, partition::Partition, source_time::PartitionTime, stream_resolver::Tally};

/// Tells the recorder what each metric is. Call it after the recorder has been installed. Totals count what was done, so records
/// that are read again after a rewind count again; what became of each record once is in `Status`.
pub fn describe_metrics() {
    describe_counter!("karst_actors_records_total", Unit::Count, "records read from a source partition");
    describe_counter!("karst_actors_bytes_total", Unit::Bytes, "bytes of records read from a source partition");
    describe_histogram!("karst_actors_batch_records", Unit::Count, "records in a batch as it was read");
    describe_counter!("karst_actors_events_total", Unit::Count, "records that became events: decoded, valid and in time");
    describe_counter!("karst_actors_late_events_total", Unit::Count, "events later than the deadline of their source");
    describe_counter!(
        "karst_actors_late_resolver_events_total",
        Unit::Count,
        "late events of a source, for each of its resolvers, by what that did: withheld (it did not see them), and in the lane \
         correct corrected, nothing, skipped, failed, cut_off (another resolver failed before it, or it panicked)"
    );
    describe_counter!(
        "karst_actors_corrected_events_total",
        Unit::Count,
        "late events whose resolvers wrote something, in the late lane correct"
    );
    describe_counter!(
        "karst_actors_lateness_seconds_bucket",
        Unit::Count,
        "events whose lateness was at or below le seconds, late or not; as the buckets of a Prometheus histogram"
    );
    describe_counter!(
        "karst_actors_future_events_total",
        Unit::Count,
        "events further ahead of their record than max_future_skew"
    );
    describe_counter!("karst_actors_tombstones_total", Unit::Count, "records whose value is null");
    describe_counter!("karst_actors_applied_records_total", Unit::Count, "records for which a resolver wrote something");
    describe_counter!("karst_actors_skipped_records_total", Unit::Count, "records for which no resolver wrote anything");
    describe_counter!("karst_actors_dead_letters_total", Unit::Count, "records put aside, by reason");
    describe_counter!(
        "karst_actors_resolver_events_total",
        Unit::Count,
        "events that a resolver was given, by what it did: applied, nothing (wrote none), skipped (by its parse function), failed"
    );
    describe_counter!("karst_actors_updates_total", Unit::Count, "updates written by resolvers");
    describe_counter!("karst_actors_applied_updates_total", Unit::Count, "updates applied by a shard");
    describe_gauge!("karst_actors_lag_records", Unit::Count, "records between the position and the end of a partition");
    describe_gauge!("karst_actors_watermark_seconds", Unit::Seconds, "log watermark of a partition, since the epoch");
    describe_gauge!(
        "karst_actors_watermark_lag_seconds",
        Unit::Seconds,
        "how far the log watermark of a partition is behind the clock"
    );
    describe_gauge!(
        "karst_actors_progress_watermark_seconds",
        Unit::Seconds,
        "progress watermark of a source, since the epoch: the least that any partition has reached"
    );
    describe_gauge!(
        "karst_actors_progress_watermark_lag_seconds",
        Unit::Seconds,
        "how far the progress watermark of a source is behind the clock"
    );
    describe_gauge!(
        "karst_actors_partition_state",
        Unit::Count,
        "1 for the state that a partition is in: active, caught_up, starved, unassigned"
    );
    describe_gauge!(
        "karst_actors_partition_holds_time",
        Unit::Count,
        "1 for the partition that holds back the others of its source"
    );
    describe_gauge!("karst_actors_partition_waits", Unit::Count, "1 while a partition waits for a slower one (max_drift)");
    describe_gauge!("karst_actors_partition_paused", Unit::Count, "1 while a partition is paused by backpressure");
    describe_gauge!("karst_actors_partition_tripped", Unit::Count, "1 for a partition that max_failing_percent has stopped");
    describe_gauge!(
        "karst_conservation_missing",
        Unit::Count,
        "records of a partition without an outcome (below 0: outcomes without a record); anything but 0 is a fault of Karst"
    );
    describe_counter!(
        "karst_actors_dead_letters_forwarded_total",
        Unit::Count,
        "dead letters that the dead_letter_queue_topic has acknowledged"
    );
    describe_gauge!("karst_actors_dead_letters_kept", Unit::Count, "dead letters in the state directory");
    describe_gauge!("karst_actors_dead_letters_kept_bytes", Unit::Bytes, "bytes that they take");
    describe_gauge!("karst_actors_dead_letters_let_go", Unit::Count, "dead letters that went without having been replayed");
    describe_gauge!(
        "karst_actors_dead_letters_let_go_unsent",
        Unit::Count,
        "dead letters that went before the dead_letter_queue_topic had acknowledged them"
    );
    describe_gauge!("karst_actors_partition_rewinds", Unit::Count, "times a partition went back to its stored position");
    describe_histogram!("karst_actors_commit_seconds", Unit::Seconds, "from the freeze of a commit until it is stored");
    describe_histogram!("karst_actors_query_seconds", Unit::Seconds, "online queries, in the engine");
    describe_counter!("karst_actors_query_errors_total", Unit::Count, "errors of online queries, by code");
    karst_runtime::describe_metrics();
}

pub(crate) struct PartitionMetrics {
    records: Counter,
    bytes: Counter,
    batch: Histogram,
}

impl PartitionMetrics {
    pub(crate) fn new(partition: &Partition) -> Self {
        let labels = labels(partition);
        Self {
            records: counter!("karst_actors_records_total", &labels),
            bytes: counter!("karst_actors_bytes_total", &labels),
            batch: histogram!("karst_actors_batch_records", &labels),
        }
    }
    pub(crate) fn fetched(&self, records: &Records) {
        self.records.increment(records.len() as u64);
        self.bytes.increment(records.bytes() as u64);
        self.batch.record(records.len() as f64);
    }
}

/// How a partition is. Set by the watchdog, which also runs when the partition does not: one that has stopped must not be shown as
/// it last was.
pub(crate) struct PartitionGauges {
    lag: Gauge,
    watermark: Gauge,
    watermark_lag: Gauge,
    paused: Gauge,
    tripped: Gauge,
    rewinds: Gauge,
    missing: Gauge,
}

impl PartitionGauges {
    pub(crate) fn new(partition: &Partition) -> Self {
        let labels = labels(partition);
        Self {
            lag: gauge!("karst_actors_lag_records", &labels),
            watermark: gauge!("karst_actors_watermark_seconds", &labels),
            watermark_lag: gauge!("karst_actors_watermark_lag_seconds", &labels),
            paused: gauge!("karst_actors_partition_paused", &labels),
            tripped: gauge!("karst_actors_partition_tripped", &labels),
            rewinds: gauge!("karst_actors_partition_rewinds", &labels),
            missing: gauge!("karst_conservation_missing", &labels),
        }
    }
    /// `time`: what its source says of it.
    pub(crate) fn look(&self, partition: &Partition, time: &PartitionTime, outcomes: Option<Outcomes>, now: ProcessingTime) {
        self.missing.set(outcomes.unwrap_or_default().missing() as f64);
        self.lag.set(time.lag.or_else(|| partition.lag()).map_or(f64::NAN, |lag| lag as f64));
        self.watermark.set(partition.watermark().map_or(f64::NAN, |at| at.0 as f64 / 1e6));
        let behind = partition.watermark().map(|at| now.since(ProcessingTime(at.0)).secs_f64());
        self.watermark_lag.set(behind.unwrap_or(f64::NAN));
        self.paused.set(f64::from(u8::from(time.paused)));
        self.tripped.set(f64::from(u8::from(time.tripped)));
        self.rewinds.set(partition.rewinds() as f64);
    }
}

fn labels(partition: &Partition) -> [(&'static str, String); 2] {
    [("source", partition.settings.name.to_string()), ("partition", partition.id.to_string())]
}

fn by_reason(source: &str) -> Vec<Counter> {
    let counter = |reason: &Reason| counter!("karst_actors_dead_letters_total", "source" => source.to_owned(), "reason" => reason.as_str());
    Reason::ALL.iter().map(counter).collect()
}

fn count_dead(counters: &[Counter], outcomes: &[Outcome]) {
    for outcome in outcomes {
        if let Outcome::Dead(dead) = outcome
            && let Some(nth) = Reason::ALL.iter().position(|reason| reason == dead)
        {
            counters[nth].increment(1);
        }
    }
}

pub(crate) struct ParseMetrics {
    events: Counter,
    late: Counter,
    future: Counter,
    tombstones: Counter,
    dead: Vec<Counter>,
}

impl ParseMetrics {
    pub(crate) fn new(partition: &Partition) -> Self {
        let source = [("source", partition.settings.name.to_string())];
        Self {
            events: counter!("karst_actors_events_total", &source),
            late: counter!("karst_actors_late_events_total", &source),
            future: counter!("karst_actors_future_events_total", &source),
            tombstones: counter!("karst_actors_tombstones_total", &source),
            dead: by_reason(partition.settings.name.as_str()),
        }
    }
    pub(crate) fn judged(&self, outcomes: &[Outcome], future: u64) {
        let count = |wanted: Outcome| outcomes.iter().filter(|outcome| **outcome == wanted).count() as u64;
        self.events.increment(count(Outcome::Skipped)); // not yet resolved
        self.late.increment(count(Outcome::Late));
        self.tombstones.increment(count(Outcome::Tombstone));
        self.future.increment(future);
        count_dead(&self.dead, outcomes);
    }
}

pub(crate) struct ResolverMetrics {
    applied: Counter,
    skipped: Counter,
    updates: Counter,
    dead: Vec<Counter>,
    corrected: Counter,
    buckets: Vec<Counter>,
    /// In the order of the resolvers.
    resolvers: Vec<OneResolver>,
}

struct OneResolver {
    counts: Arc<ResolverCounts>,
    applied: Counter,
    nothing: Counter,
    skipped: Counter,
    failed: Counter,
    /// In the order of [`ResolverLateness::counts`].
    late: [Counter; ResolverLateness::DID.len()],
}

/// What a resolver did since the engine started, in all partitions of its source; what [`ResolverStatus`] shows.
///
/// [`ResolverStatus`]: crate::ResolverStatus
#[derive(Default)]
pub(crate) struct ResolverCounts {
    pub(crate) applied: AtomicU64,
    pub(crate) nothing: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) failed: AtomicU64,
    late: [AtomicU64; ResolverLateness::DID.len()],
}

impl ResolverCounts {
    /// What it did with late events.
    pub(crate) fn late(&self) -> ResolverLateness {
        let [withheld, corrected, nothing, skipped, failed, cut_off] =
            self.late.each_ref().map(|count| count.load(Ordering::Relaxed));
        ResolverLateness { withheld, corrected, nothing, skipped, failed, cut_off }
    }
}

impl OneResolver {
    fn new(source: &str, resolver: &str, counts: Arc<ResolverCounts>) -> Self {
        let counter = |outcome: &'static str| counter!("karst_actors_resolver_events_total", "source" => source.to_owned(), "resolver" => resolver.to_owned(), "outcome" => outcome);
        Self {
            counts,
            applied: counter("applied"),
            nothing: counter("nothing"),
            skipped: counter("skipped"),
            failed: counter("failed"),
            late: ResolverLateness::DID.map(|outcome| counter!("karst_actors_late_resolver_events_total", "source" => source.to_owned(), "resolver" => resolver.to_owned(), "outcome" => outcome)),
        }
    }
    fn late(&self, more: &ResolverLateness) {
        for ((metric, count), (_, more)) in self.late.iter().zip(&self.counts.late).zip(more.counts()) {
            if more > 0 {
                metric.increment(more);
                count.fetch_add(more, Ordering::Relaxed);
            }
        }
    }
    fn ran(&self, tally: &Tally) {
        let Self { counts, applied, nothing, skipped, failed, late: _ } = self;
        for (metric, count, more) in [
            (applied, &counts.applied, tally.wrote),
            (nothing, &counts.nothing, tally.nothing),
            (skipped, &counts.skipped, tally.skipped),
            (failed, &counts.failed, tally.failed),
        ] {
            if more > 0 {
                metric.increment(more);
                count.fetch_add(more, Ordering::Relaxed);
            }
        }
    }
}

impl ResolverMetrics {
    pub(crate) fn new(partition: &Partition, resolvers: &[(String, Arc<ResolverCounts>)]) -> Self {
        let source = [("source", partition.settings.name.to_string())];
        let name = || partition.settings.name.to_string();
        let le = BORDERS.iter().map(|border| border.secs_f64().to_string()).chain(["+Inf".to_owned()]);
        let bucket = |le| counter!("karst_actors_lateness_seconds_bucket", "source" => name(), "le" => le);
        let one = |(name, counts): &(String, Arc<ResolverCounts>)| OneResolver::new(&source[0].1, name, Arc::clone(counts));
        Self {
            resolvers: resolvers.iter().map(one).collect(),
            corrected: counter!("karst_actors_corrected_events_total", &source),
            buckets: le.map(bucket).collect(),
            applied: counter!("karst_actors_applied_records_total", &source),
            skipped: counter!("karst_actors_skipped_records_total", &source),
            updates: counter!("karst_actors_updates_total", &source),
            dead: by_reason(partition.settings.name.as_str()),
        }
    }
    /// `failed`: what this stage itself found dead.
    pub(crate) fn resolved(&self, outcomes: &[Outcome], updates: &Updates, failed: &[Outcome], tallies: &[Tally]) {
        self.resolvers.iter().zip(tallies).for_each(|(resolver, tally)| resolver.ran(tally));
        let count = |wanted: Outcome| outcomes.iter().filter(|outcome| **outcome == wanted).count() as u64;
        self.applied.increment(count(Outcome::Applied));
        self.skipped.increment(count(Outcome::Skipped));
        self.updates.increment(updates.len() as u64);
        count_dead(&self.dead, failed);
    }
    /// How late the events were; here, because here the resolvers are known.
    /// `tallies`: what each did with late events, if they saw them.
    pub(crate) fn judged(&self, outcomes: &[Outcome], lateness: &Lateness, lane: LateLane, tallies: &[Tally]) {
        let late = outcomes.iter().filter(|outcome| **outcome == Outcome::Late).count() as u64;
        if late > 0 {
            for (nth, resolver) in self.resolvers.iter().enumerate() {
                resolver.late(&ResolverLateness::of(late, lane, &tallies.get(nth).copied().unwrap_or_default()));
            }
            self.corrected.increment(lateness.corrected);
        }
        let mut sum = 0;
        for (counter, count) in self.buckets.iter().zip(lateness.events.counts()) {
            sum += count;
            counter.increment(sum);
        }
    }
}

/// Of all dead letters together.
pub(crate) struct LetterMetrics {
    kept: Gauge,
    bytes: Gauge,
    let_go: Gauge,
    let_go_unsent: Gauge,
}

impl LetterMetrics {
    pub(crate) fn new() -> Self {
        Self {
            kept: gauge!("karst_actors_dead_letters_kept"),
            bytes: gauge!("karst_actors_dead_letters_kept_bytes"),
            let_go: gauge!("karst_actors_dead_letters_let_go"),
            let_go_unsent: gauge!("karst_actors_dead_letters_let_go_unsent"),
        }
    }
    pub(crate) fn look(&self, counts: LetterCounts) {
        self.kept.set(counts.kept as f64);
        self.bytes.set(counts.bytes as f64);
        self.let_go.set(counts.let_go as f64);
        self.let_go_unsent.set(counts.let_go_unsent as f64);
    }
}

/// Of the time of one source. Looked up anew each time: once a second.
pub(crate) struct TimeMetrics {
    source: String,
}

impl TimeMetrics {
    pub(crate) fn new(source: &str) -> Self {
        Self { source: source.to_owned() }
    }
    pub(crate) fn look(&self, progress: &Progress, now: ProcessingTime, partitions: &[PartitionTime]) {
        let source = || self.source.clone();
        let seconds = progress.watermark.map_or(f64::NAN, |at| at.0 as f64 / 1e6);
        gauge!("karst_actors_progress_watermark_seconds", "source" => source()).set(seconds);
        gauge!("karst_actors_progress_watermark_lag_seconds", "source" => source()).set(now.0 as f64 / 1e6 - seconds);
        for time in partitions {
            let partition = time.partition.to_string();
            for state in PartitionState::NAMES {
                let is = f64::from(u8::from(time.state.name() == state));
                gauge!("karst_actors_partition_state", "source" => source(), "partition" => partition.clone(), "state" => state).set(is);
            }
            let holds = f64::from(u8::from(progress.held_by == Some(time.partition)));
            gauge!("karst_actors_partition_holds_time", "source" => source(), "partition" => partition.clone()).set(holds);
            let waits = f64::from(u8::from(time.waits_for.is_some()));
            gauge!("karst_actors_partition_waits", "source" => source(), "partition" => partition).set(waits);
        }
    }
}

#[derive(Clone)]
pub(crate) struct ShardMetrics {
    commit: Histogram,
    applied: Counter,
}

impl ShardMetrics {
    pub(crate) fn new(shard: &str) -> Self {
        let shard = [("shard", shard.to_owned())];
        Self {
            commit: histogram!("karst_actors_commit_seconds", &shard),
            applied: counter!("karst_actors_applied_updates_total", &shard),
        }
    }
    pub(crate) fn committed(&self, took: Duration) {
        self.commit.record(took.as_secs_f64());
    }
    pub(crate) fn applied(&self, updates: usize) {
        self.applied.increment(updates as u64);
    }
}
