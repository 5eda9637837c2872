//! JSON, one document per record.
//!
//! The usual case costs one pass of UTF-8 validation over the whole batch and one parse per record, borrowed from the batch's
//! arena: by [`shape`](super::shape) where documents look alike, else by `serde_json`. Nothing is allocated but what the
//! message itself owns. Only a record that fails is parsed again,
//! slowly, to say why ([`explain`](super::explain)).
//!
//! A duplicate key is refused (serde's rule for structs): neither value can be trusted.

use std::{fmt, marker::PhantomData, sync::Arc};

use jsonschema::{ValidationError, Validator};
use karst_types::{Message, Reason, RecordRef, Records, message::Messages};
use serde_json::Value;

use super::{BatchDecoder, Codec, Decoded, DecodedRecord, Fault, explain, per_record::too_large, shape::Shapes};
use crate::SourceSettings;

/// One JSON document per record.
#[derive(Clone, Default)]
pub struct JsonFormat {
    schema: Option<Arc<Validator>>,
    problems: Vec<String>,
}

impl fmt::Debug for JsonFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.schema.is_some() { "JsonFormat(with a schema)" } else { "JsonFormat" })
    }
}

impl JsonFormat {
    /// Documents must also hold against this JSON Schema (drafts 4 to 2020-12; references within it only). Each
    /// document is then read as a whole and looked at once more.
    #[must_use]
    pub fn schema(mut self, schema: impl AsRef<str>) -> Self {
        let parsed = serde_json::from_str(schema.as_ref()).map_err(|error| error.to_string());
        match parsed.and_then(|schema| jsonschema::validator_for(&schema).map_err(|error| error.to_string())) {
            Ok(validator) => self.schema = Some(Arc::new(validator)),
            Err(why) => self.problems.push(format!("format json: schema: {}", explain::clipped(&why, 240))),
        }
        self
    }
}

impl Codec for JsonFormat {
    const NAME: &'static str = "json";
    fn problems(&self) -> Vec<String> {
        self.problems.clone()
    }
    fn set_text(&mut self, setting: &str, text: &str) -> Result<(), String> {
        if setting != "json_schema" {
            return Err(format!("format json has no setting {setting}"));
        }
        *self = std::mem::take(self).schema(text);
        Ok(())
    }
    fn decoder<M: Message>(&self, settings: &SourceSettings) -> Box<dyn BatchDecoder> {
        Box::new(JsonDecoder::<M> { schema: self.schema.clone(), ..JsonDecoder::new(settings) })
    }
}

/// Decodes JSON into messages of type `M`.
pub struct JsonDecoder<M> {
    max_record_bytes: usize,
    shapes: Shapes,
    schema: Option<Arc<Validator>>,
    message: PhantomData<fn() -> M>,
}

impl<M: Message> JsonDecoder<M> {
    /// A decoder with the limits of `settings`.
    pub fn new(settings: &SourceSettings) -> Self {
        Self { max_record_bytes: settings.max_record_bytes.bytes(), shapes: Shapes::new(), schema: None, message: PhantomData }
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
        if let Some(schema) = &self.schema {
            holds(schema, text)?;
        }
        message.check().map_err(|invalid| (Reason::Invalid, explain::clipped(&invalid.to_string(), 240)))?;
        Ok(Some(message))
    }
}

/// Whether a document holds against a schema; only asked of documents that are messages.
fn holds(schema: &Validator, text: &str) -> Result<(), Fault> {
    let document = serde_json::from_str(text).map_err(|error| (Reason::Malformed, error.to_string()))?;
    schema.validate(&document).map_err(|error| (Reason::SchemaMismatch, broken(&error)))
}

/// `field "/shop/id": value is not of type "integer", by the JSON Schema's "/properties/shop/properties/id/type"; got "x"`. The
/// library's own words quote the value in full, so it is named by us.
fn broken(error: &ValidationError<'_>) -> String {
    let place = match error.instance_path().as_str() {
        "" => "the document".to_owned(),
        path => format!("field \"{}\"", explain::clipped(path, explain::QUOTED_MAX)),
    };
    let got = match &**error.instance() {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(items) => format!("an array of {}", items.len()),
        scalar => explain::clipped(&scalar.to_string(), explain::QUOTED_MAX),
    };
    let what = explain::clipped(&error.masked().to_string(), 2 * explain::QUOTED_MAX);
    let rule = explain::clipped(error.schema_path().as_str(), 2 * explain::QUOTED_MAX);
    format!("{place}: {what}, by the JSON Schema's \"{rule}\"; got {got}")
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
