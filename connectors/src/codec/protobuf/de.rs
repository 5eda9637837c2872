//! A dynamic message as serde sees it.
//!
//! Which fields there are: those that were written, and those without presence (proto3 scalars, lists, maps), which have their default
//! when they were not. A field with presence that was not written is not there.

use std::borrow::Cow;

use karst_types::time::{EVENT_TIME, iso};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value as Proto};
use serde::{
    Deserializer,
    de::{
        DeserializeSeed, Error as _, IntoDeserializer, Visitor,
        value::{MapAccessDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

use super::super::datum_error::DatumError as Error;

/// A message.
pub(super) struct Fields<'m>(pub(super) &'m DynamicMessage);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Entries { message: self.0, next: 0, field: None })
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct
        map struct enum identifier ignored_any
    }
}

struct Entries<'m> {
    message: &'m DynamicMessage,
    next: usize,
    field: Option<FieldDescriptor>,
}

impl<'de> serde::de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let descriptor = self.message.descriptor();
        while let Some(field) = descriptor.fields().nth(self.next) {
            self.next += 1;
            if self.message.has_field(&field) || !field.supports_presence() {
                let name = seed.deserialize(IntoDeserializer::<Error>::into_deserializer(field.name()))?;
                self.field = Some(field);
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some(field) = self.field.take() else { return Err(Error::custom("a value without its name")) };
        let value = self.message.get_field(&field);
        // Of lists and maps the kind of the items: which enum their numbers are of.
        seed.deserialize(Value { value, kind: &field.kind() }).map_err(|error| error.within(field.name()))
    }
}

/// A value, and of enums which one.
struct Value<'m> {
    value: Cow<'m, Proto>,
    kind: &'m Kind,
}

/// The seconds and nanoseconds of a `google.protobuf.Timestamp`, in microseconds.
fn timestamp(message: &DynamicMessage) -> Option<i128> {
    if message.descriptor().full_name() != "google.protobuf.Timestamp" {
        return None;
    }
    let seconds = message.get_field_by_name("seconds")?.as_i64()?;
    let nanos = message.get_field_by_name("nanos")?.as_i32()?;
    Some(i128::from(seconds) * 1_000_000 + i128::from(nanos).div_euclid(1_000))
}

/// Found by fuzzing: beyond this, a time used to become the last moment that there is.
fn in_range(micros: i128) -> Result<i64, Error> {
    i64::try_from(micros)
        .map_err(|_| Error::custom("google.protobuf.Timestamp: expected at most 64 bits of microseconds, got more"))
}

/// Whether it is one of the messages around a single value, such as `google.protobuf.Int64Value`.
fn is_wrapper(message: &DynamicMessage) -> bool {
    let descriptor = message.descriptor();
    let name = descriptor.full_name().strip_prefix("google.protobuf.").and_then(|name| name.strip_suffix("Value"));
    name.is_some_and(|name| {
        ["Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes"].contains(&name)
    })
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &*self.value {
            Proto::Bool(value) => visitor.visit_bool(*value),
            Proto::I32(value) => visitor.visit_i32(*value),
            Proto::I64(value) => visitor.visit_i64(*value),
            Proto::U32(value) => visitor.visit_u32(*value),
            Proto::U64(value) => visitor.visit_u64(*value),
            Proto::F32(value) => visitor.visit_f32(*value),
            Proto::F64(value) => visitor.visit_f64(*value),
            Proto::String(text) => visitor.visit_str(text),
            Proto::Bytes(bytes) => visitor.visit_bytes(bytes),
            Proto::EnumNumber(number) => match enum_name(self.kind, *number) {
                Some(name) => visitor.visit_string(name),
                None => visitor.visit_i32(*number),
            },
            Proto::Message(message) => match timestamp(message) {
                Some(micros) => visitor.visit_string(iso(in_range(micros)?)),
                None if is_wrapper(message) => {
                    let field = message.descriptor().fields().next().ok_or_else(|| Error::custom("an empty wrapper"))?;
                    Value { value: message.get_field(&field), kind: &field.kind() }.deserialize_any(visitor)
                }
                None => Fields(message).deserialize_any(visitor),
            },
            Proto::List(items) => {
                let items = items.iter().map(|item| Value { value: Cow::Borrowed(item), kind: self.kind });
                SeqDeserializer::new(items).deserialize_any(visitor)
            }
            Proto::Map(entries) => {
                let kind = match self.kind {
                    Kind::Message(entry) => entry.map_entry_value_field().kind(),
                    other => other.clone(),
                };
                let mut keys: Vec<_> = entries.iter().collect();
                keys.sort_by_key(|(key, _)| *key); // one order for one record, whatever the hash
                let entries =
                    keys.into_iter().map(|(key, value)| (Key(key), Value { value: Cow::Borrowed(value), kind: &kind }));
                MapAccessDeserializer::new(serde::de::value::MapDeserializer::new(entries)).deserialize_any(visitor)
            }
        }
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        match &*self.value {
            Proto::Message(message) if name == EVENT_TIME => match timestamp(message) {
                Some(micros) => visitor.visit_i128(i128::from(in_range(micros)?)),
                None => visitor.visit_newtype_struct(self),
            },
            _ => visitor.visit_newtype_struct(self),
        }
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &*self.value {
            Proto::EnumNumber(number) => match enum_name(self.kind, *number) {
                Some(name) => visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(name)),
                None => Err(Error::mismatch(format!("the enum has no value {number}"))),
            },
            Proto::String(text) => visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(text.as_str())),
            _ => self.deserialize_any(visitor),
        }
    }
    /// An enum as its number.
    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &*self.value {
            Proto::EnumNumber(number) => visitor.visit_i32(*number),
            _ => self.deserialize_any(visitor),
        }
    }
    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i32(visitor)
    }
    /// `Vec<u8>` is a sequence to serde.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &*self.value {
            Proto::Bytes(bytes) => SeqDeserializer::new(bytes.iter().copied()).deserialize_any(visitor),
            _ => self.deserialize_any(visitor),
        }
    }
    forward_to_deserialize_any! {
        bool i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct
        identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Value<'_> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

fn enum_name(kind: &Kind, number: i32) -> Option<String> {
    match kind {
        Kind::Enum(descriptor) => descriptor.get_value(number).map(|value| value.name().to_owned()),
        _ => None,
    }
}

/// A key of a map: a number, or its text for whoever wants a name.
struct Key<'m>(&'m MapKey);

impl<'de> IntoDeserializer<'de, Error> for Key<'_> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Key<'_> {
    type Error = Error;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            MapKey::Bool(value) => visitor.visit_bool(*value),
            MapKey::I32(value) => visitor.visit_i32(*value),
            MapKey::I64(value) => visitor.visit_i64(*value),
            MapKey::U32(value) => visitor.visit_u32(*value),
            MapKey::U64(value) => visitor.visit_u64(*value),
            MapKey::String(text) => visitor.visit_str(text),
        }
    }
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            MapKey::Bool(value) => visitor.visit_string(value.to_string()),
            MapKey::I32(value) => visitor.visit_string(value.to_string()),
            MapKey::I64(value) => visitor.visit_string(value.to_string()),
            MapKey::U32(value) => visitor.visit_string(value.to_string()),
            MapKey::U64(value) => visitor.visit_string(value.to_string()),
            MapKey::String(text) => visitor.visit_str(text),
        }
    }
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}
