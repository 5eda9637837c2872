//! A small producer: for the demo, tests and benches. Not for the path of an event.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use karst_types::{BrokerTime, Retry};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, Message,
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
    types::RDKafkaErrorCode,
};
use tracing::debug;

use crate::{Error, Result};

/// Sends records to partitions that the caller chooses. Calls block while librdkafka's queue is full: use a thread of its own.
pub struct KafkaProducer {
    producer: BaseProducer<Deliveries>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    delivered: AtomicU64,
    failed: Mutex<Option<String>>,
}

struct Deliveries(Arc<Seen>);

impl ClientContext for Deliveries {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
        debug!(target: "karst_connectors::librdkafka", facility, text);
    }
    fn error(&self, error: KafkaError, why: &str) {
        debug!(%error, why, "librdkafka");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        match result {
            Ok(_) => _ = self.0.delivered.fetch_add(1, Relaxed),
            Err((error, message)) => {
                self.0.failed.lock().get_or_insert_with(|| format!("partition {}: {error}", message.partition()));
            }
        }
    }
}

impl KafkaProducer {
    /// A producer for these bootstrap servers. Does not wait for them.
    ///
    /// # Errors
    /// [`Error::Send`] if librdkafka refuses the settings.
    pub fn new(bootstrap_servers: &str) -> Result<Self> {
        Self::with(bootstrap_servers, [])
    }

    /// A producer with further options of librdkafka.
    ///
    /// # Errors
    /// [`Error::Send`] if librdkafka refuses them.
    pub fn with<'a>(bootstrap_servers: &str, options: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap_servers).set("client.id", "karst/producer").set("linger.ms", "5");
        config.set("batch.size", "1000000").set("enable.idempotence", "true");
        options.into_iter().for_each(|(option, value)| _ = config.set(option, value));
        let seen = Arc::<Seen>::default();
        let producer =
            config.create_with_context(Deliveries(seen.clone())).map_err(|error| failed(bootstrap_servers, &error))?;
        Ok(Self { producer, seen })
    }

    /// Sends a record, waiting while the queue is full. `value` is `None` for a tombstone. Delivery is told by
    /// [`KafkaProducer::flush`].
    ///
    /// # Errors
    /// [`Error::Send`].
    pub fn send(&self, topic: &str, partition: i32, time: BrokerTime, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<()> {
        self.send_with_headers(topic, partition, time, key, value, &[])
    }

    /// Sends a record with headers.
    ///
    /// # Errors
    /// [`Error::Send`].
    pub fn send_with_headers(
        &self,
        topic: &str,
        partition: i32,
        time: BrokerTime,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<()> {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition).timestamp(time.millis());
        record.key = key;
        record.payload = value;
        if !headers.is_empty() {
            let headers =
                headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value }));
            record = record.headers(headers);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => return Err(failed(topic, &error)),
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Number of records that the broker has acknowledged, as far as known.
    pub fn delivered(&self) -> u64 {
        self.producer.poll(Duration::ZERO);
        self.seen.delivered.load(Relaxed)
    }

    /// Waits until everything sent is acknowledged.
    ///
    /// # Errors
    /// [`Error::Send`] if that takes longer than `timeout`, or a record was not delivered.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.producer.flush(timeout).map_err(|error| failed("the broker", &error))?;
        match self.seen.failed.lock().take() {
            Some(why) => Err(Error::Send { to: "the broker".into(), why, retry: Retry::Never }),
            None => Ok(()),
        }
    }
}

fn failed(to: &str, error: &KafkaError) -> Error {
    let retry = if matches!(error, KafkaError::ClientConfig(..)) { Retry::Never } else { Retry::Backoff };
    Error::Send { to: to.to_owned(), why: error.to_string(), retry }
}
