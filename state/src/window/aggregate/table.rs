//! A map from cells to states, as bytes: what top_k and groups keep.
//!
//! ```text
//! extra (u64) | count (u32) | (hash (u64) | end (u32) | fixed state) × count | (cell | variable state) × count
//! ```
//! Entries rise by hash, then cell; `end` is where an entry's cell and variable state end among all of them. So a known cell is found by
//! halving and its fixed state is changed in place. `extra` is a number for the user of the table. No bytes are an empty table.

use std::{cmp::Ordering, ops::Range};

use karst_types::{Value, ValueType, entity::key_hash};

use super::cell;

const HEAD: usize = 12;

/// Tables whose fixed states have `width` bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub width: usize,
}

fn number<const N: usize>(state: &[u8], at: usize) -> [u8; N] {
    state.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
}

/// The number that belongs to the whole table.
pub(super) fn extra(state: &[u8]) -> u64 {
    u64::from_le_bytes(number(state, 0))
}

pub(super) fn add_extra(state: &mut Vec<u8>, more: u64) {
    if more > 0 {
        state.resize(state.len().max(HEAD), 0);
        let sum = extra(state).saturating_add(more);
        state[..8].copy_from_slice(&sum.to_le_bytes());
    }
}

impl Table {
    fn stride(self) -> usize {
        12 + self.width
    }
    fn entry(self, at: usize) -> usize {
        HEAD + at * self.stride()
    }
    fn hash(self, state: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(number(state, self.entry(at)))
    }
    fn end(self, state: &[u8], at: usize) -> usize {
        u32::from_le_bytes(number(state, self.entry(at) + 8)) as usize
    }
    /// Where the cell and the variable state of an entry are.
    fn tail(self, state: &[u8], at: usize) -> Range<usize> {
        let tails = self.entry(self.len(state));
        let start = if at == 0 { 0 } else { self.end(state, at - 1) };
        tails + start..tails + self.end(state, at)
    }

    pub(super) fn len(self, state: &[u8]) -> usize {
        u32::from_le_bytes(number(state, 8)) as usize
    }
    pub(super) fn cell(self, state: &[u8], at: usize) -> &[u8] {
        let tail = &state[self.tail(state, at)];
        &tail[..Value::encoded_len(tail).unwrap_or(0)]
    }
    pub(super) fn variable(self, state: &[u8], at: usize) -> &[u8] {
        let tail = &state[self.tail(state, at)];
        &tail[Value::encoded_len(tail).unwrap_or(0)..]
    }
    pub(super) fn fixed(self, state: &[u8], at: usize) -> &[u8] {
        &state[self.entry(at) + 12..self.entry(at + 1)]
    }
    pub(super) fn fixed_mut(self, state: &mut [u8], at: usize) -> &mut [u8] {
        &mut state[self.entry(at) + 12..self.entry(at + 1)]
    }

    fn order(self, state: &[u8], at: usize, hash: u64, cell: &[u8]) -> Ordering {
        self.hash(state, at).cmp(&hash).then_with(|| self.cell(state, at).cmp(cell))
    }

    /// Where a cell is, or where it would be.
    pub(super) fn find(self, state: &[u8], cell: &[u8]) -> Result<usize, usize> {
        let hash = key_hash(cell);
        let (mut low, mut high) = (0, self.len(state));
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.order(state, middle, hash, cell) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Puts a cell where [`Self::find`] says that it would be, with zeros for its state.
    pub(super) fn insert(self, state: &mut Vec<u8>, at: usize, cell: &[u8]) {
        state.resize(state.len().max(HEAD), 0);
        let len = self.len(state);
        let start = if at == 0 { 0 } else { self.end(state, at - 1) };
        let place = self.entry(len) + start;
        state.splice(place..place, cell.iter().copied());
        let mut entry = vec![0; self.stride()];
        entry[..8].copy_from_slice(&key_hash(cell).to_le_bytes());
        entry[8..12].copy_from_slice(&(start as u32).to_le_bytes());
        let place = self.entry(at);
        state.splice(place..place, entry);
        self.set_len(state, len + 1);
        self.move_ends(state, at, cell.len() as i64);
    }

    pub(super) fn remove_last(self, state: &mut Vec<u8>) {
        if let Some(last) = self.len(state).checked_sub(1) {
            state.truncate(self.tail(state, last).start);
            state.drain(self.entry(last)..self.entry(last + 1));
            self.set_len(state, last);
        }
    }

    pub(super) fn set_variable(self, state: &mut Vec<u8>, at: usize, variable: &[u8]) {
        let (tail, cell) = (self.tail(state, at), self.cell(state, at).len());
        let before = tail.len() - cell;
        state.splice(tail.start + cell..tail.end, variable.iter().copied());
        self.move_ends(state, at, variable.len() as i64 - before as i64);
    }

    /// Keeps the entries for which `keep`, which may change the fixed state, says so.
    pub(super) fn retain(self, state: &mut Vec<u8>, mut keep: impl FnMut(&mut [u8]) -> bool) {
        let (mut entries, mut tails) = (Vec::with_capacity(state.len()), Vec::new());
        entries.extend_from_slice(&state[..HEAD]);
        let mut kept = 0;
        for at in 0..self.len(state) {
            if keep(self.fixed_mut(state, at)) {
                tails.extend_from_slice(&state[self.tail(state, at)]);
                let start = entries.len();
                entries.extend_from_slice(&state[self.entry(at)..self.entry(at + 1)]);
                entries[start + 8..start + 12].copy_from_slice(&(tails.len() as u32).to_le_bytes());
                kept += 1;
            }
        }
        entries.extend_from_slice(&tails);
        *state = entries;
        self.set_len(state, kept);
    }

    fn set_len(self, state: &mut [u8], len: usize) {
        state[8..HEAD].copy_from_slice(&(len as u32).to_le_bytes());
    }
    fn move_ends(self, state: &mut [u8], from: usize, by: i64) {
        for at in from..self.len(state) {
            let end = (self.end(state, at) as i64 + by) as u32;
            let place = self.entry(at) + 8;
            state[place..place + 4].copy_from_slice(&end.to_le_bytes());
        }
    }

    /// Whether bytes from a disk are a table of cells of this type (any, if it is not known), with nothing else in it.
    pub(super) fn check(self, state: &[u8], ty: Option<ValueType>, states: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        if state.is_empty() {
            return true;
        }
        let len = self.len(state);
        let room = state.len().checked_sub(HEAD).is_some_and(|rest| rest / self.stride() >= len);
        if !room {
            return false;
        }
        let tails = state.len() - self.entry(len);
        let mut end = 0;
        for at in 0..len {
            let next = self.end(state, at);
            if next < end || next > tails {
                return false;
            }
            end = next;
            let cell = self.cell(state, at);
            let rising = at == 0 || self.order(state, at - 1, self.hash(state, at), cell) == Ordering::Less;
            let known = cell::check(cell, ty) && key_hash(cell) == self.hash(state, at);
            if !known || !rising || !states(self.fixed(state, at), self.variable(state, at)) {
                return false;
            }
        }
        end == tails
    }
}
