//! What is known of one partition by more than one of its stages, and what outlives them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use karst_connectors::SourceSettings;
use karst_runtime::{LogWatermark, Mailbox};
use karst_state::{LaneId, WatermarkState};
use karst_types::{Offset, PartitionId, SourceId};
use parking_lot::Mutex;

use crate::protocol::{NoData, PartitionControl};

/// The mailbox of a source partition.
pub(crate) type PartitionMailbox = Mailbox<NoData, PartitionControl>;

const NONE: i64 = i64::MIN;

/// One partition of one source.
pub(crate) struct Partition {
    pub(crate) settings: SourceSettings,
    pub(crate) source: SourceId,
    pub(crate) id: PartitionId,
    /// `flights[0]`: in stage ids, labels and messages.
    pub(crate) label: String,
    epoch: AtomicU64,
    /// The judge's state: it survives a rebuild of the parse stage. Epoch it belongs to, and the watermark.
    judge: Mutex<(u64, LogWatermark)>,
    fetched: AtomicI64,
    watermark: AtomicI64,
    lag: AtomicI64,
    caught_up: AtomicBool,
    paused: AtomicBool,
    rewinds: AtomicU64,
    stalled: AtomicBool,
    waiting: AtomicBool,
}

impl Partition {
    pub(crate) fn new(settings: SourceSettings, source: SourceId, id: PartitionId) -> Arc<Self> {
        let label = format!("{}[{}]", settings.name, id);
        Arc::new(Self {
            settings,
            source,
            id,
            label,
            epoch: AtomicU64::new(0),
            judge: Mutex::new((0, LogWatermark::default())),
            fetched: AtomicI64::new(NONE),
            watermark: AtomicI64::new(NONE),
            lag: AtomicI64::new(NONE),
            caught_up: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            rewinds: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
        })
    }

    pub(crate) fn lane(&self) -> LaneId {
        LaneId { source: self.source, partition: self.id }
    }

    /// Begins an incarnation.
    pub(crate) fn next_epoch(&self) -> u64 {
        self.caught_up.store(false, Ordering::Release);
        self.fetched.store(NONE, Ordering::Release);
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        if epoch > 1 {
            self.rewinds.fetch_add(1, Ordering::Relaxed);
        }
        epoch
    }
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }
    pub(crate) fn rewinds(&self) -> u64 {
        self.rewinds.load(Ordering::Relaxed)
    }

    /// The watermark before the next record of `epoch`, which began with `start`.
    pub(crate) fn judged(&self, epoch: u64, start: WatermarkState) -> LogWatermark {
        let judge = self.judge.lock();
        if judge.0 == epoch { judge.1 } else { LogWatermark::restored(start.max_event_time) }
    }
    pub(crate) fn set_judged(&self, epoch: u64, watermark: LogWatermark) {
        *self.judge.lock() = (epoch, watermark);
        let now = watermark.watermark(self.settings.disorder).map_or(NONE, |watermark| watermark.0);
        self.watermark.store(now, Ordering::Release);
    }

    pub(crate) fn fetched(&self, through: Offset, lag: Option<u64>, paused: bool) {
        self.fetched.store(through.0, Ordering::Release);
        self.caught_up.store(false, Ordering::Release);
        self.look(lag, paused);
    }
    pub(crate) fn look(&self, lag: Option<u64>, paused: bool) {
        self.lag.store(lag.map_or(NONE, |lag| lag as i64), Ordering::Relaxed);
        self.paused.store(paused, Ordering::Relaxed);
    }
    pub(crate) fn set_caught_up(&self) {
        self.lag.store(0, Ordering::Relaxed);
        self.caught_up.store(true, Ordering::Release);
    }
    pub(crate) fn caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }
    /// The last record read in this epoch.
    pub(crate) fn fetched_through(&self) -> Option<Offset> {
        known(&self.fetched).map(Offset)
    }
    pub(crate) fn watermark(&self) -> Option<karst_types::EventTime> {
        known(&self.watermark).map(karst_types::EventTime)
    }
    pub(crate) fn lag(&self) -> Option<u64> {
        known(&self.lag).map(|lag| lag as u64)
    }
    /// Set by the watchdog: records were read, and for long none of them has been committed.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
    }
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }
    /// Set by the parse stage: something outside, such as a schema registry, is awaited.
    pub(crate) fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }
}

fn known(value: &AtomicI64) -> Option<i64> {
    Some(value.load(Ordering::Acquire)).filter(|value| *value != NONE)
}
