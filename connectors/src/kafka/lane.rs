//! What the polling thread knows about one partition: the batch that is being filled, and where the fetch stands.

use std::{sync::Arc, time::Duration};

use karst_types::{BrokerTime, Offset, Records};

use super::{
    batch_queue::RawRecord,
    metrics::{PartitionMetrics, SourceMetrics},
    shared::Slot,
    watchdog::Watchdog,
};
use crate::{Fetched, SourceSettings, handoff::Target, settings::RECORD_BYTES_CAP};

const ARENA_MAX: usize = 1 << 20; // what is set aside for the next batch at most
const BUSY_LINGERS: u32 = 4; // a batch may wait this much longer while its reader is busy with earlier ones

pub(super) struct Lane {
    pub(super) slot: Arc<Slot>,
    pub(super) epoch: u64,
    pub(super) assigned: bool,
    /// The hand-off is, or was until half empty, full.
    pub(super) blocked: bool,
    /// librdkafka was told to pause it.
    pub(super) paused: bool,
    /// Everything up to the end of the log has been fetched.
    pub(super) at_end: bool,
    /// The offset that comes next, or a later one.
    pub(super) expected: i64,
    pub(super) looked_at: i64,
    pub(super) committed: i64,
    pub(super) watchdog: Watchdog,
    open: Records,
    opened: Duration,
    batch_records: usize,
    batch_bytes: usize,
    metrics: PartitionMetrics,
}

impl Lane {
    pub(super) fn new(settings: &SourceSettings, slot: Arc<Slot>) -> Self {
        let (source, partition) = (settings.name.clone(), slot.handoff.partition);
        Self {
            metrics: PartitionMetrics::new(source.as_str(), partition.0),
            open: Records::new(source, partition),
            opened: Duration::ZERO,
            epoch: u64::MAX,
            assigned: false,
            blocked: false,
            paused: false,
            at_end: false,
            expected: 0,
            looked_at: 0,
            committed: -1,
            watchdog: Watchdog::default(),
            batch_records: settings.batch_records,
            batch_bytes: settings.batch_bytes.bytes(),
            slot,
        }
    }

    /// The reader wants something else now; what was fetched for it is nothing any more.
    pub(super) fn reset(&mut self, target: Target) {
        self.epoch = target.epoch;
        self.expected = target.from.map_or(0, |from| from.0);
        self.open = Records::new(self.open.source().clone(), self.open.partition());
        self.blocked = false;
        self.at_end = false;
        self.watchdog = Watchdog::default();
    }

    pub(super) fn push(&mut self, record: RawRecord<'_>, now: Duration, metrics: &SourceMetrics) {
        if !self.assigned || record.offset < self.expected {
            metrics.duplicates.increment(1);
            return;
        }
        if self.open.is_empty() {
            self.opened = now;
        }
        let value = record.value.map(|value| &value[..value.len().min(RECORD_BYTES_CAP)]);
        let broker_time = BrokerTime::from_millis(record.timestamp_ms.max(0));
        self.open.push_with_headers(Offset(record.offset), broker_time, record.key, value, record.headers);
        self.expected = record.offset + 1;
        self.at_end = false;
        // Half of what may be read ahead at most: then one batch is filled while another waits.
        let bytes_max = self.batch_bytes.min(self.slot.handoff.limit() / 2);
        if self.open.len() >= self.batch_records || self.open.bytes() >= bytes_max {
            self.close(metrics);
        }
    }

    pub(super) fn end_of_log(&mut self, end: i64, metrics: &SourceMetrics) {
        if !self.assigned || end < self.expected {
            return;
        }
        self.close(metrics);
        self.expected = end;
        self.at_end = true;
        self.slot.handoff.set_end(end);
        self.slot.handoff.publish(self.epoch, Fetched::EndOfLog { end: Offset(end), finished: false });
    }

    /// Hands a batch over that has waited long enough, or that the reader is waiting for.
    pub(super) fn close_if_due(&mut self, now: Duration, linger: Duration, nothing_left: bool, metrics: &SourceMetrics) {
        if self.open.is_empty() {
            return;
        }
        let age = now.saturating_sub(self.opened);
        let idle_reader = self.slot.handoff.buffered() == 0;
        if (idle_reader && (nothing_left || age >= linger)) || age >= linger * BUSY_LINGERS {
            self.close(metrics);
        }
    }

    pub(super) fn close(&mut self, metrics: &SourceMetrics) {
        if self.open.is_empty() {
            return;
        }
        let (records, bytes) = (self.open.len(), self.open.bytes());
        let source = self.open.source().clone();
        let next = Records::with_capacity(source, self.open.partition(), records, (bytes + bytes / 8).min(ARENA_MAX));
        let batch = std::mem::replace(&mut self.open, next);
        if self.slot.handoff.publish(self.epoch, Fetched::Records(batch)) {
            metrics.records.increment(records as u64);
            metrics.bytes.increment(bytes as u64);
        }
    }

    pub(super) fn report(&self) {
        let handoff = &self.slot.handoff;
        self.metrics.paused.set(f64::from(u8::from(self.blocked)));
        self.metrics.lag.set(handoff.lag().unwrap_or(0) as f64);
        self.metrics.buffered.set(handoff.buffered() as f64);
    }
}
