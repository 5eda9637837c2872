//! What a Kafka source counts. Handles are made once; nothing is looked up per record.

use metrics::{Counter, Gauge, counter, gauge};

pub(super) struct SourceMetrics {
    source: String,
    pub(super) records: Counter,
    pub(super) bytes: Counter,
    pub(super) duplicates: Counter,
    pub(super) pauses: Counter,
    pub(super) watchdog_restarts: Counter,
}

impl SourceMetrics {
    pub(super) fn new(source: &str) -> Self {
        let source = source.to_owned();
        Self {
            records: counter!("karst_connectors_records_total", "source" => source.clone()),
            bytes: counter!("karst_connectors_bytes_total", "source" => source.clone()),
            duplicates: counter!("karst_connectors_duplicates_dropped_total", "source" => source.clone()),
            pauses: counter!("karst_connectors_pauses_total", "source" => source.clone()),
            watchdog_restarts: counter!("karst_connectors_watchdog_restarts_total", "source" => source.clone()),
            source,
        }
    }

    /// Errors are rare, their codes are many: looked up when they come.
    pub(super) fn fetch_error(&self, code: &str) {
        counter!("karst_connectors_fetch_errors_total", "source" => self.source.clone(), "code" => code.to_owned())
            .increment(1);
    }
}

pub(super) struct PartitionMetrics {
    pub(super) paused: Gauge,
    pub(super) lag: Gauge,
    pub(super) buffered: Gauge,
}

impl PartitionMetrics {
    pub(super) fn new(source: &str, partition: i32) -> Self {
        let labels = [("source", source.to_owned()), ("partition", partition.to_string())];
        Self {
            paused: gauge!("karst_connectors_partition_paused", &labels),
            lag: gauge!("karst_connectors_lag_records", &labels),
            buffered: gauge!("karst_connectors_buffered_bytes", &labels),
        }
    }
}
