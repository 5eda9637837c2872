//! The row of one entity: all of its stream-written features, as stored in RocksDB and kept in the hot set.
//!
//! ```text
//! format (1 byte) | n versions (u16) | (version (26 bytes) | stored at (i64)) × n | slots | which | cells
//! slots: count (u16) | slot (u16) × count, rising      which: index of its version (u16) × count, only if n > 1
//! ```
//! Numbers are little-endian. With one version, which is the common case, `slots | cells` is byte for byte the cells block of
//! the update that wrote it, so that applying an update of the same features is one comparison and one copy.
//!
//! Invariant (`docs/semantics.md`, Which value is kept): for each feature the row holds the value of the update that is
//! greatest in the order of [`Version`], whatever the order in which updates came. Null is a value like any other.

use std::fmt;

use karst_types::{FeatureSlot, ProcessingTime, UpdateRef, Value, Version, update::cells};

use crate::bytes;

const FORMAT: u8 = 1;
const STAMP: usize = Version::ENCODED_LEN + 8; // a version and when it was stored
const HEAD: usize = 3;
const SINGLE: usize = HEAD + STAMP; // where slots start if there is one version

/// A stored value with what is known about it.
#[derive(Clone, PartialEq, Debug)]
pub struct Cell {
    /// The value; null was written, as opposed to no cell at all.
    pub value: Value,
    /// Which update wrote it: its event time, source, position.
    pub version: Version,
    /// When this process took it in.
    pub stored_at: ProcessingTime,
}

/// The features of one entity, as they were at one instant. Owned: holding it holds up nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Row(Box<[u8]>);

impl Row {
    /// Takes bytes that [`check`] has seen.
    pub(crate) fn trusted(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The value of a feature; `None` if it was never written.
    pub fn get(&self, slot: FeatureSlot) -> Option<Cell> {
        entries(&self.0).find(|entry| entry.slot == slot).map(|entry| entry.decode())
    }

    /// All features that were ever written, by rising slot.
    pub fn cells(&self) -> impl Iterator<Item = (FeatureSlot, Cell)> + '_ {
        entries(&self.0).map(|entry| (entry.slot, entry.decode()))
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.cells().map(|(slot, cell)| (slot.0, cell))).finish()
    }
}

#[derive(Clone, Copy, PartialEq)]
struct Entry<'a> {
    slot: FeatureSlot,
    version: Version,
    stored_at: ProcessingTime,
    cell: &'a [u8],
}

impl Entry<'_> {
    fn decode(&self) -> Cell {
        // A text that is no UTF-8 cannot have been written by a feature of that type; null is what is left to say.
        let value = Value::decode(self.cell).map(|(value, _)| value).unwrap_or_default();
        Cell { value, version: self.version, stored_at: self.stored_at }
    }
}

fn stamp_at(row: &[u8], index: usize) -> Option<(Version, ProcessingTime)> {
    let (version, rest) = Version::decode(row.get(HEAD + index * STAMP..)?)?;
    Some((version, ProcessingTime(i64::from_le_bytes(*rest.first_chunk::<8>()?))))
}

/// Reads a row; ends early where the bytes are not a row ([`check`] is for bytes from disk).
fn entries(row: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let parts = || {
        let mut rest = row;
        (bytes::u8(&mut rest)? == FORMAT).then_some(())?;
        let versions = bytes::u16(&mut rest)? as usize;
        bytes::slice(&mut rest, versions * STAMP)?;
        let count = bytes::u16(&mut rest)? as usize;
        let slots = bytes::slice(&mut rest, count * 2)?;
        let which = bytes::slice(&mut rest, if versions > 1 { count * 2 } else { 0 })?;
        Some((count, slots, which, rest))
    };
    let (count, slots, which, mut rest) = parts().unwrap_or((0, &[], &[], &[]));
    let number = |bytes: &[u8], index: usize| u16::from_le_bytes([bytes[index * 2], bytes[index * 2 + 1]]);
    (0..count).map_while(move |index| {
        let length = Value::encoded_len(rest)?;
        let cell = bytes::slice(&mut rest, length)?;
        let (version, stored_at) = stamp_at(row, if which.is_empty() { 0 } else { number(which, index) as usize })?;
        Some(Entry { slot: FeatureSlot(number(slots, index)), version, stored_at, cell })
    })
}

/// Whether bytes from disk are a row, whole and with nothing after it.
pub(crate) fn check(row: &[u8]) -> bool {
    let whole = || {
        let mut rest = row;
        (bytes::u8(&mut rest)? == FORMAT).then_some(())?;
        let versions = bytes::u16(&mut rest)? as usize;
        bytes::slice(&mut rest, versions * STAMP)?;
        let count = bytes::u16(&mut rest)? as usize;
        let slots = bytes::slice(&mut rest, count * 2)?;
        let which = bytes::slice(&mut rest, if versions > 1 { count * 2 } else { 0 })?;
        let number = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]);
        let known = which.chunks_exact(2).all(|pair| (number(pair) as usize) < versions);
        let rising = slots.chunks_exact(2).map(number).is_sorted_by(|a, b| a < b);
        for _ in 0..count {
            let length = Value::encoded_len(rest)?;
            bytes::slice(&mut rest, length)?;
        }
        (versions > 0 && known && rising && rest.is_empty()).then_some(())
    };
    whole().is_some()
}

fn put_stamp(row: &mut Vec<u8>, version: &Version, stored_at: ProcessingTime) {
    version.encode(row);
    row.extend_from_slice(&stored_at.0.to_le_bytes());
}

/// The row of an entity whose first update this is.
pub(crate) fn build(update: &UpdateRef<'_>, stored_at: ProcessingTime) -> Vec<u8> {
    let mut row = Vec::with_capacity(SINGLE + update.cells.len());
    row.extend_from_slice(&[FORMAT, 1, 0]);
    put_stamp(&mut row, &update.version, stored_at);
    row.extend_from_slice(update.cells);
    row
}

/// Applies an update: each feature is replaced iff the update is later in the order of versions. Returns whether the row
/// changed.
pub(crate) fn merge(row: &mut Vec<u8>, update: &UpdateRef<'_>, stored_at: ProcessingTime) -> bool {
    let slots_len = 2 + 2 * usize::from(u16::from_le_bytes([update.cells[0], update.cells[1]]));
    let same_features = row[..HEAD] == [FORMAT, 1, 0]
        && row[SINGLE..].get(..slots_len).is_some_and(|slots| bytes::same(slots, &update.cells[..slots_len]));
    if !same_features {
        return merge_by_feature(row, update, stored_at);
    }
    if !is_later(&update.version, &row[HEAD..]) {
        return false;
    }
    // The common case: overwrite in place, without an allocation unless the row grows.
    row.resize(SINGLE + update.cells.len(), 0);
    row[HEAD..HEAD + Version::ENCODED_LEN].copy_from_slice(&update.version.bytes());
    row[HEAD + Version::ENCODED_LEN..SINGLE].copy_from_slice(&stored_at.0.to_le_bytes());
    row[SINGLE..].copy_from_slice(update.cells);
    true
}

fn is_later(version: &Version, encoded: &[u8]) -> bool {
    match encoded.first_chunk::<8>().map(|time| i64::from_le_bytes(*time)) {
        Some(time) if time != version.event_time.0 => version.event_time.0 > time,
        _ => Version::decode(encoded).is_none_or(|(stored, _)| *version > stored),
    }
}

fn merge_by_feature(row: &mut Vec<u8>, update: &UpdateRef<'_>, stored_at: ProcessingTime) -> bool {
    let new = cells(update.cells).into_iter().flatten();
    let mut new = new.map(|(slot, cell)| Entry { slot, version: update.version, stored_at, cell }).peekable();
    let mut old = entries(row).peekable();
    let (mut merged, mut changed) = (Vec::new(), false);
    loop {
        let next = match (old.peek(), new.peek()) {
            (Some(stored), Some(written)) if stored.slot == written.slot => {
                let later = written.version > stored.version;
                changed |= later;
                let (stored, written) = (old.next(), new.next());
                if later { written } else { stored }
            }
            (Some(stored), Some(written)) if stored.slot < written.slot => old.next(),
            (Some(_), None) => old.next(),
            (_, Some(_)) => {
                changed = true;
                new.next()
            }
            (None, None) => break,
        };
        merged.extend(next);
    }
    let rebuilt = changed.then(|| encode(&merged));
    drop((old, new));
    if let Some(rebuilt) = rebuilt {
        *row = rebuilt;
    }
    changed
}

fn encode(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut stamps: Vec<(Version, ProcessingTime)> = Vec::new();
    let which: Vec<u16> = entries
        .iter()
        .map(|entry| {
            let known = stamps.iter().position(|stamp| stamp.0 == entry.version);
            known.unwrap_or_else(|| {
                stamps.push((entry.version, entry.stored_at));
                stamps.len() - 1
            }) as u16
        })
        .collect();
    let mut row = vec![FORMAT];
    row.extend_from_slice(&(stamps.len() as u16).to_le_bytes());
    stamps.iter().for_each(|(version, stored_at)| put_stamp(&mut row, version, *stored_at));
    row.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    entries.iter().for_each(|entry| row.extend_from_slice(&entry.slot.0.to_le_bytes()));
    if stamps.len() > 1 {
        which.iter().for_each(|index| row.extend_from_slice(&index.to_le_bytes()));
    }
    entries.iter().for_each(|entry| row.extend_from_slice(entry.cell));
    row
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use karst_types::{ClassId, EventTime, FeatureValue, Offset, PartitionId, SourceId, Updates, update::Cause};
    use proptest::prelude::*;

    use super::*;

    /// One update as a test writes it: event time, offset, and (slot, value or null).
    type Written = (i64, i64, Vec<(u16, Option<i64>)>);

    fn updates(written: &[Written]) -> Vec<Updates> {
        let batch = |(time, offset, values): &Written| {
            let mut updates = Updates::new(SourceId(1), PartitionId(0));
            let slots: Vec<_> = values.iter().map(|(slot, _)| FeatureSlot(*slot)).collect();
            let cause = Cause { offset: Offset(*offset), event_time: EventTime(*time) };
            let cells = |out: &mut Vec<u8>| values.iter().for_each(|(_, value)| value.encode(out));
            updates.push(ClassId(0), cause, &slots, |out| "ada".encode_key(out), cells);
            updates
        };
        written.iter().map(batch).collect()
    }

    fn fold<'a>(updates: impl Iterator<Item = &'a Updates>) -> Vec<u8> {
        let mut row: Option<Vec<u8>> = None;
        for update in updates {
            let update = update.get(0);
            let stored_at = ProcessingTime(update.version.offset.0);
            match &mut row {
                None => row = Some(build(&update, stored_at)),
                Some(row) => {
                    let before = row.clone();
                    assert_eq!(merge(row, &update, stored_at), before != *row);
                }
            }
        }
        row.unwrap()
    }

    fn content(row: &[u8]) -> HashMap<u16, (Value, i64, i64)> {
        assert!(check(row), "{row:?}");
        let cells = Row::trusted(row);
        let cells = cells.cells().map(|(slot, cell)| (slot.0, (cell.value, cell.version.event_time.0, cell.stored_at.0)));
        cells.collect()
    }

    fn value(written: Option<i64>) -> Value {
        written.map_or(Value::Null, Value::Int)
    }

    #[test]
    fn a_later_update_of_the_same_features_replaces_all_and_an_earlier_one_nothing() {
        let written = updates(&[
            (10, 1, vec![(0, Some(1)), (4, None)]),
            (20, 2, vec![(0, None), (4, Some(3))]),
            (15, 3, vec![(0, Some(9)), (4, Some(9))]),
        ]);
        let row = content(&fold(written.iter()));
        assert_eq!(row[&0], (Value::Null, 20, 2), "null is a value");
        assert_eq!(row[&4], (Value::Int(3), 20, 2));
    }

    #[test]
    fn features_are_replaced_one_by_one() {
        let written = updates(&[
            (20, 1, vec![(1, Some(1)), (2, Some(1))]),
            (10, 2, vec![(0, Some(2)), (1, Some(2))]),
            (30, 3, vec![(2, Some(3))]),
        ]);
        let row = content(&fold(written.iter()));
        assert_eq!((row[&0].1, row[&1].1, row[&2].1), (10, 20, 30));
    }

    /// Golden bytes: rows are on disk for ever.
    #[test]
    fn a_row_is_these_bytes() {
        let written = updates(&[(1, 2, vec![(3, Some(4))]), (2, 3, vec![(5, None)])]);
        let single = [
            &[1, 1, 0][..],
            &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 3, 0, 3, 4, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(fold(written[..1].iter()), single.concat());
        let double = [
            &[1, 2, 0][..],
            &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[3, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 3, 0, 5, 0, 0, 0, 1, 0],
            &[3, 4, 0, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(fold(written.iter()), double.concat());
    }

    #[test]
    fn a_truncated_row_is_not_a_row() {
        let row = fold(updates(&[(1, 2, vec![(3, Some(4))]), (2, 3, vec![(5, None)])]).iter());
        assert!((0..row.len()).all(|length| !check(&row[..length])));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
        /// The oracle: per feature the update that is greatest by (event time, offset).
        #[test]
        fn the_row_is_the_greatest_version_of_each_feature_in_any_order(
            written in prop::collection::vec(
                (0i64..6, prop::collection::btree_map(0u16..5, prop::option::of(0i64..9), 1..5)), 1..12),
            order in any::<prop::sample::Index>(),
            seed in any::<u64>(),
        ) {
            let written: Vec<Written> = written.into_iter().enumerate()
                .map(|(offset, (time, values))| (time, offset as i64, values.into_iter().collect())).collect();
            let mut oracle: HashMap<u16, (i64, i64, Option<i64>)> = HashMap::new();
            for (time, offset, values) in &written {
                for (slot, value) in values {
                    let entry = oracle.entry(*slot).or_insert((*time, *offset, *value));
                    if (*time, *offset) >= (entry.0, entry.1) { *entry = (*time, *offset, *value); }
                }
            }
            let batches = updates(&written);
            let mut shuffled: Vec<&Updates> = batches.iter().collect();
            let mut state = seed | 1;
            for index in (1..shuffled.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                shuffled.swap(index, (state >> 33) as usize % (index + 1));
            }
            shuffled.rotate_left(order.index(written.len()));
            let row = content(&fold(shuffled.iter().copied()));
            prop_assert_eq!(row.len(), oracle.len());
            for (slot, (time, offset, written)) in oracle {
                prop_assert_eq!(&row[&slot], &(value(written), time, offset));
            }
            prop_assert_eq!(&row, &content(&fold(batches.iter())));
        }
    }
}
