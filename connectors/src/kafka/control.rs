//! The thread that asks the broker questions which block: which partitions there are, where a log starts and ends. It also
//! finds out when a trouble is over. The polling thread never waits for the network.
//!
//! It waits in slices of real time, since a network does not follow a virtual clock.

use std::{sync::Arc, time::Duration};

use karst_types::{Offset, PartitionId};
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use super::{
    consumer::is_topic_missing,
    shared::{Asks, Shared},
};
use crate::LogBounds;

const SLICE: Duration = Duration::from_millis(100);
const BACKOFF_MIN: u32 = 10; // slices: 1 s
const BACKOFF_MAX: u32 = 100; // slices: 10 s
const QUIET_EVERY: u32 = 10; // slices: 1 s; the progress of a quiet partition moves in steps of this
const QUIET_PER_SLICE: u32 = 5; // with many of them, less often
const MISSES_MAX: u32 = 5;
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn run(shared: &Shared) {
    let mut control = Control { shared, asks: Asks::default(), backoff: 0, wait: 0, quiet_in: QUIET_EVERY, misses: 0 };
    while !shared.stopped() {
        control.turn();
    }
    shared.drop_asks();
}

struct Control<'a> {
    shared: &'a Shared,
    asks: Asks,
    backoff: u32, // 0: the last try went well
    wait: u32,    // slices until the next try
    quiet_in: u32,
    misses: u32, // times in a row that a broker did not know a topic which it may only not know yet
}

#[derive(Debug)]
enum Trouble {
    Broker(String),
    Topic,
}

impl Control<'_> {
    fn turn(&mut self) {
        if !self.shared.take_asks(&mut self.asks, SLICE) {
            self.wait = self.wait.saturating_sub(1);
            self.quiet_in = self.quiet_in.saturating_sub(1);
        }
        if self.wait > 0 || self.shared.stopped() {
            return;
        }
        let Some(client) = self.shared.client.read().clone() else { return };
        let outcome = self.answer(&client);
        match outcome {
            Ok(()) => self.backoff = 0,
            Err(trouble) => {
                match trouble {
                    Trouble::Broker(why) => self.shared.unanswered(&why),
                    Trouble::Topic if self.shared.is_unreachable() && self.is_too_early() => self.backoff = 0,
                    Trouble::Topic => self.shared.unknown_topic(),
                }
                self.backoff = (self.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
                self.wait = self.backoff;
            }
        }
    }

    fn answer(&mut self, client: &Arc<BaseConsumer>) -> Result<(), Trouble> {
        self.asks.partitions.retain(|reply| !reply.is_closed());
        self.asks.bounds.retain(|(_, reply)| !reply.is_closed());
        if self.shared.is_waiting() || !self.asks.partitions.is_empty() {
            let partitions = self.partitions(client)?;
            self.misses = 0;
            self.shared.partitions.store(partitions.len() as i64, std::sync::atomic::Ordering::Relaxed);
            self.shared.recovered();
            for reply in self.asks.partitions.drain(..) {
                _ = reply.send(partitions.clone()); // a caller that gave up is no trouble
            }
        }
        while let Some((partition, _)) = self.asks.bounds.last() {
            let bounds = self.bounds(client, *partition)?;
            if let Some((_, reply)) = self.asks.bounds.pop() {
                _ = reply.send(bounds);
            }
        }
        while let Some(&(partition, epoch, wanted)) = self.asks.explain.last() {
            let bounds = self.bounds(client, partition)?;
            self.asks.explain.pop();
            if let Some(slot) = self.shared.slot(partition) {
                self.shared.explained(&slot, epoch, wanted, bounds);
            }
        }
        if self.quiet_in == 0 {
            let slots: Vec<_> = self.shared.slots.read().values().cloned().collect();
            self.quiet_in = QUIET_EVERY.max(slots.len() as u32 / QUIET_PER_SLICE);
            for slot in slots.iter().filter(|slot| slot.quiet.load(std::sync::atomic::Ordering::Relaxed)) {
                match self.bounds(client, slot.handoff.partition.0) {
                    Err(Trouble::Topic) if self.is_too_early() => break,
                    bounds => bounds?,
                };
                self.misses = 0; // confirms the end, for the lag, the watchdog and the progress watermark
                if self.shared.stopped() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// A broker that starts says for a moment that it does not know its topics. To believe it at once would assign every
    /// partition anew, while librdkafka does not know them yet either.
    fn is_too_early(&mut self) -> bool {
        self.misses += 1;
        self.misses <= MISSES_MAX
    }

    fn partitions(&self, client: &BaseConsumer) -> Result<Vec<PartitionId>, Trouble> {
        let metadata = client.fetch_metadata(Some(&self.shared.config.topic), TIMEOUT).map_err(trouble)?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.shared.config.topic).ok_or(Trouble::Topic)?;
        if topic.partitions().is_empty() {
            return Err(match topic.error().map(RDKafkaErrorCode::from) {
                Some(code) if !is_topic_missing(code) => Trouble::Broker(format!("topic {}: {code}", topic.name())),
                _ => Trouble::Topic,
            });
        }
        let mut partitions: Vec<_> = topic.partitions().iter().map(|partition| PartitionId(partition.id())).collect();
        partitions.sort_unstable();
        Ok(partitions)
    }

    fn bounds(&self, client: &BaseConsumer, partition: i32) -> Result<LogBounds, Trouble> {
        let as_of = self.shared.clock.now();
        let (low, high) = client.fetch_watermarks(&self.shared.config.topic, partition, TIMEOUT).map_err(trouble)?;
        if let Some(slot) = self.shared.slot(partition) {
            slot.handoff.confirm_end(high, as_of);
        }
        Ok(LogBounds { low: Offset(low), high: Offset(high) })
    }
}

fn trouble(error: KafkaError) -> Trouble {
    match error.rdkafka_error_code() {
        Some(code) if is_topic_missing(code) => Trouble::Topic,
        Some(code) => Trouble::Broker(code.to_string()),
        None => Trouble::Broker(error.to_string()),
    }
}
