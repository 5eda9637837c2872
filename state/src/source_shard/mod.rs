//! The source shard: what belongs to partitions rather than to entities. Outcomes, watermark history, dead letters.
//!
//! Same lane rule, same commit rule, same place in the minimum of a restart as every other shard. Invariants:
//! - I8: the outcomes of a partition sum up its records up to the applied position, each once;
//! - I12: the watermark as of every recorded barrier is the one that the log gives;
//! - I15: a dead letter is stored once, whatever is replayed;
//! - the last batch end of every commit is a barrier; barriers go when every shard holds a later one safely.
//!
//! [`tally`]: the sums, and their bytes. [`state`]: what is shared, and what a commit does. [`writer`] and [`reader`]: its two ends.

mod reader;
mod state;
mod tally;
mod writer;

use std::any::Any;

use karst_types::{DeadLetter, Offset, Outcomes, PartitionId, ProcessingTime, Reason, SourceId};

pub use reader::SourceReader;
pub(crate) use state::{Filled, SourceContent, SourceState};
pub use writer::SourceWriter;

use crate::{dead::LetterState, lane::LaneHead, lateness::Lateness, replay::Replayed, restart::WatermarkState};

/// What one batch of a partition means for the partition.
pub struct SourceBatch {
    /// Its place in the lane.
    pub head: LaneHead,
    /// Offset of the batch's first record.
    pub first: Offset,
    /// What became of its records, and how many were read.
    pub outcomes: Outcomes,
    /// Those that were put aside, by rising offset; late ones that are kept included.
    pub dead_letters: Vec<DeadLetter>,
    /// The watermark as of the batch's end.
    pub watermark: WatermarkState,
    /// Of the record at `head.through`: by which a restart finds out whether the log is still the same.
    pub fingerprint: Option<u64>,
    /// How late its events were.
    pub lateness: Lateness,
    /// In a batch of a replay log: whose replay this is. `outcomes` and `dead_letters` are of that record then.
    pub replayed: Option<Replayed>,
    /// Given back (dropped) once the batch is applied.
    pub credit: Option<Box<dyn Any + Send>>,
}

/// Sums of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionOutcomes {
    /// The source.
    pub source: SourceId,
    /// Its partition.
    pub partition: PartitionId,
    /// The sums.
    pub outcomes: Outcomes,
    /// The dead letters among them by reason; reasons without any are left out.
    pub reasons: Vec<(Reason, u64)>,
    /// How late its events were.
    pub lateness: Lateness,
}

/// A dead letter and whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredDeadLetter {
    /// The source.
    pub source: SourceId,
    /// Its partition.
    pub partition: PartitionId,
    /// The letter.
    pub letter: DeadLetter,
    /// Where it is on its way.
    pub state: LetterState,
    /// When it was stored first.
    pub stored_at: ProcessingTime,
}

/// How many dead letters there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LetterCounts {
    /// Kept, those that were replayed included.
    pub kept: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Let go before anyone replayed them, because there were too many or they were too old; since the directory was made.
    pub let_go: u64,
    /// Let go before [`dead letters were acknowledged`](SourceReader::set_letter_cursor) by whoever wants them forwarded; since the
    /// directory was made.
    pub let_go_unsent: u64,
}
