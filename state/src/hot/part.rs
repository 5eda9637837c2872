//! One part of the hot set: entries by class and key, in places that are used again.

use std::sync::atomic::{AtomicBool, AtomicU8};

use hashbrown::HashTable;
use karst_types::{ClassId, UpdateRef};

use super::ask::ask_for;
use crate::bytes::same;

/// No place.
pub(super) const MISS: u32 = u32::MAX;

pub(super) const DIRTY: u8 = 1;
pub(super) const IN_FLIGHT: u8 = 2;

const INLINE: usize = 22;

/// An entity's key; short ones without an allocation.
pub(super) enum Key {
    Inline(u8, [u8; INLINE]),
    Heap(Box<[u8]>),
}

impl Key {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut inline = [0; INLINE];
        match inline.get_mut(..bytes.len()) {
            Some(start) => {
                start.copy_from_slice(bytes);
                Self::Inline(bytes.len() as u8, inline)
            }
            None => Self::Heap(bytes.into()),
        }
    }
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline(length, bytes) => &bytes[..usize::from(*length)],
            Self::Heap(bytes) => bytes,
        }
    }
    #[inline]
    fn is(&self, key: &[u8]) -> bool {
        match self {
            Self::Inline(length, bytes) => same(&bytes[..usize::from(*length)], key),
            Self::Heap(bytes) => **bytes == *key,
        }
    }
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Inline(..) => 0,
            Self::Heap(bytes) => bytes.len(),
        }
    }
}

/// One cache line: whoever looks for it waits for memory once.
#[repr(align(64))]
pub(super) struct Entry {
    pub(super) hash: u64,
    pub(super) key: Key,
    pub(super) row: Vec<u8>, // empty: the place is free
    pub(super) class: ClassId,
    pub(super) state: AtomicU8,     // DIRTY, IN_FLIGHT; only the writer touches it
    pub(super) touched: AtomicBool, // since the hand of the clock passed
    /// Where the row beside this one was last seen, of the same key and another class: spares a look into the table, and two waits for
    /// memory. It may have left since.
    pub(super) beside: u32,
}

const _: () = assert!(size_of::<Entry>() == 64);

impl Entry {
    pub(super) fn new(class: ClassId, key: &[u8], hash: u64, row: Vec<u8>, state: u8) -> Self {
        let (state, touched) = (AtomicU8::new(state), AtomicBool::new(true));
        Self { hash, key: Key::new(key), row, class, state, touched, beside: MISS }
    }
    pub(super) fn bytes(&self) -> usize {
        // The entry, its row and key, and its share of the table with the usual slack.
        size_of::<Self>() + self.row.capacity() + self.key.heap_bytes() + 8
    }

    /// Whether this is the row of that key. An entry that is free looks like one with an empty row.
    #[inline]
    fn is(&self, class: ClassId, key: &[u8], hash: u64) -> bool {
        self.hash == hash && self.class == class && self.key.is(key)
    }

    /// Asks the memory for the beginning of a row, and for its end.
    #[inline]
    fn ask_for_row(&self) {
        const LINE: usize = 64;
        let last = self.row.len().wrapping_sub(1);
        [0, LINE, 2 * LINE, last, last.wrapping_sub(LINE)].into_iter().filter_map(|at| self.row.get(at)).for_each(ask_for);
    }
}

#[derive(Default)]
pub(super) struct Part {
    table: HashTable<u32>,
    pub(super) entries: Vec<Entry>,
    free: Vec<u32>,
    pub(super) hand: usize,
}

/// Where the table has it: rows beside each other, of one key and hash, do not stand in each other's way.
const fn bucket(class: ClassId, hash: u64) -> u64 {
    hash.rotate_left(32) ^ (class.0 as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
impl Part {
    pub(super) fn find(&self, class: ClassId, key: &[u8], hash: u64) -> Option<u32> {
        self.table.find(bucket(class, hash), |place| self.entries[*place as usize].is(class, key, hash)).copied()
    }

    /// Where the row of `class` is that stands beside the one at `place`, of the same key.
    #[inline]
    pub(super) fn beside(&mut self, place: u32, class: ClassId, key: &[u8], hash: u64) -> Option<u32> {
        let seen = self.entries[place as usize].beside;
        if self.entries.get(seen as usize).is_some_and(|entry| entry.is(class, key, hash) && !entry.row.is_empty()) {
            return Some(seen);
        }
        let found = self.find(class, key, hash)?;
        self.entries[place as usize].beside = found;
        Some(found)
    }

    /// The first of three steps to the places of a group of updates: whatever the table has with as much of their hashes as it knows.
    #[inline]
    pub(super) fn guess<'u>(&self, group: &[u32], nth: &impl Fn(usize) -> UpdateRef<'u>, places: &mut [(u32, u32)]) {
        for (place, index) in places.iter_mut().zip(group) {
            let update = nth(*index as usize);
            let guess = self.table.find(bucket(update.class, update.hash), |_| true).copied();
            *place = (guess.unwrap_or(MISS), MISS);
            guess.and_then(|guess| self.entries.get(guess as usize)).into_iter().for_each(ask_for);
        }
    }

    /// The second: finds the rows of those that were guessed.
    #[inline]
    pub(super) fn find_guessed<'u>(
        &self,
        group: &[u32],
        nth: &impl Fn(usize) -> UpdateRef<'u>,
        class_beside: impl Fn(ClassId) -> Option<ClassId>,
        places: &mut [(u32, u32)],
    ) {
        for ((place, _), index) in places.iter_mut().zip(group) {
            let update = nth(*index as usize);
            let Some(guessed) = self.entries.get(*place as usize) else { continue };
            if !guessed.is(update.class, update.key, update.hash) {
                *place = self.find(update.class, update.key, update.hash).unwrap_or(MISS);
            }
            let Some(entry) = self.entries.get(*place as usize) else { continue };
            entry.ask_for_row();
            if class_beside(update.class).is_some() {
                self.entries.get(entry.beside as usize).into_iter().for_each(ask_for);
            }
        }
    }

    /// The third: finds the rows beside those.
    #[inline]
    pub(super) fn find_beside<'u>(
        &mut self,
        group: &[u32],
        nth: &impl Fn(usize) -> UpdateRef<'u>,
        class_beside: impl Fn(ClassId) -> Option<ClassId>,
        places: &mut [(u32, u32)],
    ) {
        for ((place, other), index) in places.iter_mut().zip(group) {
            let update = nth(*index as usize);
            if *place != MISS
                && let Some(class) = class_beside(update.class)
                && let Some(beside) = self.beside(*place, class, update.key, update.hash)
            {
                *other = beside;
                self.entries[beside as usize].ask_for_row();
            }
        }
    }

    /// While the row that `indexes[nth]` names is read: asks for those that come after it.
    #[inline]
    pub(super) fn ask_ahead(&self, indexes: &[u32], nth: usize) {
        const ENTRIES: usize = 16;
        const ROWS: usize = 8;
        let entry = |ahead: usize| indexes.get(nth + ahead).and_then(|index| self.entries.get(*index as usize));
        entry(ENTRIES).into_iter().for_each(ask_for);
        entry(ROWS).into_iter().for_each(Entry::ask_for_row);
    }

    /// Changes a row; `dirtied` is told if it was clean, and differs now. Returns by how many bytes it has grown.
    #[inline]
    pub(super) fn change(&mut self, place: u32, dirtied: impl FnOnce(u32), change: impl FnOnce(&mut Vec<u8>) -> bool) -> isize {
        let entry = &mut self.entries[place as usize];
        *entry.touched.get_mut() = true;
        let capacity = entry.row.capacity();
        if change(&mut entry.row) {
            let state = *entry.state.get_mut();
            *entry.state.get_mut() = state | DIRTY;
            if state & DIRTY == 0 {
                dirtied(place);
            }
        }
        entry.row.capacity() as isize - capacity as isize
    }

    pub(super) fn insert(&mut self, entry: Entry) -> u32 {
        let hash = bucket(entry.class, entry.hash);
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        let entries = &self.entries;
        let hash_of = |place: &u32| bucket(entries[*place as usize].class, entries[*place as usize].hash);
        self.table.insert_unique(hash, index, hash_of);
        index
    }

    pub(super) fn remove(&mut self, index: u32) {
        let Entry { class, hash, .. } = self.entries[index as usize];
        if let Ok(found) = self.table.find_entry(bucket(class, hash), |other| *other == index) {
            found.remove();
        }
        let entry = &mut self.entries[index as usize];
        (entry.row, entry.key) = (Vec::new(), Key::Inline(0, [0; INLINE]));
        self.free.push(index);
    }
}
