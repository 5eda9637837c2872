//! Forwards dead letters to a Kafka topic: key, value, headers and time of the record as they were, and what is known about the
//! letter as headers named `karst.…`.
//!
//! The producer is idempotent and never gives a record up by itself, so that as long as the process lives a letter stands in the
//! topic once. A value that the broker finds too large is left out, and a header says so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::AcqRel},
    },
    time::Duration,
};

use karst_types::SourceName;
use parking_lot::Mutex;
use rdkafka::{
    ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
};
use tokio::sync::oneshot;

use super::config::KafkaConfig;
use crate::{BoxFuture, Error, LetterSink, OutgoingLetter, Result};

/// Between two tries of what a broker refused.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// What a record takes beyond its value, at most, roughly: key, headers, framing.
const OVERHEAD: u64 = 1 << 20;

/// See the [page](self).
pub(super) struct KafkaLetters {
    inner: Arc<Inner>,
}

struct Inner {
    topic: String,
    producer: ThreadedProducer<Acknowledged>,
    trouble: Arc<Mutex<Option<String>>>,
}

/// The records of one call that are not acknowledged yet.
struct Round {
    left: AtomicUsize,
    refused: Mutex<Vec<(usize, RDKafkaErrorCode)>>,
    done: Mutex<Option<oneshot::Sender<()>>>,
}

impl Round {
    fn settle(&self, index: usize, refused: Option<RDKafkaErrorCode>) {
        self.refused.lock().extend(refused.map(|code| (index, code)));
        if self.left.fetch_sub(1, AcqRel) == 1
            && let Some(done) = self.done.lock().take()
        {
            let _ = done.send(()); // nobody waits any more: the letters are sent nevertheless
        }
    }
}

struct Acknowledged {
    trouble: Arc<Mutex<Option<String>>>,
}

impl ClientContext for Acknowledged {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(target: "karst_connectors::librdkafka", facility, text);
    }
    fn error(&self, error: KafkaError, why: &str) {
        *self.trouble.lock() = Some(format!("{why} ({error})"));
    }
}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Box<(Arc<Round>, usize)>;
    fn delivery(&self, result: &DeliveryResult<'_>, opaque: Self::DeliveryOpaque) {
        let (round, index) = *opaque;
        let refused = result.as_ref().err().map(|(error, _)| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail));
        if refused.is_none() {
            *self.trouble.lock() = None;
        }
        round.settle(index, refused);
    }
}

impl KafkaLetters {
    /// Does not wait for the broker.
    pub(super) fn new(name: &SourceName, config: &KafkaConfig, topic: &str, value_max: u64) -> Result<Self> {
        let trouble = Arc::<Mutex<Option<String>>>::default();
        let mut client = config.producer();
        client.set("enable.idempotence", "true").set("message.timeout.ms", "0").set("linger.ms", "5");
        client.set("partitioner", "murmur2_random"); // as Java's producer: a key stays in its partition
        client.set("message.max.bytes", (value_max + OVERHEAD).min(1_000_000_000).to_string());
        let context = Acknowledged { trouble: Arc::clone(&trouble) };
        let producer = client.create_with_context(context).map_err(|error| Error::Config {
            name: name.clone(),
            problems: vec![format!("librdkafka refuses the settings of the producer of dead letters: {error}")],
        })?;
        Ok(Self { inner: Arc::new(Inner { topic: topic.to_owned(), producer, trouble }) })
    }
}

/// A letter as it is sent.
struct Wire {
    letter: OutgoingLetter,
    /// Without its value, which is too large for the topic.
    stripped: bool,
}

impl Wire {
    fn headers(&self) -> OwnedHeaders {
        let OutgoingLetter { source, partition, letter } = &self.letter;
        let facts = [
            ("karst.source", source.to_string()),
            ("karst.partition", partition.to_string()),
            ("karst.offset", letter.offset.to_string()),
            ("karst.broker_time", letter.broker_time.to_string()),
            ("karst.reason", letter.reason.to_string()),
            ("karst.stage", letter.stage.clone()),
            ("karst.error", letter.error.clone()),
            ("karst.attempt", letter.attempt.to_string()),
            ("karst.value_bytes", letter.value_len.to_string()),
            (
                "karst.value_is",
                if self.stripped {
                    "omitted"
                } else if letter.is_cut() {
                    "cut"
                } else {
                    "whole"
                }
                .to_owned(),
            ),
        ];
        let own = letter
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: value.as_deref() }));
        facts.iter().fold(own, |all, (key, value)| all.insert(Header { key, value: Some(value.as_bytes()) }))
    }
}

impl Inner {
    /// Hands all of `letters` to librdkafka; the receiver resolves when all are settled.
    fn start(&self, letters: &[Wire]) -> (Arc<Round>, oneshot::Receiver<()>) {
        let (done, settled) = oneshot::channel();
        let round =
            Arc::new(Round { left: AtomicUsize::new(letters.len()), refused: Mutex::default(), done: Mutex::new(Some(done)) });
        for (index, wire) in letters.iter().enumerate() {
            let letter = &wire.letter.letter;
            let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.topic, Box::new((Arc::clone(&round), index)))
                .timestamp(letter.broker_time.millis())
                .headers(wire.headers());
            record.key = letter.key.as_deref();
            record.payload = letter.value.as_deref().filter(|_| !wire.stripped);
            if let Err((error, record)) = self.producer.send(record) {
                drop(record);
                round.settle(index, Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)));
            }
        }
        (round, settled)
    }

    async fn finish(&self, mut letters: Vec<Wire>, started: (Arc<Round>, oneshot::Receiver<()>)) {
        let (mut round, mut settled) = started;
        loop {
            if settled.await.is_err() {
                return; // cannot be: the round holds the other end
            }
            let mut refused = std::mem::take(&mut *round.refused.lock());
            if refused.is_empty() {
                return;
            }
            refused.sort_unstable_by_key(|(index, _)| *index);
            let mut wait = false;
            for (index, code) in &refused {
                if *code == RDKafkaErrorCode::MessageSizeTooLarge && !letters[*index].stripped {
                    letters[*index].stripped = true;
                } else {
                    *self.trouble.lock() = Some(format!("topic {}: {code}", self.topic));
                    wait = true;
                }
            }
            let mut index = 0;
            letters.retain(|_| {
                let kept = refused.binary_search_by_key(&index, |(at, _)| *at).is_ok();
                index += 1;
                kept
            });
            if wait {
                tokio::time::sleep(RETRY_AFTER).await;
            }
            (round, settled) = self.start(&letters);
        }
    }
}

impl LetterSink for KafkaLetters {
    fn name(&self) -> String {
        format!("topic {}", self.inner.topic)
    }
    fn send(&self, letters: Vec<OutgoingLetter>) -> BoxFuture<'static, ()> {
        let inner = Arc::clone(&self.inner);
        let letters: Vec<Wire> = letters.into_iter().map(|letter| Wire { letter, stripped: false }).collect();
        if letters.is_empty() {
            return Box::pin(std::future::ready(()));
        }
        let started = inner.start(&letters);
        Box::pin(async move { inner.finish(letters, started).await })
    }
    fn trouble(&self) -> Option<String> {
        self.inner.trouble.lock().clone()
    }
}

impl Drop for Inner {
    /// What nobody waits for any more is not waited for here either: it is sent again at the next start.
    fn drop(&mut self) {
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}
