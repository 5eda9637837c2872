//! Replays of dead letters, by the rules of `karst_state::replay`: the source shard queues letters into a log of its own, which
//! is read like one more partition. Someone keeps asking for replays, of whatever letters, in whatever state they are.

use karst_state::WatermarkState;
use karst_types::Offset;

use crate::{
    log::{self, EVENTS, PARTITIONS},
    partition::{Effects, Outgoing},
    variant::Variant,
    world::{SOURCE, World, shard_of},
};

/// The replay log among the partitions.
pub const REPLAYS: usize = PARTITIONS;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LetterState {
    Waiting,
    Queued,
    Replayed,
}

#[derive(Clone, Copy, Debug)]
pub struct Letter {
    pub state: LetterState,
    pub attempt: u32,
    /// Before it, in its partition.
    pub watermark: WatermarkState,
}

/// An entry of the replay log: a letter as it was when it was queued.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub partition: usize,
    pub offset: i64,
    pub letter: Letter,
}

/// Some records fail once more.
fn fails(entry: &Entry) -> bool {
    entry.offset % 3 == 0 && entry.letter.attempt == 1
}

/// What a replay message says to the source shard.
#[derive(Clone, Copy, Debug)]
pub struct Replayed {
    pub entry: Entry,
    pub failed: bool,
    pub late: bool,
}

impl World<'_> {
    /// Someone asks for replays, without looking at what became of earlier ones.
    pub fn ask(&mut self) {
        if self.variant == Variant::QueueAnyState && self.report.replays > 50 {
            return; // or it would go on for ever
        }
        let letters: Vec<_> = self.shards[SOURCE].committed().letters.keys().copied().collect();
        for letter in letters {
            if self.random.chance(30) {
                self.shards[SOURCE].requests.push(letter);
            }
        }
    }

    /// Asks for all that are left. Whether there are none.
    pub fn all_replayed(&mut self) -> bool {
        let stored = self.shards[SOURCE].committed();
        let left: Vec<_> =
            stored.letters.iter().filter(|(_, letter)| letter.state == LetterState::Waiting).map(|(place, _)| *place).collect();
        // Letters that are queued twice come to no end.
        let endless = self.variant == Variant::QueueAnyState;
        let none = endless || stored.letters.values().all(|letter| letter.state == LetterState::Replayed);
        self.shards[SOURCE].requests.extend(left);
        none
    }

    /// A commit of the source shard queues what waits. Whether it must be on stable storage before anyone reads it.
    pub fn queue(&mut self) -> bool {
        let shard = &mut self.shards[SOURCE];
        let mut queued = false;
        for place in std::mem::take(&mut shard.requests) {
            let Some(letter) = shard.memory.letters.get_mut(&place) else { continue };
            if letter.state != LetterState::Waiting && self.variant != Variant::QueueAnyState {
                continue;
            }
            let entry = Entry { partition: place.0, offset: place.1, letter: *letter };
            letter.state = LetterState::Queued;
            shard.memory.replay_log.insert(shard.memory.replay_next, entry);
            shard.memory.replay_next += 1;
            queued = true;
        }
        queued && self.variant != Variant::UnsyncedQueue
    }

    /// The next entry that may be read.
    pub fn next_entry(&self) -> Option<(i64, Entry)> {
        let stored = self.shards[SOURCE].committed();
        let (seq, entry) = stored.replay_log.range(self.partitions[REPLAYS].next..).next()?;
        let mut entry = *entry;
        if self.variant == Variant::LiveEntry {
            entry.letter.attempt = stored.letters[&(entry.partition, entry.offset)].attempt;
        }
        Some((*seq, entry))
    }

    /// The replayer reads one entry, and sends one message into each of its lanes.
    pub fn step_replayer(&mut self) {
        let Some((seq, entry)) = self.next_entry() else { return };
        let event = &self.logs[entry.partition][entry.offset as usize];
        let replayed = Replayed { entry, failed: fails(&entry), late: log::is_late(event, &entry.letter.watermark) };
        let mut effects = Effects::default();
        if !replayed.failed && !replayed.late {
            event.keys.iter().for_each(|key| effects[shard_of(*key)].push((Offset(entry.offset), *key, event.amount)));
        }
        self.partitions[REPLAYS].next = seq + 1;
        self.report.replays += 1;
        let nothing = Outgoing { first: seq, through: seq, replayed: Some(replayed), ..Outgoing::default() };
        self.send(REPLAYS, effects, nothing);
        self.note(|| format!("replay {seq} of {}@{} is sent: {replayed:?}", entry.partition, entry.offset));
    }

    /// The source shard learns what became of a replay.
    pub fn settle(&mut self, replayed: Replayed) {
        let Replayed { entry, failed, late } = replayed;
        let memory = &mut self.shards[SOURCE].memory;
        if let Some(letter) = memory.letters.get_mut(&(entry.partition, entry.offset)) {
            letter.state = if failed { LetterState::Waiting } else { LetterState::Replayed };
            letter.attempt = entry.letter.attempt + u32::from(failed);
        }
        let sums = memory.outcomes.entry(crate::world::lane(entry.partition)).or_default();
        if !failed {
            sums.dead -= 1;
            *(if late { &mut sums.late } else { &mut sums.in_time }) += 1;
        }
        let broken = sums.dead < 0;
        self.report.outcomes_wrong += i64::from(broken);
    }

    /// Letters that were never replayed, and replays that were not counted.
    pub fn judge_letters(&mut self) {
        let stored = self.shards[SOURCE].committed();
        let open = stored.letters.values().filter(|letter| letter.state != LetterState::Replayed).count() as i64;
        let bad = self.logs.iter().flat_map(|log| log.iter().take(EVENTS as usize)).filter(|event| event.bad).count();
        self.report.outcomes_wrong += open + (bad as i64 - stored.letters.len() as i64).abs();
    }
}
