//! The first, last, least or greatest few: a list of entries, the one that stands first in the result first.
//!
//! ```text
//! entry: by (a cell; only if ordered by one) | version (26 bytes) | value (a cell)
//! ```
//! The order is of `by` (if there is one), then of versions, never of arrival. It is total, so the list is the same bytes in whatever
//! order events and tiles come. An event whose `by` is null or NaN is passed over.

use std::cmp::Ordering;

use karst_types::{Value, ValueType, Version};

use super::{Input, cell, fixed::edge::is_later};

#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// How many are kept.
    pub n: u16,
    /// Ordered by a second value, the greatest first?
    pub by: Option<bool>,
    /// Of equal `by`, or without one: the latest first, else the earliest.
    pub latest: bool,
}

struct Entry<'a> {
    by: &'a [u8],
    version: &'a [u8],
    value: &'a [u8],
}

impl Order {
    fn entry<'a>(self, bytes: &mut &'a [u8]) -> Option<Entry<'a>> {
        let by = if self.by.is_some() { cell::take(bytes)? } else { &[][..] };
        let version = crate::bytes::slice(bytes, Version::ENCODED_LEN)?;
        Some(Entry { by, version, value: cell::take(bytes)? })
    }

    /// `Less`: `a` stands before `b`.
    #[inline]
    fn compare(self, a: &Entry<'_>, version: &Version, b: &Entry<'_>) -> Ordering {
        let by = match self.by {
            None => Ordering::Equal,
            Some(greatest) => {
                let order = cell::order(a.by, b.by);
                if greatest { order.reverse() } else { order }
            }
        };
        by.then_with(|| if is_later(version, b.version) == self.latest { Ordering::Less } else { Ordering::Greater })
    }

    fn insert(self, state: &mut Vec<u8>, new: &Entry<'_>, version: &Version) {
        let (mut rest, mut count, mut place, mut last) = (&state[..], 0u16, None, 0);
        while let Some(entry) = {
            last = if rest.is_empty() { last } else { state.len() - rest.len() };
            self.entry(&mut rest)
        } {
            count += 1;
            if place.is_none() && self.compare(new, version, &entry) == Ordering::Less {
                place = Some(last);
            }
        }
        let full = count >= self.n;
        let place = match place {
            None if full => return,
            None => state.len(),
            Some(place) => place,
        };
        if full {
            state.truncate(last);
        }
        let parts = [new.by, new.version, new.value];
        let after = state.len() - place;
        parts.iter().for_each(|part| state.extend_from_slice(part));
        state[place..].rotate_left(after);
    }

    pub(super) fn add(self, state: &mut Vec<u8>, input: &Input<'_>) {
        let by = match (self.by, input.by) {
            (None, _) => &[][..],
            (Some(_), Some(by)) if !cell::is_null(by) && !cell::is_nan(by) => by,
            (Some(_), _) => return,
        };
        if !cell::is_null(input.value) {
            self.insert(state, &Entry { by, version: &input.version.bytes(), value: input.value }, input.version);
        }
    }

    pub(super) fn merge(self, state: &mut Vec<u8>, mut other: &[u8]) {
        while let Some(entry) = self.entry(&mut other) {
            if let Some((version, _)) = Version::decode(entry.version) {
                self.insert(state, &entry, &version);
            }
        }
    }

    /// The values, the first of the order first.
    pub(super) fn values(self, mut state: &[u8]) -> impl Iterator<Item = Value> {
        std::iter::from_fn(move || self.entry(&mut state).map(|entry| cell::value(entry.value)))
    }

    /// Entries of the right type in rising order, no more than `n`, and nothing else.
    pub(super) fn check(self, state: &[u8], input: Option<ValueType>) -> bool {
        let (mut rest, mut before, mut count) = (state, None::<Entry<'_>>, 0u32);
        while let Some(entry) = self.entry(&mut rest) {
            let rising = before.is_none_or(|before| {
                Version::decode(before.version)
                    .is_some_and(|(version, _)| self.compare(&before, &version, &entry) == Ordering::Less)
            });
            let by = self.by.is_none() || (cell::check(entry.by, None) && !cell::is_nan(entry.by));
            if !rising || !by || !cell::check(entry.value, input) {
                return false;
            }
            count += 1;
            before = Some(entry);
        }
        rest.is_empty() && count <= u32::from(self.n)
    }
}

/// The least or greatest text: the state is its cell.
pub(super) mod text {
    use super::*;

    /// Whether the value is no better than what there is.
    pub(crate) fn is_kept(state: &[u8], value: &[u8], greatest: bool) -> bool {
        let better = if greatest { Ordering::Greater } else { Ordering::Less };
        cell::is_null(value) || !state.is_empty() && cell::order(value, state) != better
    }
    pub(crate) fn add(state: &mut Vec<u8>, value: &[u8], greatest: bool) {
        if !is_kept(state, value, greatest) {
            state.clear();
            state.extend_from_slice(value);
        }
    }
    pub(crate) fn check(state: &[u8], input: Option<ValueType>) -> bool {
        state.is_empty() || cell::check(state, input)
    }
}
