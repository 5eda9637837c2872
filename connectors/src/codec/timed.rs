//! Sources that name the field of the event time themselves: the decoded message is asked for it, whatever the format.

use std::{marker::PhantomData, time::Duration};

use karst_types::{Message, Reason, Records, TimeField, message::Messages};

use super::{BatchDecoder, Decoded, DecodedRecord, Unavailable};
use crate::BoxFuture;

/// A decoder of messages of type `M`, and the field to look at.
pub(super) struct Timed<M> {
    inner: Box<dyn BatchDecoder>,
    field: TimeField,
    message: PhantomData<fn() -> M>,
}

impl<M: Message> Timed<M> {
    pub(super) fn new(inner: Box<dyn BatchDecoder>, field: TimeField) -> Self {
        Self { inner, field, message: PhantomData }
    }
}

impl<M: Message> BatchDecoder for Timed<M> {
    fn prepare<'a>(&'a mut self, records: &'a Records, now: Duration) -> Option<BoxFuture<'a, Result<(), Unavailable>>> {
        self.inner.prepare(records, now)
    }

    fn awaits(&self) -> String {
        self.inner.awaits()
    }

    fn decode(&mut self, records: &Records) -> Decoded {
        let mut decoded = self.inner.decode(records);
        let Some(messages) = decoded.messages.as_any_mut().downcast_mut::<Messages<M>>() else { return decoded };
        for (slot, event) in messages.slots.iter_mut().zip(&mut decoded.events) {
            let (DecodedRecord::Message { event_time }, Some(message)) = (&mut *event, slot.as_ref()) else { continue };
            match message.event_time_in(&self.field) {
                Ok(found) => *event_time = found,
                Err(invalid) => {
                    *slot = None;
                    *event = DecodedRecord::Fault { reason: Reason::SchemaMismatch, error: invalid.to_string() };
                }
            }
        }
        decoded
    }
}
