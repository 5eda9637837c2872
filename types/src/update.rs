//! Hops 3 and 4: a batch of new values, as resolvers write them and shards take them.
//!
//! One update is new values for some features of one entity, at one event time, caused by one record. A batch keeps all
//! of them in one arena:
//!
//! ```text
//! arena: key bytes | cells block | key bytes | cells block | …
//! cells block: n (u16) | slot (u16) × n, rising | cell × n          (cells: see `value`)
//! ```
//! The slots stand before the cells so that two updates of the same features can be told by one comparison of bytes.

use std::sync::Arc;

use crate::{EntityKey, EventTime, Offset, PartitionId, SourceId, Version, entity::key_hash};

/// The dense number of a feature class inside one state directory (assigned once by name, and stored).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ClassId(pub u16);

/// The dense number of a feature inside its class (assigned once by name, and stored).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FeatureSlot(pub u16);

/// A feature: its class and its place there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FeatureId {
    /// The class.
    pub class: ClassId,
    /// The slot in the class.
    pub slot: FeatureSlot,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    hash: u64,
    offset: Offset,
    event_time: EventTime,
    index: u32,
    start: u32,
    cells_len: u32,
    key_len: u16,
    class: ClassId,
}

/// A batch of updates caused by records of one partition, in the order of their offsets (and of `index` within one).
#[derive(Clone, Debug)]
pub struct Updates {
    source: SourceId,
    partition: PartitionId,
    arena: Vec<u8>,
    /// Once it has been cut: the arena, which its parts have in common.
    shared: Option<Arc<Vec<u8>>>,
    heads: Vec<Head>,
}

/// One update of a batch.
#[derive(Clone, Copy, Debug)]
pub struct UpdateRef<'a> {
    /// [`key_hash`] of the key, computed once.
    pub hash: u64,
    /// The feature class.
    pub class: ClassId,
    /// The entity's key.
    pub key: &'a [u8],
    /// Its place in the order of values.
    pub version: Version,
    /// The cells block (see the module's page).
    pub cells: &'a [u8],
}

/// What every update of one record shares.
#[derive(Clone, Copy, Debug)]
pub struct Cause {
    /// The record's offset.
    pub offset: Offset,
    /// The event's time.
    pub event_time: EventTime,
}

impl Updates {
    /// An empty batch.
    pub fn new(source: SourceId, partition: PartitionId) -> Self {
        Self::with_capacity(source, partition, 0, 0)
    }

    /// An empty batch with room.
    pub fn with_capacity(source: SourceId, partition: PartitionId, updates: usize, bytes: usize) -> Self {
        Self { source, partition, arena: Vec::with_capacity(bytes), shared: None, heads: Vec::with_capacity(updates) }
    }

    /// Divides the updates among `parts` batches by their hashes; each keeps their order. The bytes are not copied.
    ///
    /// # Panics
    /// If `part_of` answers a number that is not below `parts`.
    pub fn cut(&mut self, parts: usize, part_of: impl Fn(u64) -> usize) -> Vec<Self> {
        let arena = Arc::clone(self.shared.get_or_insert_with(|| Arc::new(std::mem::take(&mut self.arena))));
        let fair = self.heads.len() / parts.max(1);
        let (source, partition) = (self.source, self.partition);
        let part = || Self {
            shared: Some(Arc::clone(&arena)),
            ..Self::with_capacity(source, partition, fair + fair / 4 + 1, 0) // a quarter more: it rarely grows
        };
        let mut parts: Vec<_> = std::iter::repeat_with(part).take(parts).collect();
        self.heads.iter().for_each(|head| parts[part_of(head.hash)].heads.push(*head));
        parts
    }

    /// A batch that was cut and is to be changed gets an arena of its own again.
    #[inline]
    fn own(&mut self) -> &mut Vec<u8> {
        if let Some(shared) = self.shared.take() {
            self.arena = Arc::unwrap_or_clone(shared);
        }
        &mut self.arena
    }
    #[inline]
    fn arena(&self) -> &Vec<u8> {
        self.shared.as_deref().unwrap_or(&self.arena)
    }

    /// Adds one update. `key` appends the key's bytes and says whether there was a key; `cells` appends one cell for each
    /// of `slots`, in that order. Returns `false`, and adds nothing, if there was no key or it is longer than
    /// [`KEY_BYTES_MAX`](crate::entity::KEY_BYTES_MAX).
    ///
    /// `slots` rise strictly (checked in debug builds: they are fixed by the declaration).
    #[inline]
    pub fn push(
        &mut self,
        class: ClassId,
        cause: Cause,
        slots: &[FeatureSlot],
        key: impl FnOnce(&mut Vec<u8>) -> bool,
        cells: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        debug_assert!(slots.is_sorted_by(|a, b| a < b), "slots rise strictly");
        self.own();
        let start = self.arena.len();
        let keyed = key(&mut self.arena);
        let key_len = self.arena.len() - start;
        if !keyed || key_len > crate::entity::KEY_BYTES_MAX {
            self.arena.truncate(start);
            return false;
        }
        let hash = key_hash(&self.arena[start..]);
        let cells_start = self.arena.len();
        self.arena.extend_from_slice(&(slots.len() as u16).to_le_bytes());
        for slot in slots {
            self.arena.extend_from_slice(&slot.0.to_le_bytes());
        }
        cells(&mut self.arena);
        let index = match self.heads.last() {
            Some(last) if last.offset == cause.offset => last.index + 1,
            _ => 0,
        };
        self.heads.push(Head {
            hash,
            offset: cause.offset,
            event_time: cause.event_time,
            index,
            start: start as u32,
            cells_len: (self.arena.len() - cells_start) as u32,
            key_len: key_len as u16,
            class,
        });
        true
    }

    /// Adds a copy of an update of another batch of the same partition, with its own version.
    #[inline]
    pub fn copy(&mut self, update: UpdateRef<'_>) {
        let start = self.own().len() as u32;
        self.arena.extend_from_slice(update.key);
        self.arena.extend_from_slice(update.cells);
        self.heads.push(Head {
            hash: update.hash,
            offset: update.version.offset,
            event_time: update.version.event_time,
            index: update.version.index,
            start,
            cells_len: update.cells.len() as u32,
            key_len: update.key.len() as u16,
            class: update.class,
        });
    }

    /// Drops the updates of record `offset`, which are the newest of the batch: its resolver failed half-way.
    pub fn retract(&mut self, offset: Offset) {
        while let Some(head) = self.heads.pop_if(|head| head.offset == offset) {
            self.own().truncate(head.start as usize);
        }
    }

    /// Keeps the first `len` updates: what one of several resolvers wrote for a record before it failed is dropped, and what
    /// the others wrote stays.
    pub fn truncate(&mut self, len: usize) {
        if let Some(start) = self.heads.get(len).map(|first| first.start) {
            self.own().truncate(start as usize);
            self.heads.truncate(len);
        }
    }

    /// The source.
    pub fn source(&self) -> SourceId {
        self.source
    }
    /// The partition.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }
    /// Number of updates.
    #[inline]
    pub fn len(&self) -> usize {
        self.heads.len()
    }
    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }
    /// Bytes of keys and cells; of a batch that was cut, and of its parts, those of all of them.
    pub fn bytes(&self) -> usize {
        self.arena().len()
    }
    /// The update at `index`.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub fn get(&self, index: usize) -> UpdateRef<'_> {
        self.view(&self.heads[index])
    }
    /// All updates in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = UpdateRef<'_>> {
        self.heads.iter().map(|head| self.view(head))
    }

    #[inline]
    fn view(&self, head: &Head) -> UpdateRef<'_> {
        let arena = self.arena();
        let key_start = head.start as usize;
        let cells_start = key_start + head.key_len as usize;
        UpdateRef {
            hash: head.hash,
            class: head.class,
            key: &arena[key_start..cells_start],
            version: Version {
                event_time: head.event_time,
                source: self.source,
                partition: self.partition,
                offset: head.offset,
                index: head.index,
            },
            cells: &arena[cells_start..cells_start + head.cells_len as usize],
        }
    }
}

impl UpdateRef<'_> {
    /// The entity, owned.
    pub fn entity(&self) -> EntityKey {
        EntityKey { class: self.class, bytes: self.key.to_vec() }
    }
}

/// Reads a cells block: the slots, and the cells' bytes in the same order. `None` if the bytes are not a cells block.
#[inline]
pub fn cells(block: &[u8]) -> Option<impl Iterator<Item = (FeatureSlot, &[u8])>> {
    let (count, rest) = block.split_first_chunk::<2>()?;
    let (slots, mut rest) = rest.split_at_checked(u16::from_le_bytes(*count) as usize * 2)?;
    Some(slots.chunks_exact(2).map_while(move |slot| {
        let (cell, after) = rest.split_at(crate::Value::encoded_len(rest)?);
        rest = after;
        Some((FeatureSlot(u16::from_le_bytes([slot[0], slot[1]])), cell))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FeatureValue, Value};

    fn cause(offset: i64) -> Cause {
        Cause { offset: Offset(offset), event_time: EventTime(offset * 10) }
    }

    #[inline]
    fn push(updates: &mut Updates, offset: i64, key: &str, values: &[(u16, i64)]) -> bool {
        let slots: Vec<_> = values.iter().map(|(slot, _)| FeatureSlot(*slot)).collect();
        let cells = |out: &mut Vec<u8>| values.iter().for_each(|(_, value)| value.encode(out));
        updates.push(ClassId(1), cause(offset), &slots, |out| key.encode_key(out), cells)
    }

    #[test]
    fn updates_read_back_in_order_with_their_versions() {
        let mut updates = Updates::new(SourceId(4), PartitionId(2));
        push(&mut updates, 5, "ada", &[(0, 7), (3, -1)]);
        push(&mut updates, 5, "bob", &[(0, 8)]);
        push(&mut updates, 6, "ada", &[(0, 9)]);
        let seen: Vec<_> = updates.iter().map(|u| (u.key.to_vec(), u.version.offset.0, u.version.index)).collect();
        assert_eq!(seen, [(b"ada".to_vec(), 5, 0), (b"bob".to_vec(), 5, 1), (b"ada".to_vec(), 6, 0)]);
        let first: Vec<_> = cells(updates.get(0).cells).unwrap().map(|(s, c)| (s.0, Value::decode(c).unwrap().0)).collect();
        assert_eq!(first, [(0, Value::Int(7)), (3, Value::Int(-1))]);
        assert_eq!(updates.get(0).hash, key_hash(b"ada"));
    }

    #[test]
    fn an_update_without_a_key_or_with_an_endless_one_adds_nothing() {
        let mut updates = Updates::new(SourceId(0), PartitionId(0));
        let missing: Option<&str> = None;
        assert!(!updates.push(ClassId(1), cause(1), &[], |out| missing.encode_key(out), |_| ()));
        assert!(!push(&mut updates, 1, &"k".repeat(5000), &[]));
        assert_eq!((updates.len(), updates.bytes()), (0, 0));
    }

    #[test]
    fn a_record_that_failed_half_way_leaves_no_update() {
        let mut updates = Updates::new(SourceId(0), PartitionId(0));
        push(&mut updates, 1, "ada", &[(0, 1)]);
        let bytes = updates.bytes();
        push(&mut updates, 2, "ada", &[(0, 2)]);
        push(&mut updates, 2, "bob", &[(0, 3)]);
        updates.retract(Offset(2));
        assert_eq!((updates.len(), updates.bytes()), (1, bytes));
    }

    #[test]
    fn the_parts_of_a_batch_hold_its_updates_in_their_order_and_can_be_added_to() {
        let mut updates = Updates::new(SourceId(0), PartitionId(0));
        for offset in 0..50 {
            push(&mut updates, offset, &format!("key {}", offset % 7), &[(0, offset)]);
        }
        let content = |updates: &Updates| -> Vec<_> {
            updates.iter().map(|u| (u.key.to_vec(), u.version, u.cells.to_vec(), u.hash)).collect()
        };
        let whole = content(&updates);
        let part_of = |hash: u64| (hash % 3) as usize;
        let mut parts = updates.cut(3, part_of);
        assert_eq!(content(&updates), whole);
        for (number, part) in parts.iter_mut().enumerate() {
            let mut expected: Vec<_> = whole.iter().filter(|update| part_of(update.3) == number).cloned().collect();
            assert_eq!(content(part), expected);
            push(part, 99, "new", &[(0, 1)]);
            let new = part.get(part.len() - 1);
            expected.push((new.key.to_vec(), new.version, new.cells.to_vec(), new.hash));
            assert_eq!((content(part), new.key), (expected, &b"new"[..]));
        }
        assert_eq!(parts.iter().map(Updates::len).sum::<usize>(), 50 + 3);
    }

    #[test]
    fn truncating_keeps_the_first_updates_and_their_bytes() {
        let mut updates = Updates::new(SourceId(0), PartitionId(0));
        push(&mut updates, 1, "ada", &[(0, 1)]);
        let bytes = updates.bytes();
        push(&mut updates, 1, "bob", &[(0, 2)]);
        updates.truncate(1);
        updates.truncate(5);
        assert_eq!((updates.len(), updates.bytes()), (1, bytes));
        push(&mut updates, 1, "cyd", &[(0, 3)]);
        assert_eq!((updates.get(1).key, updates.get(1).version.index), (&b"cyd"[..], 1));
    }
}
