//! Kafka, through librdkafka.
//!
//! Two threads per source, whatever the number of its partitions: `kafka-poll` drains the client's one queue into bounded
//! hand-offs (`consumer.rs`), `kafka-ask` asks the broker what blocks (`control.rs`). Readers wait for neither.
//!
//! What a record is here: its offset and its timestamp (milliseconds) as the broker has them; a header name that is not UTF-8
//! is shown as `(not UTF-8)`; a value beyond 16 MiB is cut there and is a dead letter in any case. A batch of records that the
//! broker sends must fit into `receive.message.max.bytes` (librdkafka's default: 100 MB).
//!
//! Not noticed here: a topic that was deleted, made anew, and has already grown beyond the stored position.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
};

use karst_types::{Clock, PartitionId};

use crate::{
    BoxFuture, Error, Format, LetterSink, PartitionReader, Result, RunningSource, Source, SourceHealth, SourceSettings,
};

pub mod admin;
mod batch_queue;
mod config;
mod consumer;
mod control;
mod lane;
mod letters;
mod metrics;

pub mod mock;
mod producer;
mod reader;
mod shared;
mod watchdog;

pub use config::{KafkaConfig, KafkaSource};
pub use producer::KafkaProducer;

use letters::KafkaLetters;
use shared::Shared;

impl Source for KafkaSource {
    fn settings(&self) -> &SourceSettings {
        &self.settings
    }
    fn resolved_format(&self) -> Format {
        self.resolved_format()
    }
    fn kind(&self) -> &'static str {
        "kafka"
    }
    fn start(&self, clock: Arc<dyn Clock>) -> Result<Box<dyn RunningSource>> {
        Ok(Box::new(self.start_kafka(clock)?))
    }
}

impl KafkaSource {
    /// [`Source::start`], with its own type.
    ///
    /// # Errors
    /// As [`Source::start`].
    pub fn start_kafka(&self, clock: Arc<dyn Clock>) -> Result<RunningKafka> {
        let config = self.resolve()?;
        let wrong = |why: String| Error::Config { name: self.settings.name.clone(), problems: vec![why] };
        let value_max = self.settings.max_record_bytes.0;
        let letters = config.dead_letter_queue_topic.as_deref();
        let letters = letters.map(|topic| KafkaLetters::new(&self.settings.name, &config, topic, value_max)).transpose()?;
        let client = consumer::create(&config).map_err(|error| wrong(format!("librdkafka refuses the settings: {error}")))?;
        let shared = Arc::new(Shared::new(self.settings.clone(), config, clock, client.clone()));
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let name = format!("{name} {}", self.settings.name);
            thread::Builder::new().name(name).spawn(run).map_err(|error| wrong(format!("could not start a thread: {error}")))
        };
        let asking = shared.clone();
        let control = spawn("kafka-ask", Box::new(move || control::run(&asking)))?;
        let polling = shared.clone();
        spawn("kafka-poll", Box::new(move || consumer::run(&polling, client, control))).inspect_err(|_| shared.stop())?;
        Ok(RunningKafka { shared, letters: letters.map(Arc::new) })
    }
}

/// A Kafka source at work.
pub struct RunningKafka {
    shared: Arc<Shared>,
    letters: Option<Arc<KafkaLetters>>,
}

impl RunningKafka {
    /// Lets a partition stop silently, as librdkafka sometimes does, now and after the next assignments, `times` in all: for
    /// tests of the watchdog.
    #[doc(hidden)]
    pub fn silence_for_test(&self, partition: PartitionId, times: u32) {
        if let Some(slot) = self.shared.slot(partition.0) {
            slot.silence.store(times, Relaxed);
            self.shared.touch();
        }
    }
    /// How many silences are still to come.
    #[doc(hidden)]
    pub fn silences_left_for_test(&self, partition: PartitionId) -> u32 {
        self.shared.slot(partition.0).map_or(0, |slot| slot.silence.load(Relaxed))
    }
}

impl RunningSource for RunningKafka {
    fn partitions(&self) -> BoxFuture<'_, Result<Vec<PartitionId>>> {
        Box::pin(self.shared.ask(|asks, reply| asks.partitions.push(reply)))
    }

    fn reader(&self, partition: PartitionId) -> Result<Box<dyn PartitionReader>> {
        let name = self.shared.settings.name.clone();
        if self.shared.stopped() {
            return Err(Error::Stopped { name });
        }
        let known = self.shared.partitions.load(Relaxed);
        if !(0..known).contains(&i64::from(partition.0)) {
            return Err(Error::UnknownPartition { name, partition, known: known as usize });
        }
        let slot = self.shared.slot_or_new(partition);
        Ok(Box::new(reader::KafkaReader::new(self.shared.clone(), slot)))
    }

    fn letter_sink(&self) -> Option<Arc<dyn LetterSink>> {
        self.letters.as_ref().map(|letters| Arc::clone(letters) as _)
    }

    fn health(&self) -> SourceHealth {
        let partitions = self.shared.slots.read().values().map(|slot| slot.handoff.health()).collect();
        SourceHealth { state: self.shared.health(), partitions }
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.shared.stop();
        let mut closed = self.shared.closed.subscribe();
        Box::pin(async move {
            _ = closed.wait_for(|closed| *closed).await; // the sender lives as long as we do
        })
    }
}

impl Drop for RunningKafka {
    fn drop(&mut self) {
        self.shared.stop();
    }
}
