//! What is known of one partition by more than one of its stages, and what outlives them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use karst_connectors::SourceSettings;
use karst_runtime::{LogWatermark, Mailbox};
use karst_state::{LaneId, REPLAY, WatermarkState};
use karst_types::{Offset, PartitionId, SourceId};
use parking_lot::Mutex;

use crate::protocol::{NoData, PartitionControl};

/// The mailbox of a source partition.
pub(crate) type PartitionMailbox = Mailbox<NoData, PartitionControl>;

const NONE: i64 = i64::MIN;

/// An empty fetch at the end of a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndSeen {
    /// The offset that would be written next.
    pub(crate) offset: Offset,
    /// No more will ever come.
    pub(crate) finished: bool,
}

/// Why a partition stands still until somebody decides how it is to go on.
#[derive(Clone, Debug)]
pub(crate) struct Halt {
    pub(crate) why: String,
    /// Records are gone: the first that was wanted, and the first that is still there.
    pub(crate) gap: Option<(Offset, Offset)>,
}

/// One partition of one source.
pub(crate) struct Partition {
    pub(crate) settings: SourceSettings,
    pub(crate) source: SourceId,
    pub(crate) id: PartitionId,
    /// `flights[0]`: in stage ids, labels and messages.
    pub(crate) label: String,
    /// Found while the source was read already: it is read from its beginning, whatever `start` says.
    pub(crate) added: bool,
    epoch: AtomicU64,
    /// The judge's state: it survives a rebuild of the parse stage. Epoch it belongs to, and the watermark.
    judge: Mutex<(u64, LogWatermark)>,
    fetched: AtomicI64,
    watermark: AtomicI64,
    lag: AtomicI64,
    end_seen: Mutex<Option<EndSeen>>,
    reading: AtomicBool,
    fault: Mutex<Option<String>>,
    held_up: AtomicBool,
    waits_for: AtomicI64,
    paused: AtomicBool,
    rewinds: AtomicU64,
    stalled: AtomicBool,
    tripped: Mutex<Option<String>>,
    halted: Mutex<Option<Halt>>,
    accepted: AtomicI64,
    waiting: AtomicBool,
}

impl Partition {
    pub(crate) fn new(settings: SourceSettings, source: SourceId, id: PartitionId, added: bool) -> Arc<Self> {
        let label = match id {
            REPLAY => format!("{}[replays]", settings.name),
            _ => format!("{}[{}]", settings.name, id),
        };
        Arc::new(Self {
            settings,
            source,
            id,
            label,
            added,
            epoch: AtomicU64::new(0),
            judge: Mutex::new((0, LogWatermark::default())),
            fetched: AtomicI64::new(NONE),
            watermark: AtomicI64::new(NONE),
            lag: AtomicI64::new(NONE),
            end_seen: Mutex::default(),
            reading: AtomicBool::new(false),
            fault: Mutex::default(),
            held_up: AtomicBool::new(false),
            waits_for: AtomicI64::new(NONE),
            paused: AtomicBool::new(false),
            rewinds: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            tripped: Mutex::default(),
            halted: Mutex::default(),
            accepted: AtomicI64::new(NONE),
            waiting: AtomicBool::new(false),
        })
    }

    pub(crate) fn lane(&self) -> LaneId {
        LaneId { source: self.source, partition: self.id }
    }

    /// Begins an incarnation.
    pub(crate) fn next_epoch(&self) -> u64 {
        *self.end_seen.lock() = None;
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
        self.tell_watermark(watermark);
    }
    fn tell_watermark(&self, watermark: LogWatermark) {
        let now = watermark.watermark(self.settings.disorder).map_or(NONE, |watermark| watermark.0);
        self.watermark.store(now, Ordering::Release);
    }

    pub(crate) fn fetched(&self, through: Offset, lag: Option<u64>, paused: bool) {
        self.fetched.store(through.0, Ordering::Release);
        *self.end_seen.lock() = None;
        self.look(lag, paused);
    }
    pub(crate) fn look(&self, lag: Option<u64>, paused: bool) {
        self.lag.store(lag.map_or(NONE, |lag| lag as i64), Ordering::Relaxed);
        self.paused.store(paused, Ordering::Relaxed);
    }
    /// Everything before `end` has been taken from the reader, and there was no more at that moment.
    pub(crate) fn set_caught_up(&self, end: EndSeen) {
        self.lag.store(0, Ordering::Relaxed);
        *self.end_seen.lock() = Some(end);
    }
    pub(crate) fn end_seen(&self) -> Option<EndSeen> {
        *self.end_seen.lock()
    }
    /// It has records to hand on, and those after it take none.
    pub(crate) fn set_held_up(&self, held_up: bool) {
        self.held_up.store(held_up, Ordering::Relaxed);
    }
    pub(crate) fn is_held_up(&self) -> bool {
        self.held_up.load(Ordering::Relaxed)
    }
    /// The partition that it lets catch up (`max_drift`).
    pub(crate) fn set_waits_for(&self, slowest: Option<PartitionId>) {
        self.waits_for.store(slowest.map_or(NONE, |slowest| i64::from(slowest.0)), Ordering::Relaxed);
    }
    pub(crate) fn waits_for(&self) -> Option<PartitionId> {
        known(&self.waits_for).map(|slowest| PartitionId(slowest as i32))
    }
    /// An epoch begins at `start`.
    pub(crate) fn set_begun(&self, start: WatermarkState) {
        self.tell_watermark(LogWatermark::restored(start.max_event_time));
        self.reading.store(true, Ordering::Relaxed);
        *self.fault.lock() = None;
    }
    /// It cannot be read, now at least: nobody is to wait for it.
    pub(crate) fn set_failed(&self, why: String) {
        self.reading.store(false, Ordering::Relaxed);
        *self.fault.lock() = Some(why);
    }
    /// Why it cannot be read.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.lock().clone()
    }
    /// Whether it is read, and may have more. Of one that has tripped nothing is read any more, so nobody is to wait for it.
    pub(crate) fn has_more(&self) -> bool {
        self.reading.load(Ordering::Relaxed) && !self.caught_up() && self.tripped.lock().is_none()
    }
    pub(crate) fn caught_up(&self) -> bool {
        self.end_seen().is_some()
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
    /// Set by the circuit breaker, with why: until a restart nothing more is read.
    pub(crate) fn trip(&self, why: String) {
        self.tripped.lock().get_or_insert(why);
    }
    pub(crate) fn tripped(&self) -> Option<String> {
        self.tripped.lock().clone()
    }
    /// It cannot be read on without a guess: nothing more is read until somebody decides.
    pub(crate) fn halt(&self, halt: Halt) {
        self.set_failed(halt.why.clone());
        *self.halted.lock() = Some(halt);
    }
    pub(crate) fn halted(&self) -> Option<Halt> {
        self.halted.lock().clone()
    }
    /// The records that a gap has taken are accepted as lost, and the partition may go on behind them. Returns the first of them and the
    /// first that is still there; `None` if there is no gap. Kept in memory alone: it counts for good with the first commit behind the gap.
    pub(crate) fn accept_gap(&self) -> Option<(Offset, Offset)> {
        let mut halted = self.halted.lock();
        let gap = halted.as_ref()?.gap?;
        *halted = None;
        self.accepted.store(gap.1.0, Ordering::Release);
        Some(gap)
    }
    /// Whether it may go on at `low`, though records before it are gone.
    pub(crate) fn accepts_gap_before(&self, low: Offset) -> bool {
        known(&self.accepted) >= Some(low.0)
    }
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }
}

fn known(value: &AtomicI64) -> Option<i64> {
    Some(value.load(Ordering::Acquire)).filter(|value| *value != NONE)
}
