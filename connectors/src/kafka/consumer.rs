//! The one thread that polls. It drains librdkafka's queue into the hand-offs of the partitions, and never waits for a reader.
//!
//! - A partition is assigned at an explicit offset, by hand (`assign`): no consumer group, no stored offset, no reset. What is
//!   below the offset that is expected next is a duplicate and is dropped; offsets may leave gaps, so nothing else is asserted.
//! - A full hand-off first only stops the draining (`hold`): librdkafka's queue is bounded, and nothing is thrown away. It is
//!   `pause`d when another partition would go hungry by that, since a pause discards what was prefetched. It is resumed at half,
//!   with an explicit seek, because librdkafka may otherwise go on at an offset of its own.
//! - The broker's errors about a partition stop that partition alone.
//!
//! The safe wrapper's partition queues are avoided: they lose wake-ups (rust-rdkafka#840). No `TopicPartitionList` is kept: one
//! that refers to a partition blocks the end of the client.

use std::{
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam::channel;
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, KafkaResult},
    topic_partition_list::Offset as KafkaOffset,
    types::RDKafkaErrorCode as Code,
};
use tracing::{debug, error, warn};

use super::{
    batch_queue::{BatchQueue, Event, Polled},
    lane::Lane,
    metrics::SourceMetrics,
    shared::{Shared, Slot},
    watchdog::Verdict,
};
use crate::Error;

const BATCH: usize = 4096; // messages per call; the cost of a call is spread over them
const POLL_MAX: Duration = Duration::from_millis(10);
const HOLD_TICK: Duration = Duration::from_millis(1);
const HOLD_TICKS_MAX: u32 = 50; // after that, partitions at the end of their log are taken for hungry, too
const LOOK_EVERY: Duration = Duration::from_secs(1);
const COMMIT_EVERY: Duration = Duration::from_secs(5);
const CLOSE_MAX: Duration = Duration::from_secs(5);

pub(super) fn is_topic_missing(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)
}

/// Errors that librdkafka deals with by itself.
fn is_transient(code: Code) -> bool {
    use Code::*;
    matches!(
        code,
        BrokerTransportFailure
            | AllBrokersDown
            | OperationTimedOut
            | RequestTimedOut
            | TimedOutQueue
            | NotLeaderForPartition
            | LeaderNotAvailable
            | ReplicaNotAvailable
            | BrokerNotAvailable
            | NetworkException
            | KafkaStorageError
            | FencedLeaderEpoch
            | UnknownLeaderEpoch
            | OffsetNotAvailable
            | PreferredLeaderNotAvailable
            | WaitingForCoordinator
            | CoordinatorNotAvailable
            | CoordinatorLoadInProgress
            | NotCoordinator
            | Retry
            | Resolve
    )
}

fn is_out_of_range(code: Code) -> bool {
    matches!(code, Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation)
}

pub(super) fn create(shared_config: &super::config::KafkaConfig) -> KafkaResult<Arc<BaseConsumer>> {
    shared_config.client().create::<BaseConsumer>().map(Arc::new)
}

/// Runs until the source is stopped; then closes the client, for at most five seconds.
pub(super) fn run(shared: &Arc<Shared>, client: Arc<BaseConsumer>, control: JoinHandle<()>) {
    let _end = End(shared);
    let mut poller = Poller::new(shared, client);
    while !shared.stopped() {
        poller.turn();
    }
    poller.close(control);
}

/// However the thread ends, also by a panic: readers are told, and nobody waits for it.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.stop();
        self.0.slots.read().values().for_each(|slot| slot.handoff.stop());
        self.0.closed.send_replace(true);
    }
}

struct Poller<'a> {
    shared: &'a Arc<Shared>,
    client: Arc<BaseConsumer>,
    queue: BatchQueue,
    lanes: Vec<Option<Lane>>, // by partition
    metrics: SourceMetrics,
    unreachable: String, // what was said about the last broker that could not be reached
    seen: u64,
    hold_ticks: u32,
    looked: Duration,
    committed: Duration,
}

impl<'a> Poller<'a> {
    fn new(shared: &'a Arc<Shared>, client: Arc<BaseConsumer>) -> Self {
        let now = shared.clock.elapsed();
        Self {
            queue: BatchQueue::new(client.clone(), &shared.config.topic, BATCH, shared.config.read_headers),
            metrics: SourceMetrics::new(shared.settings.name.as_str()),
            shared,
            client,
            lanes: Vec::new(),
            unreachable: String::new(),
            seen: u64::MAX,
            hold_ticks: 0,
            looked: now,
            committed: now,
        }
    }

    fn turn(&mut self) {
        let touched = self.shared.touched();
        if touched != self.seen {
            self.seen = touched;
            self.reconcile();
        }
        if self.holds() {
            thread::park_timeout(HOLD_TICK);
        } else {
            self.drain();
        }
        self.serve_events();
        let now = self.shared.clock.elapsed();
        if now.saturating_sub(self.looked) >= LOOK_EVERY {
            self.looked = now;
            self.look(now);
        }
        if now.saturating_sub(self.committed) >= COMMIT_EVERY {
            self.committed = now;
            self.commit();
        }
    }

    /// Brings every lane to what its reader wants.
    fn reconcile(&mut self) {
        let slots: Vec<_> = self.shared.slots.read().iter().map(|(partition, slot)| (*partition, slot.clone())).collect();
        for (partition, slot) in slots {
            let index = partition as usize;
            if self.lanes.len() <= index {
                self.lanes.resize_with(index + 1, || None);
            }
            let lane = self.lanes[index].get_or_insert_with(|| Lane::new(&self.shared.settings, slot.clone()));
            let target = slot.handoff.target();
            let restart = slot.restart.swap(false, Relaxed);
            if target.epoch != lane.epoch {
                lane.reset(target);
            } else if restart && target.from.is_some() {
                lane.close(&self.metrics);
            } else {
                silence(&self.client, &self.shared.config.topic, &slot);
                continue;
            }
            let (assigned, wanted) = (mem::replace(&mut lane.assigned, false), target.from.is_some());
            let from = lane.expected;
            if assigned {
                self.unassign(partition);
            }
            if wanted {
                self.assign(partition, from);
            }
        }
    }

    fn topic(&self) -> &str {
        &self.shared.config.topic
    }

    fn assign(&mut self, partition: i32, from: i64) {
        let outcome = self.client.incremental_assign(&list(self.topic(), partition, Some(from)));
        debug!(source = %self.shared.settings.name, partition, from, "partition assigned");
        let assigned = report(partition, "assign", outcome);
        let (client, topic) = (self.client.clone(), &self.shared.config.topic);
        if let Some(lane) = self.lanes[partition as usize].as_mut() {
            lane.assigned = assigned;
            silence(&client, topic, &lane.slot);
        }
    }

    fn unassign(&mut self, partition: i32) {
        // librdkafka remembers a pause across assignments; where there is none, this does nothing
        report(partition, "resume", self.client.resume(&list(self.topic(), partition, None)));
        if let Some(lane) = self.lane(partition) {
            (lane.paused, lane.blocked) = (false, false);
            lane.slot.handoff.set_paused(false);
        }
        report(partition, "unassign", self.client.incremental_unassign(&list(self.topic(), partition, None)));
    }

    fn lane(&mut self, partition: i32) -> Option<&mut Lane> {
        self.lanes.get_mut(partition as usize)?.as_mut()
    }

    /// Decides about back-pressure. Whether the draining stands still.
    fn holds(&mut self) -> bool {
        let (mut blocked, mut free, mut hungry) = (false, false, false);
        for lane in self.lanes.iter_mut().flatten().filter(|lane| lane.assigned) {
            lane.blocked = if lane.blocked { !lane.slot.handoff.has_room() } else { lane.slot.handoff.is_full() };
            lane.slot.handoff.set_paused(lane.blocked);
            blocked |= lane.blocked && !lane.paused;
            free |= !lane.blocked;
            hungry |= !lane.blocked && !lane.at_end && lane.slot.handoff.is_hungry();
        }
        self.hold_ticks = if blocked { self.hold_ticks + 1 } else { 0 };
        let others_wait = hungry || (free && self.hold_ticks > HOLD_TICKS_MAX);
        let topic = &self.shared.config.topic;
        for (partition, lane) in self.lanes.iter_mut().enumerate() {
            let Some(lane) = lane.as_mut().filter(|lane| lane.assigned) else { continue };
            let partition = partition as i32;
            if lane.blocked && !lane.paused && others_wait {
                lane.paused = report(partition, "pause", self.client.pause(&list(topic, partition, None)));
                self.metrics.pauses.increment(1);
            } else if lane.paused && !lane.blocked {
                // in this order: both go to librdkafka's thread through one queue
                let at = list(topic, partition, Some(lane.expected));
                report(partition, "seek", self.client.seek_partitions(at, Duration::ZERO).map(drop));
                lane.paused = !report(partition, "resume", self.client.resume(&list(topic, partition, None)));
            }
        }
        blocked && !others_wait
    }

    fn drain(&mut self) {
        let linger = self.shared.settings.batch_linger.to_duration();
        let timeout = linger.clamp(Duration::from_millis(1), POLL_MAX).as_millis() as i32;
        let now = self.shared.clock.elapsed();
        let (lanes, metrics, shared) = (&mut self.lanes, &self.metrics, self.shared);
        let mut park = Vec::new();
        let count = self.queue.poll(timeout, |polled| match polled {
            Polled::Record(record) => {
                if let Some(lane) = lanes.get_mut(record.partition as usize).and_then(Option::as_mut) {
                    lane.push(record, now, metrics);
                }
            }
            Polled::EndOfPartition { partition, offset } => {
                if let Some(lane) = lanes.get_mut(partition as usize).and_then(Option::as_mut) {
                    lane.end_of_log(offset, metrics);
                }
            }
            Polled::Failed { partition, code, why } => {
                metrics.fetch_error(&format!("{code:?}"));
                if is_topic_missing(code) {
                    shared.unknown_topic();
                } else if is_transient(code) {
                    debug!(source = %shared.settings.name, partition, ?code, why, "librdkafka retries");
                } else {
                    park.push((partition, code, why));
                }
            }
        });
        let nothing_left = count < self.queue.capacity();
        let now = if nothing_left { self.shared.clock.elapsed() } else { now };
        for lane in self.lanes.iter_mut().flatten() {
            lane.close_if_due(now, linger, nothing_left, &self.metrics);
        }
        for (partition, code, why) in park {
            self.park(partition, code, why);
        }
    }

    /// Stops one partition: its reader is told why.
    fn park(&mut self, partition: i32, code: Code, why: String) {
        let Some(lane) = self.lane(partition).filter(|lane| lane.assigned) else { return };
        lane.assigned = false;
        let (slot, epoch, wanted) = (lane.slot.clone(), lane.epoch, lane.expected);
        let metrics = &self.metrics;
        if let Some(lane) = self.lanes[partition as usize].as_mut() {
            lane.close(metrics);
        }
        self.unassign(partition);
        if is_out_of_range(code) {
            self.shared.explain(partition, epoch, wanted); // by where the log is now: a gap, or a regression
            return;
        }
        warn!(source = %self.shared.settings.name, partition, ?code, why, "partition stops");
        let name = self.shared.settings.name.clone();
        slot.handoff.fail(epoch, Error::Broker { name, partition: slot.handoff.partition, code: format!("{code:?}"), why });
    }

    fn serve_events(&mut self) {
        let (shared, metrics, unreachable) = (self.shared, &self.metrics, &mut self.unreachable);
        let mut fatal = false;
        self.queue.events(|event| match event {
            Event::Error { code, why } => {
                metrics.fetch_error(&format!("{code:?}"));
                match code {
                    // one of several brokers may be away without much harm; what is said of it explains the next event
                    Code::BrokerTransportFailure => *unreachable = why,
                    Code::AllBrokersDown => shared.unreachable(if unreachable.is_empty() { &why } else { &*unreachable }),
                    Code::Resolve | Code::Authentication | Code::SSL => {
                        shared.unreachable(&why);
                        *unreachable = why; // "all brokers are down" follows, and says less
                    }
                    Code::Fatal => fatal = true,
                    _ => debug!(source = %shared.settings.name, ?code, why, "librdkafka"),
                }
            }
            Event::Log { level, facility, text } => {
                debug!(target: "karst_connectors::librdkafka", source = %shared.settings.name, level, facility, text);
            }
        });
        if fatal {
            self.recreate();
        }
    }

    /// Once a second: lag, and the watchdog.
    fn look(&mut self, now: Duration) {
        let waiting = self.shared.is_waiting();
        let mut recreate = false;
        for (partition, lane) in self.lanes.iter_mut().enumerate() {
            let Some(lane) = lane else { continue };
            let progress = mem::replace(&mut lane.looked_at, lane.expected) != lane.expected;
            lane.slot.quiet.store(lane.assigned && !progress, Relaxed);
            let handoff = &lane.slot.handoff;
            if progress && let Some(end) = self.queue.cached_end(partition as i32) {
                handoff.set_end(end.max(lane.expected));
            }
            lane.report();
            let behind = lane.assigned && !lane.blocked && !waiting && handoff.end().is_some_and(|end| end > lane.expected);
            match lane.watchdog.look(now, lane.expected, behind) {
                Verdict::Fine => continue,
                Verdict::Reassign => lane.slot.restart.store(true, Relaxed),
                Verdict::Recreate => recreate = true,
            }
            self.metrics.watchdog_restarts.increment(1);
            let source = &self.shared.settings.name;
            warn!(%source, partition, next = lane.expected, end = ?handoff.end(), "partition stopped silently; it is restarted");
            self.shared.touch();
        }
        if recreate {
            self.recreate();
        }
    }

    /// A new client; every partition goes on where it stands.
    fn recreate(&mut self) {
        let client = match create(&self.shared.config) {
            Ok(client) => client,
            Err(error) => return error!(source = %self.shared.settings.name, %error, "could not make a new Kafka client"),
        };
        let queue = BatchQueue::new(client.clone(), &self.shared.config.topic, BATCH, self.shared.config.read_headers);
        drop(mem::replace(&mut self.queue, queue));
        let old = mem::replace(&mut self.client, client.clone());
        *self.shared.client.write() = Some(client);
        close_off_thread(move || drop(old));
        for lane in self.lanes.iter_mut().flatten() {
            if mem::replace(&mut lane.assigned, false) {
                lane.slot.restart.store(true, Relaxed);
            }
        }
        self.shared.touch();
    }

    /// Tells the group where we are, for lag tools. Whether it worked does not matter.
    fn commit(&mut self) {
        let mut offsets = TopicPartitionList::new();
        for (partition, lane) in self.lanes.iter_mut().enumerate() {
            let Some(lane) = lane else { continue };
            let commit = lane.slot.commit.load(Relaxed);
            if mem::replace(&mut lane.committed, commit) != commit {
                add(&mut offsets, self.shared.config.topic.as_str(), partition as i32, Some(commit));
            }
        }
        if offsets.count() > 0 {
            report(-1, "commit", self.client.commit(&offsets, CommitMode::Async));
        }
    }

    fn close(mut self, control: JoinHandle<()>) {
        self.shared.slots.read().values().for_each(|slot| slot.handoff.stop());
        self.commit();
        let (shared, client) = (self.shared, self.client.clone());
        *shared.client.write() = None;
        drop(self);
        let (done, closed) = channel::bounded(1);
        close_off_thread(move || {
            _ = control.join(); // it may wait for the broker, for at most five seconds
            drop(client);
            _ = done.send(());
        });
        if closed.recv_timeout(CLOSE_MAX).is_err() {
            warn!(source = %shared.settings.name, "the Kafka client does not close in time; it is left to itself");
        }
    }
}

/// The end of a client waits for the network.
fn close_off_thread(close: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name("kafka-close".into()).spawn(close) {
        error!(%error, "could not start a thread"); // the closure, and so the client, is dropped here
    }
}

fn list(topic: &str, partition: i32, offset: Option<i64>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    add(&mut list, topic, partition, offset);
    list
}

fn add(list: &mut TopicPartitionList, topic: &str, partition: i32, offset: Option<i64>) {
    let mut element = list.add_partition(topic, partition);
    if let Some(offset) = offset {
        element.set_offset(KafkaOffset::Offset(offset)).expect("an offset of a record can be set");
    }
}

/// For tests: librdkafka stops fetching, and nobody here knows.
fn silence(client: &BaseConsumer, topic: &str, slot: &Slot) {
    let left = slot.silence.load(Relaxed);
    if left > 0 {
        let partition = slot.handoff.partition.0;
        report(partition, "pause", client.pause(&list(topic, partition, None)));
        slot.silence.store(left - 1, Relaxed);
    }
}

/// Whether it went well. These calls fail only on a client that is ending, or on a mistake of ours.
fn report(partition: i32, what: &str, outcome: Result<(), KafkaError>) -> bool {
    if let Err(error) = &outcome {
        warn!(partition, what, %error, "librdkafka refuses");
    }
    outcome.is_ok()
}
