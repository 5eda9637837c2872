//! What may be wrong with a datum of a binary format, sorted by whose fault it is: of the bytes, of the value, or of the schema it
//! was written with.

use std::fmt;

use karst_types::Reason;
use serde::de::{self, Unexpected};

use super::{
    Fault,
    explain::{QUOTED_MAX, clipped},
};

/// Boxed, since results of it are returned for every value.
#[derive(Debug)]
pub(super) struct DatumError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    reason: Reason,
    what: String,
    /// A field of the message that was not there.
    missing: Option<&'static str>,
    /// Innermost first.
    path: Vec<String>,
}

impl DatumError {
    #[cold]
    fn new(reason: Reason, what: String) -> Self {
        Self(Box::new(Inner { reason, what, missing: None, path: Vec::new() }))
    }
    /// The bytes are no datum of the writer's schema.
    #[cold]
    pub(super) fn malformed(what: String) -> Self {
        Self::new(Reason::Malformed, what)
    }
    #[cold]
    pub(super) fn not_utf8(at: usize, valid: usize) -> Self {
        Self::new(Reason::NotUtf8, format!("the string at byte {at} is not UTF-8 from its byte {valid} on"))
    }
    /// The datum is well formed, but this value is not what the reader expects.
    #[cold]
    pub(super) fn mismatch(what: String) -> Self {
        Self::new(Reason::SchemaMismatch, what)
    }
    /// Names the field in which it happened.
    #[cold]
    pub(super) fn within(mut self, field: &str) -> Self {
        self.0.path.push(field.to_owned());
        self
    }
    /// The field of the message itself that was not there, if that is what is wrong.
    pub(super) fn missing(&self) -> Option<&'static str> {
        self.0.missing.filter(|_| self.0.path.len() == 1)
    }
    /// For the dead letter.
    pub(super) fn fault(self, message: &str) -> Fault {
        let Inner { reason, what, path, .. } = *self.0;
        let what = clipped(&what, 3 * QUOTED_MAX);
        if path.is_empty() {
            return (reason, format!("the datum as a {message}: {what}"));
        }
        let path = path.iter().rev().map(String::as_str).collect::<Vec<_>>().join(".");
        (reason, format!("field \"{}\": {what}", clipped(&path, QUOTED_MAX)))
    }
}

impl fmt::Display for DatumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)
    }
}
impl std::error::Error for DatumError {}

impl de::Error for DatumError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self::mismatch(what.to_string())
    }
    /// A null where none is allowed is the value's fault; everything else the schema decides for all values.
    fn invalid_type(got: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let (reason, got) = match got {
            Unexpected::Unit | Unexpected::Option => (Reason::SchemaMismatch, "null"),
            Unexpected::Bool(_) => (Reason::SchemaIncompatible, "a boolean"),
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => (Reason::SchemaIncompatible, "a whole number"),
            Unexpected::Float(_) => (Reason::SchemaIncompatible, "a number with a fraction"),
            Unexpected::Str(_) | Unexpected::Char(_) => (Reason::SchemaIncompatible, "a string"),
            Unexpected::Bytes(_) => (Reason::SchemaIncompatible, "bytes"),
            Unexpected::Seq => (Reason::SchemaIncompatible, "an array"),
            Unexpected::Map | Unexpected::StructVariant => (Reason::SchemaIncompatible, "a record or map"),
            _ => (Reason::SchemaIncompatible, "something else"),
        };
        Self::new(reason, format!("expected {}, got {got}", clipped(&expected.to_string(), QUOTED_MAX)))
    }
    fn missing_field(field: &'static str) -> Self {
        let what = "it is missing: the schema it was written with does not have it, or need not have it".to_owned();
        let mut error = Self::new(Reason::SchemaIncompatible, what).within(field);
        error.0.missing = Some(field);
        error
    }
    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self::new(Reason::SchemaIncompatible, "the message has no such field".to_owned()).within(field)
    }
    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Reason::SchemaIncompatible, "the schema it was written with has it twice".to_owned()).within(field)
    }
}
