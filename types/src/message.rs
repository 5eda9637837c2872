//! Hop 2: what a record says, once decoded and validated against its schema.

use std::any::Any;

use serde::de::DeserializeOwned;

use crate::{EventTime, time::Unit};

/// A typed payload. `#[derive(Message)]` writes this; by hand it is a `Deserialize` and these few lines.
///
/// ```
/// use karst_types::{EventTime, FieldSchema, Message, MessageSchema};
///
/// #[derive(serde::Deserialize)]
/// struct Click { user_id: String, at: Option<EventTime> }
///
/// impl Message for Click {
///     fn schema() -> &'static MessageSchema {
///         const SCHEMA: MessageSchema = MessageSchema {
///             name: "Click",
///             fields: &[FieldSchema::required("user_id", "String"), FieldSchema::nullable("at", "EventTime")],
///             event_time: Some("at"),
///         };
///         &SCHEMA
///     }
///     fn event_time(&self) -> Option<EventTime> { self.at }
/// }
/// assert_eq!(Click::schema().name, "Click");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    note = "put `#[derive(Message)]` on `{Self}`, or implement `karst::Message` by hand"
)]
pub trait Message: DeserializeOwned + Send + 'static {
    /// How it is read from Protobuf, for types that need no description of the bytes; `karst::protobuf_message!` fills this in.
    const PROTOBUF: Option<ReadBytes<Self>> = None;

    /// Name and fields, for errors, `/topology` and the checks of the registry.
    fn schema() -> &'static MessageSchema;

    /// When it happened. `None` (not declared, or null in this message): the record's broker time stands in
    /// (`docs/semantics.md`, Event time).
    fn event_time(&self) -> Option<EventTime> {
        None
    }

    /// The same, read from the field that the source names ([`TimeField`]): for messages whose fields are known only at run time.
    /// A message with a type of its own names its field itself, and ignores this.
    ///
    /// # Errors
    /// The field is there and is no time.
    fn event_time_in(&self, field: &TimeField) -> Result<Option<EventTime>, Invalid> {
        let _ = field;
        Ok(self.event_time())
    }

    /// How it is copied, if it can be: asked where several resolvers of a source take the message by value, since it is decoded
    /// once for all of them. `#[derive(Message)]` finds it out: a message that is `Clone` is copied by that.
    fn copied() -> Option<CopyMessage<Self>> {
        None
    }

    /// What types cannot say: ranges, combinations. A message that fails is a dead letter with this reason.
    ///
    /// # Errors
    /// Names the field, what was expected and what was found.
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

/// Makes a copy of a message.
pub type CopyMessage<M> = fn(&M) -> M;

/// Makes a message of bytes, or says in words why they are none.
pub type ReadBytes<M> = fn(&[u8]) -> Result<M, String>;

/// The whole record as a text (format `text`).
impl Message for String {
    fn copied() -> Option<CopyMessage<Self>> {
        Some(Self::clone)
    }
    fn schema() -> &'static MessageSchema {
        const SCHEMA: MessageSchema = MessageSchema { name: "text", fields: &[], event_time: None };
        &SCHEMA
    }
}

/// The whole record as it is (format `bytes`).
impl Message for Vec<u8> {
    fn copied() -> Option<CopyMessage<Self>> {
        Some(Self::clone)
    }
    fn schema() -> &'static MessageSchema {
        const SCHEMA: MessageSchema = MessageSchema { name: "bytes", fields: &[], event_time: None };
        &SCHEMA
    }
}

/// What `#[derive(Message)]` asks whether a message is `Clone`: the compiler takes the method of the first of the two traits that
/// fits, and the second fits always ("autoref specialization").
#[doc(hidden)]
pub mod copying {
    use std::marker::PhantomData;

    use super::CopyMessage;

    pub struct Asked<M>(pub PhantomData<M>);

    pub trait IsClone<M> {
        fn copied(&self) -> Option<CopyMessage<M>>;
    }
    impl<M: Clone> IsClone<M> for Asked<M> {
        fn copied(&self) -> Option<CopyMessage<M>> {
            Some(M::clone)
        }
    }

    pub trait IsNotClone<M> {
        fn copied(&self) -> Option<CopyMessage<M>>;
    }
    impl<M> IsNotClone<M> for &Asked<M> {
        fn copied(&self) -> Option<CopyMessage<M>> {
            None
        }
    }
}

/// The field that a source names as its messages' event time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimeField {
    /// The names on the way to it.
    pub path: Vec<String>,
    /// What numbers in it count.
    pub unit: Unit,
}

/// The declared shape of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageSchema {
    /// The name of the message type.
    pub name: &'static str,
    /// Its fields in the order of the declaration.
    pub fields: &'static [FieldSchema],
    /// The field that holds the event time, if one does.
    pub event_time: Option<&'static str>,
}

/// One field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldSchema {
    /// Its name on the wire.
    pub name: &'static str,
    /// Its type.
    pub ty: FieldType,
}

/// The type of a field, as it was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldType {
    /// The Rust type without `Option`.
    pub rust: &'static str,
    /// Whether null, or absence, is allowed.
    pub nullable: bool,
}

impl FieldSchema {
    /// A field that must be there.
    pub const fn required(name: &'static str, rust: &'static str) -> Self {
        Self { name, ty: FieldType { rust, nullable: false } }
    }
    /// A field that may be null or absent.
    pub const fn nullable(name: &'static str, rust: &'static str) -> Self {
        Self { name, ty: FieldType { rust, nullable: true } }
    }
}

/// Why a decoded message does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field \"{field}\": expected {expected}, got {got}")]
pub struct Invalid {
    /// The field.
    pub field: String,
    /// What would have been right.
    pub expected: String,
    /// What was there (keep it short; it is stored with the dead letter).
    pub got: String,
}

impl Invalid {
    /// `Invalid::new("amount", "a positive number", self.amount)`.
    pub fn new(field: &str, expected: &str, got: impl std::fmt::Display) -> Self {
        Self { field: field.to_owned(), expected: expected.to_owned(), got: got.to_string() }
    }
}

/// The decoded messages of one batch, slot `i` belonging to record `i`; `None` where the record has no message (it failed,
/// or the last resolver that takes its message by value has taken it).
#[derive(Debug)]
pub struct Messages<M> {
    /// One slot per record of the batch.
    pub slots: Vec<Option<M>>,
}

/// [`Messages`] of a type that the holder does not know: batches travel through stages that are not generic.
pub trait AnyMessages: Send {
    /// For downcasting to `Messages<M>`.
    fn as_any_mut(&mut self) -> &mut dyn Any;
    /// Number of slots.
    fn len(&self) -> usize;
    /// Whether there are no slots.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<M: Send + 'static> AnyMessages for Messages<M> {
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
    fn len(&self) -> usize {
        self.slots.len()
    }
}
