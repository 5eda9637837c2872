//! Cells read as they lie, without decoding them to a [`Value`](karst_types::Value): this runs for each event.
//!
//! A cell of another type than the one asked for, null and NaN are all "no number here".

use std::{borrow::Cow, cmp::Ordering};

use karst_types::{
    Value, ValueType,
    value::tag::{BYTES, FALSE, FLOAT, INT, NULL, STR, TIME, TRUE},
};

/// Whether there is nothing in it.
#[inline]
pub(super) fn is_null(cell: &[u8]) -> bool {
    matches!(cell.first(), None | Some(&NULL))
}

pub(super) fn is_nan(cell: &[u8]) -> bool {
    matches!(word(cell), Some((FLOAT, bytes)) if f64::from_le_bytes(bytes).is_nan())
}

/// The eight bytes of a number or time.
#[inline]
fn word(cell: &[u8]) -> Option<(u8, [u8; 8])> {
    let (tag, rest) = cell.split_first()?;
    Some((*tag, *rest.first_chunk::<8>()?))
}

#[inline]
pub(super) fn bool(cell: &[u8]) -> Option<bool> {
    match cell.first() {
        Some(&FALSE) => Some(false),
        Some(&TRUE) => Some(true),
        _ => None,
    }
}

#[inline]
pub(super) fn int(cell: &[u8]) -> Option<i64> {
    match word(cell)? {
        (INT, bytes) => Some(i64::from_le_bytes(bytes)),
        _ => None,
    }
}

/// A whole number or a float, never NaN. Whole numbers past 2^53 are rounded.
#[inline]
pub(super) fn float(cell: &[u8]) -> Option<f64> {
    match word(cell)? {
        (FLOAT, bytes) => Some(f64::from_le_bytes(bytes)).filter(|number| !number.is_nan()),
        (INT, bytes) => Some(i64::from_le_bytes(bytes) as f64),
        _ => None,
    }
}

/// A number that is the greater the greater the value is: for whole numbers, times and floats (−0 before 0); none for NaN.
#[inline]
pub(super) fn rank(cell: &[u8], ty: ValueType) -> Option<u64> {
    const SIGN: u64 = 1 << 63;
    match (word(cell)?, ty) {
        ((INT, bytes), ValueType::Int) | ((TIME, bytes), ValueType::Time) => Some(u64::from_le_bytes(bytes) ^ SIGN),
        ((FLOAT | INT, _), ValueType::Float) => {
            let bits = float(cell)?.to_bits();
            Some(if bits & SIGN == 0 { bits | SIGN } else { !bits })
        }
        _ => None,
    }
}

/// The value of a [`rank`].
pub(super) fn of_rank(rank: u64, ty: ValueType) -> Value {
    const SIGN: u64 = 1 << 63;
    match ty {
        ValueType::Int => Value::Int((rank ^ SIGN) as i64),
        ValueType::Time => Value::Time(karst_types::EventTime((rank ^ SIGN) as i64)),
        ValueType::Float => Value::Float(f64::from_bits(if rank & SIGN == 0 { !rank } else { rank ^ SIGN })),
        _ => Value::Null,
    }
}

/// The order of values of one type: false before true, numbers and times by size (−0 before 0, NaN last), text and bytes by their
/// bytes. Values of different types have an order too, though no meaning.
pub(super) fn order(a: &[u8], b: &[u8]) -> Ordering {
    let signed = |bytes: [u8; 8]| i64::from_le_bytes(bytes);
    match (word(a), word(b)) {
        (Some((INT, a)), Some((INT, b))) | (Some((TIME, a)), Some((TIME, b))) => signed(a).cmp(&signed(b)),
        (Some((FLOAT, a)), Some((FLOAT, b))) => f64::from_le_bytes(a).total_cmp(&f64::from_le_bytes(b)),
        _ if a.first() == b.first() => a.get(5..).cmp(&b.get(5..)),
        _ => a.first().cmp(&b.first()),
    }
}

/// The same value as the same bytes: all NaN are one, −0 is 0.
#[inline]
pub(super) fn canonical(cell: &[u8]) -> Cow<'_, [u8]> {
    let same = |number: f64| {
        let mut bytes = vec![FLOAT];
        bytes.extend_from_slice(&number.to_le_bytes());
        Cow::Owned(bytes)
    };
    match word(cell) {
        Some((FLOAT, bytes)) if f64::from_le_bytes(bytes) == 0.0 => same(0.0),
        Some((FLOAT, bytes)) if f64::from_le_bytes(bytes).is_nan() => same(f64::NAN),
        _ => Cow::Borrowed(cell),
    }
}

/// Takes one cell from the front; `None` where there is no whole one.
pub(super) fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    crate::bytes::slice(bytes, Value::encoded_len(bytes)?)
}

/// Whether these bytes are one cell, whole, not null, of this type (any, if it is not known), and nothing else.
pub(super) fn check(cell: &[u8], ty: Option<ValueType>) -> bool {
    let tag = match ty {
        None => None,
        Some(ValueType::Bool) => Some(&[FALSE, TRUE][..]),
        Some(ValueType::Int) => Some(&[INT][..]),
        Some(ValueType::Float) => Some(&[FLOAT, INT][..]),
        Some(ValueType::Time) => Some(&[TIME][..]),
        Some(ValueType::Str) => Some(&[STR][..]),
        Some(ValueType::Bytes) => Some(&[BYTES][..]),
    };
    let known = cell.first().is_some_and(|first| tag.is_none_or(|tag| tag.contains(first)));
    known && !is_null(cell) && Value::decode(cell).is_some_and(|(_, rest)| rest.is_empty())
}

/// The value; null where the bytes are none, which [`check`] has ruled out.
pub(super) fn value(cell: &[u8]) -> Value {
    Value::decode(cell).map(|(value, _)| value).unwrap_or_default()
}
