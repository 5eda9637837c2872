//! Records that are one value as a whole: a text (UTF-8), or bytes.
//!
//! The message is made of it through serde, like of any other format. So the message may be a `String` or a `Vec<u8>` itself, a
//! struct around one, or a struct whose one required field takes it, whatever that field is called. A message of any fields (the
//! `karst` command's) gets it as the field `value`.

use std::fmt;

use karst_types::{Message, Reason};
use serde::{
    Deserializer,
    de::{
        self, IntoDeserializer, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    BatchDecoder, Codec, Fault, explain,
    per_record::{DecodeRecord, PerRecord},
};
use crate::SourceSettings;

/// The field that takes the value in a message that takes any field.
const VALUE: &str = "value";

/// Each record is one text, UTF-8.
#[derive(Clone, Debug, Default)]
pub struct TextFormat {}

impl Codec for TextFormat {
    const NAME: &'static str = "text";
    fn decoder<M: Message>(&self, settings: &SourceSettings) -> Box<dyn BatchDecoder> {
        Box::new(PerRecord::<M, _>::new(settings, Text))
    }
}

/// Each record is taken as it is.
#[derive(Clone, Debug, Default)]
pub struct BytesFormat {}

impl Codec for BytesFormat {
    const NAME: &'static str = "bytes";
    fn decoder<M: Message>(&self, settings: &SourceSettings) -> Box<dyn BatchDecoder> {
        Box::new(PerRecord::<M, _>::new(settings, Bytes))
    }
}

struct Text;
struct Bytes;

impl<M: Message> DecodeRecord<M> for Text {
    fn message(&mut self, value: &[u8]) -> Result<M, Fault> {
        let text = simdutf8::compat::from_utf8(value).map_err(|error| explain::not_utf8(value, error.valid_up_to()))?;
        read::<M>(Plain::Text(text))
    }
}

impl<M: Message> DecodeRecord<M> for Bytes {
    fn message(&mut self, value: &[u8]) -> Result<M, Fault> {
        read::<M>(Plain::Bytes(value))
    }
}

fn read<'de, M: Message>(value: Plain<'de>) -> Result<M, Fault> {
    M::deserialize(Whole(value)).map_err(|error| {
        let what = explain::clipped(&error.0, 2 * explain::QUOTED_MAX);
        (Reason::SchemaMismatch, format!("the value as a {}: {what}", M::schema().name))
    })
}

#[derive(Clone, Copy)]
enum Plain<'de> {
    Text(&'de str),
    Bytes(&'de [u8]),
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl de::Error for Refused {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
    /// Without the value, which may be long.
    fn invalid_type(got: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let got = match got {
            Unexpected::Str(_) => "text",
            Unexpected::Bytes(_) => "bytes",
            _ => "something else",
        };
        Self(format!("expected {expected}, got {got}"))
    }
}

/// The value, on its way into a message: not yet in a field.
struct Whole<'de>(Plain<'de>);
/// The value, where it belongs.
#[derive(Clone, Copy)]
struct Value<'de>(Plain<'de>);

impl<'de> IntoDeserializer<'de, Refused> for Value<'de> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Whole<'de> {
    type Error = Refused;

    fn deserialize_struct<V: Visitor<'de>>(self, _: &str, fields: &[&str], visitor: V) -> Result<V::Value, Refused> {
        match fields {
            [] => Err(de::Error::custom("it has no field that could take the value")),
            [only] => visitor.visit_map(MapDeserializer::new(std::iter::once((*only, Value(self.0))))),
            several => match several.iter().find(|name| **name == VALUE) {
                Some(value) => visitor.visit_map(MapDeserializer::new(std::iter::once((*value, Value(self.0))))),
                None => Err(de::Error::custom("it has several fields, and none of them is called \"value\"")),
            },
        }
    }
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_map(MapDeserializer::new(std::iter::once((VALUE, Value(self.0)))))
    }
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        Value(self.0).deserialize_any(visitor)
    }
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        Value(self.0).deserialize_seq(visitor)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(Value(self.0))
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct enum identifier ignored_any
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.0 {
            Plain::Text(text) => visitor.visit_borrowed_str(text),
            Plain::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
        }
    }
    /// `Vec<u8>` is a sequence to serde.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.0 {
            Plain::Text(_) => self.deserialize_any(visitor),
            Plain::Bytes(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
        }
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self.0 {
            Plain::Text(text) => de::value::BorrowedStrDeserializer::new(text).deserialize_enum(name, variants, visitor),
            Plain::Bytes(_) => self.deserialize_any(visitor),
        }
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use karst_types::{BrokerTime, Offset, PartitionId, Records, message::Messages};

    use super::*;
    use crate::{DecodedRecord, Format};

    fn decoded<M: Message>(format: impl Into<Format>, values: &[Option<&[u8]>]) -> (Vec<Option<M>>, Vec<DecodedRecord>) {
        let mut records = Records::new("lines".into(), PartitionId(0));
        for (offset, value) in values.iter().enumerate() {
            records.push(Offset(offset as i64), BrokerTime(0), None, *value);
        }
        let mut settings = SourceSettings::new("lines");
        settings.max_record_bytes = karst_types::ByteSize(8);
        let mut decoded = format.into().decoder::<M>(&settings).decode(&records);
        let messages = decoded.messages.as_any_mut().downcast_mut::<Messages<M>>().unwrap();
        (std::mem::take(&mut messages.slots), decoded.events)
    }

    fn reason(event: &DecodedRecord) -> Option<Reason> {
        match event {
            DecodedRecord::Fault { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    #[test]
    fn a_text_is_a_string_and_what_is_not_utf8_is_a_fault() {
        let values = [Some(&b"ada"[..]), Some(b""), None, Some(b"\xff"), Some(b"123456789")];
        let (messages, events) = decoded::<String>(Format::text(), &values);
        assert_eq!(messages, [Some("ada".to_owned()), Some(String::new()), None, None, None]);
        assert_eq!(events[2], DecodedRecord::Tombstone);
        assert_eq!((reason(&events[3]), reason(&events[4])), (Some(Reason::NotUtf8), Some(Reason::TooLarge)));
    }

    #[test]
    fn bytes_are_taken_as_they_are() {
        let (messages, _) = decoded::<Vec<u8>>(Format::bytes(), &[Some(&b"\xff\x00"[..]), Some(b"")]);
        assert_eq!(messages, [Some(vec![0xff, 0]), Some(vec![])]);
    }

    #[test]
    fn a_struct_with_one_field_takes_the_text_and_one_with_two_needs_a_field_called_value() {
        #[derive(serde::Deserialize, Debug, PartialEq)]
        struct Line {
            text: String,
        }
        #[derive(serde::Deserialize, Debug, PartialEq)]
        struct Two {
            value: String,
            #[serde(default)]
            other: Option<i64>,
        }
        #[derive(serde::Deserialize, Debug, PartialEq)]
        struct Wrong {
            a: String,
            b: i64,
        }
        macro_rules! message {
            ($name:ident) => {
                impl Message for $name {
                    fn schema() -> &'static karst_types::MessageSchema {
                        &karst_types::MessageSchema { name: stringify!($name), fields: &[], event_time: None }
                    }
                }
            };
        }
        message!(Line);
        message!(Two);
        message!(Wrong);
        assert_eq!(decoded::<Line>(Format::text(), &[Some(b"x")]).0, [Some(Line { text: "x".into() })]);
        assert_eq!(decoded::<Two>(Format::text(), &[Some(b"x")]).0, [Some(Two { value: "x".into(), other: None })]);
        let (_, events) = decoded::<Wrong>(Format::text(), &[Some(b"x")]);
        assert_eq!(reason(&events[0]), Some(Reason::SchemaMismatch));
        let (_, events) = decoded::<Line>(Format::bytes(), &[Some(b"\xff")]);
        let DecodedRecord::Fault { error, .. } = &events[0] else { panic!("{events:?}") };
        assert_eq!(error, "the value as a Line: invalid value: byte array, expected a string");
    }
}
