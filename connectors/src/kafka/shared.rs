//! What the two threads of a Kafka source and its readers share.
//!
//! Requests are levels, not messages: a reader sets what it wants in its slot and raises [`Shared::touched`]; the threads look.
//! So nothing queues up, nothing is sent twice, and a caller that gives up leaves nothing behind.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use karst_types::{Clock, Offset, PartitionId, ProcessingTime};
use parking_lot::{Condvar, Mutex, RwLock};
use rdkafka::consumer::BaseConsumer;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use super::config::KafkaConfig;
use crate::{Error, HealthState, LogBounds, Result, SourceSettings, handoff::Handoff};

pub(super) struct Shared {
    pub(super) settings: SourceSettings,
    pub(super) config: KafkaConfig,
    pub(super) clock: Arc<dyn Clock>,
    /// The client of the moment; the watchdog may replace it.
    pub(super) client: RwLock<Option<Arc<BaseConsumer>>>,
    pub(super) slots: RwLock<BTreeMap<i32, Arc<Slot>>>,
    pub(super) partitions: AtomicI64,
    pub(super) stop: AtomicBool,
    pub(super) closed: watch::Sender<bool>,
    touched: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
    asks: Mutex<Asks>,
    asked: Condvar,
}

/// One partition that has, or had, a reader.
pub(super) struct Slot {
    pub(super) handoff: Handoff,
    /// The offset after the last one that is applied; -1: none yet.
    pub(super) commit: AtomicI64,
    /// Assign it anew from where it stands.
    pub(super) restart: AtomicBool,
    /// Nothing came lately: its log's end has to be asked for.
    pub(super) quiet: AtomicBool,
    /// For tests: let it stop silently now, and after so many assignments less one, as librdkafka sometimes does.
    pub(super) silence: AtomicU32,
}

struct Trouble {
    error: Error,
    since: ProcessingTime,
    /// Whether the topic was not known at some time since, whatever is wrong now.
    topic_was_missing: bool,
}

#[derive(Default)]
pub(super) struct Asks {
    pub(super) partitions: Vec<oneshot::Sender<Vec<PartitionId>>>,
    pub(super) bounds: Vec<(i32, oneshot::Sender<LogBounds>)>,
    /// Partition, epoch, and the offset that the broker does not have.
    pub(super) explain: Vec<(i32, u64, i64)>,
}

impl Shared {
    pub(super) fn new(settings: SourceSettings, config: KafkaConfig, clock: Arc<dyn Clock>, client: Arc<BaseConsumer>) -> Self {
        Self {
            settings,
            config,
            clock,
            client: RwLock::new(Some(client)),
            slots: RwLock::default(),
            partitions: AtomicI64::new(0),
            stop: AtomicBool::new(false),
            closed: watch::Sender::new(false),
            touched: AtomicU64::new(0),
            trouble: Mutex::default(),
            asks: Mutex::default(),
            asked: Condvar::new(),
        }
    }

    /// Something changed in a slot: the polling thread is to look.
    pub(super) fn touch(&self) {
        self.touched.fetch_add(1, Relaxed);
    }
    pub(super) fn touched(&self) -> u64 {
        self.touched.load(Relaxed)
    }

    pub(super) fn slot(&self, partition: i32) -> Option<Arc<Slot>> {
        self.slots.read().get(&partition).cloned()
    }

    pub(super) fn slot_or_new(&self, partition: PartitionId) -> Arc<Slot> {
        let new = || {
            Arc::new(Slot {
                handoff: Handoff::new(self.settings.name.clone(), partition, self.settings.buffer_bytes.bytes()),
                commit: AtomicI64::new(-1),
                restart: AtomicBool::new(false),
                quiet: AtomicBool::new(true),
                silence: AtomicU32::new(0),
            })
        };
        let mut slots = self.slots.write();
        let slot = slots.entry(partition.0).or_insert_with(new).clone();
        let share = self.settings.read_ahead(slots.len());
        slots.values().for_each(|slot| slot.handoff.set_limit(share));
        slot
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
    pub(super) fn stop(&self) {
        self.stop.store(true, Relaxed);
        self.asked.notify_all();
    }
    fn stopped_error(&self) -> Error {
        Error::Stopped { name: self.settings.name.clone() }
    }

    // ---- what is asked of the control thread ----

    pub(super) async fn ask<T>(&self, add: impl FnOnce(&mut Asks, oneshot::Sender<T>)) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        {
            let mut asks = self.asks.lock();
            asks.partitions.retain(|reply| !reply.is_closed());
            asks.bounds.retain(|(_, reply)| !reply.is_closed());
            add(&mut asks, reply);
        }
        if self.stopped() {
            return Err(self.stopped_error()); // the thread may have looked for the last time
        }
        self.asked.notify_all();
        answer.await.map_err(|_| self.stopped_error())
    }

    pub(super) fn explain(&self, partition: i32, epoch: u64, wanted: i64) {
        self.asks.lock().explain.push((partition, epoch, wanted));
        self.asked.notify_all();
    }

    /// Waits for asks, at most `for_at_most`; takes what there is. Whether something came.
    pub(super) fn take_asks(&self, into: &mut Asks, for_at_most: Duration) -> bool {
        let mut asks = self.asks.lock();
        if asks.is_empty() && !self.stopped() {
            self.asked.wait_for(&mut asks, for_at_most);
        }
        let came = !asks.is_empty();
        into.partitions.append(&mut asks.partitions);
        into.bounds.append(&mut asks.bounds);
        into.explain.append(&mut asks.explain);
        came
    }

    /// Nobody will answer any more.
    pub(super) fn drop_asks(&self) {
        *self.asks.lock() = Asks::default();
    }

    // ---- health: one line in the log per change, not per retry ----

    pub(super) fn unreachable(&self, why: &str) {
        // "(after 3ms in state CONNECT, 7 identical error(s) suppressed)" changes with every try
        let why = why.split(" (after ").next().unwrap_or(why).to_owned();
        let brokers = self.config.brokers.clone();
        self.waiting(Error::BrokerUnreachable { name: self.settings.name.clone(), brokers, why });
    }

    /// A question was not answered. What the client has told of its connections says more, and stays.
    pub(super) fn unanswered(&self, why: &str) {
        if !self.is_unreachable() {
            self.unreachable(why);
        }
    }
    /// Whether what is told now is that no broker can be reached.
    pub(super) fn is_unreachable(&self) -> bool {
        self.trouble.lock().as_ref().is_some_and(|trouble| matches!(trouble.error, Error::BrokerUnreachable { .. }))
    }

    pub(super) fn unknown_topic(&self) {
        let (topic, brokers) = (self.config.topic.clone(), self.config.brokers.clone());
        self.waiting(Error::UnknownTopic { name: self.settings.name.clone(), topic, brokers });
    }

    fn waiting(&self, error: Error) {
        let missing = matches!(error, Error::UnknownTopic { .. });
        let mut trouble = self.trouble.lock();
        match &mut *trouble {
            Some(old) if std::mem::discriminant(&old.error) == std::mem::discriminant(&error) => old.error = error,
            other => {
                warn!(source = %self.settings.name, %error, "source waits, and keeps trying");
                let topic_was_missing = missing || other.as_ref().is_some_and(|old| old.topic_was_missing);
                *other = Some(Trouble { error, since: self.clock.now(), topic_was_missing });
                self.asked.notify_all(); // the control thread finds out when it is over
            }
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.trouble.lock().is_some()
    }

    /// The topic answers. Partitions of a topic that had gone are assigned anew: librdkafka may have given them up.
    pub(super) fn recovered(&self) {
        let Some(trouble) = self.trouble.lock().take() else { return };
        info!(source = %self.settings.name, "source goes on");
        if trouble.topic_was_missing {
            self.slots.read().values().for_each(|slot| slot.restart.store(true, Relaxed));
            self.touch();
        }
    }

    pub(super) fn health(&self) -> HealthState {
        if self.stopped() {
            return HealthState::Failed { why: self.stopped_error().to_string() };
        }
        match &*self.trouble.lock() {
            Some(trouble) => HealthState::Waiting { why: trouble.error.to_string(), since: trouble.since },
            None => HealthState::Ok,
        }
    }

    /// Where the broker says that the log is; explains a refused offset.
    pub(super) fn explained(&self, slot: &Slot, epoch: u64, wanted: i64, bounds: LogBounds) {
        match slot.handoff.check_bounds(Offset(wanted), bounds) {
            Err(error) => {
                warn!(source = %self.settings.name, partition = %slot.handoff.partition, %error, "partition stops");
                slot.handoff.fail(epoch, error);
            }
            Ok(()) => {
                slot.restart.store(true, Relaxed); // it lies in the log after all
                self.touch();
            }
        }
    }
}

impl Asks {
    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.bounds.is_empty() && self.explain.is_empty()
    }
}
