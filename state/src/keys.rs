//! The keys of a shard's RocksDB: one column family, so that one batch is one unit of recovery; the first byte says what.
//!
//! ```text
//! a source partition          applied position        (every shard)
//! b source partition          where it was first read (source shard)
//! c seq                       changelog entry         (feature shards)
//! d source partition offset   dead letter             (source shard)
//! k source partition          lateness                (source shard)
//! l seq                       size of changelog entry (feature shards)
//! m name                      meta: format, store, shard, shards, hash, incarnation, bases, boot, seq, rows,
//!                             log, dead, replay
//! o source partition          outcomes                (source shard)
//! p source partition seq      entry of a replay log   (source shard; the partition is that of replays, -1)
//! q number                    dead letters in the order of arrival (source shard)
//! r slot                      commit ring             (every shard)
//! s class key                 entity row              (feature shards)
//!                             of tiles, archived ones, and sessions: under classes of their own (`window::layout`, `window::session`)
//! u name                      cursor of a durable reader: of the changelog, or of dead letters
//! w source partition offset   watermark barrier       (source shard)
//! ```
//! Numbers are big-endian, signed ones with the sign bit flipped, so that bytes sort as numbers do:
//! partition 3 of source 1 at offset 7 is `77 0001 80000003 8000000000000007`.

use karst_types::{ClassId, Offset, PartitionId, SourceId};

use crate::lane::LaneId;

pub(crate) const APPLIED: u8 = b'a';
pub(crate) const BEGUN: u8 = b'b';
pub(crate) const CHANGE: u8 = b'c';
pub(crate) const DEAD: u8 = b'd';
pub(crate) const LATENESS: u8 = b'k';
pub(crate) const LOG_SIZE: u8 = b'l';
pub(crate) const META: u8 = b'm';
pub(crate) const OUTCOMES: u8 = b'o';
pub(crate) const REPLAY_LOG: u8 = b'p';
pub(crate) const DEAD_QUEUE: u8 = b'q';
pub(crate) const RING: u8 = b'r';
pub(crate) const ROW: u8 = b's';
pub(crate) const CURSOR: u8 = b'u';
pub(crate) const BARRIER: u8 = b'w';

/// Bytes before the entity's key in a row's key.
pub(crate) const ROW_HEAD: usize = 3;

const SIGN_32: u32 = 1 << 31;
const SIGN_64: u64 = 1 << 63;

fn of_lane(prefix: u8, lane: LaneId) -> Vec<u8> {
    let mut key = Vec::with_capacity(15);
    key.push(prefix);
    key.extend_from_slice(&lane.source.0.to_be_bytes());
    key.extend_from_slice(&(lane.partition.0 as u32 ^ SIGN_32).to_be_bytes());
    key
}
fn of_offset(prefix: u8, lane: LaneId, offset: Offset) -> Vec<u8> {
    let mut key = of_lane(prefix, lane);
    key.extend_from_slice(&(offset.0 as u64 ^ SIGN_64).to_be_bytes());
    key
}
fn of_number(prefix: u8, number: u64) -> Vec<u8> {
    let mut key = vec![prefix];
    key.extend_from_slice(&number.to_be_bytes());
    key
}
fn of_name(prefix: u8, name: &str) -> Vec<u8> {
    let mut key = vec![prefix];
    key.extend_from_slice(name.as_bytes());
    key
}

pub(crate) fn applied(lane: LaneId) -> Vec<u8> {
    of_lane(APPLIED, lane)
}
pub(crate) fn outcomes(lane: LaneId) -> Vec<u8> {
    of_lane(OUTCOMES, lane)
}
pub(crate) fn begun(lane: LaneId) -> Vec<u8> {
    of_lane(BEGUN, lane)
}
pub(crate) fn lateness(lane: LaneId) -> Vec<u8> {
    of_lane(LATENESS, lane)
}
pub(crate) fn barrier(lane: LaneId, offset: Offset) -> Vec<u8> {
    of_offset(BARRIER, lane, offset)
}
pub(crate) fn dead(lane: LaneId, offset: Offset) -> Vec<u8> {
    of_offset(DEAD, lane, offset)
}
pub(crate) fn replay(lane: LaneId, seq: Offset) -> Vec<u8> {
    of_offset(REPLAY_LOG, lane, seq)
}
/// What all keys of one lane begin with.
pub(crate) fn lane_prefix(prefix: u8, lane: LaneId) -> Vec<u8> {
    of_lane(prefix, lane)
}
pub(crate) fn dead_queue(number: u64) -> Vec<u8> {
    of_number(DEAD_QUEUE, number)
}
pub(crate) fn change(seq: u64) -> Vec<u8> {
    of_number(CHANGE, seq)
}
pub(crate) fn log_size(seq: u64) -> Vec<u8> {
    of_number(LOG_SIZE, seq)
}
pub(crate) fn meta(name: &str) -> Vec<u8> {
    of_name(META, name)
}
pub(crate) fn cursor(name: &str) -> Vec<u8> {
    of_name(CURSOR, name)
}
const LETTERS: &str = "letters/";

/// The name of the cursor of whoever forwards the dead letters of a source: by number, since a name may be used again.
pub(crate) fn letters(source: SourceId) -> String {
    format!("{LETTERS}{}", source.0)
}
/// The source whose letters the cursor of this name is about.
pub(crate) fn letters_of(cursor: &str) -> Option<SourceId> {
    cursor.strip_prefix(LETTERS)?.parse().ok().map(SourceId)
}
pub(crate) fn ring(slot: u16) -> Vec<u8> {
    let mut key = vec![RING];
    key.extend_from_slice(&slot.to_be_bytes());
    key
}
/// Appends the key of an entity's row.
pub(crate) fn put_row(out: &mut Vec<u8>, class: ClassId, key: &[u8]) {
    out.push(ROW);
    out.extend_from_slice(&class.0.to_be_bytes());
    out.extend_from_slice(key);
}
pub(crate) fn row(class: ClassId, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ROW_HEAD + key.len());
    put_row(&mut out, class, key);
    out
}

/// Class and entity's key, if this is the key of a row.
pub(crate) fn of_row(key: &[u8]) -> Option<(ClassId, &[u8])> {
    let (head, entity) = key.split_first_chunk::<ROW_HEAD>()?;
    (head[0] == ROW).then_some((ClassId(u16::from_be_bytes([head[1], head[2]])), entity))
}

/// The lane that a key of a lane names.
pub(crate) fn lane_of(key: &[u8]) -> Option<LaneId> {
    let (source, rest) = key.get(1..)?.split_first_chunk::<2>()?;
    let (partition, _) = rest.split_first_chunk::<4>()?;
    Some(LaneId {
        source: SourceId(u16::from_be_bytes(*source)),
        partition: PartitionId((u32::from_be_bytes(*partition) ^ SIGN_32) as i32),
    })
}
/// The offset at the end of a key of a barrier or a dead letter.
pub(crate) fn offset_of(key: &[u8]) -> Option<Offset> {
    Some(Offset((u64::from_be_bytes(*key.get(7..)?.first_chunk::<8>()?) ^ SIGN_64) as i64))
}
/// The number of a key of a changelog entry or of the queue of dead letters.
pub(crate) fn number_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.get(1..)?.first_chunk::<8>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(source: u16, partition: i32) -> LaneId {
        LaneId { source: SourceId(source), partition: PartitionId(partition) }
    }

    /// Golden bytes: on disk for ever.
    #[test]
    fn keys_are_these_bytes() {
        assert_eq!(barrier(lane(1, 3), Offset(7)), [b'w', 0, 1, 0x80, 0, 0, 3, 0x80, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(replay(lane(1, -1), Offset(7)), [b'p', 0, 1, 0x7f, 0xff, 0xff, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(row(ClassId(2), b"ada"), [b's', 0, 2, b'a', b'd', b'a']);
        assert_eq!(begun(lane(1, 3)), [b'b', 0, 1, 0x80, 0, 0, 3]);
        assert_eq!(lateness(lane(1, 3)), [b'k', 0, 1, 0x80, 0, 0, 3]);
        assert_eq!(change(258), [b'c', 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(ring(4095), [b'r', 0x0f, 0xff]);
    }

    #[test]
    fn keys_sort_as_what_they_name_and_read_back() {
        let mut sorted = Vec::new();
        for source in [0, 1, 300] {
            for partition in [-1, 0, 7, 70_000] {
                for offset in [-5, 0, 9, 1 << 40] {
                    sorted.push((lane(source, partition), Offset(offset)));
                }
            }
        }
        let keys: Vec<_> = sorted.iter().map(|(lane, offset)| dead(*lane, *offset)).collect();
        assert!(keys.is_sorted());
        for (key, (lane, offset)) in keys.iter().zip(&sorted) {
            assert_eq!((lane_of(key), offset_of(key)), (Some(*lane), Some(*offset)));
        }
        assert_eq!(number_of(&change(77)), Some(77));
    }
}
