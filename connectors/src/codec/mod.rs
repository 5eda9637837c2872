//! From bytes to typed messages, a batch at a time. One result per record; a record that cannot be decoded is a fault with a
//! reason, never an error of the batch.

use karst_types::{EventTime, Message, Reason, Records, message::AnyMessages};

use crate::SourceSettings;

mod explain;
mod json;
mod shape;
pub use json::JsonDecoder;

/// How the records of a source are encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Format {
    /// One JSON document per record.
    #[default]
    Json,
}

/// Decodes batches. Synchronous, and keeps nothing from one batch to the next that could change a result.
pub trait BatchDecoder: Send {
    /// Decodes every record of the batch.
    fn decode(&mut self, records: &Records) -> Decoded;
}

/// A decoded batch: slot `i` of `messages` and entry `i` of `events` belong to record `i`.
pub struct Decoded {
    /// The messages; an empty slot where the record has none.
    pub messages: Box<dyn AnyMessages>,
    /// What became of each record.
    pub events: Vec<DecodedRecord>,
}

/// What became of one record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DecodedRecord {
    /// Its message is in the slot.
    Message {
        /// What the message says; `None`: the broker time stands in (DESIGN S1).
        event_time: Option<EventTime>,
    },
    /// Its value is null.
    Tombstone,
    /// It cannot be used.
    Fault {
        /// The class.
        reason: Reason,
        /// In words: which field, where, what was expected, what was there. Quotes at most 80 characters of the data.
        error: String,
    },
}

/// The decoder of messages of type `M` in this format, with the limits of `settings`.
pub fn decoder<M: Message>(format: Format, settings: &SourceSettings) -> Box<dyn BatchDecoder> {
    match format {
        Format::Json => Box::new(JsonDecoder::<M>::new(settings)),
    }
}
