//! What all formats but JSON share: the records of a batch are decoded one by one, under the same limits and checks.

use std::{marker::PhantomData, time::Duration};

use karst_types::{Message, Reason, RecordRef, Records, message::Messages};

use super::{BatchDecoder, Decoded, DecodedRecord, Fault, Unavailable, explain};
use crate::{BoxFuture, SourceSettings};

/// Makes a message of a value.
pub(super) trait DecodeRecord<M>: Send {
    /// See [`BatchDecoder::prepare`].
    fn prepare<'a>(&'a mut self, records: &'a Records, now: Duration) -> Option<BoxFuture<'a, Result<(), Unavailable>>> {
        let _ = (records, now);
        None
    }
    /// See [`BatchDecoder::awaits`]; `None` if it asks nobody.
    fn awaits(&self) -> Option<String> {
        None
    }
    /// The message of one value, not null and not too long.
    fn message(&mut self, value: &[u8]) -> Result<M, Fault>;
}

/// Decodes a batch with a `D`, record by record.
pub(super) struct PerRecord<M, D> {
    max_record_bytes: usize,
    record: D,
    message: PhantomData<fn() -> M>,
}

impl<M: Message, D: DecodeRecord<M>> PerRecord<M, D> {
    pub(super) fn new(settings: &SourceSettings, record: D) -> Self {
        Self { max_record_bytes: settings.max_record_bytes.bytes(), record, message: PhantomData }
    }

    fn one(&mut self, record: RecordRef<'_>) -> Result<Option<M>, Fault> {
        let Some(value) = record.value() else { return Ok(None) };
        if value.len() > self.max_record_bytes {
            return Err(too_large(value.len(), self.max_record_bytes));
        }
        let message = self.record.message(value)?;
        message.check().map_err(|invalid| (Reason::Invalid, explain::clipped(&invalid.to_string(), 240)))?;
        Ok(Some(message))
    }
}

pub(super) fn too_large(len: usize, max: usize) -> Fault {
    (Reason::TooLarge, format!("the value has {len} bytes, the source's max_record_bytes is {max}"))
}

impl<M: Message, D: DecodeRecord<M>> BatchDecoder for PerRecord<M, D> {
    fn prepare<'a>(&'a mut self, records: &'a Records, now: Duration) -> Option<BoxFuture<'a, Result<(), Unavailable>>> {
        self.record.prepare(records, now)
    }

    fn awaits(&self) -> String {
        self.record.awaits().unwrap_or_else(|| "what decoding needs".to_owned())
    }

    fn decode(&mut self, records: &Records) -> Decoded {
        let mut slots = Vec::with_capacity(records.len());
        let mut events = Vec::with_capacity(records.len());
        for record in records.iter() {
            let (slot, event) = match self.one(record) {
                Ok(Some(message)) => {
                    let event_time = message.event_time();
                    (Some(message), DecodedRecord::Message { event_time })
                }
                Ok(None) => (None, DecodedRecord::Tombstone),
                Err((reason, error)) => (None, DecodedRecord::Fault { reason, error }),
            };
            slots.push(slot);
            events.push(event);
        }
        Decoded { messages: Box::new(Messages { slots }), events }
    }
}
