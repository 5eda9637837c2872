//! Stream resolvers: how a message becomes updates (hop 3, Event → Update), as a declaration and as code.
//!
//! A resolver runs once per event, must not wait, and should be deterministic (`docs/semantics.md`, Delivery). What it writes
//! is rows: each holds new values of one entity, or of one entity of each of several classes. The first thing that it fails on
//! makes the record a dead letter and leaves none of its rows.

use std::{any::TypeId, fmt};

use karst_types::{EventTime, FeatureValue, Message, MessageSchema, Reason, Record, message::CopyMessage};

use crate::{FeatureClass, Location, OutputType, ParseStep, UpdateRow, UpdateWriter};

/// What a stream resolver is, as data.
#[derive(Clone, Debug)]
pub struct StreamDeclaration {
    /// Unique among resolvers; named in errors, metrics and answers.
    pub name: String,
    /// The source whose messages it takes.
    pub source: String,
    /// The shape of these messages.
    pub message: &'static MessageSchema,
    /// Their Rust type: all resolvers of a source share one, since messages are decoded once.
    pub message_type: TypeId,
    /// The features that it writes, as `class.feature`, in the order of the values in a row. The key of each class is among
    /// them, or among [`keys`](Self::keys).
    pub outputs: Vec<String>,
    /// The types of these values; `None` if they are known only at run time.
    pub output_types: Option<Vec<OutputType>>,
    /// Keys that are taken from a field of the message, and stand in no row.
    pub keys: Vec<MessageKey>,
    /// Keys (`class.key`) that may be null: then nothing is written for that class. Any other null key makes the record a dead
    /// letter.
    pub optional_keys: Vec<String>,
    /// The parse function that runs before it, if there is one. [`message`](Self::message) is what the source holds: what
    /// this function takes.
    pub parse: Option<ParseStep>,
    /// Whether it (or its parse function) takes the message itself. Such resolvers run last, and all but the last of them take a
    /// copy: see [`BatchResolver::take_copies`](crate::BatchResolver::take_copies).
    pub by_value: bool,
    /// Whether its messages can be copied ([`Message::copied`]).
    pub message_is_copied: bool,
    /// For people.
    pub description: Option<String>,
    /// Where it was declared.
    pub declared_at: Location,
}

/// A key that is taken from a field of the message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageKey {
    /// The key, as `class.key`.
    pub feature: String,
    /// The field, `user_id` or `user.id`, of the message that the resolver takes.
    pub field: String,
    /// The type of its values.
    pub ty: OutputType,
}

/// The type of the field that a function finds; what `#[stream(keys(user_id = User::id))]` asks.
pub fn field_type<M, V: FeatureValue>(_: fn(&M) -> &V) -> OutputType {
    OutputType::of::<V>()
}

impl StreamDeclaration {
    /// The declaration of `R`, made where this is called.
    #[track_caller]
    pub fn of<R: StreamResolver>(
        name: impl Into<String>,
        source: impl Into<String>,
        outputs: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            name: name.into(),
            source: source.into(),
            message: R::Message::schema(),
            message_type: TypeId::of::<R::Message>(),
            message_is_copied: R::Message::copied().is_some(),
            outputs: outputs.into_iter().map(Into::into).collect(),
            output_types: R::Row::types(),
            keys: Vec::new(),
            optional_keys: Vec::new(),
            parse: None,
            by_value: false,
            description: None,
            declared_at: Location::here(),
        }
    }
    /// Says that the key `feature` (`class.key`) is taken from the message, from its field `field` with values of type `ty`: the
    /// resolver hands it over by [`UpdateWriter::key`], this one as number `self.keys.len()`.
    #[must_use]
    pub fn key(mut self, feature: impl Into<String>, field: impl Into<String>, ty: OutputType) -> Self {
        self.keys.push(MessageKey { feature: feature.into(), field: field.into(), ty });
        self
    }
    /// Says that the key `feature` (`class.key`) may be null: then nothing is written for its class.
    #[must_use]
    pub fn optional_key(mut self, feature: impl Into<String>) -> Self {
        self.optional_keys.push(feature.into());
        self
    }
    /// Names the parse function, and the type that it makes of the source's message.
    #[must_use]
    pub fn parse(mut self, function: impl Into<String>, makes: impl Into<String>) -> Self {
        self.parse = Some(ParseStep { function: function.into(), makes: makes.into() });
        self
    }
    /// Says that the resolver takes its message by value ([`MessageSlot::take`]).
    #[must_use]
    pub fn by_value(mut self) -> Self {
        self.by_value = true;
        self
    }
    /// Sets the text for people.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }
    /// Sets where it was declared, if that is not where the constructor was called.
    #[must_use]
    pub fn declared_at(mut self, at: Location) -> Self {
        self.declared_at = at;
        self
    }
}

/// A stream resolver: what `#[stream]` writes for a unit type named like the function. By hand: see the crate's page.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stream resolver",
    note = "put `#[stream(source = \"…\")]` on the function, or implement `StreamResolver` by hand"
)]
pub trait StreamResolver: Send + Sync + 'static {
    /// The message that its source holds. All resolvers of a source share one; a parse function makes another of it.
    type Message: Message;
    /// The values of one update, in the order of the declared outputs: a tuple, or [`ValueRow`](crate::ValueRow).
    type Row: UpdateRow;

    /// What it is, as data. Asked once.
    fn declaration(&self) -> StreamDeclaration;

    /// The classes that it writes, so that they need not be declared a second time; none if that is done elsewhere.
    fn classes(&self) -> Vec<&'static FeatureClass> {
        Vec::new()
    }

    /// Writes what follows from one message. Writing nothing is allowed: the record counts as skipped.
    ///
    /// # Errors
    /// Makes the record a dead letter; rows already written for this message are dropped.
    fn resolve(
        &self,
        message: MessageSlot<'_, Self::Message>,
        out: &mut UpdateWriter<'_, Self::Row>,
    ) -> Result<(), ResolverError>;
}

/// What becomes a stream resolver: one that is, or a function with `#[stream(parse = …)]`, whose source's message is known
/// only from its parse function.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stream resolver",
    note = "put `#[stream(source = \"…\")]` on the function, or implement `StreamResolver` by hand"
)]
pub trait IntoStreamResolver {
    /// The resolver.
    fn into_resolver(self) -> impl StreamResolver;
}

impl<R: StreamResolver> IntoStreamResolver for R {
    fn into_resolver(self) -> impl StreamResolver {
        self
    }
}

/// The message of one record: look at it, or take it.
#[derive(Debug)]
pub struct MessageSlot<'a, M> {
    slot: &'a mut Option<M>,
    record: Record<'a>,
    /// How to leave the message where it is, and take a copy.
    copied: Option<CopyMessage<M>>,
}

impl<'a, M> MessageSlot<'a, M> {
    /// `None` if the slot is empty: another resolver took the message.
    pub fn new(slot: &'a mut Option<M>, record: Record<'a>) -> Option<Self> {
        slot.is_some().then_some(Self { slot, record, copied: None })
    }
    /// From now on [`take`](Self::take) makes a copy, if it is told how.
    #[must_use]
    pub fn copying(mut self, copied: Option<CopyMessage<M>>) -> Self {
        self.copied = copied;
        self
    }
    /// The message, which stays for other resolvers.
    pub fn get(&self) -> &M {
        self.slot.as_ref().expect("the slot was full when this was made")
    }
    /// The message itself, or a copy if others come after. Say so in the declaration ([`StreamDeclaration::by_value`]).
    pub fn take(self) -> M {
        match self.copied {
            Some(copied) => copied(self.get()),
            None => self.slot.take().expect("the slot was full when this was made"),
        }
    }
    /// The record that it came in: key, headers, position.
    pub fn record(&self) -> Record<'a> {
        self.record
    }
}

/// Why a resolver failed on a message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ResolverError {
    /// The class of the dead letter.
    pub reason: Reason,
    /// In words; stored with the dead letter, so keep it short and free of secrets.
    pub message: String,
}

impl ResolverError {
    /// The user's own error.
    pub fn new(error: impl fmt::Display) -> Self {
        Self { reason: Reason::ResolverError, message: error.to_string() }
    }
}

/// What a resolver function may return: a row, or `Option` (`None` writes nothing), `Vec` (rows of several entities) or
/// `Result` of it.
#[diagnostic::on_unimplemented(
    message = "a stream resolver cannot return `{Self}`",
    label = "expected `{Row}`, or Option, Vec or Result of it",
    note = "return `Updates![…]`, `Option<Updates![…]>`, `Vec<Updates![…]>` or `Result<…, E>` with an `E: Display`"
)]
pub trait Resolved<Row: UpdateRow> {
    /// Writes all rows.
    ///
    /// # Errors
    /// The function's own error, or a row without a usable key.
    fn write(self, out: &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError>;
}

impl<Row: UpdateRow> Resolved<Row> for Row {
    #[inline]
    fn write(self, out: &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> {
        out.write(&self)
    }
}
impl<Row: UpdateRow, T: Resolved<Row>> Resolved<Row> for Option<T> {
    #[inline]
    fn write(self, out: &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> {
        self.map_or(Ok(()), |rows| rows.write(out))
    }
}
impl<Row: UpdateRow, T: Resolved<Row>> Resolved<Row> for Vec<T> {
    fn write(self, out: &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> {
        self.into_iter().try_for_each(|rows| rows.write(out))
    }
}
impl<Row: UpdateRow, T: Resolved<Row>, E: fmt::Display> Resolved<Row> for Result<T, E> {
    #[inline]
    fn write(self, out: &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> {
        self.map_err(ResolverError::new)?.write(out)
    }
}

/// A message field that can hold the event time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an event time",
    label = "expected `EventTime` or `Option<EventTime>`",
    note = "declare the field as `EventTime`: it reads RFC 3339 text, and numbers of the unit in `#[message(event_time = \"ms\")]`"
)]
pub trait EventTimeField {
    /// The event time; `None` lets the record's broker time stand in (`docs/semantics.md`, Event time).
    fn event_time(&self) -> Option<EventTime>;
}
impl EventTimeField for EventTime {
    fn event_time(&self) -> Option<EventTime> {
        Some(*self)
    }
}
impl EventTimeField for Option<EventTime> {
    fn event_time(&self) -> Option<EventTime> {
        *self
    }
}
