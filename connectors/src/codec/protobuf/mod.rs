//! Protobuf: typed, where the message says how (`protobuf_message!` for types of prost), else by a descriptor: of a `.proto` text,
//! of a descriptor set, or of a registry's schema.
//!
//! By a descriptor is the general way and the slower one: a value is made of every field, and the message picks from these.

mod de;
mod message;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    time::Duration,
};

use karst_types::{Message, Reason, Records};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use self::{de::Fields, schema::ProtoSchema};
use super::{
    BatchDecoder, Codec, Fault, Unavailable,
    datum_error::DatumError,
    explain,
    per_record::{DecodeRecord, PerRecord},
    wire,
};
use crate::{BoxFuture, SchemaRegistry, SourceSettings};

/// Protobuf records; see [`Format::protobuf`](super::Format::protobuf).
#[derive(Clone, Default)]
pub struct ProtobufFormat {
    schemas: Schemas,
    /// Of a configuration file: a description and the name of its message, in whichever order they come.
    message: Option<String>,
    description: Option<Description>,
    problems: Vec<String>,
}

/// What a file describes the messages by.
#[derive(Clone)]
enum Description {
    Proto(String),
    Set(Vec<u8>),
}

/// What the records are described by.
#[derive(Clone, Default)]
enum Schemas {
    /// Confluent's wire format; the registry may still come from the environment.
    #[default]
    Unknown,
    Registry(SchemaRegistry),
    /// Confluent's wire format, and messages that need no description.
    Framed,
    /// Nothing stands before the message, and it needs no description.
    Bare,
    /// Nothing stands before the message.
    One(MessageDescriptor),
}

impl fmt::Debug for ProtobufFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schemas {
            Schemas::Unknown => f.write_str("ProtobufFormat"),
            Schemas::Registry(registry) => write!(f, "ProtobufFormat({registry:?})"),
            Schemas::Framed => f.write_str("ProtobufFormat(framed)"),
            Schemas::Bare => f.write_str("ProtobufFormat(bare)"),
            Schemas::One(message) => write!(f, "ProtobufFormat({})", message.full_name()),
        }
    }
}

impl ProtobufFormat {
    /// Records are in Confluent's wire format, and their schemas in this registry. Messages that know how they are read
    /// (`protobuf_message!`) ask it for nothing.
    #[must_use]
    pub fn registry(mut self, registry: SchemaRegistry) -> Self {
        self.schemas = Schemas::Registry(registry);
        self
    }
    /// Records are in Confluent's wire format, and the messages know how they are read (`protobuf_message!`).
    #[must_use]
    pub fn framed(mut self) -> Self {
        self.schemas = Schemas::Framed;
        self
    }
    /// Records are messages with nothing before them, and know how they are read (`protobuf_message!`).
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.schemas = Schemas::Bare;
        self
    }
    /// Records are messages of this name (`shop.Payment`), which this `.proto` text describes; what it imports of
    /// `google/protobuf` is known.
    #[must_use]
    pub fn proto(mut self, text: impl AsRef<str>, message: &str) -> Self {
        match ProtoSchema::compile(text.as_ref(), &[]) {
            Ok(schema) => self.take(schema.pool(), message),
            Err(why) => self.problems.push(format!("format protobuf: proto: {why}")),
        }
        self
    }
    /// Records are messages of this name (`shop.Payment`), which this descriptor set describes, as `protoc
    /// --descriptor_set_out --include_imports` writes it.
    #[must_use]
    pub fn descriptor_set(mut self, bytes: &[u8], message: &str) -> Self {
        match DescriptorPool::decode(bytes) {
            Ok(pool) => self.take(&pool, message),
            Err(error) => self.problems.push(format!(
                "format protobuf: descriptor_set: {}; expected what protoc --descriptor_set_out --include_imports writes",
                explain::clipped(&error.to_string(), 240)
            )),
        }
        self
    }

    fn describe(&mut self, description: Description) -> Result<(), String> {
        if self.description.replace(description).is_some() {
            return Err("proto, descriptor_set: give one of them".to_owned());
        }
        self.complete();
        Ok(())
    }
    /// Takes the description of a file, once the name of its message is known, too.
    fn complete(&mut self) {
        if let (Some(description), Some(message)) = (self.description.clone(), self.message.clone()) {
            let made = std::mem::take(self);
            *self = match &description {
                Description::Proto(text) => made.proto(text, &message),
                Description::Set(bytes) => made.descriptor_set(bytes, &message),
            };
        }
    }

    fn take(&mut self, pool: &DescriptorPool, message: &str) {
        match pool.get_message_by_name(message) {
            Some(found) => self.schemas = Schemas::One(found),
            None => {
                let google = |message: &MessageDescriptor| message.full_name().starts_with("google.protobuf.");
                let known = pool.all_messages().filter(|message| !google(message) && !message.is_map_entry());
                let known: Vec<String> = known.take(10).map(|message| message.full_name().to_owned()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                self.problems.push(format!("format protobuf: there is no message \"{message}\"; there are {known}"));
            }
        }
    }
}

impl Codec for ProtobufFormat {
    const NAME: &'static str = "protobuf";

    fn problems(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        match &self.schemas {
            Schemas::Registry(registry) => problems.extend(registry.problems()),
            Schemas::Unknown if problems.is_empty() => problems.push(
                "format protobuf needs a schema registry (.registry(SchemaRegistry::new(\"http://…\")), or schema_registry = \
                 { url = \"…\" }), a description (.proto(text, message) or .descriptor_set(bytes, message); in a file proto = \"file\" \
                 or descriptor_set = \"file\", with message = \"shop.Payment\"), or messages that need none (.framed() or .bare())"
                    .to_owned(),
            ),
            _ => {}
        }
        problems
    }
    fn set_text(&mut self, setting: &str, text: &str) -> Result<(), String> {
        match setting {
            "message" => self.message = Some(text.to_owned()),
            "proto" => return self.describe(Description::Proto(text.to_owned())),
            _ => return Err(format!("format protobuf has no setting {setting}")),
        }
        self.complete();
        Ok(())
    }
    fn set_bytes(&mut self, setting: &str, bytes: &[u8]) -> Result<(), String> {
        match (setting, std::str::from_utf8(bytes)) {
            ("descriptor_set", _) => self.describe(Description::Set(bytes.to_vec())),
            (_, Ok(text)) => self.set_text(setting, text),
            (_, Err(error)) => Err(format!("{setting}: expected a text, UTF-8: {error}")),
        }
    }
    fn set_registry(&mut self, make: &mut dyn FnMut() -> Option<SchemaRegistry>) {
        if let Schemas::Unknown = self.schemas
            && self.description.is_none()
            && let Some(registry) = make()
        {
            self.schemas = Schemas::Registry(registry);
        }
    }
    fn decoder<M: Message>(&self, settings: &SourceSettings) -> Box<dyn BatchDecoder> {
        let decoder = ProtobufDecoder { schemas: self.schemas.clone(), compiled: HashMap::new() };
        Box::new(PerRecord::<M, _>::new(settings, decoder))
    }
}

struct ProtobufDecoder {
    schemas: Schemas,
    /// By the registry's id, which is never given to another schema.
    compiled: HashMap<u32, Result<ProtoSchema, Fault>>,
}

impl ProtobufDecoder {
    /// The description of the message that the record says it is.
    fn descriptor(&mut self, id: u32, indexes: &[usize]) -> Result<MessageDescriptor, Fault> {
        let Schemas::Registry(registry) = &self.schemas else {
            let why = "the source has no description of its messages, and the message does not say how it is read";
            return Err((Reason::SchemaUnknown, why.to_owned()));
        };
        let incompatible = |why: &str| (Reason::SchemaIncompatible, explain::clipped(&format!("schema {id}: {why}"), 300));
        let compiled = match self.compiled.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(match registry.known(id) {
                Some(Ok(schema)) if schema.kind != "PROTOBUF" => {
                    Err(incompatible(&format!("it is a schema of kind {}, not PROTOBUF", schema.kind)))
                }
                Some(Ok(schema)) => ProtoSchema::compile(&schema.text, &schema.references).map_err(|why| incompatible(&why)),
                Some(Err(why)) => return Err((Reason::SchemaUnknown, explain::clipped(&why, 300))),
                None => return Err((Reason::SchemaUnknown, format!("schema {id} was not asked for"))),
            }),
        };
        let schema = compiled.as_ref().map_err(Clone::clone)?;
        schema
            .message(indexes)
            .ok_or_else(|| (Reason::Malformed, format!("schema {id} has no message with the index {indexes:?}")))
    }
}

impl<M: Message> DecodeRecord<M> for ProtobufDecoder {
    fn prepare<'a>(&'a mut self, records: &'a Records, now: Duration) -> Option<BoxFuture<'a, Result<(), Unavailable>>> {
        match &self.schemas {
            Schemas::Registry(registry) if M::PROTOBUF.is_none() => wire::prepare(registry, None, records, now),
            _ => None,
        }
    }

    fn awaits(&self) -> Option<String> {
        match &self.schemas {
            Schemas::Registry(registry) => Some(registry.called()),
            _ => None,
        }
    }

    fn message(&mut self, value: &[u8]) -> Result<M, Fault> {
        let framed = match &self.schemas {
            Schemas::Registry(_) | Schemas::Framed | Schemas::Unknown => true,
            Schemas::Bare | Schemas::One(_) => false,
        };
        let (head, bytes) = if framed {
            let (id, rest) = wire::confluent(value)?;
            let (indexes, bytes) = wire::message_indexes(rest)?;
            (Some((id, indexes)), bytes)
        } else {
            (None, value)
        };
        let malformed = |why: &str| (Reason::Malformed, format!("no Protobuf message: {}", explain::clipped(why, 200)));
        if let Some(read) = M::PROTOBUF {
            return read(bytes).map_err(|why| malformed(&why));
        }
        let descriptor = match (&self.schemas, &head) {
            (Schemas::One(descriptor), _) => descriptor.clone(),
            (_, head) => {
                let (id, indexes) = head.as_ref().map_or((0, &[][..]), |(id, indexes)| (*id, indexes));
                self.descriptor(id, indexes)?
            }
        };
        let message = DynamicMessage::decode(descriptor.clone(), bytes).map_err(|error| malformed(&error.to_string()))?;
        M::deserialize(Fields(&message)).map_err(|error| fault::<M>(error, &descriptor))
    }
}

/// A field that the description has and the record has not is the record's fault, not the schema's.
fn fault<M: Message>(error: DatumError, descriptor: &MessageDescriptor) -> Fault {
    let described = error.missing().is_some_and(|field| descriptor.get_field_by_name(field).is_some());
    let (reason, text) = error.fault(M::schema().name);
    if described { (Reason::SchemaMismatch, text) } else { (reason, text) }
}
