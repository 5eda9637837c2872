//! The most frequent values: counts of different values, of which a bounded number is kept (Misra and Gries; Agarwal et al.,
//! "Mergeable Summaries", 2012).
//!
//! **Exact** in any order as long as a window has no more than `capacity` = max(256, 16 k) different values. Past that the counts are
//! lowered by what leaves `capacity / 2` of them above zero. So a count is never too high, and too low by at most 1 in
//! `capacity / 2 + 1` of all values (0.8 % of them for k ≤ 16), whatever the order; which of several about equally frequent values are
//! named may then depend on it. Of equal counts the lesser value stands first.
//!
//! `extra` of the table is the sum of what counts were lowered by: the error that there is, at most the bound.

use karst_types::{Value, ValueType};

use super::{cell, fixed::count, table, table::Table};

const TABLE: Table = Table { width: count::LEN };

#[derive(Clone, Copy, Debug)]
pub(super) struct TopK {
    pub k: u16,
}

/// How often each value that is kept was seen, about, by its cell.
pub(super) fn counts(state: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    (0..TABLE.len(state)).map(|at| (count::read(TABLE.fixed(state, at)), TABLE.cell(state, at)))
}

impl TopK {
    fn capacity(self) -> usize {
        (16 * usize::from(self.k)).max(256)
    }

    fn put(state: &mut Vec<u8>, value: &[u8], more: u64) {
        let at = TABLE.find(state, value).unwrap_or_else(|at| {
            TABLE.insert(state, at, value);
            at
        });
        count::plus(TABLE.fixed_mut(state, at), more);
    }

    /// Takes the value in if that changes no lengths.
    pub(super) fn add_in_place(state: &mut [u8], value: &[u8]) -> bool {
        if cell::is_null(value) {
            return true;
        }
        let place = TABLE.find(state, &cell::canonical(value));
        place.map(|at| count::plus(TABLE.fixed_mut(state, at), 1)).is_ok()
    }

    pub(super) fn add(self, state: &mut Vec<u8>, value: &[u8]) {
        if !cell::is_null(value) {
            Self::put(state, &cell::canonical(value), 1);
            self.shrink(state);
        }
    }

    pub(super) fn merge(self, state: &mut Vec<u8>, other: &[u8]) {
        table::add_extra(state, table::extra(other));
        for at in 0..TABLE.len(other) {
            Self::put(state, TABLE.cell(other, at), count::read(TABLE.fixed(other, at)));
        }
        self.shrink(state);
    }

    fn shrink(self, state: &mut Vec<u8>) {
        let (len, keep) = (TABLE.len(state), self.capacity() / 2);
        if len <= self.capacity() {
            return;
        }
        let mut counts: Vec<u64> = counts(state).map(|(count, _)| count).collect();
        let (_, lower_by, _) = counts.select_nth_unstable_by(keep, |a, b| b.cmp(a));
        TABLE.retain(state, |counted| {
            let left = count::read(counted).saturating_sub(*lower_by);
            counted.copy_from_slice(&left.to_le_bytes());
            left > 0
        });
        table::add_extra(state, *lower_by);
    }

    pub(super) fn values(self, state: &[u8]) -> Vec<Value> {
        let mut counts: Vec<(u64, &[u8])> = counts(state).collect();
        counts.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| cell::order(a.1, b.1)));
        counts.into_iter().take(self.k.into()).map(|(_, value)| cell::value(value)).collect()
    }

    pub(super) fn check(self, state: &[u8], input: Option<ValueType>) -> bool {
        TABLE.check(state, input, |counted, rest| count::read(counted) > 0 && rest.is_empty())
            && TABLE.len(state) <= self.capacity()
    }
}
