//! A datum as serde sees it: the plan leads, the message picks. Texts and bytes are borrowed from the datum; nothing is allocated
//! but what the message itself owns.
//!
//! What logical types become is a promise, and stands in docs/formats.md.

use karst_types::time::EVENT_TIME;
use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
        value::{BorrowedStrDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    super::datum_error::DatumError as Error,
    input::Input,
    logical::{date, decimal, micros, timestamp, uuid},
    plan::{Handed, Meaning, Node, NodeId, Plan, Record, Written, unfinished},
};

/// One value of a datum.
pub(super) struct Value<'a, 'de> {
    plan: &'de Plan,
    node: &'de Node,
    input: &'a mut Input<'de>,
}

impl<'a, 'de> Value<'a, 'de> {
    #[inline]
    pub(super) fn new(plan: &'de Plan, id: NodeId, input: &'a mut Input<'de>) -> Self {
        Self { plan, node: plan.node(id), input }
    }

    /// The branch that was written, where this is a union. Unions do not stand in unions.
    #[inline]
    fn settled(self) -> Result<Self, Error> {
        match self.node {
            Node::Union(branches) => Ok(self.branch(branches)?.1),
            _ => Ok(self),
        }
    }
    #[inline]
    fn branch(self, branches: &'de [(Box<str>, NodeId)]) -> Result<(&'de str, Self), Error> {
        let (name, node) = &branches[self.input.index("a branch of a union", branches.len())?];
        Ok((name, Self { plan: self.plan, node: self.plan.node(*node), input: self.input }))
    }

    /// A number, as the reader wants it.
    #[inline]
    fn number<V: Visitor<'de>>(self, written: Written, handed: Handed, visitor: V) -> Result<V::Value, Error> {
        match (written, handed) {
            (Written::Int, Handed::Whole) => visitor.visit_i32(self.input.int()?),
            (Written::Int, Handed::Float) => visitor.visit_f32(self.input.int()? as f32),
            (Written::Int, Handed::Double) => visitor.visit_f64(f64::from(self.input.int()?)),
            (Written::Long, Handed::Whole) => visitor.visit_i64(self.input.long()?),
            (Written::Long, Handed::Float) => visitor.visit_f32(self.input.long()? as f32),
            (Written::Long, Handed::Double) => visitor.visit_f64(self.input.long()? as f64),
            (Written::Float, Handed::Double) => visitor.visit_f64(f64::from(self.input.float()?)),
            (Written::Float, _) => visitor.visit_f32(self.input.float()?),
            (Written::Double, _) => visitor.visit_f64(self.input.double()?),
        }
    }

    /// The bytes of a `bytes` or `fixed`, whatever they mean.
    #[inline]
    fn raw(&mut self) -> Result<&'de [u8], Error> {
        match self.node {
            Node::Fixed(size, _) => self.input.take(*size),
            _ => self.input.bytes(),
        }
    }

    /// A value whose logical type says more than its bytes, as a text: for whoever takes anything.
    fn text(mut self, meaning: Meaning) -> Result<String, Error> {
        match meaning {
            Meaning::Timestamp(unit) => Ok(timestamp(self.input.long()?, unit)),
            Meaning::Date => Ok(date(self.input.int()?)),
            Meaning::Decimal(scale) => decimal(self.raw()?, scale),
            Meaning::Uuid => uuid(self.raw()?),
            Meaning::Plain => Err(unfinished()),
        }
    }

    /// In microseconds since the epoch.
    #[inline]
    fn moment(&mut self, meaning: Meaning) -> Result<i128, Error> {
        match meaning {
            Meaning::Timestamp(unit) => Ok(micros(self.input.long()?, unit)),
            _ => Ok(i128::from(self.input.int()?) * 86_400_000_000),
        }
    }

    fn sequence<V: Visitor<'de>>(self, items: NodeId, least: usize, visitor: V) -> Result<V::Value, Error> {
        self.input.enter()?;
        let mut blocks = Blocks { plan: self.plan, node: items, least, left: 0, over: false, input: self.input };
        let value = visitor.visit_seq(&mut blocks)?;
        if blocks.more()? {
            return Err(Error::mismatch("the array has more items than are expected".to_owned()));
        }
        blocks.input.leave();
        Ok(value)
    }

    fn entries<V: Visitor<'de>>(self, values: NodeId, least: usize, visitor: V) -> Result<V::Value, Error> {
        self.input.enter()?;
        let mut blocks = Blocks { plan: self.plan, node: values, least, left: 0, over: false, input: self.input };
        let value = visitor.visit_map(&mut blocks)?;
        if blocks.more()? {
            return Err(Error::mismatch("the map has more entries than are expected".to_owned()));
        }
        blocks.input.leave();
        Ok(value)
    }

    #[inline]
    fn record<V: Visitor<'de>>(self, record: &'de Record, visitor: V) -> Result<V::Value, Error> {
        self.input.enter()?;
        let mut fields = Fields { plan: self.plan, record, next: 0, input: self.input };
        let value = visitor.visit_map(&mut fields)?;
        while let Some(field) = record.fields.get(fields.next) {
            fields.next += 1;
            fields.plan.skip(field.node, fields.input)?;
        }
        fields.input.leave();
        Ok(value)
    }
}

/// Types of numbers: a decimal is one, too, and a logical type on a number is looked through.
macro_rules! numbers {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let mut value = self.settled()?;
            match value.node {
                Node::Number(written, handed, _) => value.number(*written, *handed, visitor),
                Node::Bytes(Meaning::Decimal(scale)) | Node::Fixed(_, Meaning::Decimal(scale)) => {
                    let text = decimal(value.raw()?, *scale)?;
                    match text.parse::<i64>() {
                        Ok(whole) => visitor.visit_i64(whole),
                        Err(_) => visitor.visit_f64(text.parse().unwrap_or(f64::NAN)),
                    }
                }
                _ => value.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut value = self.settled()?;
        match value.node {
            Node::Null => visitor.visit_unit(),
            Node::Boolean => visitor.visit_bool(value.input.boolean()?),
            Node::Number(written, handed, Meaning::Plain) => value.number(*written, *handed, visitor),
            Node::Bytes(Meaning::Plain) | Node::Fixed(_, Meaning::Plain) | Node::StringAsBytes => {
                visitor.visit_borrowed_bytes(value.raw()?)
            }
            Node::String(_) | Node::BytesAsString => visitor.visit_borrowed_str(value.input.string()?),
            Node::Number(_, _, meaning) | Node::Bytes(meaning) | Node::Fixed(_, meaning) => {
                visitor.visit_string(value.text(*meaning)?)
            }
            Node::Enum(symbols) => visitor.visit_borrowed_str(symbol(symbols, value.input)?),
            Node::Array(items, least) => value.sequence(*items, *least, visitor),
            Node::Map(values, least) => value.entries(*values, *least, visitor),
            Node::Record(record) => value.record(record, visitor),
            Node::Refused(why, _) => Err(Error::mismatch(why.to_string())),
            Node::Union(_) | Node::Pending => Err(unfinished()),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = self.settled()?;
        if matches!(value.node, Node::Null) { visitor.visit_none() } else { visitor.visit_some(value) }
    }
    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.plan.skip_value(self.node, self.input)?;
        visitor.visit_unit()
    }
    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        let mut value = self.settled()?;
        match value.node {
            Node::Number(_, _, meaning @ (Meaning::Timestamp(_) | Meaning::Date)) if name == EVENT_TIME => {
                visitor.visit_i128(value.moment(*meaning)?)
            }
            _ => visitor.visit_newtype_struct(value),
        }
    }
    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut value = self.settled()?;
        match value.node {
            Node::Bytes(_) | Node::Fixed(..) => visitor.visit_borrowed_bytes(value.raw()?),
            _ => value.deserialize_any(visitor),
        }
    }
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }
    /// `Vec<u8>` is a sequence to serde.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut value = self.settled()?;
        match value.node {
            Node::Bytes(_) | Node::Fixed(..) | Node::StringAsBytes => {
                let mut bytes = SeqDeserializer::new(value.raw()?.iter().copied());
                let read = visitor.visit_seq(&mut bytes)?;
                bytes.end()?;
                Ok(read)
            }
            _ => value.deserialize_any(visitor),
        }
    }
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }
    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }
    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(self, _: &str, _: &[&str], visitor: V) -> Result<V::Value, Error> {
        match self.node {
            Node::Record(record) => self.record(record, visitor),
            _ => self.deserialize_any(visitor),
        }
    }
    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node {
            Node::String(_) => visitor.visit_borrowed_str(self.input.string()?),
            _ => self.deserialize_any(visitor),
        }
    }
    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }
    /// An Avro enum by its symbol; a union by the name of its branch, with the value inside.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (branch, value) = match self.node {
            Node::Union(branches) => self.branch(branches)?,
            _ => ("", self),
        };
        match value.node {
            Node::Enum(symbols) => visitor.visit_enum(BorrowedStrDeserializer::new(symbol(symbols, value.input)?)),
            Node::String(_) => visitor.visit_enum(BorrowedStrDeserializer::new(value.input.string()?)),
            Node::Refused(..) => value.deserialize_any(visitor),
            _ if branch.is_empty() => value.deserialize_any(visitor),
            _ => visitor.visit_enum(Branch { name: branch, value }),
        }
    }
    numbers!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64);
    forward_to_deserialize_any! { bool char unit unit_struct map identifier }

    fn is_human_readable(&self) -> bool {
        true // what has two forms is read in the one that JSON has, too
    }
}

#[inline]
fn symbol<'de>(symbols: &'de [Option<Box<str>>], input: &mut Input<'de>) -> Result<&'de str, Error> {
    let symbol = symbols[input.index("a symbol", symbols.len())?].as_deref();
    symbol.ok_or_else(|| Error::mismatch("the reader's enum has neither this symbol nor a default".to_owned()))
}

/// The items of an array, or the entries of a map: they come in blocks.
struct Blocks<'a, 'de> {
    plan: &'de Plan,
    node: NodeId,
    least: usize,
    left: u64,
    over: bool,
    input: &'a mut Input<'de>,
}

impl Blocks<'_, '_> {
    /// Whether another one follows.
    #[inline]
    fn more(&mut self) -> Result<bool, Error> {
        if self.left == 0 && !self.over {
            self.left = self.input.block(self.least)?;
            self.over = self.left == 0;
        }
        Ok(!self.over)
    }
}

impl<'de> SeqAccess<'de> for &mut Blocks<'_, 'de> {
    type Error = Error;
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        if !self.more()? {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(Value::new(self.plan, self.node, self.input)).map(Some)
    }
    /// Of the block: it was checked against the bytes that are left.
    fn size_hint(&self) -> Option<usize> {
        usize::try_from(self.left).ok()
    }
}

impl<'de> MapAccess<'de> for &mut Blocks<'_, 'de> {
    type Error = Error;
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        if !self.more()? {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(BorrowedStrDeserializer::new(self.input.string()?)).map(Some)
    }
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(Value::new(self.plan, self.node, self.input))
    }
}

/// The fields of a record: those written, then those that the reader adds.
struct Fields<'a, 'de> {
    plan: &'de Plan,
    record: &'de Record,
    next: usize,
    input: &'a mut Input<'de>,
}

impl<'de> MapAccess<'de> for &mut Fields<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        while let Some(field) = self.record.fields.get(self.next) {
            match &field.name {
                Some(name) => return seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some),
                None => self.plan.skip(field.node, self.input)?,
            }
            self.next += 1;
        }
        match self.record.added.get(self.next - self.record.fields.len()) {
            Some(added) => seed.deserialize(BorrowedStrDeserializer::new(&added.name)).map(Some),
            None => Ok(None),
        }
    }
    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let (index, written) = (self.next, self.record.fields.len());
        self.next += 1;
        match self.record.fields.get(index) {
            Some(field) => seed
                .deserialize(Value::new(self.plan, field.node, self.input))
                .map_err(|error| error.within(field.name.as_deref().unwrap_or_default())),
            None => {
                let added = self.record.added.get(index - written).ok_or_else(unfinished)?;
                let mut datum = Input::new(&added.datum);
                seed.deserialize(Value::new(self.plan, added.node, &mut datum)).map_err(|error| error.within(&added.name))
            }
        }
    }
}

/// A union as a Rust enum.
struct Branch<'a, 'de> {
    name: &'de str,
    value: Value<'a, 'de>,
}

impl<'a, 'de> EnumAccess<'de> for Branch<'a, 'de> {
    type Error = Error;
    type Variant = Self;
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let name = seed.deserialize(IntoDeserializer::<Error>::into_deserializer(self.name))?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Branch<'_, 'de> {
    type Error = Error;
    fn unit_variant(self) -> Result<(), Error> {
        self.value.plan.skip_value(self.value.node, self.value.input)
    }
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.value)
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.value.deserialize_seq(visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.value.deserialize_any(visitor)
    }
}
