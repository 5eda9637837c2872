//! Parse functions: what runs between the message of a source and a resolver that takes another one (`docs/semantics.md`,
//! Parse).
//!
//! A source of which each record holds one of several kinds of event is decoded once, into a message with all of them; each
//! resolver has a parse function that finds its own kind, or says `None`: then that resolver is skipped, which is no failure.
//!
//! [`parsed`] and [`parsed_ref`] make a resolver of a parse function and of what follows from its result: `#[stream(parse =
//! …)]` writes a call of one of them. All that they do can be written in a [`StreamResolver`] as well, which then calls
//! [`UpdateWriter::skip`] itself.
//!
//! ```
//! use karst_features::{StreamResolver, UpdateWriter, parsed_ref};
//! # use karst_types::{Message, MessageSchema};
//! # #[derive(serde::Deserialize)] struct Event { click: Option<Click> }
//! # #[derive(serde::Deserialize)] struct Click { user: String, page: String }
//! # impl Message for Event {
//! #     fn schema() -> &'static MessageSchema {
//! #         const SCHEMA: MessageSchema = MessageSchema { name: "Event", fields: &[], event_time: None };
//! #         &SCHEMA
//! #     }
//! # }
//! fn get_click(event: &Event) -> Option<&Click> { event.click.as_ref() }
//!
//! let on_click = parsed_ref(
//!     "on_click", "events", ["user.id", "user.last_page"],
//!     get_click,
//!     |click: &Click, _record, out: &mut UpdateWriter<'_, (String, String)>| out.write(&(click.user.clone(), click.page.clone())),
//! );
//! assert_eq!(on_click.declaration().parse.unwrap().to_string(), "get_click, which makes Click");
//! ```

use std::{any::type_name, fmt, marker::PhantomData};

use karst_types::{Message, Reason, Record};

use crate::{FeatureClass, MessageSlot, ResolverError, StreamDeclaration, StreamResolver, UpdateRow, UpdateWriter};

/// A parse function, as data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseStep {
    /// The function's name.
    pub function: String,
    /// The type that it makes of the source's message.
    pub makes: String,
}

impl fmt::Display for ParseStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, which makes {}", self.function, self.makes)
    }
}

/// What a parse function may return for a child message `C`: `Option` of it (`None`: the resolver is skipped), the message
/// itself (never skipped), or `Result` of either (`Err`: a dead letter).
#[diagnostic::on_unimplemented(
    message = "a parse function for messages of type `{C}` cannot return `{Self}`",
    label = "expected `Option<{C}>`, or `{C}`, or Result of one of these",
    note = "what the parse function makes is what the resolver takes"
)]
pub trait ParseOutput<C> {
    /// As one shape.
    ///
    /// # Errors
    /// The function's own error, with [`Reason::ParseFailed`].
    fn output(self) -> Result<Option<C>, ResolverError>;
}

fn failed(error: impl fmt::Display) -> ResolverError {
    ResolverError { reason: Reason::ParseFailed, message: error.to_string() }
}

impl<C> ParseOutput<C> for C {
    #[inline]
    fn output(self) -> Result<Option<C>, ResolverError> {
        Ok(Some(self))
    }
}
impl<C> ParseOutput<C> for Option<C> {
    #[inline]
    fn output(self) -> Result<Option<C>, ResolverError> {
        Ok(self)
    }
}
impl<C, E: fmt::Display> ParseOutput<C> for Result<C, E> {
    #[inline]
    fn output(self) -> Result<Option<C>, ResolverError> {
        self.map(Some).map_err(failed)
    }
}
impl<C, E: fmt::Display> ParseOutput<C> for Result<Option<C>, E> {
    #[inline]
    fn output(self) -> Result<Option<C>, ResolverError> {
        self.map_err(failed)
    }
}

/// A function that makes a child message `C` of the source's message `M`: `fn(&M)` or `fn(M)`, with `&Record` as a second
/// argument if it asks for the record. `Form` is which of these it is; the compiler finds out.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a parse function for messages of type `{C}`",
    label = "expected `fn(&Parent) -> Option<{C}>`",
    note = "a parse function takes the source's message and makes the resolver's: `fn(&Parent) -> Option<{C}>`, also by value, with `&Record` as a second argument, and with `{C}` or `Result<Option<{C}>, E>` returned"
)]
pub trait ParseFunction<M, C, Form>: Send + Sync + 'static {
    /// Whether it takes the message itself.
    const BY_VALUE: bool;

    /// Runs it.
    ///
    /// # Errors
    /// The function's own error, with [`Reason::ParseFailed`].
    fn parse(&self, message: MessageSlot<'_, M>) -> Result<Option<C>, ResolverError>;
}

/// The forms of parse functions; never made.
pub mod form {
    use std::marker::PhantomData;

    /// `fn(&M) -> R`
    pub struct ByRef<R>(PhantomData<R>);
    /// `fn(&M, &Record) -> R`
    pub struct ByRefWithRecord<R>(PhantomData<R>);
    /// `fn(M) -> R`
    pub struct ByValue<R>(PhantomData<R>);
    /// `fn(M, &Record) -> R`
    pub struct ByValueWithRecord<R>(PhantomData<R>);
    /// One of those above.
    pub struct Owned<Form>(PhantomData<Form>);
    /// `fn(&M) -> Option<&C>`
    pub struct Part;
    /// `fn(&M) -> Result<Option<&C>, E>`
    pub struct PartOrError<E>(PhantomData<E>);
}

impl<F, M, C, R> ParseFunction<M, C, form::ByRef<R>> for F
where
    F: Fn(&M) -> R + Send + Sync + 'static,
    M: Message,
    R: ParseOutput<C>,
{
    const BY_VALUE: bool = false;
    #[inline]
    fn parse(&self, message: MessageSlot<'_, M>) -> Result<Option<C>, ResolverError> {
        self(message.get()).output()
    }
}
impl<F, M, C, R> ParseFunction<M, C, form::ByRefWithRecord<R>> for F
where
    F: Fn(&M, &Record<'_>) -> R + Send + Sync + 'static,
    M: Message,
    R: ParseOutput<C>,
{
    const BY_VALUE: bool = false;
    #[inline]
    fn parse(&self, message: MessageSlot<'_, M>) -> Result<Option<C>, ResolverError> {
        self(message.get(), &message.record()).output()
    }
}
impl<F, M, C, R> ParseFunction<M, C, form::ByValue<R>> for F
where
    F: Fn(M) -> R + Send + Sync + 'static,
    M: Message,
    R: ParseOutput<C>,
{
    const BY_VALUE: bool = true;
    #[inline]
    fn parse(&self, message: MessageSlot<'_, M>) -> Result<Option<C>, ResolverError> {
        self(message.take()).output()
    }
}
impl<F, M, C, R> ParseFunction<M, C, form::ByValueWithRecord<R>> for F
where
    F: Fn(M, &Record<'_>) -> R + Send + Sync + 'static,
    M: Message,
    R: ParseOutput<C>,
{
    const BY_VALUE: bool = true;
    #[inline]
    fn parse(&self, message: MessageSlot<'_, M>) -> Result<Option<C>, ResolverError> {
        let record = message.record();
        self(message.take(), &record).output()
    }
}

/// A [`ParseFunction`], or one that finds the child message as a part of the parent, so that nothing is cloned:
/// `fn(&M) -> Option<&C>`. For resolvers that take the child by reference.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a parse function for messages of type `{C}`",
    label = "expected `fn(&Parent) -> Option<&{C}>`, or `-> Option<{C}>`",
    note = "a parse function takes the source's message and makes the resolver's: `fn(&Parent) -> Option<&{C}>` or `fn(&Parent) -> Option<{C}>`, also by value, with `&Record` as a second argument, and with Result around it"
)]
pub trait ParseRefFunction<M, C, Form>: Send + Sync + 'static {
    /// Whether it takes the message itself.
    const BY_VALUE: bool;

    /// Runs it, and hands what it found to `next`.
    ///
    /// # Errors
    /// The function's own error, with [`Reason::ParseFailed`]; and what `next` says.
    fn parse_ref(
        &self,
        message: MessageSlot<'_, M>,
        next: impl FnOnce(Option<&C>) -> Result<(), ResolverError>,
    ) -> Result<(), ResolverError>;
}

impl<F, M, C, Form> ParseRefFunction<M, C, form::Owned<Form>> for F
where
    F: ParseFunction<M, C, Form>,
{
    const BY_VALUE: bool = F::BY_VALUE;
    #[inline]
    fn parse_ref(
        &self,
        message: MessageSlot<'_, M>,
        next: impl FnOnce(Option<&C>) -> Result<(), ResolverError>,
    ) -> Result<(), ResolverError> {
        next(self.parse(message)?.as_ref())
    }
}
impl<F, M, C> ParseRefFunction<M, C, form::Part> for F
where
    F: for<'a> Fn(&'a M) -> Option<&'a C> + Send + Sync + 'static,
    M: Message,
{
    const BY_VALUE: bool = false;
    #[inline]
    fn parse_ref(
        &self,
        message: MessageSlot<'_, M>,
        next: impl FnOnce(Option<&C>) -> Result<(), ResolverError>,
    ) -> Result<(), ResolverError> {
        next(self(message.get()))
    }
}
impl<F, M, C, E> ParseRefFunction<M, C, form::PartOrError<E>> for F
where
    F: for<'a> Fn(&'a M) -> Result<Option<&'a C>, E> + Send + Sync + 'static,
    M: Message,
    E: fmt::Display,
{
    const BY_VALUE: bool = false;
    #[inline]
    fn parse_ref(
        &self,
        message: MessageSlot<'_, M>,
        next: impl FnOnce(Option<&C>) -> Result<(), ResolverError>,
    ) -> Result<(), ResolverError> {
        next(self(message.get()).map_err(failed)?)
    }
}

/// A stream resolver with a parse function: see [`parsed`] and [`parsed_ref`].
pub struct Parsed<F, G, Types> {
    declaration: StreamDeclaration,
    classes: Vec<&'static FeatureClass>,
    parse: F,
    resolve: G,
    types: PhantomData<fn() -> Types>,
}

/// `M`: the source's message; `C`: the child; by value or by reference.
#[doc(hidden)]
pub struct ByValue<M, C, Row, Form>(PhantomData<(M, C, Row, Form)>);
#[doc(hidden)]
pub struct ByRef<M, C, Row, Form>(PhantomData<(M, C, Row, Form)>);

impl<F, G, Types> Parsed<F, G, Types>
where
    Self: StreamResolver,
{
    #[track_caller]
    fn new<C>(
        name: impl Into<String>,
        source: impl Into<String>,
        outputs: impl IntoIterator<Item = impl Into<String>>,
        by_value: bool,
        parse: F,
        resolve: G,
    ) -> Self {
        let mut declaration =
            StreamDeclaration::of::<Self>(name, source, outputs).parse(short(type_name::<F>()), short(type_name::<C>()));
        declaration.by_value = by_value;
        Self { declaration, classes: Vec::new(), parse, resolve, types: PhantomData }
    }
}

impl<F, G, Types> Parsed<F, G, Types> {
    /// Changes the declaration: what else there is to say of it.
    #[must_use]
    pub fn declare(mut self, change: impl FnOnce(StreamDeclaration) -> StreamDeclaration) -> Self {
        self.declaration = change(self.declaration);
        self
    }
    /// Names the classes that it writes, so that they need not be declared a second time.
    #[must_use]
    pub fn classes(mut self, classes: impl IntoIterator<Item = &'static FeatureClass>) -> Self {
        self.classes.extend(classes);
        self
    }
    fn failed(&self, error: ResolverError) -> ResolverError {
        if error.reason != Reason::ParseFailed {
            return error;
        }
        let function = self.declaration.parse.as_ref().map_or("", |step| step.function.as_str());
        ResolverError { message: format!("parse function {function}: {}", error.message), ..error }
    }
}

/// `get_click` of `app::events::get_click`.
fn short(name: &'static str) -> &'static str {
    let path = name.split('<').next().unwrap_or(name);
    path.rsplit("::").next().map_or(name, |last| &name[path.len() - last.len()..])
}

/// A resolver named `name` of the messages of `source`, which writes `outputs`: `parse` makes a child message of each, and
/// `resolve` writes what follows from it.
#[track_caller]
pub fn parsed<F, G, M, C, Row, Form>(
    name: impl Into<String>,
    source: impl Into<String>,
    outputs: impl IntoIterator<Item = impl Into<String>>,
    parse: F,
    resolve: G,
) -> Parsed<F, G, ByValue<M, C, Row, Form>>
where
    F: ParseFunction<M, C, Form>,
    G: Fn(C, Record<'_>, &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> + Send + Sync + 'static,
    M: Message,
    C: 'static,
    Row: UpdateRow,
    Form: 'static,
{
    Parsed::new::<C>(name, source, outputs, F::BY_VALUE, parse, resolve)
}

/// The same, for a `resolve` that takes the child by reference: then `parse` may return a part of the parent.
#[track_caller]
pub fn parsed_ref<F, G, M, C, Row, Form>(
    name: impl Into<String>,
    source: impl Into<String>,
    outputs: impl IntoIterator<Item = impl Into<String>>,
    parse: F,
    resolve: G,
) -> Parsed<F, G, ByRef<M, C, Row, Form>>
where
    F: ParseRefFunction<M, C, Form>,
    G: Fn(&C, Record<'_>, &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> + Send + Sync + 'static,
    M: Message,
    C: 'static,
    Row: UpdateRow,
    Form: 'static,
{
    Parsed::new::<C>(name, source, outputs, F::BY_VALUE, parse, resolve)
}

/// What both kinds of [`Parsed`] say of themselves.
macro_rules! declared {
    () => {
        type Message = M;
        type Row = Row;

        fn declaration(&self) -> StreamDeclaration {
            self.declaration.clone()
        }
        fn classes(&self) -> Vec<&'static FeatureClass> {
            self.classes.clone()
        }
    };
}

impl<F, G, M, C, Row, Form> StreamResolver for Parsed<F, G, ByValue<M, C, Row, Form>>
where
    F: ParseFunction<M, C, Form>,
    G: Fn(C, Record<'_>, &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> + Send + Sync + 'static,
    M: Message,
    C: 'static,
    Row: UpdateRow,
    Form: 'static,
{
    declared!();

    #[inline]
    fn resolve(&self, message: MessageSlot<'_, M>, out: &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> {
        let record = message.record();
        match self.parse.parse(message).map_err(|error| self.failed(error))? {
            Some(child) => (self.resolve)(child, record, out),
            None => {
                out.skip();
                Ok(())
            }
        }
    }
}

impl<F, G, M, C, Row, Form> StreamResolver for Parsed<F, G, ByRef<M, C, Row, Form>>
where
    F: ParseRefFunction<M, C, Form>,
    G: Fn(&C, Record<'_>, &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> + Send + Sync + 'static,
    M: Message,
    C: 'static,
    Row: UpdateRow,
    Form: 'static,
{
    declared!();

    #[inline]
    fn resolve(&self, message: MessageSlot<'_, M>, out: &mut UpdateWriter<'_, Row>) -> Result<(), ResolverError> {
        let record = message.record();
        let parsed = self.parse.parse_ref(message, |child| match child {
            Some(child) => (self.resolve)(child, record, out),
            None => {
                out.skip();
                Ok(())
            }
        });
        parsed.map_err(|error| self.failed(error))
    }
}
