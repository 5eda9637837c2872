//! The bytes of a changelog entry: columns per lane message. Not compressed: history is kept for a bounded time only, and LZ4
//! took a twelfth of all work of the engine to save a third of its bytes.
//!
//! ```text
//! entry:  format (u8) | incarnation (u64) | seq (u64) | batches (varint) | batch …
//! batch:  source (u16) | partition (i32) | stored at (i64) | n (varint)
//!         | shapes (varint) | (class (u16) | slots, as in a cells block) …      a shape: which features an update writes
//!         | shape × n, only if there are several
//!         | offset: change from the one before (signed) × n
//!         | event time: change from the one before (signed) × n
//!         | index: 0, or 1 and index (varint) × n
//!         | length of key (varint) × n | keys
//!         | for each shape, for each of its slots: column
//! column: 1 and ints or 2 and times as change from the one before (signed) | 3 and floats (f64)
//!         | 4 and lengths of texts (varint) and texts | 0 and cells as they are (mixed, null, anything else)
//! ```
//! Columns put like beside like, so that numbers take few bytes.

use karst_types::{
    ClassId, EventTime, Offset, PartitionId, ProcessingTime, SourceId, UpdateRef, Updates, Value, Version, entity::key_hash,
};

use super::{ChangeBatch, ChangeVersion, Changes};
use crate::bytes::{self, put_signed, put_varint};

const FORMAT: u8 = 2;

// Tags of cells, as `karst_types::value` defines them for ever.
const INT: u8 = 3;
const FLOAT: u8 = 4;
const TIME: u8 = 5;
const STR: u8 = 6;

const MIXED: u8 = 0;
const INTS: u8 = 1;
const TIMES: u8 = 2;
const FLOATS: u8 = 3;
const TEXTS: u8 = 4;

/// The applied updates of one lane message: those of `updates` from index `from` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) stored_at: ProcessingTime,
    pub(crate) updates: &'a Updates,
    pub(crate) from: usize,
}

impl<'a> Part<'a> {
    pub(crate) fn len(&self) -> usize {
        self.updates.len() - self.from
    }
    fn iter(&self) -> impl Iterator<Item = UpdateRef<'a>> {
        let updates = self.updates;
        (self.from..updates.len()).map(move |index| updates.get(index))
    }
}

/// Room for what comes before the batches, and is known last.
const HEAD_MAX: usize = 1 + 8 + 8 + 10;

/// The entry of a commit, made while its batches are applied: they are at hand then, and need not be kept.
#[derive(Debug)]
pub(crate) struct Entry {
    bytes: Vec<u8>, // the batches, behind room for the head
    batches: u64,
    newest: Option<ProcessingTime>,
}

impl Entry {
    /// An entry without batches; they will take some `size` bytes.
    pub(crate) fn with_capacity(size: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEAD_MAX + size);
        bytes.resize(HEAD_MAX, 0);
        Self { bytes, batches: 0, newest: None }
    }

    pub(crate) fn push(&mut self, part: Part<'_>, columns: &mut Columns) {
        put_batch(&mut self.bytes, part, columns);
        self.batches += 1;
        self.newest = self.newest.max(Some(part.stored_at));
    }

    /// When the newest of its batches was stored; `None` if it has none.
    pub(crate) fn newest(&self) -> Option<ProcessingTime> {
        self.newest
    }

    /// Bytes of its batches.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - HEAD_MAX
    }

    /// The whole entry, of the commit of this version.
    pub(crate) fn finish(&mut self, version: ChangeVersion) -> &[u8] {
        let mut head = Vec::with_capacity(HEAD_MAX);
        head.push(FORMAT);
        head.extend_from_slice(&version.incarnation.to_le_bytes());
        head.extend_from_slice(&version.seq.to_le_bytes());
        put_varint(&mut head, self.batches);
        let start = HEAD_MAX - head.len();
        self.bytes[start..HEAD_MAX].copy_from_slice(&head);
        &self.bytes[start..]
    }
}

/// The buffers of one lane message's columns; kept from one to the next.
#[derive(Default)]
pub(crate) struct Columns {
    which: MostlyZero,
    offsets: Changing,
    times: Changing,
    indexes: MostlyZero,
    key_lengths: Vec<u8>,
    keys: Vec<u8>,
}

impl Columns {
    fn clear(&mut self) {
        self.which.clear();
        self.offsets.clear();
        self.times.clear();
        self.indexes.clear();
        self.key_lengths.clear();
        self.keys.clear();
    }
}

/// Numbers that are all zero in most batches, and are then not written.
#[derive(Default)]
struct MostlyZero {
    zeros: usize,
    bytes: Vec<u8>, // empty: there were only zeros
}

impl MostlyZero {
    #[inline]
    fn push(&mut self, number: u64) {
        if number == 0 && self.bytes.is_empty() {
            self.zeros += 1;
            return;
        }
        if self.bytes.is_empty() {
            self.bytes.resize(self.zeros, 0);
        }
        put_varint(&mut self.bytes, number);
    }
    fn clear(&mut self) {
        self.zeros = 0;
        self.bytes.clear();
    }
}

/// Whole numbers, each as the change from the one before.
#[derive(Default)]
struct Changing {
    before: i64,
    bytes: Vec<u8>,
}

impl Changing {
    #[inline]
    fn push(&mut self, number: i64) {
        put_signed(&mut self.bytes, number.wrapping_sub(self.before));
        self.before = number;
    }
    fn clear(&mut self) {
        self.before = 0;
        self.bytes.clear();
    }
}

/// A shape seen in a batch: which features of which class.
struct Shape<'a> {
    class: ClassId,
    slots: &'a [u8],
    columns: Vec<Column>,
}

/// The cells of one feature. The kind is that of the first cell, until another kind comes.
#[derive(Default)]
struct Column {
    kind: Option<u8>,
    numbers: Changing, // or the lengths of texts, as they are
    content: Vec<u8>,
}

impl Column {
    /// Takes the cell that `cells` starts with, and says how long it is.
    #[inline]
    fn push(&mut self, cells: &[u8]) -> usize {
        let number = || cells.get(1..9).and_then(<[u8]>::first_chunk::<8>).expect(WHOLE);
        let (kind, length) = match cells.first() {
            Some(&INT) => (INTS, 9),
            Some(&TIME) => (TIMES, 9),
            Some(&FLOAT) => (FLOATS, 9),
            Some(&STR) => (TEXTS, Value::encoded_len(cells).expect(WHOLE)),
            _ => (MIXED, Value::encoded_len(cells).expect(WHOLE)),
        };
        if self.kind != Some(kind) {
            self.kind = Some(if self.kind.is_none() { kind } else { MIXED });
        }
        match self.kind {
            Some(INTS | TIMES) => self.numbers.push(i64::from_le_bytes(*number())),
            Some(FLOATS) => self.content.extend_from_slice(number()),
            Some(TEXTS) => {
                put_varint(&mut self.numbers.bytes, (length - 5) as u64);
                bytes::put_short(&mut self.content, &cells[5..length]);
            }
            _ => {} // taken as they are, in a second pass
        }
        length
    }
}

const WHOLE: &str = "a resolver writes whole cells";

fn slots_of(block: &[u8]) -> &[u8] {
    &block[..2 + 2 * usize::from(u16::from_le_bytes([block[0], block[1]]))]
}

fn cells_of<'a>(update: &UpdateRef<'a>, slots: usize) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = &update.cells[2 + 2 * slots..];
    (0..slots).map(move |_| {
        let (cell, after) = rest.split_at(Value::encoded_len(rest).expect(WHOLE));
        rest = after;
        cell
    })
}

fn put_batch(out: &mut Vec<u8>, part: Part<'_>, columns: &mut Columns) {
    let mut shapes: Vec<Shape<'_>> = Vec::new();
    let mut last = 0;
    columns.clear();
    for update in part.iter() {
        let slots = slots_of(update.cells);
        let same = |shape: &Shape<'_>| shape.class == update.class && bytes::same(shape.slots, slots);
        if !shapes.get(last).is_some_and(same) {
            last = shapes.iter().position(same).unwrap_or_else(|| {
                let columns = (1..slots.len() / 2).map(|_| Column::default()).collect();
                shapes.push(Shape { class: update.class, slots, columns });
                shapes.len() - 1
            });
        }
        columns.which.push(last as u64);
        columns.offsets.push(update.version.offset.0);
        columns.times.push(update.version.event_time.0);
        columns.indexes.push(u64::from(update.version.index));
        put_varint(&mut columns.key_lengths, update.key.len() as u64);
        bytes::put_short(&mut columns.keys, update.key);
        let mut rest = &update.cells[slots.len()..];
        for column in &mut shapes[last].columns {
            rest = &rest[column.push(rest)..];
        }
    }
    out.extend_from_slice(&part.updates.source().0.to_le_bytes());
    out.extend_from_slice(&part.updates.partition().0.to_le_bytes());
    out.extend_from_slice(&part.stored_at.0.to_le_bytes());
    put_varint(out, part.len() as u64);
    put_varint(out, shapes.len() as u64);
    for shape in &shapes {
        out.extend_from_slice(&shape.class.0.to_le_bytes());
        out.extend_from_slice(shape.slots);
    }
    out.extend_from_slice(&columns.which.bytes);
    out.extend_from_slice(&columns.offsets.bytes);
    out.extend_from_slice(&columns.times.bytes);
    out.push(u8::from(!columns.indexes.bytes.is_empty()));
    out.extend_from_slice(&columns.indexes.bytes);
    out.extend_from_slice(&columns.key_lengths);
    out.extend_from_slice(&columns.keys);
    for shape in &shapes {
        for (slot, column) in shape.columns.iter().enumerate() {
            let kind = column.kind.unwrap_or(MIXED);
            out.push(kind);
            if kind == MIXED {
                let same = part.iter().filter(|update| update.class == shape.class && slots_of(update.cells) == shape.slots);
                same.filter_map(|update| cells_of(&update, shape.columns.len()).nth(slot))
                    .for_each(|cell| out.extend_from_slice(cell));
            } else {
                out.extend_from_slice(&column.numbers.bytes);
                out.extend_from_slice(&column.content);
            }
        }
    }
}

/// Reads an entry; `None` if the bytes are not one.
pub(crate) fn decode(entry: &[u8]) -> Option<Changes> {
    let mut body = entry;
    (bytes::u8(&mut body)? == FORMAT).then_some(())?;
    let version = ChangeVersion { incarnation: bytes::u64(&mut body)?, seq: bytes::u64(&mut body)? };
    let count = bytes::varint(&mut body)?;
    let batches = (0..count).map(|_| batch(&mut body)).collect::<Option<Vec<_>>>()?;
    body.is_empty().then_some(Changes { version, batches })
}

fn batch(body: &mut &[u8]) -> Option<ChangeBatch> {
    let source = SourceId(bytes::u16(body)?);
    let partition = PartitionId(bytes::i32(body)?);
    let stored_at = ProcessingTime(bytes::i64(body)?);
    let count = usize::try_from(bytes::varint(body)?).ok()?;
    let mut shapes = Vec::new();
    for _ in 0..bytes::varint(body)? {
        let class = ClassId(bytes::u16(body)?);
        let slots = usize::from(u16::from_le_bytes(*body.first_chunk::<2>()?));
        shapes.push((class, bytes::slice(body, 2 + 2 * slots)?));
    }
    let mut which = vec![0usize; count];
    if shapes.len() > 1 {
        for shape in &mut which {
            *shape = usize::try_from(bytes::varint(body)?).ok().filter(|shape| *shape < shapes.len())?;
        }
    }
    let offsets = changes(body, count)?;
    let times = changes(body, count)?;
    let indexes = match bytes::u8(body)? {
        0 => vec![0; count],
        _ => (0..count).map(|_| bytes::varint(body)).collect::<Option<Vec<_>>>()?,
    };
    let key_lengths = (0..count).map(|_| bytes::varint(body)).collect::<Option<Vec<_>>>()?;
    let keys = key_lengths.iter().map(|length| bytes::slice(body, *length as usize)).collect::<Option<Vec<_>>>()?;
    let mut cells = shapes
        .iter()
        .enumerate()
        .map(|(shape, (_, slots))| {
            let rows = which.iter().filter(|found| **found == shape).count();
            let columns = (0..slots.len() / 2 - 1).map(|_| column(body, rows)).collect::<Option<Vec<_>>>()?;
            Some(columns.into_iter().map(Vec::into_iter).collect::<Vec<_>>())
        })
        .collect::<Option<Vec<_>>>()?;
    let mut updates = Updates::with_capacity(source, partition, count, 0);
    let mut block = Vec::new();
    for row in 0..count {
        let (class, slots) = *shapes.get(which[row])?;
        block.clear();
        block.extend_from_slice(slots);
        for column in &mut cells[which[row]] {
            block.extend_from_slice(&column.next()?);
        }
        let version = Version {
            event_time: EventTime(times[row]),
            source,
            partition,
            offset: Offset(offsets[row]),
            index: u32::try_from(indexes[row]).ok()?,
        };
        updates.copy(UpdateRef { hash: key_hash(keys[row]), class, key: keys[row], version, cells: &block });
    }
    Some(ChangeBatch { stored_at, updates })
}

fn changes(body: &mut &[u8], count: usize) -> Option<Vec<i64>> {
    let mut number = 0i64;
    (0..count)
        .map(|_| {
            number = number.wrapping_add(bytes::signed(body)?);
            Some(number)
        })
        .collect()
}

/// The cells of one column, encoded as the update had them.
fn column(body: &mut &[u8], rows: usize) -> Option<Vec<Vec<u8>>> {
    let fixed = |tag: u8, payload: &[u8]| [&[tag], payload].concat();
    Some(match bytes::u8(body)? {
        INTS => changes(body, rows)?.into_iter().map(|number| fixed(INT, &number.to_le_bytes())).collect(),
        TIMES => changes(body, rows)?.into_iter().map(|number| fixed(TIME, &number.to_le_bytes())).collect(),
        FLOATS => (0..rows).map(|_| Some(fixed(FLOAT, bytes::slice(body, 8)?))).collect::<Option<_>>()?,
        TEXTS => {
            let lengths = (0..rows).map(|_| bytes::varint(body)).collect::<Option<Vec<_>>>()?;
            let text = |length: u64| {
                let text = bytes::slice(body, usize::try_from(length).ok()?)?;
                Some([&[STR][..], &(length as u32).to_le_bytes(), text].concat())
            };
            lengths.into_iter().map(text).collect::<Option<_>>()?
        }
        MIXED => (0..rows).map(|_| Some(bytes::slice(body, Value::encoded_len(body)?)?.to_vec())).collect::<Option<_>>()?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use karst_types::{FeatureSlot, update::Cause};
    use proptest::prelude::*;

    use super::*;

    /// Class, offset, event time, key and values of an update.
    type Written = (u16, i64, i64, String, Vec<(u16, Value)>);

    fn written(rows: &[Written]) -> Updates {
        let mut updates = Updates::new(SourceId(3), PartitionId(-1));
        for (class, offset, time, key, values) in rows {
            let slots: Vec<_> = values.iter().map(|(slot, _)| FeatureSlot(*slot)).collect();
            let cause = Cause { offset: Offset(*offset), event_time: EventTime(*time) };
            let key = |out: &mut Vec<u8>| {
                out.extend_from_slice(key.as_bytes());
                true
            };
            updates.push(ClassId(*class), cause, &slots, key, |out| values.iter().for_each(|(_, value)| value.encode(out)));
        }
        updates
    }

    fn encode(version: ChangeVersion, updates: &Updates, from: usize) -> Vec<u8> {
        let mut entry = Entry::with_capacity(0);
        entry.push(Part { stored_at: ProcessingTime(99), updates, from }, &mut Columns::default());
        entry.finish(version).to_vec()
    }

    type Plain = (ClassId, Vec<u8>, Version, Vec<u8>, u64);
    fn plain(update: UpdateRef<'_>) -> Plain {
        (update.class, update.key.to_vec(), update.version, update.cells.to_vec(), update.hash)
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-1e9f64..1e9).prop_map(Value::Float),
            any::<i64>().prop_map(|micros| Value::Time(EventTime(micros))),
            ".{0,12}".prop_map(|text| Value::Str(text.into())),
            prop::collection::vec(any::<u8>(), 0..9).prop_map(Value::Bytes),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn an_entry_reads_back_and_a_truncated_one_is_refused(
            rows in prop::collection::vec(
                (0u16..3, 0i64..5, any::<i64>(), "[a-z]{0,9}", prop::collection::btree_map(0u16..4, value(), 0..4)), 1..40),
            from in 0usize..3,
            cut in any::<prop::sample::Index>(),
        ) {
            let mut offset = 0;
            let rows: Vec<_> = rows.into_iter().map(|(class, step, time, key, values)| {
                offset += step;
                (class, offset, time, key, values.into_iter().collect::<Vec<_>>())
            }).collect();
            let (updates, from) = (written(&rows), from.min(rows.len()));
            let version = ChangeVersion { incarnation: 2, seq: 77 };
            let entry = encode(version, &updates, from);
            let read = decode(&entry).unwrap();
            prop_assert_eq!(read.version, version);
            prop_assert_eq!(read.batches[0].stored_at, ProcessingTime(99));
            let expected: Vec<_> = updates.iter().skip(from).map(plain).collect();
            let got: Vec<_> = read.batches[0].updates.iter().map(plain).collect();
            prop_assert_eq!(got, expected);
            prop_assert!(decode(&entry[..cut.index(entry.len())]).is_none());
        }
    }

    /// Golden bytes: entries are on disk for ever.
    #[test]
    fn an_entry_is_these_bytes() {
        let rows = [
            (1, 5, 100, "ada".to_owned(), vec![(0, Value::Int(7)), (2, Value::Str("x".into()))]),
            (1, 6, 90, "bo".to_owned(), vec![(0, Value::Int(5)), (2, Value::Str("yz".into()))]),
        ];
        let entry = encode(ChangeVersion { incarnation: 1, seq: 2 }, &written(&rows), 0);
        let golden = [
            &[2][..],                                          // format
            &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0], // incarnation, seq
            &[1, 3, 0, 0xff, 0xff, 0xff, 0xff],                // batches, source, partition
            &[99, 0, 0, 0, 0, 0, 0, 0, 2],                     // stored at, rows
            &[1, 1, 0, 2, 0, 0, 0, 2, 0],                      // one shape: class 1, slots 0 and 2
            &[10, 2, 200, 1, 19, 0],                           // offsets, event times, no index
            &[3, 2, b'a', b'd', b'a', b'b', b'o'],             // keys
            &[1, 14, 3],                                       // ints 7, -2
            &[4, 1, 2, b'x', b'y', b'z'],                      // texts
        ];
        assert_eq!(entry, golden.concat());
        assert!(decode(&entry).is_some());
    }
}
