//! JSON, one document per record.
//!
//! The usual case costs one pass of UTF-8 validation over the whole batch and one parse per record, borrowed from the batch's
//! arena: by [`shape`](super::shape) where documents look alike, else by `serde_json`. Nothing is allocated but what the
//! message itself owns. Only a record that fails is parsed again,
//! slowly, to say why ([`explain`](super::explain)).
//!
//! A duplicate key is refused (serde's rule for structs): neither value can be trusted.

use std::marker::PhantomData;

use karst_types::{Message, Reason, RecordRef, Records, message::Messages};

use super::{BatchDecoder, Codec, Decoded, DecodedRecord, explain, per_record::too_large, shape::Shapes};
use crate::SourceSettings;

/// One JSON document per record.
#[derive(Clone, Debug, Default)]
pub struct JsonFormat {}

impl Codec for JsonFormat {
    const NAME: &'static str = "json";
    fn decoder<M: Message>(&self, settings: &SourceSettings) -> Box<dyn BatchDecoder> {
        Box::new(JsonDecoder::<M>::new(settings))
    }
}

/// Decodes JSON into messages of type `M`.
pub struct JsonDecoder<M> {
    max_record_bytes: usize,
    shapes: Shapes,
    message: PhantomData<fn() -> M>,
}

impl<M: Message> JsonDecoder<M> {
    /// A decoder with the limits of `settings`.
    pub fn new(settings: &SourceSettings) -> Self {
        Self { max_record_bytes: settings.max_record_bytes.bytes(), shapes: Shapes::new(), message: PhantomData }
    }

    fn one(&mut self, record: RecordRef<'_>, arena: Option<&str>) -> Result<Option<M>, (Reason, String)> {
        let Some(value) = record.value() else { return Ok(None) };
        if value.len() > self.max_record_bytes {
            return Err(too_large(value.len(), self.max_record_bytes));
        }
        // In a valid arena a value is valid unless its ends split a character, which `get` notices.
        let text = match arena.zip(record.value_range()).and_then(|(arena, range)| arena.get(range)) {
            Some(text) => text,
            None => simdutf8::compat::from_utf8(value).map_err(|error| explain::not_utf8(value, error.valid_up_to()))?,
        };
        let message: M = match self.shapes.read(text) {
            Some(message) => message,
            None => {
                let message = serde_json::from_str(text).map_err(|error| explain::failed::<M>(text, &error))?;
                self.shapes.learn::<M>(text);
                message
            }
        };
        message.check().map_err(|invalid| (Reason::Invalid, explain::clipped(&invalid.to_string(), 240)))?;
        Ok(Some(message))
    }
}

impl<M: Message> BatchDecoder for JsonDecoder<M> {
    fn decode(&mut self, records: &Records) -> Decoded {
        let arena = simdutf8::basic::from_utf8(records.arena()).ok();
        let mut slots = Vec::with_capacity(records.len());
        let mut events = Vec::with_capacity(records.len());
        for record in records.iter() {
            let (slot, event) = match self.one(record, arena) {
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
