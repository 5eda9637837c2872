//! What a source is to the rest of Karst. Three traits, in the order they are used: declared, running, read.

use std::{future::Future, pin::Pin, sync::Arc};

use karst_types::{Clock, Offset, PartitionId, ProcessingTime, Records};

use crate::{Format, LetterSink, Result, SourceSettings};

/// The same type as `futures::future::BoxFuture`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A declared source.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source",
    note = "use `KafkaSource`, `FileSource` or `MemorySource`, or implement `karst::Source`"
)]
pub trait Source: Send + Sync + 'static {
    /// Its settings.
    fn settings(&self) -> &SourceSettings;
    /// How its records are encoded: as in the settings, unless the source knows more (Kafka: what the environment says of the
    /// schema registry).
    fn resolved_format(&self) -> Format {
        self.settings().format.clone()
    }
    /// `"kafka"`, `"file"`, `"memory"`: for labels and the topology.
    fn kind(&self) -> &'static str;
    /// Starts what the source needs (a client, its threads). Never blocks on the network: an unreachable broker, a missing
    /// topic or file is a state of the running source, not an error.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with everything that is wrong in the declaration.
    fn start(&self, clock: Arc<dyn Clock>) -> Result<Box<dyn RunningSource>>;
}

/// A source at work. Dropping it stops it, without waiting.
pub trait RunningSource: Send + Sync {
    /// The partitions, in order; waits until they are known, retrying with backoff ([`RunningSource::health`] says why it
    /// waits). Every call asks again, so that partitions added since are found. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Stopped`](crate::Error::Stopped).
    fn partitions(&self) -> BoxFuture<'_, Result<Vec<PartitionId>>>;
    /// The reader of one partition. There is one at a time: an older one fails with
    /// [`Error::ReaderReplaced`](crate::Error::ReaderReplaced) from now on. Nothing is fetched before its first seek.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`](crate::Error::UnknownPartition), [`Error::Stopped`](crate::Error::Stopped).
    fn reader(&self, partition: PartitionId) -> Result<Box<dyn PartitionReader>>;
    /// Where the dead letters of this source are to be forwarded. Default: nowhere.
    fn letter_sink(&self) -> Option<Arc<dyn LetterSink>> {
        None
    }
    /// How it is. Cheap; asks nobody.
    fn health(&self) -> SourceHealth;
    /// Stops fetching and closes the client, off-thread and with a time limit. Readers fail with
    /// [`Error::Stopped`](crate::Error::Stopped). Idempotent.
    fn stop(&self) -> BoxFuture<'_, ()>;
}

/// Reads one partition.
pub trait PartitionReader: Send {
    /// Where the log starts and ends now. Waits while the broker cannot be reached. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Stopped`](crate::Error::Stopped), [`Error::ReaderReplaced`](crate::Error::ReaderReplaced).
    fn bounds(&mut self) -> BoxFuture<'_, Result<LogBounds>>;
    /// (Re)starts reading at the first record whose offset is at or after `from` (`None`: per [`SourceSettings::start`]).
    /// Throws away whatever was prefetched. Resolves to the real start offset. Cancel safe: reading then goes on as before.
    ///
    /// # Errors
    /// [`Error::SourceGap`](crate::Error::SourceGap) if `from` lies before the start of the log,
    /// [`Error::SourceRegressed`](crate::Error::SourceRegressed) if it lies behind its end.
    fn seek(&mut self, from: Option<Offset>) -> BoxFuture<'_, Result<Offset>>;
    /// The next batch, waiting for one. Batches are never empty, and close at `batch_records`, `batch_bytes` or
    /// `batch_linger`. After `EndOfLog { finished: true }` it waits until the next seek. Cancel safe: nothing is lost.
    ///
    /// # Errors
    /// What stops this partition; after an error that [can be retried](crate::Error::retry) seek again.
    fn next(&mut self) -> BoxFuture<'_, Result<Fetched>>;
    /// Advice for lag tools: everything up to and including `through` has been applied. Never blocks, never fails.
    fn commit(&mut self, through: Offset);
    /// Records between the last one handed to the caller and the end of the log, as far as known. For the file source: bytes.
    fn lag(&self) -> Option<u64>;
    /// Whether fetching stands still because the caller is slower (so an empty reader does not mean an idle log).
    fn paused(&self) -> bool;
}

/// What [`PartitionReader::next`] yields.
#[derive(Debug)]
pub enum Fetched {
    /// A batch; not empty.
    Records(Records),
    /// Everything up to `end` has been handed over and there was no more at that moment.
    EndOfLog {
        /// The offset that will be written next.
        end: Offset,
        /// No more will ever come (end of a file; [`MemorySource::finish`](crate::MemorySource::finish)).
        finished: bool,
    },
}

/// Where a partition's log starts and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogBounds {
    /// The first offset that is kept.
    pub low: Offset,
    /// The offset that will be written next.
    pub high: Offset,
}

/// How a source is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceHealth {
    /// Of the source as a whole.
    pub state: HealthState,
    /// Its partitions that have or had a reader, in order.
    pub partitions: Vec<PartitionHealth>,
}

/// How a source is, as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HealthState {
    /// All is well, as far as known.
    Ok,
    /// It cannot go on now, and keeps trying.
    Waiting {
        /// The reason, with a hint.
        why: String,
        /// Since when.
        since: ProcessingTime,
    },
    /// It will not go on by itself.
    Failed {
        /// The reason, with a hint.
        why: String,
    },
}

/// How one partition is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionHealth {
    /// Which.
    pub partition: PartitionId,
    /// Back-pressured: see [`PartitionReader::paused`].
    pub paused: bool,
    /// See [`PartitionReader::lag`].
    pub lag: Option<u64>,
    /// The next offset that will be handed to the caller.
    pub next: Option<Offset>,
    /// The end of the log, as far as known.
    pub end: Option<Offset>,
    /// Where the log was last known to end, and when that was so: at that moment it held nothing behind that offset.
    pub end_confirmed: Option<(Offset, ProcessingTime)>,
    /// Bytes read ahead of the caller.
    pub buffered_bytes: u64,
    /// Why this partition alone stands still.
    pub fault: Option<String>,
}
