//! One part of the hot set: entries by class and key, in places that are used again.

use std::sync::atomic::{AtomicBool, AtomicU8};

use hashbrown::HashTable;
use karst_types::ClassId;

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
    pub(super) fn bytes(&self) -> usize {
        // The entry, its row and key, and its share of the table with the usual slack.
        size_of::<Self>() + self.row.capacity() + self.key.heap_bytes() + 8
    }
}

#[derive(Default)]
pub(super) struct Part {
    table: HashTable<u32>,
    pub(super) entries: Vec<Entry>,
    free: Vec<u32>,
    pub(super) hand: usize,
}

const fn bucket(hash: u64) -> u64 {
    hash.rotate_left(32)
}
impl Part {
    pub(super) fn find(&self, class: ClassId, key: &[u8], hash: u64) -> Option<u32> {
        let same = |index: &u32| {
            let entry = &self.entries[*index as usize];
            entry.hash == hash && entry.class == class && entry.key.as_bytes() == key
        };
        self.table.find(bucket(hash), same).copied()
    }

    /// Where the row of `class` is that stands beside the one at `place`, of the same key.
    #[inline]
    pub(super) fn beside(&mut self, place: u32, class: ClassId, key: &[u8], hash: u64) -> Option<u32> {
        let seen = self.entries[place as usize].beside;
        if let Some(entry) = self.entries.get(seen as usize)
            && (entry.hash, entry.class) == (hash, class)
            && !entry.row.is_empty()
            && entry.key.as_bytes() == key
        {
            return Some(seen);
        }
        let found = self.find(class, key, hash)?;
        self.entries[place as usize].beside = found;
        Some(found)
    }

    /// Asks the memory for a row, which it brings while others are looked up.
    #[inline]
    pub(super) fn ask_for(&self, place: u32) -> u8 {
        let row = self.entries.get(place as usize).map_or(&[][..], |entry| &entry.row);
        row.first().copied().unwrap_or_default() ^ row.last().copied().unwrap_or_default()
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
        let hash = entry.hash;
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
        self.table.insert_unique(bucket(hash), index, |index| bucket(entries[*index as usize].hash));
        index
    }

    pub(super) fn remove(&mut self, index: u32) {
        let hash = self.entries[index as usize].hash;
        if let Ok(found) = self.table.find_entry(bucket(hash), |other| *other == index) {
            found.remove();
        }
        let entry = &mut self.entries[index as usize];
        (entry.row, entry.key) = (Vec::new(), Key::Inline(0, [0; INLINE]));
        self.free.push(index);
    }
}
