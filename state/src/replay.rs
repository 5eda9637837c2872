//! Replays of dead letters, each with exactly one effect, whatever crashes in between and however often it is asked for.
//!
//! **A replay is a log of its own.** Who asks names letters; the source shard queues those that wait: in one commit the letter
//! becomes *queued*, and a copy of it is appended to the *replay log* of its source, numbered 0, 1, 2, …. That log is then read
//! like a partition, the one with the number −1 ([`REPLAY`]): the numbers are its offsets, and the lane protocol
//! ([`crate::lane`], [`crate::restart`]) gives each entry one effect on every shard, as it does for records. When an entry comes
//! to the source shard, the letter becomes *replayed* (or waits again, with one attempt more), and its record moves from dead to
//! applied, skipped or late in the sums of its own partition, all in one commit with the position of the replay log.
//!
//! What has to hold for that, and why:
//! - *An entry never changes*, or two shards would see different ones after a crash. So it is a copy: the letter itself may be
//!   let go, or be rewritten by a failed replay.
//! - *A number is never given twice*, or a shard would take the second for a repetition. Feature shards may be ahead of a source
//!   shard that lost power; so a commit that queues is on stable storage before anybody reads what it queued
//!   ([`ReplayEnd`]).
//! - *Only waiting letters are queued*, and whether one waits is decided by the commit itself: asking twice, or twice at the
//!   same time, queues once.
//! - *One entry per batch*: its updates carry the place of the record in its partition, not in the replay log, so a batch could
//!   not be taken in part.
//! - *An entry stays until no restart can need it*: until a barrier behind it is stable on every shard.
//!
//! A replayed record takes no part in its partition's watermark; it is judged by the one before it, which the letter keeps
//! ([`DeadLetter::watermark`]): as late as it would have been in its place. Its updates have the version that they would have had
//! there (event time, source, partition, offset), so an older value never replaces a newer one.
//!
//! Crash-tested in `tests/simulation`; each of the rules above is a shortcut there that must be caught.

use std::sync::atomic::{AtomicU64, Ordering};

use karst_types::{DeadLetter, Offset, Outcome, PartitionId, Reason};

use crate::{
    bytes,
    dead::{self, Kept},
    lane::LaneId,
};

const FORMAT: u8 = 1;

/// The number of a replay log among the partitions of its source. Partitions themselves count from 0.
pub const REPLAY: PartitionId = PartitionId(-1);

/// A letter that is to be replayed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplayEntry {
    /// Its number in the replay log of its source.
    pub seq: Offset,
    /// The partition of its record.
    pub partition: PartitionId,
    /// The letter, as it was when it was queued.
    pub letter: DeadLetter,
}

/// What a batch of a replay log means for the record that it replays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// The record's own partition.
    pub partition: PartitionId,
    /// Its offset there.
    pub offset: Offset,
    /// As what it has been counted so far.
    pub was: Reason,
    /// What became of it now.
    pub outcome: Outcome,
}

/// Letters that someone wants replayed.
pub struct ReplayRequest {
    /// Which. Those that do not wait, or are not there any more, are passed over.
    pub letters: Vec<(LaneId, Offset)>,
    /// Told how many were queued, once that is on stable storage. Dropped, if the commit failed: ask again.
    pub answer: Box<dyn FnOnce(u64) + Send>,
}

/// The number after the last entry that is on stable storage: nobody reads further.
#[derive(Debug, Default)]
pub(crate) struct ReplayEnd(AtomicU64);

impl ReplayEnd {
    pub(crate) fn set(&self, end: u64) {
        self.0.store(end, Ordering::Release);
    }
    pub(crate) fn is_before(&self, seq: Offset) -> bool {
        seq.0 >= self.0.load(Ordering::Acquire) as i64
    }
}

pub(crate) fn encode(partition: PartitionId, kept: &Kept) -> Vec<u8> {
    let mut out = vec![FORMAT];
    out.extend_from_slice(&partition.0.to_le_bytes());
    out.extend_from_slice(&kept.letter.offset.0.to_le_bytes());
    out.extend_from_slice(&dead::encode(kept));
    out
}

pub(crate) fn decode(seq: Offset, mut value: &[u8]) -> Option<ReplayEntry> {
    (bytes::u8(&mut value)? == FORMAT).then_some(())?;
    let partition = PartitionId(bytes::i32(&mut value)?);
    let offset = Offset(bytes::i64(&mut value)?);
    Some(ReplayEntry { seq, partition, letter: dead::decode(offset, value)?.letter })
}
