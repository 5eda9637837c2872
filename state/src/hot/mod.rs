//! The hot set: rows of one shard in memory, one writer, any number of readers.
//!
//! Invariants:
//! - a row that differs from what is committed (dirty), or is part of a commit on its way (in flight), is never evicted: the
//!   hot set is where it lives;
//! - a lock is held for one read or a few updates, never for a batch: readers wait for some microseconds at most;
//! - bytes stay within the budget as long as rows are committed often enough ([`HotSet::over_budget`] says when they are not).
//!
//! Divided by key hash into 32 parts, each with its own lock. Of the hash, bits 0–4 choose the part, bits 25–31 are the tag
//! and bits 32 upward the bucket in the part's table; the topmost bits chose the shard and are the same for all keys here.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use karst_types::{ClassId, ProcessingTime, UpdateRef};
use parking_lot::RwLock;

use crate::{keys, row};

const PARTS: usize = 32;
/// Updates under one lock: a reader waits for some microseconds at most.
const GROUP: usize = 32;

mod ask;
mod marked;
mod part;
#[cfg(test)]
mod tests;

pub(crate) use ask::ask_for;
pub(crate) use marked::{Copied, CopiedRow, Marked};
use part::{DIRTY, Entry, IN_FLIGHT, MISS, Part};

const fn part_of(hash: u64) -> usize {
    (hash % PARTS as u64) as usize
}

/// Rows that stand beside those of updates, by another class and the same key, and change with them: the tiles of windows.
pub(crate) trait Beside<'u> {
    /// The class of the rows beside those of a class, if there are any.
    fn class(&self, class: ClassId) -> Option<ClassId>;
    /// Takes in the update with this index; says whether the row is another now.
    fn change(&mut self, row: &mut Vec<u8>, index: usize, update: &UpdateRef<'u>) -> bool;
}

/// There are none.
pub(crate) struct NothingBeside;

impl Beside<'_> for NothingBeside {
    fn class(&self, _: ClassId) -> Option<ClassId> {
        None
    }
    fn change(&mut self, _: &mut Vec<u8>, _: usize, _: &UpdateRef<'_>) -> bool {
        false
    }
}

/// Updates that did not find their rows in memory, by index, of each entity in order.
#[derive(Default)]
pub(crate) struct Missed {
    pub(crate) rows: Vec<usize>,
    /// Those whose rows beside were not found, or not looked for, since their own was missing.
    pub(crate) beside: Vec<usize>,
}

/// Some updates of one part: these of an order.
struct Group {
    part: u32,
    start: u32,
    end: u32,
}

/// An order of the updates in which those of one part follow each other, in theirs; and its groups.
fn grouped(count: usize, hash: impl Fn(usize) -> u64) -> (Vec<u32>, Vec<Group>) {
    if count == 1 {
        return (vec![0], vec![Group { part: part_of(hash(0)) as u32, start: 0, end: 1 }]);
    }
    let mut starts = [0u32; PARTS + 1];
    (0..count).for_each(|index| starts[part_of(hash(index)) + 1] += 1);
    (0..PARTS).for_each(|part| starts[part + 1] += starts[part]);
    let mut order = vec![0u32; count];
    let mut next = starts;
    for index in 0..count {
        let place = &mut next[part_of(hash(index))];
        order[*place as usize] = index as u32;
        *place += 1;
    }
    let mut groups = Vec::with_capacity(PARTS + count / GROUP);
    for part in 0..PARTS {
        let (from, to) = (starts[part], starts[part + 1]);
        let starts = (from..to).step_by(GROUP);
        groups.extend(starts.map(|start| Group { part: part as u32, start, end: to.min(start + GROUP as u32) }));
    }
    (order, groups)
}

pub(crate) struct HotSet {
    parts: Box<[RwLock<Part>]>,
    bytes: AtomicUsize,
    entries: AtomicUsize,
    hand: AtomicUsize, // the part that is swept next
    budget: AtomicUsize,
    /// No row is on disk that is not here.
    whole: AtomicBool,
}

impl HotSet {
    pub(crate) fn new(budget: usize) -> Self {
        let parts = (0..PARTS).map(|_| RwLock::default()).collect();
        Self {
            parts,
            bytes: AtomicUsize::new(0),
            entries: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
            budget: AtomicUsize::new(budget),
            whole: AtomicBool::new(false),
        }
    }

    /// Whether a row that is not here is nowhere, so that nobody need ask the disk for it.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.load(Relaxed)
    }
    /// There is no row on disk. It is over with that at the first row that is evicted.
    pub(crate) fn set_whole(&self) {
        self.whole.store(true, Relaxed);
    }

    /// Reads a row under the lock.
    pub(crate) fn read<R>(&self, class: ClassId, key: &[u8], hash: u64, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let part = self.parts[part_of(hash)].read();
        let entry = &part.entries[part.find(class, key, hash)? as usize];
        if !entry.touched.load(Relaxed) {
            entry.touched.store(true, Relaxed);
        }
        Some(read(&entry.row))
    }

    /// Applies `count` updates to the rows that are here, and to those beside them, of each entity in their order. Returns the updates
    /// whose rows are not here.
    pub(crate) fn update<'u, B: Beside<'u>>(
        &self,
        count: usize,
        nth: impl Fn(usize) -> UpdateRef<'u>,
        stored_at: ProcessingTime,
        dirty: &mut Marked,
        beside: &mut B,
    ) -> Missed {
        let mut missed = Missed::default();
        self.in_groups(count, &nth, beside, B::class, |beside, part, number, group, places| {
            let mut grown = 0;
            for ((place, other), index) in places.iter().zip(group) {
                let index = *index as usize;
                let update = nth(index);
                if *place == MISS {
                    missed.rows.push(index);
                } else {
                    let merge = |row: &mut Vec<u8>| row::merge(row, &update, stored_at);
                    grown += part.change(*place, |place| dirty.push(number, place), merge);
                }
                if *other != MISS {
                    let change = |row: &mut Vec<u8>| beside.change(row, index, &update);
                    grown += part.change(*other, |place| dirty.push(number, place), change);
                } else if beside.class(update.class).is_some() {
                    missed.beside.push(index);
                }
            }
            grown
        });
        missed
    }

    /// Applies any `change` to the rows that updates name by class, key and hash; it says whether the row is another now. Returns the
    /// indexes of those whose rows are not here, of each entity in order.
    pub(crate) fn change<'u>(
        &self,
        count: usize,
        nth: impl Fn(usize) -> UpdateRef<'u>,
        dirty: &mut Marked,
        mut change: impl FnMut(&mut Vec<u8>, usize, &UpdateRef<'u>) -> bool,
    ) -> Vec<usize> {
        let mut misses = Vec::new();
        self.in_groups(
            count,
            &nth,
            &mut (),
            |_, _| None,
            |_, part, number, group, places| {
                let mut grown = 0;
                for ((place, _), index) in places.iter().zip(group) {
                    let index = *index as usize;
                    if *place == MISS {
                        misses.push(index);
                    } else {
                        let update = nth(index);
                        grown += part.change(*place, |place| dirty.push(number, place), |row| change(row, index, &update));
                    }
                }
                grown
            },
        );
        misses
    }

    /// Calls `each` with the updates of each part, some at a time, and with the places of their rows and of those beside them ([`MISS`]:
    /// not here), under the lock of the part; it returns by how many bytes the part has grown.
    ///
    /// Looking up is waiting for memory, from the table to the entry to the row to the entry beside. So a group takes a step, asks for
    /// what its next one needs, and some other groups have their turn before that is read.
    fn in_groups<'u, S>(
        &self,
        count: usize,
        nth: &impl Fn(usize) -> UpdateRef<'u>,
        state: &mut S,
        class_beside: impl Fn(&S, ClassId) -> Option<ClassId>,
        mut each: impl FnMut(&mut S, &mut Part, usize, &[u32], &[(u32, u32)]) -> isize,
    ) {
        const STEPS: usize = 4;
        if count == 1 {
            let number = part_of(nth(0).hash);
            let (part, mut places) = (&mut self.parts[number].write(), [(MISS, MISS)]);
            part.guess(&[0], nth, &mut places);
            part.find_guessed(&[0], nth, |class| class_beside(state, class), &mut places);
            part.find_beside(&[0], nth, |class| class_beside(state, class), &mut places);
            self.add_bytes(each(state, part, number, &[0], &places));
            return;
        }
        let (order, groups) = grouped(count, |index| nth(index).hash);
        let mut rings = [[(MISS, MISS); GROUP]; STEPS];
        for turn in 0..groups.len() + STEPS - 1 {
            for step in 0..STEPS {
                let Some(Group { part: number, start, end }) = turn.checked_sub(step).and_then(|nth| groups.get(nth)) else {
                    continue;
                };
                let (part, group) = (&self.parts[*number as usize], &order[*start as usize..*end as usize]);
                let places = &mut rings[(turn - step) % STEPS][..group.len()];
                match step {
                    0 => part.read().guess(group, nth, places),
                    1 => part.read().find_guessed(group, nth, |class| class_beside(state, class), places),
                    2 => part.write().find_beside(group, nth, |class| class_beside(state, class), places),
                    _ => {
                        let grown = each(state, &mut part.write(), *number as usize, group, places);
                        self.add_bytes(grown);
                    }
                }
            }
        }
    }

    fn add_bytes(&self, grown: isize) {
        if grown != 0 {
            self.bytes.fetch_add(grown as usize, Relaxed); // wraps both ways
        }
    }

    /// Applies any `change` to the row under the class, key and hash of `update`, as [`HotSet::change`] does; if it is not here, to one
    /// that `build` makes, which is dirty.
    pub(crate) fn change_or_insert(
        &self,
        update: &UpdateRef<'_>,
        dirty: &mut Marked,
        build: impl FnOnce() -> Vec<u8>,
        change: impl FnOnce(&mut Vec<u8>) -> bool,
    ) {
        let number = part_of(update.hash);
        let mut part = self.parts[number].write();
        match part.find(update.class, update.key, update.hash) {
            Some(place) => {
                let grown = part.change(place, |place| dirty.push(number, place), change);
                self.add_bytes(grown);
            }
            None => {
                let mut row = build();
                change(&mut row);
                let entry = Entry::new(update.class, update.key, update.hash, row, DIRTY);
                self.bytes.fetch_add(entry.bytes(), Relaxed);
                self.entries.fetch_add(1, Relaxed);
                dirty.push(number, part.insert(entry));
            }
        }
    }

    /// Puts in a row as it is committed. The entity must not be here.
    pub(crate) fn insert_committed(&self, class: ClassId, key: &[u8], hash: u64, row: Vec<u8>) {
        let entry = Entry::new(class, key, hash, row, 0);
        self.bytes.fetch_add(entry.bytes(), Relaxed);
        self.entries.fetch_add(1, Relaxed);
        self.parts[part_of(hash)].write().insert(entry);
    }

    /// Copies the dirty rows; they are clean, and in flight, afterwards.
    pub(crate) fn copy_out(&self, dirty: &Marked) -> Copied {
        let usual = self.bytes() / self.len().max(1);
        let mut copied = Copied { bytes: Vec::with_capacity(dirty.len() * usual), rows: Vec::with_capacity(dirty.len()) };
        for (part, indexes) in self.parts.iter().zip(&dirty.parts) {
            let part = part.read();
            for (nth, index) in indexes.iter().enumerate() {
                part.ask_ahead(indexes, nth);
                let entry = &part.entries[*index as usize];
                entry.state.store(IN_FLIGHT, Relaxed);
                let start = copied.bytes.len();
                keys::put_row(&mut copied.bytes, entry.class, entry.key.as_bytes());
                let key_len = copied.bytes.len() - start;
                copied.bytes.extend_from_slice(&entry.row);
                copied.rows.push(CopiedRow { start: start as u32, key_len: key_len as u32, row_len: entry.row.len() as u32 });
            }
        }
        copied
    }

    /// The commit that these rows were part of is written.
    pub(crate) fn landed(&self, in_flight: &Marked) {
        for (part, indexes) in self.parts.iter().zip(&in_flight.parts) {
            if indexes.is_empty() {
                continue;
            }
            let part = part.read();
            for (nth, index) in indexes.iter().enumerate() {
                part.ask_ahead(indexes, nth);
                let state = &part.entries[*index as usize].state;
                state.store(state.load(Relaxed) & !IN_FLIGHT, Relaxed);
            }
        }
    }

    pub(crate) fn over_budget(&self) -> bool {
        self.bytes.load(Relaxed) > self.budget.load(Relaxed)
    }

    /// Evicts rows that nobody touched lately, until the budget holds or `look` rows were looked at. Returns how many went.
    /// The limit keeps one call short also when nearly every row is dirty.
    pub(crate) fn evict(&self, look: usize) -> usize {
        const STEP: usize = 64; // rows under one lock
        let (mut evicted, mut looked) = (0, 0);
        while looked < look && self.over_budget() {
            let mut part = self.parts[self.hand.fetch_add(1, Relaxed) % PARTS].write();
            let length = part.entries.len();
            let start = if part.hand < length { part.hand } else { 0 };
            let end = (start + STEP).min(length);
            part.hand = end;
            looked += (end - start).max(1);
            for place in start..end {
                let entry = &mut part.entries[place];
                if entry.row.is_empty() || *entry.state.get_mut() != 0 || std::mem::take(entry.touched.get_mut()) {
                    continue;
                }
                let bytes = entry.bytes();
                self.whole.store(false, Relaxed);
                part.remove(place as u32);
                self.bytes.fetch_sub(bytes, Relaxed);
                self.entries.fetch_sub(1, Relaxed);
                evicted += 1;
            }
        }
        evicted
    }

    /// Forgets everything: the next reads and updates see what is committed. [`HotSet::set_whole`] has to be said anew.
    pub(crate) fn clear(&self) {
        for part in &self.parts {
            *part.write() = Part::default();
        }
        self.bytes.store(0, Relaxed);
        self.entries.store(0, Relaxed);
        self.whole.store(false, Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn set_budget(&self, bytes: usize) {
        self.budget.store(bytes, Relaxed);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }
    pub(crate) fn len(&self) -> usize {
        self.entries.load(Relaxed)
    }
}
