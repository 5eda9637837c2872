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
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor, value::BorrowedStrDeserializer},
    forward_to_deserialize_any,
};

mod plain;
#[cfg(test)]
mod tests;

use plain::{Cursor, Kind, Literal, Number, Word};

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
    before: Literal,
    name: Box<str>,
    wanted: bool,
    /// The field's number in the message, if that is known to mean the same as its name: it needs no comparison of texts.
    number: Option<u64>,
}

struct Shape {
    fields: Vec<Field>,
    /// Behind the last value: `}`.
    end: Literal,
    /// The values that are wanted are the message's fields, all of them, in its order: names need not be told.
    in_order: bool,
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
        let wanted = shape.fields.iter().filter(|field| field.wanted).map(|field| field.number);
        shape.in_order = wanted.eq((0..names.len() as u64).map(Some));
        // As a sequence, a struct takes its fields in the order in which it names them: so it is in all formats without names.
        shape.in_order &= shape.read::<M>(text).is_some();
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
                let end = Literal::new(&bytes[start..]);
                break (*bytes.get(at)? == b'}' && !fields.is_empty()).then_some(Self { fields, end, in_order: false });
            }
            at = behind_spaces(bytes, at + 1);
            let mut name_at = Cursor::new(text, at);
            let name = (name_at.kind() == Kind::Text).then(|| name_at.text())??;
            at = behind_spaces(bytes, name_at.at());
            if *bytes.get(at)? != b':' || fields.len() == FIELDS_MAX {
                return None;
            }
            at = behind_spaces(bytes, at + 1);
            fields.push(Field { before: Literal::new(&bytes[start..at]), name: name.into(), wanted: true, number: None });
            let mut value_at = Cursor::new(text, at);
            value_at.skip()?;
            at = value_at.at();
        }
    }

    fn read<'de, M: Deserialize<'de>>(&self, text: &'de str) -> Option<M> {
        M::deserialize(Document { shape: self, text, learning: None }).ok()
    }
}

fn behind_spaces(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count()
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
        let in_order = self.shape.in_order;
        let shape = self.shape;
        let mut entries = Entries { cursor: Cursor::new(self.text, 0), shape, learning: self.learning, next: 0 };
        let value = if in_order { visitor.visit_seq(&mut entries)? } else { visitor.visit_map(&mut entries)? };
        if entries.next_wanted()?.is_some() {
            return Err(OTHER);
        }
        entries.cursor.literal(&shape.end).ok_or(OTHER)?;
        if entries.cursor.is_at_end() { Ok(value) } else { Err(OTHER) }
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Entries<'a, 'de> {
    shape: &'a Shape,
    learning: Option<&'a Learning>,
    next: usize,
    cursor: Cursor<'de>,
}

impl<'a, 'de> Entries<'a, 'de> {
    /// The next field whose value is wanted; its value comes next.
    #[inline]
    fn next_wanted(&mut self) -> Result<Option<&'a Field>, Other> {
        while let Some(field) = self.shape.fields.get(self.next) {
            self.cursor.literal(&field.before).ok_or(OTHER)?;
            self.next += 1;
            if field.wanted {
                return Ok(Some(field));
            }
            self.cursor.skip().ok_or(OTHER)?;
        }
        Ok(None)
    }

    /// The value that comes next.
    #[inline]
    fn value(&mut self) -> One<'_, 'de> {
        let ignored = self.learning.and_then(|learning| learning.ignored.get(self.next - 1));
        One { cursor: &mut self.cursor, ignored }
    }
}

impl<'de> MapAccess<'de> for &mut Entries<'_, 'de> {
    type Error = Other;
    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Other> {
        let learning = self.learning;
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
        seed.deserialize(self.value())
    }
}

impl<'de> SeqAccess<'de> for &mut Entries<'_, 'de> {
    type Error = Other;
    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Other> {
        match self.next_wanted()? {
            Some(_) => seed.deserialize(self.value()).map(Some),
            None => Ok(None),
        }
    }
}

/// One value, not yet read.
struct One<'a, 'de> {
    cursor: &'a mut Cursor<'de>,
    ignored: Option<&'a Cell<bool>>,
}

/// Deserializers that read what they are asked for, if it is there, without asking what is.
macro_rules! at_sight {
    ($($method:ident)*, $kind:ident => $read:ident) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Other> {
            if self.cursor.kind() == Kind::$kind { self.$read(visitor) } else { self.deserialize_any(visitor) }
        }
    )*};
}

impl<'de> One<'_, 'de> {
    #[inline]
    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Other> {
        visitor.visit_borrowed_str(self.cursor.text().ok_or(OTHER)?)
    }
    #[inline]
    fn number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Other> {
        match self.cursor.number().ok_or(OTHER)? {
            Number::Natural(number) => visitor.visit_u64(number),
            Number::Negative(number) => visitor.visit_i64(number),
            Number::Float(number) => visitor.visit_f64(number),
        }
    }
}

impl<'de> Deserializer<'de> for One<'_, 'de> {
    type Error = Other;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Other> {
        match self.cursor.kind() {
            Kind::Text => self.text(visitor),
            Kind::Number => self.number(visitor),
            Kind::Word => match self.cursor.word().ok_or(OTHER)? {
                Word::Bool(value) => visitor.visit_bool(value),
                Word::Null => visitor.visit_unit(),
            },
        }
    }
    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Other> {
        let mut after = *self.cursor;
        if let Some(Word::Null) = after.word() {
            *self.cursor = after;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }
    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Other> {
        if name.starts_with('$') { Err(OTHER) } else { visitor.visit_newtype_struct(self) }
    }
    fn deserialize_enum<V: Visitor<'de>>(self, _: &str, _: &[&str], visitor: V) -> Result<V::Value, Other> {
        if self.cursor.kind() != Kind::Text {
            return Err(OTHER);
        }
        visitor.visit_enum(BorrowedStrDeserializer::new(self.cursor.text().ok_or(OTHER)?))
    }
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Other> {
        if let Some(ignored) = self.ignored {
            ignored.set(true);
        }
        self.cursor.skip().ok_or(OTHER)?;
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
    at_sight!(deserialize_str deserialize_string deserialize_char deserialize_identifier, Text => text);
    at_sight!(
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32
        deserialize_u64 deserialize_f32 deserialize_f64,
        Number => number
    );
    forward_to_deserialize_any! { bool unit unit_struct seq tuple tuple_struct map struct }
}
