//! The reading end of the source shard: sums, dead letters, replay logs.

use std::{collections::BTreeMap, sync::Arc};

use karst_types::{Offset, Outcomes, Reason, SourceId};

use super::{LetterCounts, PartitionOutcomes, StoredDeadLetter, state::SourceState, tally::Tally};
use crate::{
    core::Core,
    dead,
    error::{Error, Result},
    keys,
    lane::LaneId,
    replay::{self, ReplayEntry},
    restart::WatermarkState,
};

/// Reads the source shard. Clone it; waits for no writer.
#[derive(Clone)]
pub struct SourceReader {
    core: Arc<Core>,
    state: Arc<SourceState>,
}

impl SourceReader {
    pub(crate) fn new(core: Arc<Core>, state: Arc<SourceState>) -> Self {
        Self { core, state }
    }

    /// The sums of every partition, as applied (at most one commit ahead of what is committed).
    pub fn outcomes(&self) -> Vec<PartitionOutcomes> {
        let reasons = |tally: &Tally| Reason::ALL.into_iter().zip(tally.reasons).filter(|(_, count)| *count > 0).collect();
        let live = self.state.live.read();
        live.iter()
            .filter(|(lane, _)| !lane.is_replay())
            .map(|(lane, tally)| PartitionOutcomes {
                source: lane.source,
                partition: lane.partition,
                outcomes: tally.outcomes,
                reasons: reasons(tally),
                lateness: tally.lateness,
            })
            .collect()
    }

    /// The committed positions.
    pub fn positions(&self) -> Vec<(LaneId, Offset)> {
        self.core.all_committed()
    }

    /// Committed dead letters of a partition from offset `from` on, at most `limit`, by rising offset.
    ///
    /// # Errors
    /// Of the disk, or if one is corrupt.
    pub fn dead_letters(&self, lane: LaneId, from: Offset, limit: usize) -> Result<Vec<StoredDeadLetter>> {
        let mut letters = Vec::new();
        self.each_dead_letter(lane, from, |letter| {
            let room = letters.len() < limit;
            letters.extend(room.then_some(letter));
            room
        })?;
        Ok(letters)
    }

    /// Shows committed dead letters of a partition from offset `from` on, by rising offset, as long as `visit` says so.
    ///
    /// # Errors
    /// Of the disk, or if one is corrupt.
    pub fn each_dead_letter(&self, lane: LaneId, from: Offset, mut visit: impl FnMut(StoredDeadLetter) -> bool) -> Result<()> {
        self.core.with_rocks(|rocks| {
            rocks.scan(&keys::lane_prefix(keys::DEAD, lane), &keys::dead(lane, from), |key, value| {
                let wrong = || -> Error { rocks.corrupt("a dead letter") };
                let offset = keys::offset_of(key).ok_or_else(wrong)?;
                let dead::Kept { letter, state, stored_at } = dead::decode(offset, value).ok_or_else(wrong)?;
                Ok(visit(StoredDeadLetter { source: lane.source, partition: lane.partition, letter, state, stored_at }))
            })
        })
    }

    /// Dead letters of a source in the order in which they were stored, from number `from` of their queue on: at most `limit`,
    /// and not many more than `bytes`. Also the number to go on from.
    ///
    /// # Errors
    /// Of the disk, or if one is corrupt.
    pub fn letters_from(
        &self,
        source: SourceId,
        from: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<(Vec<StoredDeadLetter>, u64)> {
        self.core.with_rocks(|rocks| {
            let (mut letters, mut next, mut size) = (Vec::new(), from, 0);
            rocks.scan(&[keys::DEAD_QUEUE], &keys::dead_queue(from), |queued, entry| {
                if letters.len() == limit || size >= bytes {
                    return Ok(false);
                }
                let wrong = || rocks.corrupt("the queue of dead letters");
                let key = entry.get(8..).ok_or_else(wrong)?;
                let (lane, offset) = keys::lane_of(key).zip(keys::offset_of(key)).ok_or_else(wrong)?;
                next = keys::number_of(queued).ok_or_else(wrong)? + 1;
                if lane.source != source {
                    return Ok(true);
                }
                if let Some(value) = rocks.get(key)? {
                    let dead::Kept { letter, state, stored_at } = dead::decode(offset, &value).ok_or_else(wrong)?;
                    size += value.len();
                    letters.push(StoredDeadLetter { source, partition: lane.partition, letter, state, stored_at });
                }
                Ok(true)
            })?;
            Ok((letters, next))
        })
    }

    /// Up to where the dead letters of a source were forwarded; `None` if nobody ever asked for that.
    pub fn letter_cursor(&self, source: SourceId) -> Option<u64> {
        let name = keys::letters(source);
        self.core.cursors().into_iter().find(|(known, _)| *known == name).map(|(_, next)| next)
    }

    /// Records from where on the dead letters of a source are to be forwarded. From the first time on, those that are let go
    /// before they were are counted: [`LetterCounts::let_go_unsent`].
    ///
    /// # Errors
    /// Of the disk.
    pub fn set_letter_cursor(&self, source: SourceId, next: u64) -> Result<()> {
        self.core.set_cursor(&keys::letters(source), Some(next))
    }

    /// Entries of a source's replay log behind `after` that may be read, at most `limit`.
    ///
    /// # Errors
    /// Of the disk, or if one is corrupt.
    pub fn replay_log(&self, source: SourceId, after: Option<Offset>, limit: usize) -> Result<Vec<ReplayEntry>> {
        let lane = LaneId::replay(source);
        let from = after.map_or(Offset(0), Offset::next);
        self.core.with_rocks(|rocks| {
            let mut entries = Vec::new();
            rocks.scan(&keys::lane_prefix(keys::REPLAY_LOG, lane), &keys::replay(lane, from), |key, value| {
                let wrong = || rocks.corrupt("an entry of a replay log");
                let seq = keys::offset_of(key).ok_or_else(wrong)?;
                if entries.len() == limit || self.state.replay_end.is_before(seq) {
                    return Ok(false);
                }
                entries.push(replay::decode(seq, value).ok_or_else(wrong)?);
                Ok(true)
            })?;
            Ok(entries)
        })
    }

    /// How many dead letters are kept, and how many were let go.
    ///
    /// # Errors
    /// Of the disk.
    pub fn dead_letter_counts(&self) -> Result<LetterCounts> {
        self.core.with_rocks(|rocks| {
            let stored = rocks.get(&keys::meta("dead"))?;
            let state = stored.and_then(|state| dead::DeadState::decode(&state)).unwrap_or_default();
            let dead::DeadState { kept, bytes, let_go, let_go_unsent, .. } = state;
            Ok(LetterCounts { kept, bytes, let_go, let_go_unsent })
        })
    }

    /// The sums of one partition; `None` if it never had a record.
    pub fn outcomes_of(&self, lane: LaneId) -> Option<Outcomes> {
        self.state.live.read().get(&lane).map(|tally| tally.outcomes)
    }

    /// The recorded watermark history of a partition, by offset.
    pub fn barriers(&self, lane: LaneId) -> BTreeMap<Offset, WatermarkState> {
        self.state.barriers.read().get(&lane).cloned().unwrap_or_default()
    }
}
