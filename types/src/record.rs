//! Hop 1: a batch of records of one partition, as the source read them.
//!
//! Invariants of [`Records`]:
//! - offsets rise strictly;
//! - all bytes of the batch lie in one arena, so a batch costs two allocations, whatever its length;
//! - a record whose value is null (a Kafka tombstone) is told apart from one whose value is empty.

use std::{fmt, ops::Range};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{BrokerTime, Offset, PartitionId, Position, SourceName};

const NULL: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Head {
    offset: Offset,
    broker_time: BrokerTime,
    start: u32,
    key_len: u32,     // NULL: no key
    value_len: u32,   // NULL: a tombstone
    headers_len: u32, // length-prefixed name/value pairs, after key and value
}

/// Bytes that a record takes beside its own: its head in [`Records`], about.
pub const OVERHEAD: usize = 40;

/// A batch of records of one partition, in the order of their offsets.
#[derive(Clone, Debug)]
pub struct Records {
    source: SourceName,
    partition: PartitionId,
    arena: Vec<u8>,
    heads: Vec<Head>,
    unfinished: Option<Offset>,
}

impl Records {
    /// An empty batch.
    pub fn new(source: SourceName, partition: PartitionId) -> Self {
        Self { source, partition, arena: Vec::new(), heads: Vec::new(), unfinished: None }
    }

    /// An empty batch with room for `records` records of `bytes` bytes in all.
    pub fn with_capacity(source: SourceName, partition: PartitionId, records: usize, bytes: usize) -> Self {
        let (arena, heads) = (Vec::with_capacity(bytes), Vec::with_capacity(records));
        Self { source, partition, arena, heads, unfinished: None }
    }

    /// Adds a record. `value` is `None` for a tombstone.
    ///
    /// # Panics
    /// If `offset` does not rise, or the batch would pass 4 GiB: both are mistakes of the source, not of the data.
    #[inline]
    pub fn push(&mut self, offset: Offset, broker_time: BrokerTime, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_with_headers(offset, broker_time, key, value, std::iter::empty());
    }

    /// Adds a record with its headers.
    ///
    /// # Panics
    /// As [`Records::push`].
    #[inline]
    pub fn push_with_headers<'a>(
        &mut self,
        offset: Offset,
        broker_time: BrokerTime,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) {
        assert!(self.last_offset().is_none_or(|last| last < offset), "offsets of a partition rise strictly");
        let start = self.arena.len();
        let length = |bytes: Option<&[u8]>| bytes.map_or(NULL, |bytes| bytes.len() as u32);
        self.arena.extend_from_slice(value.unwrap_or_default());
        self.arena.extend_from_slice(key.unwrap_or_default());
        let headers_start = self.arena.len();
        for (name, value) in headers {
            self.arena.extend_from_slice(&(name.len() as u32).to_le_bytes());
            self.arena.extend_from_slice(&length(value).to_le_bytes());
            self.arena.extend_from_slice(name.as_bytes());
            self.arena.extend_from_slice(value.unwrap_or_default());
        }
        assert!(self.arena.len() < NULL as usize, "a batch of records stays below 4 GiB");
        self.heads.push(Head {
            offset,
            broker_time,
            start: start as u32,
            key_len: length(key),
            value_len: length(value),
            headers_len: (self.arena.len() - headers_start) as u32,
        });
    }

    /// The last record may still grow: a line of a file whose end is not written yet. It has no fingerprint.
    pub fn leave_last_unfinished(&mut self) {
        self.unfinished = self.last_offset();
    }
    /// By which the record at `index` is known again when the log is read anew; `None` if it may look different by then.
    ///
    /// # Panics
    /// If there is none.
    pub fn fingerprint(&self, index: usize) -> Option<u64> {
        let record = self.get(index);
        (self.unfinished != Some(record.offset())).then(|| record.fingerprint())
    }

    /// The source.
    pub fn source(&self) -> &SourceName {
        &self.source
    }
    /// The partition.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }
    /// Number of records.
    #[inline]
    pub fn len(&self) -> usize {
        self.heads.len()
    }
    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }
    /// Bytes of keys, values and headers.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }
    /// Bytes that the batch takes: a limit in these bounds empty records, too.
    pub fn cost(&self) -> usize {
        self.bytes() + self.len() * OVERHEAD
    }
    /// Offset of the first record.
    pub fn first_offset(&self) -> Option<Offset> {
        self.heads.first().map(|head| head.offset)
    }
    /// Offset of the last record.
    #[inline]
    pub fn last_offset(&self) -> Option<Offset> {
        self.heads.last().map(|head| head.offset)
    }
    /// Where record `index` stands, for people.
    pub fn position(&self, index: usize) -> Position {
        Position { source: self.source.clone(), partition: self.partition, offset: self.heads[index].offset }
    }
    /// The record at `index`.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub fn get(&self, index: usize) -> RecordRef<'_> {
        RecordRef { arena: &self.arena, head: &self.heads[index] }
    }
    /// All records in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordRef<'_>> {
        self.heads.iter().map(|head| RecordRef { arena: &self.arena, head })
    }
    /// The whole arena, so that it can be checked for UTF-8 in one pass.
    pub fn arena(&self) -> &[u8] {
        &self.arena
    }
    /// The records of `range` as a batch of their own.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let mut part = Self::with_capacity(self.source.clone(), self.partition, range.len(), 0);
        for head in &self.heads[range] {
            let record = RecordRef { arena: &self.arena, head };
            let start = part.arena.len() as u32;
            part.arena.extend_from_slice(record.raw());
            part.heads.push(Head { start, ..*head });
        }
        part.unfinished = self.unfinished;
        part
    }
}

/// One record of a batch.
#[derive(Clone, Copy)]
pub struct RecordRef<'a> {
    arena: &'a [u8],
    head: &'a Head,
}

impl<'a> RecordRef<'a> {
    #[inline]
    fn part(&self, skip: usize, length: u32) -> &'a [u8] {
        let start = self.head.start as usize + skip;
        &self.arena[start..start + if length == NULL { 0 } else { length as usize }]
    }
    #[inline]
    fn value_len(&self) -> usize {
        if self.head.value_len == NULL { 0 } else { self.head.value_len as usize }
    }
    #[inline]
    fn key_len(&self) -> usize {
        if self.head.key_len == NULL { 0 } else { self.head.key_len as usize }
    }
    #[inline]
    fn raw(&self) -> &'a [u8] {
        self.part(0, (self.value_len() + self.key_len()) as u32 + self.head.headers_len)
    }
    /// Its offset.
    #[inline]
    pub fn offset(&self) -> Offset {
        self.head.offset
    }
    /// When the broker says it was written.
    #[inline]
    pub fn broker_time(&self) -> BrokerTime {
        self.head.broker_time
    }
    /// Its key, if it has one.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        (self.head.key_len != NULL).then(|| self.part(self.value_len(), self.head.key_len))
    }
    /// Its value; `None` for a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        (self.head.value_len != NULL).then(|| self.part(0, self.head.value_len))
    }
    /// Where its value lies in [`Records::arena`].
    #[inline]
    pub fn value_range(&self) -> Option<Range<usize>> {
        let start = self.head.start as usize;
        (self.head.value_len != NULL).then(|| start..start + self.value_len())
    }
    /// By which it is known again: a hash of key and value. It is stored, so it must never change.
    pub fn fingerprint(&self) -> u64 {
        let absent = u64::from(self.head.key_len == NULL) | u64::from(self.head.value_len == NULL) << 1;
        let key = xxh3_64_with_seed(self.key().unwrap_or_default(), absent);
        xxh3_64_with_seed(self.value().unwrap_or_default(), key)
    }
    /// Its headers, in order; a name may repeat, a value may be null.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.part(self.value_len() + self.key_len(), self.head.headers_len);
        std::iter::from_fn(move || {
            let (name_len, after) = rest.split_first_chunk::<4>()?;
            let (value_len, after) = after.split_first_chunk::<4>()?;
            let (name, after) = after.split_at_checked(u32::from_le_bytes(*name_len) as usize)?;
            let value_len = u32::from_le_bytes(*value_len);
            let (value, after) = after.split_at_checked(if value_len == NULL { 0 } else { value_len as usize })?;
            rest = after;
            Some((std::str::from_utf8(name).unwrap_or_default(), (value_len != NULL).then_some(value)))
        })
    }
}

impl fmt::Debug for RecordRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record(@{}, {} bytes)", self.head.offset, self.raw().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Records {
        let mut records = Records::new("clicks".into(), PartitionId(3));
        let headers = [("trace", Some(&b"abc"[..])), ("none", None)];
        records.push_with_headers(Offset(7), BrokerTime(1), Some(b"k"), Some(b"value"), headers.into_iter());
        records.push(Offset(9), BrokerTime(2), None, Some(b""));
        records.push(Offset(12), BrokerTime(3), Some(b""), None);
        records
    }

    /// Offset, key, value, headers.
    type Content<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>, Vec<(&'a str, Option<&'a [u8]>)>);

    fn content(record: RecordRef<'_>) -> Content<'_> {
        (record.offset().0, record.key(), record.value(), record.headers().collect())
    }

    #[test]
    fn null_and_empty_are_told_apart() {
        let records = batch();
        assert_eq!(
            content(records.get(0)),
            (7, Some(&b"k"[..]), Some(&b"value"[..]), vec![("trace", Some(&b"abc"[..])), ("none", None)])
        );
        assert_eq!(content(records.get(1)), (9, None, Some(&b""[..]), vec![]));
        assert_eq!(content(records.get(2)), (12, Some(&b""[..]), None, vec![]));
    }

    #[test]
    fn a_slice_holds_the_same_records() {
        let records = batch();
        let part = records.slice(1..3);
        assert_eq!(part.len(), 2);
        for index in 0..2 {
            assert_eq!(content(part.get(index)), content(records.get(index + 1)));
        }
        assert_eq!(part.position(1).to_string(), "clicks[3]@12");
    }

    /// Stored with positions: another value would tell every log apart from itself.
    #[test]
    fn fingerprints_tell_records_apart_and_never_change() {
        let records = batch();
        let prints: Vec<u64> = records.iter().map(|record| record.fingerprint()).collect();
        assert_eq!(prints, [0xec12_557d_6d87_c055, 0x45c7_22ff_5b9c_dc07, 0xecb4_d515_747e_2e90]);
        let mut others = Records::new("clicks".into(), PartitionId(3));
        others.push(Offset(7), BrokerTime(9), Some(b"k"), Some(b"value"));
        others.push(Offset(8), BrokerTime(9), Some(b"kv"), Some(b"alue"));
        others.push(Offset(9), BrokerTime(9), Some(b""), Some(b""));
        let others: Vec<u64> = others.iter().map(|record| record.fingerprint()).collect();
        assert_eq!(others[0], prints[0], "neither its place nor its time nor its headers");
        assert!(!prints.contains(&others[1]) && !prints.contains(&others[2]), "null and empty differ");
    }

    #[test]
    fn a_record_that_may_still_grow_has_no_fingerprint_in_any_slice() {
        let mut records = batch();
        records.leave_last_unfinished();
        let known = |records: &Records| (0..records.len()).map(|at| records.fingerprint(at).is_some()).collect::<Vec<_>>();
        assert_eq!(known(&records), [true, true, false]);
        assert_eq!(known(&records.slice(1..3)), [true, false]);
        assert_eq!(known(&records.slice(0..2)), [true, true]);
    }

    #[test]
    #[should_panic(expected = "rise strictly")]
    fn an_offset_that_does_not_rise_is_refused() {
        let mut records = batch();
        records.push(Offset(12), BrokerTime(3), None, None);
    }
}
