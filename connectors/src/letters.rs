//! Where dead letters are sent, besides being kept in the state directory.

use karst_types::{DeadLetter, PartitionId, SourceName};

use crate::BoxFuture;

/// A dead letter on its way out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutgoingLetter {
    /// Its source.
    pub source: SourceName,
    /// The partition of its record.
    pub partition: PartitionId,
    /// The letter.
    pub letter: DeadLetter,
}

/// A place that dead letters are forwarded to.
pub trait LetterSink: Send + Sync {
    /// Which place, for people: `topic clicks-dead`.
    fn name(&self) -> String;
    /// Sends letters; resolves when each of them is acknowledged, and tries for as long as that takes. Sending begins with the
    /// call. Dropping the future forgets about the letters, it does not take them back. Needs a tokio timer.
    fn send(&self, letters: Vec<OutgoingLetter>) -> BoxFuture<'static, ()>;
    /// Why it takes so long, as far as known.
    fn trouble(&self) -> Option<String>;
}
