//! Sends the records to the topic while the engine reads them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use karst::{EngineHandle, KafkaProducer, connectors::kafka::mock::SAFE_LEAD_BYTES};

use super::{data::Row, encode::Encoding};

pub(crate) const TOPIC_PARTITIONS: i32 = 3;

/// What the producer's thread tells.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) sent: AtomicU64,
    pub(crate) failed: parking_lot::Mutex<Option<String>>,
    pub(crate) stop: AtomicBool,
}

/// Produces on a thread of its own. The embedded broker keeps 5 MiB per partition, so there the producer waits for the engine;
/// a real broker keeps everything.
pub(crate) fn start(
    rows: Arc<Vec<Row>>,
    encoding: Encoding,
    servers: String,
    topic: String,
    engine: EngineHandle,
    embedded: bool,
) -> Arc<Progress> {
    let progress = Arc::new(Progress::default());
    let own = Arc::clone(&progress);
    thread::spawn(move || {
        if let Err(error) = produce(&rows, &encoding, &servers, &topic, &engine, embedded, &own) {
            *own.failed.lock() = Some(error.to_string());
        }
    });
    progress
}

fn produce(
    rows: &[Row],
    encoding: &Encoding,
    servers: &str,
    topic: &str,
    engine: &EngineHandle,
    embedded: bool,
    progress: &Progress,
) -> Result<(), Box<dyn std::error::Error>> {
    let producer = KafkaProducer::new(servers)?;
    // Bytes sent up to and including each offset, by partition: offsets of a fresh topic count from 0.
    let mut sent: [Vec<u64>; TOPIC_PARTITIONS as usize] = Default::default();
    for row in rows {
        if progress.stop.load(Ordering::Relaxed) {
            break;
        }
        let value = encoding.encode(row)?;
        let bytes = &mut sent[row.partition as usize];
        let total = bytes.last().copied().unwrap_or(0) + value.len() as u64 + 100; // and what Kafka adds
        bytes.push(total);
        while embedded && total - read_bytes(engine, row.partition, bytes) > SAFE_LEAD_BYTES {
            producer.flush(Duration::from_secs(30))?;
            thread::park_timeout(Duration::from_millis(1));
        }
        producer.send(topic, row.partition, row.known, Some(row.origin.as_bytes()), Some(&value))?;
        progress.sent.fetch_add(1, Ordering::Relaxed);
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}

fn read_bytes(engine: &EngineHandle, partition: i32, sent: &[u64]) -> u64 {
    let status = engine.status();
    let own = status.sources.iter().flat_map(|source| &source.partitions).find(|own| own.partition.0 == partition);
    let read = own.and_then(|own| own.fetched).and_then(|offset| sent.get(offset.0 as usize));
    read.copied().unwrap_or(0)
}
