//! From bytes to typed messages, a batch at a time. One result per record; a record that cannot be decoded is a fault with a
//! reason, never an error of the batch.
//!
//! A format is a file with a type that implements [`Codec`], and a line in the list `formats!` below. Formats whose records need
//! something from elsewhere (a schema from a registry) fetch it in [`BatchDecoder::prepare`]; what they cannot reach is the fault
//! of a dependency, which is waited for, and never the record's.

use std::{fmt, time::Duration};

use karst_types::{EventTime, Message, Reason, Records, message::AnyMessages};

use crate::{BoxFuture, SchemaRegistry, SourceSettings};

mod avro;
mod datum_error;
mod explain;
mod json;
mod per_record;
mod plain;
mod protobuf;
mod shape;
mod timed;
mod wire;
pub use avro::{AvroFormat, AvroSchema};
pub(crate) use avro::{Container, KnownSchemas};
pub use json::{JsonDecoder, JsonFormat};
pub use plain::{BytesFormat, TextFormat};
pub use protobuf::ProtobufFormat;

/// A format: its settings, and the decoders made from them.
pub trait Codec: Clone + Default + fmt::Debug + Into<Format> + Send + Sync + 'static {
    /// As it is called in configuration files.
    const NAME: &'static str;

    /// A decoder of messages of type `M`, with the limits of `settings`.
    fn decoder<M: Message>(&self, settings: &SourceSettings) -> Box<dyn BatchDecoder>;

    /// Everything that is wrong with its settings, a sentence each.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// Takes a setting of its own by name, as configuration files have it: the content of a schema's file, a name.
    ///
    /// # Errors
    /// There is no setting of this name.
    fn set_text(&mut self, setting: &str, text: &str) -> Result<(), String> {
        let _ = text;
        Err(format!("format {} has no setting {setting}", Self::NAME))
    }

    /// As [`Codec::set_text`], of a file that need not be text.
    ///
    /// # Errors
    /// There is no setting of this name, or it takes text and this is none.
    fn set_bytes(&mut self, setting: &str, bytes: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(bytes).map_err(|error| format!("{setting}: expected a text, UTF-8: {error}"))?;
        self.set_text(setting, text)
    }

    /// Takes a schema registry from outside (a file, the environment) if it needs one and was given none.
    fn set_registry(&mut self, make: &mut dyn FnMut() -> Option<SchemaRegistry>) {
        let _ = make;
    }
}

/// Makes the enum of all formats from one line for each of them.
macro_rules! formats {
    ($($(#[$doc:meta])* $variant:ident($codec:ident), $make:ident;)*) => {
        /// How the records of a source are encoded.
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum Format {
            $($(#[$doc])* $variant($codec),)*
        }
        $(impl From<$codec> for Format {
            fn from(codec: $codec) -> Self { Self::$variant(codec) }
        })*
        impl Format {
            /// The names of all formats, as in configuration files.
            pub const NAMES: &'static [&'static str] = &[$($codec::NAME),*];

            $($(#[$doc])* pub fn $make() -> $codec { $codec::default() })*

            /// The format with this name, with its default settings.
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    $(_ if name == $codec::NAME => Some(Self::$variant($codec::default())),)*
                    _ => None,
                }
            }
            /// Its name.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $codec::NAME,)* }
            }
            /// Everything that is wrong with its settings, a sentence each.
            pub fn problems(&self) -> Vec<String> {
                match self { $(Self::$variant(codec) => codec.problems(),)* }
            }
            /// Takes a setting of its own by name, as configuration files have it: the content of a schema's file, a name.
            ///
            /// # Errors
            /// There is no setting of this name.
            pub fn set_text(&mut self, setting: &str, text: &str) -> Result<(), String> {
                match self { $(Self::$variant(codec) => codec.set_text(setting, text),)* }
            }
            /// As [`Format::set_text`], of a file that need not be text.
            ///
            /// # Errors
            /// There is no setting of this name, or it takes text and this is none.
            pub fn set_bytes(&mut self, setting: &str, bytes: &[u8]) -> Result<(), String> {
                match self { $(Self::$variant(codec) => codec.set_bytes(setting, bytes),)* }
            }
            /// Takes a schema registry from outside (a file, the environment) if it needs one and was given none.
            pub fn set_registry(&mut self, make: &mut dyn FnMut() -> Option<SchemaRegistry>) {
                match self { $(Self::$variant(codec) => codec.set_registry(make),)* }
            }
            /// The decoder of messages of type `M` in this format, with the limits of `settings`.
            pub fn decoder<M: Message>(&self, settings: &SourceSettings) -> Box<dyn BatchDecoder> {
                let decoder = match self { $(Self::$variant(codec) => codec.decoder::<M>(settings),)* };
                match &settings.event_time {
                    Some(field) => Box::new(timed::Timed::<M>::new(decoder, field.clone())),
                    None => decoder,
                }
            }
        }
    };
}

formats! {
    /// One JSON document per record.
    Json(JsonFormat), json;
    /// Each record is one text, UTF-8.
    Text(TextFormat), text;
    /// Each record is taken as it is.
    Bytes(BytesFormat), bytes;
    /// Avro: in Confluent's wire format with a [`SchemaRegistry`], or with given schemas.
    Avro(AvroFormat), avro;
    /// Protobuf: in Confluent's wire format with a [`SchemaRegistry`], by a description, or typed (`protobuf_message!`).
    Protobuf(ProtobufFormat), protobuf;
}

impl Default for Format {
    fn default() -> Self {
        Self::json().into()
    }
}

/// Decodes batches. Keeps nothing from one batch to the next that could change a result.
pub trait BatchDecoder: Send {
    /// What has to be fetched before this batch can be decoded: the next step towards it, or `None` when there is nothing (left).
    /// To be called until it is; `now` (the clock's `elapsed()`) must stay the same for one batch.
    ///
    /// The future ends in [`Unavailable`] where somebody else is not there: the same batch is to be tried again later. Dropping
    /// it loses nothing.
    fn prepare<'a>(&'a mut self, records: &'a Records, now: Duration) -> Option<BoxFuture<'a, Result<(), Unavailable>>> {
        let _ = (records, now);
        None
    }

    /// Whom [`BatchDecoder::prepare`] asks, for people.
    fn awaits(&self) -> String {
        "what decoding needs".to_owned()
    }

    /// Decodes every record of the batch. Synchronous and total.
    fn decode(&mut self, records: &Records) -> Decoded;
}

/// Something that decoding depends on is not there now; a later try may work.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

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
        /// What the message says; `None`: the broker time stands in (`docs/semantics.md`, Event time).
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

/// Why a record cannot be decoded: the class, and in words.
pub(crate) type Fault = (Reason, String);

/// The decoder of messages of type `M` in this format, with the limits of `settings`.
pub fn decoder<M: Message>(format: &Format, settings: &SourceSettings) -> Box<dyn BatchDecoder> {
    format.decoder::<M>(settings)
}
