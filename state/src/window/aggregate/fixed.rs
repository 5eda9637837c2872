//! Aggregates of a few bytes that are exact in any order: counts, sums of whole numbers, least and greatest, any and all, and the
//! first or last value of a type of fixed size.
//!
//! Zero bytes are the identity of each. A state of another length than it should have is left as it is.

use karst_types::{Value, ValueType, Version};

use super::cell;

/// `count: u64`
pub(super) mod count {
    use super::*;
    pub(crate) const LEN: usize = 8;

    #[inline]
    pub(crate) fn plus(state: &mut [u8], more: u64) {
        if let Some(count) = state.first_chunk_mut::<8>() {
            *count = u64::from_le_bytes(*count).saturating_add(more).to_le_bytes();
        }
    }
    #[inline]
    pub(crate) fn read(state: &[u8]) -> u64 {
        state.first_chunk::<8>().map_or(0, |count| u64::from_le_bytes(*count))
    }
    pub(crate) fn finish(state: &[u8]) -> Value {
        Value::Int(i64::try_from(read(state)).unwrap_or(i64::MAX))
    }
}

/// `sum: i128`, which no number of events can overflow, then for a mean `count: u64`
pub(super) mod whole {
    use super::*;
    pub(crate) const SUM: usize = 16;
    pub(crate) const MEAN: usize = 24;

    #[inline]
    fn plus(state: &mut [u8], number: i128, count: u64) {
        if let Some((sum, rest)) = state.split_first_chunk_mut::<16>() {
            *sum = i128::from_le_bytes(*sum).wrapping_add(number).to_le_bytes();
            count::plus(rest, count);
        }
    }
    #[inline]
    pub(crate) fn add(state: &mut [u8], value: &[u8]) {
        if let Some(number) = cell::int(value) {
            plus(state, i128::from(number), 1);
        }
    }
    #[inline]
    fn read(state: &[u8]) -> (i128, u64) {
        state.split_first_chunk::<16>().map_or((0, 0), |(sum, rest)| (i128::from_le_bytes(*sum), count::read(rest)))
    }
    #[inline]
    pub(crate) fn merge(state: &mut [u8], other: &[u8]) {
        let (sum, count) = read(other);
        plus(state, sum, count);
    }
    /// Null if the sum is no 64-bit number: a wrong one would be worse, and so it is with `a + b` in an expression.
    pub(crate) fn sum(state: &[u8]) -> Value {
        i64::try_from(read(state).0).map_or(Value::Null, Value::Int)
    }
    pub(crate) fn mean(state: &[u8]) -> Value {
        match read(state) {
            (_, 0) => Value::Null,
            (sum, count) => Value::Float(sum as f64 / count as f64),
        }
    }
}

/// `rank: u64 | seen: u8`: the greatest rank, and for the least value the greatest of what is left of the ranks
pub(super) mod extreme {
    use super::*;
    pub(crate) const LEN: usize = 9;

    #[inline]
    fn keep(state: &mut [u8], rank: u64, seen: u8) {
        if let ([kept], [any]) = state.as_chunks_mut::<8>() {
            *kept = u64::from_le_bytes(*kept).max(rank).to_le_bytes();
            *any |= seen;
        }
    }
    #[inline]
    pub(crate) fn add(state: &mut [u8], value: &[u8], ty: ValueType, greatest: bool) {
        if let Some(rank) = cell::rank(value, ty) {
            keep(state, if greatest { rank } else { !rank }, 1);
        }
    }
    #[inline]
    pub(crate) fn merge(state: &mut [u8], other: &[u8]) {
        if let ([kept], [seen]) = other.as_chunks::<8>() {
            keep(state, u64::from_le_bytes(*kept), *seen);
        }
    }
    pub(crate) fn finish(state: &[u8], ty: ValueType, greatest: bool) -> Value {
        match state.as_chunks::<8>() {
            ([kept], [1]) => {
                let rank = u64::from_le_bytes(*kept);
                cell::of_rank(if greatest { rank } else { !rank }, ty)
            }
            _ => Value::Null,
        }
    }
    pub(crate) fn check(state: &[u8], ty: ValueType, greatest: bool) -> bool {
        match (state.as_chunks::<8>(), finish(state, ty, greatest)) {
            (([rank], [0]), _) => *rank == [0; 8],
            (([_], [1]), Value::Float(number)) => !number.is_nan(),
            (([_], [1]), _) => true,
            _ => false,
        }
    }
}

/// One byte: 1 once false was seen, 2 once true was
pub(super) mod truth {
    use super::*;
    pub(crate) const LEN: usize = 1;
    const FALSE: u8 = 1;
    const TRUE: u8 = 2;

    #[inline]
    pub(crate) fn add(state: &mut [u8], value: &[u8]) {
        if let ([seen], Some(value)) = (state, cell::bool(value)) {
            *seen |= if value { TRUE } else { FALSE };
        }
    }
    #[inline]
    pub(crate) fn merge(state: &mut [u8], other: &[u8]) {
        if let ([seen], [other]) = (state, other) {
            *seen |= other;
        }
    }
    fn has(state: &[u8], bit: u8) -> bool {
        state.first().is_some_and(|seen| seen & bit != 0)
    }
    pub(crate) fn any(state: &[u8]) -> Value {
        Value::Bool(has(state, TRUE))
    }
    pub(crate) fn all(state: &[u8]) -> Value {
        Value::Bool(!has(state, FALSE))
    }
    pub(crate) fn extreme(state: &[u8], greatest: bool) -> Value {
        let (best, other) = if greatest { (TRUE, FALSE) } else { (FALSE, TRUE) };
        match (has(state, best), has(state, other)) {
            (true, _) => Value::Bool(greatest),
            (false, true) => Value::Bool(!greatest),
            (false, false) => Value::Null,
        }
    }
    pub(crate) fn check(state: &[u8]) -> bool {
        matches!(state, [0..=3])
    }
}

/// `cell, filled up with zeros to 9 bytes | version`: the value of the first or last event
pub(super) mod edge {
    use super::*;
    const CELL: usize = 9;
    pub(crate) const LEN: usize = CELL + Version::ENCODED_LEN;

    /// Whether the first of two versions, as bytes, is later.
    #[inline]
    pub(crate) fn is_later(version: &Version, than: &[u8]) -> bool {
        match than.first_chunk::<8>().map(|time| i64::from_le_bytes(*time)) {
            Some(time) if time != version.event_time.0 => version.event_time.0 > time,
            _ => Version::decode(than).is_none_or(|(than, _)| *version > than),
        }
    }

    #[inline]
    fn wins(version: &Version, state: &[u8; LEN], last: bool) -> bool {
        // No two events have one version, so "not later" is "earlier".
        state[0] == 0 || is_later(version, &state[CELL..]) == last
    }
    #[inline]
    pub(crate) fn add(state: &mut [u8], value: &[u8], version: &Version, last: bool) {
        let Ok(state) = <&mut [u8; LEN]>::try_from(state) else { return };
        if !cell::is_null(value) && value.len() <= CELL && wins(version, state, last) {
            state[..CELL].fill(0);
            state[..value.len()].copy_from_slice(value);
            state[CELL..].copy_from_slice(&version.bytes());
        }
    }
    #[inline]
    pub(crate) fn merge(state: &mut [u8], other: &[u8], last: bool) {
        let Ok(state) = <&mut [u8; LEN]>::try_from(state) else { return };
        let Some((version, _)) = other.get(CELL..LEN).and_then(Version::decode) else { return };
        if other[0] != 0 && wins(&version, state, last) {
            state.copy_from_slice(&other[..LEN]);
        }
    }
    pub(crate) fn finish(state: &[u8]) -> Value {
        cell::value(state)
    }
    pub(crate) fn check(state: &[u8], ty: ValueType) -> bool {
        let Some((cell, _)) = state.split_at_checked(CELL).filter(|_| state.len() == LEN) else { return false };
        let length = Value::encoded_len(cell).unwrap_or(0);
        match cell[0] {
            0 => state.iter().all(|byte| *byte == 0),
            _ => cell::check(&cell[..length], Some(ty)) && cell[length..].iter().all(|byte| *byte == 0),
        }
    }
}
