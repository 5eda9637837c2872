//! For tests of sources, and of what is built on them: a clock that stands still, and the suite that every source passes.
//!
//! The suite panics with what it expected; it is meant to be called from tests.

use std::{sync::Arc, time::Duration};

use karst_types::{BrokerTime, Clock, Offset, PartitionId, ProcessingTime, Records};
use parking_lot::Mutex;

use crate::{Error, Fetched, PartitionReader, Source};

/// A clock that moves only when told to.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<Duration>);

impl ManualClock {
    /// At the start of 2024, and of its own time.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }
    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        *self.0.lock() += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> ProcessingTime {
        ProcessingTime(1_704_067_200_000_000 + self.elapsed().as_micros() as i64)
    }
    fn elapsed(&self) -> Duration {
        *self.0.lock()
    }
}

/// One record, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnedRecord {
    /// Its offset.
    pub offset: Offset,
    /// Its broker time.
    pub broker_time: BrokerTime,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// The records of a batch, owned.
pub fn owned(records: &Records) -> Vec<OwnedRecord> {
    let headers = |(name, value): (&str, Option<&[u8]>)| (name.to_owned(), value.map(<[u8]>::to_vec));
    records
        .iter()
        .map(|record| OwnedRecord {
            offset: record.offset(),
            broker_time: record.broker_time(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: record.headers().map(headers).collect(),
        })
        .collect()
}

/// Reads until the end of the log is told; the records, and that end.
///
/// # Panics
/// If the reader fails, hands out an empty batch, or offsets do not rise.
pub async fn read_to_end(reader: &mut dyn PartitionReader) -> (Vec<OwnedRecord>, Offset) {
    let mut all: Vec<OwnedRecord> = Vec::new();
    loop {
        match reader.next().await.expect("the reader reads") {
            Fetched::Records(records) => {
                assert!(!records.is_empty(), "a batch is never empty");
                assert!(all.last().map(|last| last.offset) < records.first_offset(), "offsets rise strictly across batches");
                all.extend(owned(&records));
            }
            Fetched::EndOfLog { end, .. } => return (all, end),
        }
    }
}

/// Reads exactly `count` records.
///
/// # Panics
/// If the reader fails, or hands over more than that within its last batch.
pub async fn read_count(reader: &mut dyn PartitionReader, count: usize) -> Vec<OwnedRecord> {
    let mut all = Vec::new();
    while all.len() < count {
        if let Fetched::Records(records) = reader.next().await.expect("the reader reads") {
            all.extend(owned(&records));
        }
    }
    assert_eq!(all.len(), count, "more records than were sent");
    all
}

/// The suite. `source` holds exactly `expected` in `partition` (values; `None` is a tombstone), which must be at least five.
///
/// Claims: order and content; batch bounds; the end of the log is told, behind the last record; reading again from any offset
/// gives the same records; a seek behind the end is refused and names both; a newer reader replaces the older one; a `next`
/// that is dropped loses nothing; stopping ends the readers.
///
/// # Panics
/// If a claim does not hold.
pub async fn assert_source_compliance(
    source: &dyn Source,
    clock: Arc<dyn Clock>,
    partition: PartitionId,
    expected: &[Option<Vec<u8>>],
) {
    assert!(expected.len() >= 5, "the suite needs five records");
    let settings = source.settings();
    let running = source.start(clock).expect("it starts");
    let partitions = running.partitions().await.expect("partitions are known");
    assert!(partitions.contains(&partition), "{partitions:?} holds {partition}");
    assert!(partitions.is_sorted(), "partitions come in order");
    assert!(matches!(running.reader(PartitionId(9999)), Err(Error::UnknownPartition { .. })), "no such partition");

    let mut reader = running.reader(partition).expect("a reader");
    assert!(matches!(reader.next().await, Err(Error::NotStarted { .. })), "nothing is read before the first seek");
    let bounds = reader.bounds().await.expect("bounds");
    let start = reader.seek(None).await.expect("a start");
    assert_eq!(start, bounds.low, "it starts at the earliest record");

    let (all, end) = read_to_end(&mut *reader).await;
    let values: Vec<_> = all.iter().map(|record| record.value.clone()).collect();
    assert!(values == expected, "{}: the records are those that were written, in order", source.kind());
    assert!(all[0].offset >= bounds.low && all[all.len() - 1].offset < end && end <= bounds.high, "offsets lie in the bounds");
    assert_eq!(reader.lag(), Some(0), "at the end there is no lag");

    for from in [0, 1, all.len() / 2, all.len() - 1] {
        // "just behind the last one that was applied" is what a restart asks for
        let wanted = if from == 0 { all[0].offset } else { all[from - 1].offset.next() };
        let start = reader.seek(Some(wanted)).await.expect("a seek inside the log");
        assert!(wanted <= start && start <= all[from].offset, "no record is skipped by the seek");
        let (again, _) = read_to_end(&mut *reader).await;
        assert!(again == all[from..], "{}: reading again from record {from} gives the same records", source.kind());
    }

    reader.seek(None).await.expect("a rewind");
    let mut records = 0;
    while let Fetched::Records(batch) = reader.next().await.expect("the reader reads") {
        assert!(batch.len() <= settings.batch_records, "a batch closes at batch_records");
        let before_last = batch.bytes() - batch.iter().last().and_then(|record| record.value()).map_or(0, <[u8]>::len);
        assert!(before_last <= settings.batch_bytes.bytes(), "a batch passes batch_bytes by one record at most");
        records += batch.len();
    }
    assert_eq!(records, expected.len());

    let behind = Offset(bounds.high.0 + 1);
    let refused = reader.seek(Some(behind)).await.expect_err("a seek behind the end is refused");
    assert!(
        matches!(&refused, Error::SourceRegressed { position, high }
        if position.offset == behind && *high == bounds.high && position.partition == partition),
        "{refused}"
    );

    reader.seek(None).await.expect("a rewind");
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        drop(reader.next()); // never polled
        let dropped = std::future::poll_fn(|context| {
            std::task::Poll::Ready(match reader.next().as_mut().poll(context) {
                std::task::Poll::Ready(fetched) => Some(fetched),
                std::task::Poll::Pending => None, // polled once, then dropped
            })
        });
        let fetched = match dropped.await {
            Some(fetched) => fetched,
            None => reader.next().await,
        };
        if let Fetched::Records(batch) = fetched.expect("the reader reads") {
            seen.extend(owned(&batch));
        }
    }
    assert!(seen == all, "a next() that is dropped loses nothing and doubles nothing");

    let mut newer = running.reader(partition).expect("a second reader");
    assert!(matches!(reader.next().await, Err(Error::ReaderReplaced { .. })), "the older reader is told");
    drop(reader);
    newer.seek(Some(all[2].offset)).await.expect("the newer reader seeks");
    assert!(read_to_end(&mut *newer).await.0 == all[2..], "dropping the older reader does not disturb the newer one");

    running.stop().await;
    running.stop().await; // idempotent
    assert!(matches!(newer.next().await, Err(Error::Stopped { .. })), "stopping ends the readers");
}
