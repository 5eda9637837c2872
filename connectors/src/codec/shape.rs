//! The fast way through flat JSON objects that look alike, as those of one producer do: same keys, same order, same spacing.
//!
//! A [`Shape`] is learned from one document: the text between its values, byte for byte, and which values the message looks
//! at. A document of that shape is then read by comparing these texts and jumping over the values nobody wants.
//!
//! Invariant: what is read here is exactly what `serde_json` would have read. Whatever is not plain (an escape, an exponent,
//! a long number, a nested value, another key) is not read here at all, and `serde_json` decides, also about every error.

use std::{cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, Visitor, value::BorrowedStrDeserializer},
    forward_to_deserialize_any,
};

/// Keys beyond which a shape is not worth its comparisons.
const FIELDS_MAX: usize = 256;
/// How good a new shape is thought to be, and how good at best: a hit counts 1, a miss costs [`MISS`]; below 0 it is dropped.
const TRUST: i32 = 32;
const TRUST_MAX: i32 = 256;
const MISS: i32 = 4;
/// Documents to let pass before a shape is learned again: doubled each time, so that a topic without a shape costs little.
const REST_MIN: u32 = 64;
const REST_MAX: u32 = 1 << 16;

/// What has been learned about the documents of one partition.
pub(super) struct Shapes {
    shape: Option<Shape>,
    trust: i32,
    rest: u32,
    next_rest: u32,
}

impl Shapes {
    pub(super) fn new() -> Self {
        Self { shape: None, trust: 0, rest: 0, next_rest: REST_MIN }
    }

    /// The message, if the document is of the known shape.
    pub(super) fn read<'de, M: Deserialize<'de>>(&mut self, text: &'de str) -> Option<M> {
        let message = self.shape.as_ref()?.read(text);
        self.trust = if message.is_some() { (self.trust + 1).min(TRUST_MAX) } else { self.trust - MISS };
        if self.trust < 0 {
            self.shape = None;
        }
        message
    }

    /// Learns from a document that `serde_json` has read as an `M`, if it is time to.
    pub(super) fn learn<'de, M: Deserialize<'de>>(&mut self, text: &'de str) {
        if self.shape.is_some() {
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        self.shape = Shape::learn::<M>(text);
        (self.trust, self.rest) = (TRUST, self.next_rest);
        self.next_rest = (self.next_rest * 2).min(REST_MAX);
    }
}

struct Field {
    /// From the end of the value before to the start of this one: `,"amount":`.
    before: Box<[u8]>,
    name: Box<str>,
    wanted: bool,
    /// The field's number in the message, if that is known to mean the same as its name: it needs no comparison of texts.
    number: Option<u64>,
}

struct Shape {
    fields: Vec<Field>,
    /// Behind the last value: `}`.
    end: Box<[u8]>,
}

impl Shape {
    fn learn<'de, M: Deserialize<'de>>(text: &'de str) -> Option<Self> {
        let mut shape = Self::outline(text)?;
        let learning = Learning { ignored: shape.fields.iter().map(|_| Cell::new(false)).collect(), ..Learning::default() };
        M::deserialize(Document { shape: &shape, text, learning: Some(&learning) }).ok()?;
        let names = learning.names.get();
        shape.fields.iter_mut().zip(learning.ignored).for_each(|(field, ignored)| field.wanted = !ignored.get());
        for nth in 0..shape.fields.len() {
            let number = names.iter().position(|name| **name == *shape.fields[nth].name).map(|number| number as u64);
            shape.fields[nth].number = number.filter(|number| shape.is_the_same::<M>(text, nth, *number));
        }
        Some(shape)
    }

    /// Whether the message takes this number for the field at `nth`: given both, it must say that it got the field twice.
    fn is_the_same<'de, M: Deserialize<'de>>(&self, text: &'de str, nth: usize, number: u64) -> bool {
        let learning = Learning { again: Some((nth + 1, number)), ..Learning::default() };
        let read = M::deserialize(Document { shape: self, text, learning: Some(&learning) });
        self.fields[nth].wanted && matches!(read, Err(Other { twice: true }))
    }

    /// The texts between the values of a valid document, if it is a flat object.
    fn outline(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let mut fields = Vec::new();
        let mut at = 0;
        loop {
            let start = at;
            at = behind_spaces(bytes, at);
            let opens = if fields.is_empty() { b'{' } else { b',' };
            if *bytes.get(at)? != opens {
                break (*bytes.get(at)? == b'}' && !fields.is_empty()).then(|| Self { fields, end: bytes[start..].into() });
            }
            at = behind_spaces(bytes, at + 1);
            let (Plain::Text(name), after) = plain(text, at)? else { return None };
            at = behind_spaces(bytes, after);
            if *bytes.get(at)? != b':' || fields.len() == FIELDS_MAX {
                return None;
            }
            at = behind_spaces(bytes, at + 1);
            fields.push(Field { before: bytes[start..at].into(), name: name.into(), wanted: true, number: None });
            at = plain(text, at)?.1;
        }
    }

    fn read<'de, M: Deserialize<'de>>(&self, text: &'de str) -> Option<M> {
        M::deserialize(Document { shape: self, text, learning: None }).ok()
    }
}

fn behind_spaces(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count()
}

/// Whether `bytes` start with `text`. The texts between values have some ten bytes: two words then, instead of a call.
#[inline]
fn starts_with(bytes: &[u8], text: &[u8]) -> bool {
    let word = |bytes: &[u8]| bytes.first_chunk::<8>().map(|word| u64::from_ne_bytes(*word));
    match text.len() {
        8..=16 if bytes.len() >= text.len() => {
            let last = text.len() - 8;
            word(bytes) == word(text) && word(&bytes[last..]) == word(&text[last..])
        }
        _ => bytes.starts_with(text),
    }
}

/// A value that needs no further thought.
#[derive(Clone, Copy)]
enum Plain<'de> {
    Text(&'de str),
    Natural(u64),
    Negative(i64),
    Float(f64),
    Bool(bool),
    Null,
}

/// The value that starts at `at`, and where it ends.
#[inline]
fn plain(text: &str, at: usize) -> Option<(Plain<'_>, usize)> {
    let bytes = text.as_bytes();
    match bytes.get(at)? {
        b'"' => {
            let start = at + 1;
            let end = start + text_len(&bytes[start..])?;
            Some((Plain::Text(text.get(start..end)?), end + 1))
        }
        b'-' | b'0'..=b'9' => number(bytes, at),
        b't' => bytes[at..].starts_with(b"true").then_some((Plain::Bool(true), at + 4)),
        b'f' => bytes[at..].starts_with(b"false").then_some((Plain::Bool(false), at + 5)),
        b'n' => bytes[at..].starts_with(b"null").then_some((Plain::Null, at + 4)),
        _ => None,
    }
}

/// Length of a text up to its closing quote; `None` if there is an escape or a control character in it.
#[inline]
fn text_len(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // Eight bytes at once. A borrow can only mark bytes above one that is marked rightly, so the lowest mark is right.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = zeros(word ^ (ONES * u64::from(b'"')));
        let escape = zeros(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (quote | escape | control) & HIGH;
        if found != 0 {
            at += found.trailing_zeros() as usize / 8;
            return (bytes[at] == b'"').then_some(at);
        }
        at += 8;
    }
    let end = at + bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    (bytes[end] == b'"').then_some(end)
}

/// The powers of ten that are exact: a significand below 2^53 divided by one of them is rounded once.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21,
    1e22,
];

#[inline]
fn number(bytes: &[u8], start: usize) -> Option<(Plain<'static>, usize)> {
    let negative = bytes[start] == b'-';
    let first = start + usize::from(negative);
    let mut significand = 0u64;
    let mut digits = |from: usize| {
        let mut at = from;
        while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            significand = significand.wrapping_mul(10).wrapping_add(u64::from(digit));
            at += 1;
        }
        at
    };
    let point = digits(first);
    if point == first || point - first > 18 || (bytes[first] == b'0' && point - first > 1) {
        return None; // no digits, maybe too many, or a leading zero
    }
    if bytes.get(point) != Some(&b'.') {
        return match (negative, significand) {
            (false, natural) => Some((Plain::Natural(natural), point)),
            (true, 0) => None,
            (true, natural) => Some((Plain::Negative(-(natural as i64)), point)),
        };
    }
    let end = digits(point + 1);
    let places = end - point - 1;
    if places == 0 || end - first > 19 || significand >= 1 << 53 {
        return None;
    }
    let float = significand as f64 / TENS[places];
    Some((Plain::Float(if negative { -float } else { float }), end))
}

/// Not of the shape, or not what the message expects: `serde_json` will tell.
#[derive(Debug)]
struct Other {
    /// The message got a field twice.
    twice: bool,
}

const OTHER: Other = Other { twice: false };

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not of the shape")
    }
}
impl std::error::Error for Other {}
impl de::Error for Other {
    fn custom<T: fmt::Display>(_: T) -> Self {
        OTHER
    }
    fn invalid_type(_: de::Unexpected<'_>, _: &dyn de::Expected) -> Self {
        OTHER
    }
    fn invalid_value(_: de::Unexpected<'_>, _: &dyn de::Expected) -> Self {
        OTHER
    }
    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        OTHER
    }
    fn duplicate_field(_: &'static str) -> Self {
        Other { twice: true }
    }
}

/// What is found out while a shape is learned.
#[derive(Default)]
struct Learning {
    /// Is set for values that the message does not look at.
    ignored: Vec<Cell<bool>>,
    /// The message's fields.
    names: Cell<&'static [&'static str]>,
    /// A key to give, by its number, before the field of this place.
    again: Option<(usize, u64)>,
}

struct Document<'a, 'de> {
    shape: &'a Shape,
    text: &'de str,
    learning: Option<&'a Learning>,
}

impl<'de> Deserializer<'de> for Document<'_, 'de> {
    type Error = Other;

    /// Only of structs is it known that keys they ignore once are ignored always.
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Other> {
        Err(OTHER)
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Other> {
        if name.starts_with('$') {
            return Err(OTHER); // serde_json's own: raw values
        }
        if let Some(learning) = self.learning {
            learning.names.set(fields);
        }
        let mut entries = Entries { document: self, next: 0, at: 0 };
        let value = visitor.visit_map(&mut entries)?;
        if entries.next_wanted()?.is_some() || entries.document.text.as_bytes()[entries.at..] != *entries.document.shape.end {
            return Err(OTHER);
        }
        Ok(value)
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Entries<'a, 'de> {
    document: Document<'a, 'de>,
    next: usize,
    /// How far the text is read.
    at: usize,
}

impl<'a> Entries<'a, '_> {
    /// The next field whose value is wanted; its value comes next.
    #[inline]
    fn next_wanted(&mut self) -> Result<Option<&'a Field>, Other> {
        while let Some(field) = self.document.shape.fields.get(self.next) {
            if !starts_with(&self.document.text.as_bytes()[self.at..], &field.before) {
                return Err(OTHER);
            }
            self.at += field.before.len();
            self.next += 1;
            if field.wanted {
                return Ok(Some(field));
            }
            self.at = plain(self.document.text, self.at).ok_or(OTHER)?.1;
        }
        Ok(None)
    }
}

impl<'a, 'de> MapAccess<'de> for &mut Entries<'a, 'de> {
    type Error = Other;
    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Other> {
        let learning = self.document.learning;
        if let Some((_, number)) = learning.and_then(|learning| learning.again).filter(|(place, _)| *place == self.next) {
            return seed.deserialize(de::value::U64Deserializer::new(number)).map(Some);
        }
        match self.next_wanted()? {
            Some(Field { number: Some(number), .. }) => seed.deserialize(de::value::U64Deserializer::new(*number)).map(Some),
            Some(field) => seed.deserialize(de::value::StrDeserializer::new(&field.name)).map(Some),
            None => Ok(None),
        }
    }
    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Other> {
        let (value, end) = plain(self.document.text, self.at).ok_or(OTHER)?;
        self.at = end;
        let ignored = self.document.learning.and_then(|learning| learning.ignored.get(self.next - 1));
        seed.deserialize(One { value, ignored })
    }
}

/// One value.
struct One<'a, 'de> {
    value: Plain<'de>,
    ignored: Option<&'a Cell<bool>>,
}

impl<'de> Deserializer<'de> for One<'_, 'de> {
    type Error = Other;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Other> {
        match self.value {
            Plain::Text(text) => visitor.visit_borrowed_str(text),
            Plain::Natural(number) => visitor.visit_u64(number),
            Plain::Negative(number) => visitor.visit_i64(number),
            Plain::Float(number) => visitor.visit_f64(number),
            Plain::Bool(value) => visitor.visit_bool(value),
            Plain::Null => visitor.visit_unit(),
        }
    }
    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Other> {
        if let Plain::Null = self.value { visitor.visit_none() } else { visitor.visit_some(self) }
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Other> {
        if name.starts_with('$') { Err(OTHER) } else { visitor.visit_newtype_struct(self) }
    }
    fn deserialize_enum<V: Visitor<'de>>(self, _: &str, _: &[&str], visitor: V) -> Result<V::Value, Other> {
        match self.value {
            Plain::Text(text) => visitor.visit_enum(BorrowedStrDeserializer::new(text)),
            _ => Err(OTHER),
        }
    }
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Other> {
        if let Some(ignored) = self.ignored {
            ignored.set(true);
        }
        visitor.visit_unit()
    }
    /// `serde_json` treats these in ways of its own.
    fn deserialize_bytes<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Other> {
        Err(OTHER)
    }
    fn deserialize_byte_buf<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Other> {
        Err(OTHER)
    }
    fn deserialize_i128<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Other> {
        Err(OTHER)
    }
    fn deserialize_u128<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Other> {
        Err(OTHER)
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string unit unit_struct seq tuple tuple_struct map struct identifier
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug, PartialEq)]
    struct Card {
        user: String,
        amount: f64,
        at: i64,
        small: Option<u8>,
        status: Status,
        note: Option<String>,
        flag: bool,
    }

    #[derive(serde::Deserialize, Debug, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Status {
        Good,
        Bad,
    }

    const CARD: &str = r#"{"skipped":"it's","user":"ada","amount":12.50,"n":-7,"at":1700000000000,"small": 200, "status":"good","x":null,"note":null,"flag":true,"y":0.25}"#;

    /// As bits, so that -0 and 0 differ.
    fn of(card: Card) -> (u64, Card) {
        (card.amount.to_bits(), card)
    }

    #[test]
    fn a_document_of_the_shape_is_read_and_others_are_left() {
        let shape = Shape::learn::<Card>(CARD).unwrap();
        let wanted: Vec<_> = shape.fields.iter().filter(|field| field.wanted).map(|field| &*field.name).collect();
        assert_eq!(wanted, ["user", "amount", "at", "small", "status", "note", "flag"]);
        assert_eq!(of(shape.read(CARD).unwrap()), of(serde_json::from_str(CARD).unwrap()));
        for (from, to) in [
            ("\"ada\"", "\"a\\u0064a\""),
            ("\"it's\"", "\"it\\\"s\""),
            ("\"it's\"", "[1]"),
            ("\"it's\"", "\"tab\there\""),
            ("\"user\"", "\"User\""),
            ("12.50", "1250e-2"),
            ("-7", "07"),
            ("-7", "-"),
            ("1700000000000", "123456789012345678901"),
            ("true", "1"),
            ("good", "best"),
            ("0.25}", "0.25"),
            ("0.25}", "0.25}}"),
            ("0.25}", "0.25,\"z\":1}"),
            ("0.25", "0."),
        ] {
            let other = CARD.replacen(from, to, 1);
            assert_ne!(other, CARD);
            assert!(shape.read::<Card>(&other).is_none(), "{other}");
        }
    }

    #[test]
    fn fields_go_by_their_numbers_where_these_mean_the_same_as_the_names() {
        #[derive(serde::Deserialize, Debug, PartialEq)]
        struct Renamed {
            #[serde(alias = "uid", alias = "name")]
            user: String,
            #[serde(rename = "sum", default)]
            amount: f64,
            #[serde(skip)]
            _kept: u8,
            at: i64,
        }
        let numbers = |shape: &Shape| shape.fields.iter().map(|field| field.number.is_some()).collect::<Vec<_>>();
        let shape = Shape::learn::<Card>(CARD).unwrap();
        assert_eq!(numbers(&shape), shape.fields.iter().map(|field| field.wanted).collect::<Vec<_>>());
        for text in [
            r#"{"at":7,"x":1,"uid":"ada","sum":2.5}"#,
            r#"{"user":"ada","at":7}"#,
            r#"{"sum":1.0,"name":"ada","at":7,"_kept":9}"#,
        ] {
            let shape = Shape::learn::<Renamed>(text).unwrap();
            assert_eq!(shape.read::<Renamed>(text), serde_json::from_str(text).ok(), "{text}");
        }
    }

    /// Documents that are nearly of the shape: whatever is read here, `serde_json` reads the same.
    #[test]
    fn what_is_read_is_what_serde_json_reads() {
        let shape = Shape::learn::<Card>(CARD).unwrap();
        let pieces = [
            "0",
            "00",
            "-0",
            "-0.0",
            "1",
            "9",
            "255",
            "256",
            "0.1",
            "3.14159",
            "9007199254740993.5",
            "900719925474099.3",
            "1e5",
            ".5",
            "5.",
            "123456789012345678",
            "1234567890123456789",
            "18446744073709551615",
            "-9223372036854775808",
            "0.0000000000000001",
            "null",
            "true",
            "fals",
            "\"\"",
            "\"bad\"",
            "\"é\"",
            "\"a\\n\"",
            "\"\u{1}\"",
            "{}",
            "[]",
            " ",
            ",",
            ":",
            "}",
            "\"",
            "\\",
            "",
            "\"a longer text without anything odd in it\"",
            "\"a longer text with one odd thing \\ in it\"",
            "\u{7f}",
            "€",
        ];
        let mut state = 7u64;
        let mut random = |end: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % end
        };
        let values: Vec<(usize, usize)> = {
            let mut at = 0;
            let end_of = |field: &Field, at: &mut usize| {
                *at += field.before.len();
                let start = *at;
                *at = plain(CARD, start).unwrap().1;
                (start, *at)
            };
            shape.fields.iter().map(|field| end_of(field, &mut at)).collect()
        };
        let (mut read, mut left) = (0, 0);
        for _ in 0..200_000 {
            let (mut start, mut end) = values[random(values.len())];
            if random(4) == 0 {
                start = random(CARD.len());
                end = (start + random(3)).min(CARD.len());
            }
            let text = [&CARD[..start], pieces[random(pieces.len())], &CARD[end..]].concat();
            match shape.read::<Card>(&text) {
                Some(card) => {
                    assert_eq!(serde_json::from_str(&text).map(of).ok(), Some(of(card)), "{text}");
                    read += 1;
                }
                None => left += 1,
            }
        }
        assert!(read > 10_000 && left > 10_000, "{read} read, {left} left");
    }

    #[test]
    fn a_shape_that_does_not_fit_is_dropped_and_another_learned() {
        let mut shapes = Shapes::new();
        shapes.learn::<Card>(CARD);
        assert!(shapes.read::<Card>(CARD).is_some());
        let other = CARD.replace("\"n\"", "\"m\"");
        let mut first = None;
        for round in 0..1000 {
            if shapes.read::<Card>(&other).is_some() {
                first.get_or_insert(round);
            } else {
                shapes.learn::<Card>(&other);
            }
        }
        assert!(first.is_some_and(|round| round < 100), "{first:?}");
    }
}
