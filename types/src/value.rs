//! Feature values: their types, and the bytes in which a cell travels from the resolver to the disk.
//!
//! A cell is one tag byte and a payload: null `0`, false `1`, true `2`, int `3` + 8 bytes, float `4` + 8 bytes, time `5` +
//! 8 bytes (all little-endian), text `6` and bytes `7` + a length of 4 bytes + content. Tags are on disk: never reuse one.
//! Lists and maps are results of windowed aggregates: `8` and `9` + a length in bytes of 4 bytes + cells.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::EventTime;

/// The type of a feature.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// true or false
    Bool,
    /// 64-bit signed
    Int,
    /// 64-bit
    Float,
    /// an instant, in microseconds
    Time,
    /// UTF-8
    Str,
    /// anything
    Bytes,
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::Time => "time",
            Self::Str => "str",
            Self::Bytes => "bytes",
        })
    }
}

/// One value, owned: what queries answer with and what hand-written resolvers may write.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Value {
    /// No value; differs from "never written".
    #[default]
    Null,
    /// true or false
    Bool(bool),
    /// 64-bit signed
    Int(i64),
    /// 64-bit
    Float(f64),
    /// an instant
    Time(EventTime),
    /// UTF-8
    Str(CompactString),
    /// anything
    Bytes(Vec<u8>),
    /// What an aggregate with several results gives.
    List(Vec<Value>),
    /// What a grouped aggregate gives: group and result.
    Map(Vec<(Value, Value)>),
}

/// The first byte of a cell, for code that reads cells without decoding them.
pub mod tag {
    #![allow(missing_docs)]
    pub const NULL: u8 = 0;
    pub const FALSE: u8 = 1;
    pub const TRUE: u8 = 2;
    pub const INT: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const TIME: u8 = 5;
    pub const STR: u8 = 6;
    pub const BYTES: u8 = 7;
    pub const LIST: u8 = 8;
    pub const MAP: u8 = 9;
}
use tag::{BYTES, FALSE, FLOAT, INT, LIST, MAP, NULL, STR, TIME, TRUE};

impl Value {
    /// The type, unless it is null, a list or a map.
    pub fn value_type(&self) -> Option<ValueType> {
        Some(match self {
            Self::Null | Self::List(_) | Self::Map(_) => return None,
            Self::Bool(_) => ValueType::Bool,
            Self::Int(_) => ValueType::Int,
            Self::Float(_) => ValueType::Float,
            Self::Time(_) => ValueType::Time,
            Self::Str(_) => ValueType::Str,
            Self::Bytes(_) => ValueType::Bytes,
        })
    }

    /// Appends the cell.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(NULL),
            Self::Bool(value) => value.encode(out),
            Self::Int(value) => value.encode(out),
            Self::Float(value) => value.encode(out),
            Self::Time(value) => value.encode(out),
            Self::Str(value) => value.encode(out),
            Self::Bytes(value) => value.encode(out),
            Self::List(values) => sized(out, LIST, |out| values.iter().for_each(|value| value.encode(out))),
            Self::Map(entries) => sized(out, MAP, |out| {
                entries.iter().for_each(|(group, value)| {
                    group.encode(out);
                    value.encode(out);
                });
            }),
        }
    }

    /// Reads one cell and what follows it; `None` if the bytes are not a cell.
    pub fn decode(cell: &[u8]) -> Option<(Self, &[u8])> {
        let (tag, rest) = cell.split_first()?;
        let fixed = || rest.split_first_chunk::<8>();
        let sized = || {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            rest.split_at_checked(u32::from_le_bytes(*length) as usize)
        };
        Some(match *tag {
            NULL => (Self::Null, rest),
            FALSE => (Self::Bool(false), rest),
            TRUE => (Self::Bool(true), rest),
            INT => fixed().map(|(bytes, rest)| (Self::Int(i64::from_le_bytes(*bytes)), rest))?,
            FLOAT => fixed().map(|(bytes, rest)| (Self::Float(f64::from_le_bytes(*bytes)), rest))?,
            TIME => fixed().map(|(bytes, rest)| (Self::Time(EventTime(i64::from_le_bytes(*bytes))), rest))?,
            STR => {
                let (text, rest) = sized()?;
                (Self::Str(CompactString::from_utf8(text).ok()?), rest)
            }
            BYTES => sized().map(|(bytes, rest)| (Self::Bytes(bytes.to_vec()), rest))?,
            LIST => {
                let (cells, rest) = sized()?;
                (Self::List(flat(cells, &[LIST, MAP])?), rest)
            }
            MAP => {
                let (cells, rest) = sized()?;
                let mut flat = flat(cells, &[MAP])?.into_iter();
                let mut entries = Vec::new();
                while let Some(group) = flat.next() {
                    entries.push((group, flat.next()?));
                }
                (Self::Map(entries), rest)
            }
            _ => return None,
        })
    }

    /// Length in bytes of the cell that `cells` starts with, without decoding it; `None` if it is not a cell.
    #[inline]
    pub fn encoded_len(cells: &[u8]) -> Option<usize> {
        let length = match *cells.first()? {
            NULL | FALSE | TRUE => 1,
            INT | FLOAT | TIME => 9,
            STR | BYTES | LIST | MAP => 5 + u32::from_le_bytes(*cells.get(1..)?.first_chunk::<4>()?) as usize,
            _ => return None,
        };
        (length <= cells.len()).then_some(length)
    }
}

fn sized(out: &mut Vec<u8>, tag: u8, content: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[tag, 0, 0, 0, 0]);
    let start = out.len();
    content(out);
    let length = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&length.to_le_bytes());
}

/// The cells of a list, in which there is no list, or of a map, in which there are no maps: bytes from a disk must not decide how
/// deep we go.
fn flat(mut cells: &[u8], forbidden: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    while let Some(tag) = cells.first() {
        if forbidden.contains(tag) {
            return None;
        }
        let (value, rest) = Value::decode(cells)?;
        values.push(value);
        cells = rest;
    }
    Some(values)
}

/// A Rust type that can be a feature's value. `Option` makes it nullable.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the value of a feature",
    note = "values are bool, integers, f32/f64, String, karst::Str, Vec<u8>, EventTime, and Option of these"
)]
pub trait FeatureValue {
    /// Its type.
    const TYPE: ValueType;
    /// Whether it may be null.
    const NULLABLE: bool = false;
    /// Appends the cell.
    fn encode(&self, out: &mut Vec<u8>);
    /// Appends the bytes of this value as an entity key: text as it is, whole numbers as 8 bytes that sort as the numbers do.
    /// `false` if it cannot be a key (null, or a type that makes no key).
    #[inline]
    fn encode_key(&self, out: &mut Vec<u8>) -> bool {
        let _ = out;
        false
    }
}

/// The bytes of a whole number as an entity key.
#[inline]
pub fn int_key(number: i64) -> [u8; 8] {
    ((number as u64) ^ (1 << 63)).to_be_bytes()
}

macro_rules! int {
    ($($ty:ty)*) => {$(
        impl FeatureValue for $ty {
            const TYPE: ValueType = ValueType::Int;
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.push(INT);
                out.extend_from_slice(&i64::from(*self).to_le_bytes());
            }
            #[inline]
            fn encode_key(&self, out: &mut Vec<u8>) -> bool {
                out.extend_from_slice(&int_key(i64::from(*self)));
                true
            }
        }
    )*};
}
int!(i64 i32 i16 i8 u32 u16 u8);

impl FeatureValue for bool {
    const TYPE: ValueType = ValueType::Bool;
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(if *self { TRUE } else { FALSE });
    }
}
impl FeatureValue for f64 {
    const TYPE: ValueType = ValueType::Float;
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(FLOAT);
        out.extend_from_slice(&self.to_le_bytes());
    }
}
impl FeatureValue for f32 {
    const TYPE: ValueType = ValueType::Float;
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        f64::from(*self).encode(out);
    }
}
impl FeatureValue for EventTime {
    const TYPE: ValueType = ValueType::Time;
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(TIME);
        out.extend_from_slice(&self.0.to_le_bytes());
    }
}
impl FeatureValue for str {
    const TYPE: ValueType = ValueType::Str;
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(STR);
        out.extend_from_slice(&(self.len() as u32).to_le_bytes());
        out.extend_from_slice(self.as_bytes());
    }
    #[inline]
    fn encode_key(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self.as_bytes());
        true
    }
}
macro_rules! text {
    ($($ty:ty)*) => {$(
        impl FeatureValue for $ty {
            const TYPE: ValueType = ValueType::Str;
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) { str::encode(self, out) }
            #[inline]
            fn encode_key(&self, out: &mut Vec<u8>) -> bool { str::encode_key(self, out) }
        }
    )*};
}
text!(String CompactString);

impl FeatureValue for Vec<u8> {
    const TYPE: ValueType = ValueType::Bytes;
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(BYTES);
        out.extend_from_slice(&(self.len() as u32).to_le_bytes());
        out.extend_from_slice(self);
    }
}
impl<T: FeatureValue + ?Sized> FeatureValue for &T {
    const TYPE: ValueType = T::TYPE;
    const NULLABLE: bool = T::NULLABLE;
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode(self, out);
    }
    #[inline]
    fn encode_key(&self, out: &mut Vec<u8>) -> bool {
        T::encode_key(self, out)
    }
}
impl<T: FeatureValue> FeatureValue for Option<T> {
    const TYPE: ValueType = T::TYPE;
    const NULLABLE: bool = true;
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.encode(out),
            None => out.push(NULL),
        }
    }
    #[inline]
    fn encode_key(&self, out: &mut Vec<u8>) -> bool {
        self.as_ref().is_some_and(|value| value.encode_key(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_reads_back_and_is_as_long_as_it_says() {
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::Int(-1),
            Value::Float(0.5),
            Value::Time(EventTime(7)),
            Value::Str("naïve".into()),
            Value::Bytes(vec![0, 255]),
            Value::List(vec![Value::Int(1), Value::Str("two".into())]),
            Value::Map(vec![(Value::Str("UA".into()), Value::Int(3)), (Value::Null, Value::List(vec![Value::Int(1)]))]),
        ];
        let mut cells = Vec::new();
        values.iter().for_each(|value| value.encode(&mut cells));
        let mut rest = &cells[..];
        for value in values {
            let length = Value::encoded_len(rest).unwrap();
            let (read, after) = Value::decode(rest).unwrap();
            assert_eq!(read, value);
            assert_eq!(rest.len() - after.len(), length);
            rest = after;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_truncated_or_unknown_cell_is_refused_not_read_past_its_end() {
        let mut cell = Vec::new();
        "hello".encode(&mut cell);
        for length in 0..cell.len() {
            assert_eq!(Value::decode(&cell[..length]), None);
            assert_eq!(Value::encoded_len(&cell[..length]), None);
        }
        assert_eq!(Value::decode(&[200]), None);
    }

    #[test]
    fn whole_number_keys_sort_as_the_numbers_do() {
        let mut keys = [3, -1, i64::MAX, 0, i64::MIN].map(int_key);
        keys.sort_unstable();
        assert_eq!(keys, [i64::MIN, -1, 0, 3, i64::MAX].map(int_key));
    }
}
