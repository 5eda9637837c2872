//! The hot set: rows of one shard in memory, one writer, any number of readers.
//!
//! Invariants:
//! - a row that differs from what is committed (dirty), or is part of a commit on its way (in flight), is never evicted: the
//!   hot set is where it lives;
//! - a lock is held for one read or a few updates, never for a batch: readers wait for a microsecond or two at most;
//! - bytes stay within the budget as long as rows are committed often enough ([`HotSet::over_budget`] says when they are not).
//!
//! Divided by key hash into 32 parts, each with its own lock. Of the hash, bits 0–4 choose the part, bits 25–31 are the tag
//! and bits 32 upward the bucket in the part's table; the topmost bits chose the shard and are the same for all keys here.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};

use hashbrown::HashTable;
use karst_types::{ClassId, ProcessingTime, UpdateRef};
use parking_lot::RwLock;

use crate::{keys, row};

const PARTS: usize = 32;

const DIRTY: u8 = 1;
const IN_FLIGHT: u8 = 2;

const INLINE: usize = 22;

/// An entity's key; short ones without an allocation.
enum Key {
    Inline(u8, [u8; INLINE]),
    Heap(Box<[u8]>),
}

impl Key {
    fn new(bytes: &[u8]) -> Self {
        let mut inline = [0; INLINE];
        match inline.get_mut(..bytes.len()) {
            Some(start) => {
                start.copy_from_slice(bytes);
                Self::Inline(bytes.len() as u8, inline)
            }
            None => Self::Heap(bytes.into()),
        }
    }
    fn as_bytes(&self) -> &[u8] {
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

struct Entry {
    hash: u64,
    key: Key,
    row: Vec<u8>, // empty: the place is free
    class: ClassId,
    state: AtomicU8,     // DIRTY, IN_FLIGHT; only the writer touches it
    touched: AtomicBool, // since the hand of the clock passed
}

impl Entry {
    fn bytes(&self) -> usize {
        // The entry, its row and key, and its share of the table with the usual slack.
        size_of::<Self>() + self.row.capacity() + self.key.heap_bytes() + 8
    }
}

#[derive(Default)]
struct Part {
    table: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    hand: usize,
}

const fn bucket(hash: u64) -> u64 {
    hash.rotate_left(32)
}
const fn part_of(hash: u64) -> usize {
    (hash % PARTS as u64) as usize
}

impl Part {
    fn find(&self, class: ClassId, key: &[u8], hash: u64) -> Option<u32> {
        let same = |index: &u32| {
            let entry = &self.entries[*index as usize];
            entry.hash == hash && entry.class == class && entry.key.as_bytes() == key
        };
        self.table.find(bucket(hash), same).copied()
    }

    fn insert(&mut self, entry: Entry) -> u32 {
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

    fn remove(&mut self, index: u32) {
        let hash = self.entries[index as usize].hash;
        if let Ok(found) = self.table.find_entry(bucket(hash), |other| *other == index) {
            found.remove();
        }
        let entry = &mut self.entries[index as usize];
        (entry.row, entry.key) = (Vec::new(), Key::Inline(0, [0; INLINE]));
        self.free.push(index);
    }
}

/// Entries by part: what is dirty, or in flight.
pub(crate) struct Marked {
    parts: Vec<Vec<u32>>,
    len: usize,
}

impl Default for Marked {
    fn default() -> Self {
        Self { parts: vec![Vec::new(); PARTS], len: 0 }
    }
}

impl Marked {
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Rows copied out for a commit: RocksDB key and row of each, one after the other.
#[derive(Default)]
pub(crate) struct Copied {
    pub(crate) bytes: Vec<u8>,
    pub(crate) rows: Vec<CopiedRow>,
}

#[derive(Clone, Copy)]
pub(crate) struct CopiedRow {
    start: u32,
    key_len: u32,
    row_len: u32,
}

impl Copied {
    pub(crate) fn key(&self, row: CopiedRow) -> &[u8] {
        &self.bytes[row.start as usize..][..row.key_len as usize]
    }
    pub(crate) fn row(&self, row: CopiedRow) -> &[u8] {
        &self.bytes[(row.start + row.key_len) as usize..][..row.row_len as usize]
    }
}

pub(crate) struct HotSet {
    parts: Box<[RwLock<Part>]>,
    bytes: AtomicUsize,
    entries: AtomicUsize,
    hand: AtomicUsize, // the part that is swept next
    budget: AtomicUsize,
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
        }
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

    /// Applies `count` updates to the rows that are here, of each entity in their order. Returns the indexes of those whose rows are
    /// not here, of each entity in order.
    ///
    /// Goes part by part, some updates under one lock, and looks all of them up before it changes the first: looking up is
    /// waiting for memory, and a processor waits for many places at once if nothing between them orders it (a lock would).
    pub(crate) fn update<'u>(
        &self,
        count: usize,
        nth: impl Fn(usize) -> UpdateRef<'u>,
        stored_at: ProcessingTime,
        dirty: &mut Marked,
    ) -> Vec<usize> {
        self.change(count, nth, dirty, |row, _, update| row::merge(row, update, stored_at))
    }

    /// The same for any `change` of the row that an update names by class, key and hash; it says whether the row is another now.
    pub(crate) fn change<'u>(
        &self,
        count: usize,
        nth: impl Fn(usize) -> UpdateRef<'u>,
        dirty: &mut Marked,
        mut change: impl FnMut(&mut Vec<u8>, usize, &UpdateRef<'u>) -> bool,
    ) -> Vec<usize> {
        const GROUP: usize = 32; // updates under one lock: a reader waits for a microsecond or two at most
        const MISS: u32 = u32::MAX;
        let mut starts = [0usize; PARTS + 1];
        (0..count).for_each(|index| starts[part_of(nth(index).hash) + 1] += 1);
        (0..PARTS).for_each(|part| starts[part + 1] += starts[part]);
        let mut order = vec![0u32; count];
        let mut misses = Vec::new();
        let mut next = starts;
        for index in 0..count {
            let place = &mut next[part_of(nth(index).hash)];
            order[*place] = index as u32;
            *place += 1;
        }
        for (number, part) in self.parts.iter().enumerate() {
            for group in order[starts[number]..starts[number + 1]].chunks(GROUP) {
                let (mut places, mut touched) = ([MISS; GROUP], 0);
                let mut grown = 0usize;
                let mut part = part.write();
                for (place, index) in places.iter_mut().zip(group) {
                    let update = nth(*index as usize);
                    *place = part.find(update.class, update.key, update.hash).unwrap_or(MISS);
                    // Asks for the row now, too: the memory brings it while the next ones are looked up.
                    let row = part.entries.get(*place as usize).map_or(&[][..], |entry| &entry.row);
                    touched ^= row.first().copied().unwrap_or_default() ^ row.last().copied().unwrap_or_default();
                }
                std::hint::black_box(touched);
                for (place, index) in places.iter().zip(group) {
                    let update = nth(*index as usize);
                    if *place == MISS {
                        misses.push(*index as usize);
                        continue;
                    }
                    let entry = &mut part.entries[*place as usize];
                    *entry.touched.get_mut() = true;
                    let capacity = entry.row.capacity();
                    if !change(&mut entry.row, *index as usize, &update) {
                        continue;
                    }
                    grown = grown.wrapping_add(entry.row.capacity()).wrapping_sub(capacity);
                    let state = *entry.state.get_mut();
                    *entry.state.get_mut() = state | DIRTY;
                    if state & DIRTY == 0 {
                        dirty.parts[number].push(*place);
                        dirty.len += 1;
                    }
                }
                drop(part);
                if grown != 0 {
                    self.bytes.fetch_add(grown, Relaxed); // wraps both ways
                }
            }
        }
        misses
    }

    /// Puts in a row as it is committed. The entity must not be here.
    pub(crate) fn insert_committed(&self, class: ClassId, key: &[u8], hash: u64, row: Vec<u8>) {
        self.insert(class, key, hash, row, 0);
    }

    /// Puts in the row of an entity that is new: it is dirty. The entity must not be here.
    pub(crate) fn insert_new(&self, update: &UpdateRef<'_>, stored_at: ProcessingTime, dirty: &mut Marked) {
        self.insert_dirty(update, row::build(update, stored_at), dirty);
    }

    /// Puts in a new row under the class, key and hash of `update`: it is dirty. It must not be here.
    pub(crate) fn insert_dirty(&self, update: &UpdateRef<'_>, row: Vec<u8>, dirty: &mut Marked) {
        let place = self.insert(update.class, update.key, update.hash, row, DIRTY);
        dirty.parts[part_of(update.hash)].push(place);
        dirty.len += 1;
    }

    fn insert(&self, class: ClassId, key: &[u8], hash: u64, row: Vec<u8>, state: u8) -> u32 {
        let entry = Entry { hash, key: Key::new(key), row, class, state: AtomicU8::new(state), touched: AtomicBool::new(true) };
        self.bytes.fetch_add(entry.bytes(), Relaxed);
        self.entries.fetch_add(1, Relaxed);
        self.parts[part_of(hash)].write().insert(entry)
    }

    /// Copies the dirty rows; they are clean, and in flight, afterwards.
    pub(crate) fn copy_out(&self, dirty: &Marked) -> Copied {
        let mut copied = Copied { bytes: Vec::with_capacity(dirty.len() * 160), rows: Vec::with_capacity(dirty.len()) };
        for (part, indexes) in self.parts.iter().zip(&dirty.parts) {
            let part = part.read();
            for index in indexes {
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
            for index in indexes {
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
                part.remove(place as u32);
                self.bytes.fetch_sub(bytes, Relaxed);
                self.entries.fetch_sub(1, Relaxed);
                evicted += 1;
            }
        }
        evicted
    }

    /// Forgets everything: the next reads and updates see what is committed.
    pub(crate) fn clear(&self) {
        for part in &self.parts {
            *part.write() = Part::default();
        }
        self.bytes.store(0, Relaxed);
        self.entries.store(0, Relaxed);
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

#[cfg(test)]
mod tests {
    use karst_types::{EventTime, FeatureSlot, FeatureValue, Offset, PartitionId, SourceId, Updates, update::Cause};

    use super::*;

    fn update(key: &str, offset: i64, value: i64) -> Updates {
        let mut updates = Updates::new(SourceId(0), PartitionId(0));
        let cause = Cause { offset: Offset(offset), event_time: EventTime(offset) };
        updates.push(ClassId(0), cause, &[FeatureSlot(0)], |out| key.encode_key(out), |out| value.encode(out));
        updates
    }

    fn put(hot: &HotSet, dirty: &mut Marked, key: &str, offset: i64) {
        let updates = update(key, offset, offset);
        let update = updates.get(0);
        if !hot.update(1, |_| update, ProcessingTime(0), dirty).is_empty() {
            hot.insert_new(&update, ProcessingTime(0), dirty);
        }
    }

    fn value(hot: &HotSet, key: &str) -> Option<i64> {
        let hash = karst_types::entity::key_hash(key.as_bytes());
        hot.read(ClassId(0), key.as_bytes(), hash, row::Row::trusted).map(|row| {
            let cell = row.get(FeatureSlot(0)).unwrap();
            cell.version.offset.0
        })
    }

    #[test]
    fn a_dirty_row_or_one_in_flight_is_never_evicted() {
        let hot = HotSet::new(0);
        let mut dirty = Marked::default();
        (0..100).for_each(|number| put(&hot, &mut dirty, &format!("key {number}"), number));
        assert_eq!((hot.evict(10_000), dirty.len()), (0, 100));
        let copied = hot.copy_out(&dirty);
        assert_eq!((copied.rows.len(), hot.evict(10_000)), (100, 0));
        let in_flight = std::mem::take(&mut dirty);
        put(&hot, &mut dirty, "key 7", 200);
        hot.landed(&in_flight);
        assert_eq!(hot.evict(10_000), 99, "all but the one that was written again");
        assert_eq!((value(&hot, "key 7"), value(&hot, "key 8")), (Some(200), None));
        let copied = hot.copy_out(&dirty);
        assert_eq!(copied.key(copied.rows[0]), b"s\0\0key 7");
        hot.landed(&dirty);
        assert_eq!((hot.evict(10_000), hot.len(), hot.bytes()), (1, 0, 0));
    }

    #[test]
    fn rows_that_are_read_stay_longest() {
        let hot = HotSet::new(usize::MAX);
        let mut dirty = Marked::default();
        (0..1000).for_each(|number| put(&hot, &mut dirty, &number.to_string(), number));
        hot.copy_out(&dirty);
        hot.landed(&dirty);
        let full = hot.bytes();
        hot.set_budget(full / 2);
        assert_eq!(hot.evict(1000), 0, "the first round only takes the marks away");
        assert!((0..100).all(|number| value(&hot, &number.to_string()).is_some()));
        hot.evict(10_000);
        assert!(hot.bytes() <= full / 2 && hot.len() > 300, "{} of {full} bytes", hot.bytes());
        assert!((0..100).filter(|number| value(&hot, &number.to_string()).is_some()).count() >= 95);
    }

    #[test]
    fn places_are_used_again_and_long_keys_are_kept_whole() {
        let hot = HotSet::new(0);
        let long = "k".repeat(300);
        for round in 0..5 {
            let mut dirty = Marked::default();
            put(&hot, &mut dirty, &long, round);
            put(&hot, &mut dirty, "", round);
            assert_eq!((value(&hot, &long), value(&hot, "")), (Some(round), Some(round)));
            hot.copy_out(&dirty);
            hot.landed(&dirty);
            hot.evict(10_000);
            assert_eq!((hot.len(), hot.bytes()), (0, 0));
        }
        assert!(hot.parts.iter().all(|part| part.read().entries.len() <= 2));
    }

    #[test]
    fn readers_see_whole_rows_while_the_writer_writes() {
        let hot = HotSet::new(usize::MAX);
        let mut dirty = Marked::default();
        put(&hot, &mut dirty, "ada", 1);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut last = 0;
                while last < 20_000 {
                    let seen = value(&hot, "ada").unwrap();
                    assert!(seen >= last, "values never go back");
                    last = seen;
                }
            });
            (2..=20_000).for_each(|number| put(&hot, &mut dirty, "ada", number));
            reader.join().unwrap();
        });
        assert_eq!(dirty.len(), 1);
    }
}
