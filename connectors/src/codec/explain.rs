//! Why a JSON record could not be decoded, for the person who has to mend it: which field, where, what was expected, what was
//! there. Slow, and only run for records that failed. Never quotes more than [`QUOTED_MAX`] characters of the data.

use karst_types::{Message, Reason};
use serde::de::IgnoredAny;
use serde_json::{Deserializer, Error, error::Category};

/// A record may hold personal data, and may be 10 MB: quote little.
pub(super) const QUOTED_MAX: usize = 80;

/// A value that is not UTF-8 from byte `at` on.
pub(super) fn not_utf8(value: &[u8], at: usize) -> (Reason, String) {
    if value.starts_with(&[0xff, 0xfe]) || value.starts_with(&[0xfe, 0xff]) {
        return (Reason::NotUtf8, "expected UTF-8, got the byte order mark of UTF-16 at byte 0".into());
    }
    let byte = value.get(at).copied().unwrap_or_default();
    (Reason::NotUtf8, format!("expected UTF-8, got the byte 0x{byte:02x} at byte {at} of {}", value.len()))
}

/// Why `text` is no `M`; `error` is what the fast path said.
pub(super) fn failed<M: Message>(text: &str, error: &Error) -> (Reason, String) {
    if text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
        return (Reason::Empty, format!("expected a JSON document with a {}, got nothing", M::schema().name));
    }
    if text.starts_with('\u{feff}') {
        return (Reason::Malformed, "expected JSON, got a byte order mark at byte 0".into());
    }
    // serde reports the first mismatch it meets, even in a document that breaks off later: what is not JSON comes first.
    // Nothing recurses here, however deep the document is.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return (Reason::Malformed, malformed(&error, text.len()));
    }
    if error.classify() == Category::Syntax && error.to_string().starts_with("recursion limit") {
        return (Reason::Malformed, malformed(error, text.len()));
    }
    let mut deserializer = Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, M>(&mut deserializer) {
        Err(error) => (Reason::SchemaMismatch, mismatch::<M>(&error.path().to_string(), error.inner())),
        Ok(_) => (Reason::SchemaMismatch, mismatch::<M>(".", error)), // cannot be: it failed a moment ago
    }
}

fn malformed(error: &Error, len: usize) -> String {
    let (what, at) = (words(error), place(error));
    match error.classify() {
        Category::Eof => format!("the JSON document breaks off {at}, after {len} bytes: {what}"),
        _ => format!("not JSON: {what} {at}"),
    }
}

/// `field "a.b": expected i64, got string "x" at line 1 column 7`.
fn mismatch<M: Message>(path: &str, error: &Error) -> String {
    let (what, at) = (words(error), place(error));
    let of = |name: &str| match (path, name) {
        ("." | "", "") => format!("the document, a {}", M::schema().name),
        ("." | "", name) => format!("field \"{}\"", clipped(name, QUOTED_MAX)),
        (path, "") => format!("field \"{}\"", clipped(path, QUOTED_MAX)),
        (path, name) => format!("field \"{}\"", clipped(&format!("{path}.{name}"), QUOTED_MAX)),
    };
    let named = |prefix: &str| what.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('`'));
    if let Some(name) = named("missing field `") {
        let ty =
            M::schema().fields.iter().find(|field| path == "." && field.name == name).map_or("a value", |field| field.ty.rust);
        return format!("{}: expected {ty}, but it is missing {at}", of(name));
    }
    if let Some(name) = named("duplicate field `") {
        return format!("{}: expected once, but it stands there twice {at}", of(name));
    }
    for kind in ["invalid type: ", "invalid value: ", "invalid length "] {
        // what was there may hold the word itself: the last one is serde's
        if let Some((got, expected)) = what.strip_prefix(kind).and_then(|rest| rest.rsplit_once(", expected ")) {
            return format!("{}: expected {}, got {} {at}", of(""), clipped(expected, QUOTED_MAX), clipped(got, QUOTED_MAX));
        }
    }
    format!("{}: {} {at}", of(""), clipped(&what, 2 * QUOTED_MAX))
}

/// What serde says, without the place.
fn words(error: &Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn place(error: &Error) -> String {
    format!("at line {} column {}", error.line(), error.column())
}

/// The first `max` characters, and a mark if there were more.
pub(super) fn clipped(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}
