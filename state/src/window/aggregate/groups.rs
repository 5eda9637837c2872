//! Any aggregate by group: a table from groups to states, with a bound.
//!
//! **Which groups fit.** Of all groups in a window the `max` whose hashes are least: a choice that no order of events and no tree of
//! merges changes. A group that is among the least of a window is so in each of its tiles, so what is kept is complete; a group that
//! had to go cannot come back. What did not fit is counted, by events, exactly.
//!
//! An event whose group is null belongs to none. −0 and 0 are one group, and so are all NaN.

use karst_types::Value;

use super::{Aggregate, Input, Kind, cell, fixed::count, table, table::Table};

/// The state of a group is how many events it had, then the state of the aggregate; for a count these are the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Groups {
    pub of: Aggregate,
    pub max: u32,
}

impl Groups {
    /// Where the state of the aggregate begins.
    fn begin(self) -> usize {
        if matches!(self.of.kind, Kind::Count) { 0 } else { count::LEN }
    }
    fn table(self) -> Table {
        Table { width: self.begin() + self.of.fixed_len().unwrap_or(0) }
    }

    /// Finds or makes the group's place; `None` if it does not fit.
    fn place(self, state: &mut Vec<u8>, group: &[u8]) -> Option<usize> {
        let (table, max) = (self.table(), self.max as usize);
        let at = match table.find(state, group) {
            Ok(at) => return Some(at),
            Err(at) => at,
        };
        if at >= max {
            return None;
        }
        table.insert(state, at, group);
        if table.len(state) > max {
            let gone = count::read(table.fixed(state, max));
            table.remove_last(state);
            table::add_extra(state, gone);
        }
        Some(at)
    }

    /// Takes the event in if that changes no lengths.
    pub(super) fn add_in_place(self, state: &mut [u8], input: &Input<'_>) -> bool {
        let group = cell::canonical(input.group.unwrap_or_default());
        if cell::is_null(&group) {
            return true;
        }
        let table = self.table();
        match table.find(state, &group) {
            Ok(at) if self.of.fixed_len().is_some() => {
                let states = table.fixed_mut(state, at);
                if self.begin() > 0 {
                    count::plus(states, 1);
                }
                self.of.add(&mut states[self.begin()..], input);
                true
            }
            _ => false,
        }
    }

    pub(super) fn add(self, state: &mut Vec<u8>, input: &Input<'_>) {
        let group = cell::canonical(input.group.unwrap_or_default());
        if !cell::is_null(&group) {
            let fixed = |state: &mut [u8]| self.of.add(state, input);
            self.absorb(state, &group, 1, fixed, |variable| self.of.add_variable(variable, input));
        }
    }

    pub(super) fn merge(self, state: &mut Vec<u8>, other: &[u8]) {
        table::add_extra(state, table::extra(other));
        let table = self.table();
        for at in 0..table.len(other) {
            let (events, states) = (count::read(table.fixed(other, at)), &table.fixed(other, at)[self.begin()..]);
            let fixed = |state: &mut [u8]| self.of.merge(state, states);
            let variable = |variable: &mut Vec<u8>| self.of.merge_variable(variable, table.variable(other, at));
            self.absorb(state, table.cell(other, at), events, fixed, variable);
        }
    }

    fn absorb(
        self,
        state: &mut Vec<u8>,
        group: &[u8],
        events: u64,
        fixed: impl FnOnce(&mut [u8]),
        variable: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(at) = self.place(state, group) else { return table::add_extra(state, events) };
        let table = self.table();
        let states = table.fixed_mut(state, at);
        if self.begin() > 0 {
            count::plus(states, events);
        }
        if self.of.fixed_len().is_some() {
            fixed(&mut states[self.begin()..]);
        } else {
            let mut changed = table.variable(state, at).to_vec();
            variable(&mut changed);
            table.set_variable(state, at, &changed);
        }
    }

    fn state(self, state: &[u8], at: usize) -> &[u8] {
        let table = self.table();
        if self.of.fixed_len().is_some() { &table.fixed(state, at)[self.begin()..] } else { table.variable(state, at) }
    }

    /// Group and result, by rising group.
    pub(super) fn finish(self, state: &[u8]) -> Value {
        let table = self.table();
        let mut places: Vec<usize> = (0..table.len(state)).collect();
        places.sort_by(|a, b| cell::order(table.cell(state, *a), table.cell(state, *b)));
        let entry = |at| (cell::value(table.cell(state, at)), self.of.finish(self.state(state, at)));
        Value::Map(places.into_iter().map(entry).collect())
    }

    pub(super) fn check(self, state: &[u8]) -> bool {
        let states = |fixed: &[u8], variable: &[u8]| match self.of.fixed_len() {
            Some(_) => variable.is_empty() && self.of.check(&fixed[self.begin()..]),
            None => self.of.check(variable),
        };
        let table = self.table();
        table.check(state, None, states) && table.len(state) <= self.max as usize
    }
}
