//! Shards, their disks and their mailboxes: what a shard accepts, applies and commits.

use std::collections::{BTreeMap, VecDeque};

use karst_state::{Accept, LaneHead, LaneId, Lanes, WatermarkState, restart::needless_barriers};
use karst_types::Offset;

use crate::{
    log::Key,
    partition::{Outgoing, Sums},
    replays::{Entry, Letter, LetterState, REPLAYS},
    variant::Variant,
    world::{COMMITS_PER_SYNC, GATHERED_MAX, SOURCE, World, lane, number_of},
};

#[derive(Clone)]
pub struct Message {
    pub head: LaneHead,
    pub effects: Vec<(Offset, Key, i64)>,
    pub content: Outgoing,
}

/// What a shard holds, in memory or on disk.
#[derive(Clone, Default)]
pub struct Stored {
    pub totals: BTreeMap<Key, i64>,
    pub outcomes: BTreeMap<LaneId, Sums>,
    pub letters: BTreeMap<(usize, i64), Letter>,
    pub replay_log: BTreeMap<i64, Entry>,
    pub replay_next: i64,
    pub applied: BTreeMap<LaneId, Offset>,
    pub barriers: BTreeMap<LaneId, BTreeMap<Offset, WatermarkState>>,
}

#[derive(Default)]
pub struct Shard {
    pub memory: Stored,
    /// Letters that someone wants replayed; gone with a crash.
    pub requests: Vec<(usize, i64)>,
    /// The commit on its way is synced as soon as it is written.
    pub sync: bool,
    pub lanes: Lanes,
    pub gathered: u64,
    pub new_barriers: BTreeMap<LaneId, (Offset, WatermarkState)>,
    /// A commit on its way.
    pub frozen: Option<Stored>,
    /// Commits since the last sync, that one first: what a loss of power may fall back to.
    pub disk: Vec<Stored>,
    pub mailbox: VecDeque<Message>,
}

impl Shard {
    pub fn new() -> Self {
        Self { disk: vec![Stored::default()], ..Self::default() }
    }
    pub fn committed(&self) -> &Stored {
        self.disk.last().expect("there is always a first state")
    }
    pub fn stable(&self) -> &Stored {
        &self.disk[0]
    }
    /// Reads back what is on disk; everything in memory is gone.
    pub fn load(&mut self) {
        self.memory = self.committed().clone();
        self.lanes = Lanes::recovered(self.memory.applied.clone());
        self.gathered = 0;
        self.requests.clear();
        self.new_barriers.clear();
        self.frozen = None;
    }
}

impl World<'_> {
    pub fn step_shard(&mut self, number: usize) {
        if self.shards[number].frozen.is_some() && self.shards[number].gathered >= GATHERED_MAX {
            return; // full until its commit is written
        }
        let Some(message) = self.shards[number].mailbox.pop_front() else { return };
        let partition = number_of(message.head.lane());
        let (head, accepted) = (message.head, self.accept(number, &message));
        match accepted {
            Accept::Apply { after } => self.apply(number, message, after),
            Accept::Duplicate => {
                self.report.duplicates += 1;
                self.shards[number].gathered += 1;
            }
            Accept::OldEpoch => {}
            Accept::Gap => {
                self.report.gaps += 1;
                // The partition is told which epoch has the gap; it may have rewound already.
                if head.epoch == self.partitions[partition].epoch {
                    self.restart(partition);
                }
            }
        }
        if self.shards[number].gathered >= self.random.one_of(&[1, 2, GATHERED_MAX]) {
            self.freeze(number);
        }
        self.note(|| {
            format!("shard {number} takes {partition}@{} {}.{}: {accepted:?}", head.through, head.epoch, head.lane_seq)
        });
    }

    /// The engine's rule, or the mutation of it.
    fn accept(&mut self, number: usize, message: &Message) -> Accept {
        let Message { head, content, .. } = message;
        let epoch = self.partitions[number_of(head.lane())].epoch;
        let shard = &mut self.shards[number];
        let after = shard.memory.applied.get(&head.lane()).copied();
        match self.variant {
            Variant::CommitOnDispatch if head.epoch != epoch => Accept::OldEpoch,
            Variant::CommitOnDispatch => Accept::Apply { after: None },
            Variant::NoLaneChain if head.epoch != epoch => Accept::OldEpoch,
            Variant::NoLaneChain if after.is_some_and(|after| head.through <= after) => Accept::Duplicate,
            Variant::NoLaneChain => Accept::Apply { after },
            Variant::NoCut => shard.lanes.accept(head),
            _ if number == SOURCE => shard.lanes.accept_whole(head, Offset(content.first)),
            _ => shard.lanes.accept(head),
        }
    }

    fn apply(&mut self, number: usize, message: Message, after: Option<Offset>) {
        let shard = &mut self.shards[number];
        let lane = message.head.lane();
        for (offset, key, amount) in message.effects {
            if lane.is_replay() || after.is_none_or(|after| offset > after) {
                *shard.memory.totals.entry(key).or_default() += amount;
            }
        }
        if number == SOURCE {
            shard.new_barriers.insert(lane, (message.head.through, message.content.watermark));
            let content = &message.content;
            if let Some(replayed) = content.replayed {
                self.settle(replayed);
            } else {
                let sums = shard.memory.outcomes.entry(lane).or_default();
                sums.in_time += content.sums.in_time;
                sums.late += content.sums.late;
                sums.dead += content.sums.dead;
                // Conservation, at every frontier: the log has no gaps here, so its records are its offsets.
                let exact = sums.in_time + sums.late + sums.dead == message.head.through.0 + 1;
                self.report.outcomes_wrong += i64::from(!exact && self.variant.has_letters());
                for (offset, watermark) in &content.letters {
                    let letter = Letter { state: LetterState::Waiting, attempt: 1, watermark: *watermark };
                    shard.memory.letters.insert((number_of(lane), *offset), letter);
                }
            }
        }
        let shard = &mut self.shards[number];
        shard.memory.applied.insert(lane, message.head.through);
        shard.gathered += 1;
    }

    /// A commit takes what was applied up to now.
    pub fn freeze(&mut self, number: usize) {
        let stable =
            |partition| self.shards.iter().map(|shard| shard.stable().applied.get(&lane(partition)).copied()).min().flatten();
        let safe: Vec<Option<Offset>> = (0..=REPLAYS).map(stable).collect();
        let shard = &self.shards[number];
        if shard.frozen.is_some() || (shard.gathered == 0 && shard.requests.is_empty()) {
            return;
        }
        let sync = number == SOURCE && self.queue();
        let shard = &mut self.shards[number];
        shard.sync = sync;
        shard.gathered = 0;
        shard.lanes.take_moved();
        for (lane, (offset, watermark)) in std::mem::take(&mut shard.new_barriers) {
            let barriers = shard.memory.barriers.entry(lane).or_default();
            barriers.insert(offset, watermark);
            for needless in needless_barriers(barriers, safe[number_of(lane)]) {
                barriers.remove(&needless);
            }
            if let (true, Some(safe)) = (lane.is_replay(), safe[REPLAYS]) {
                let floor = barriers.range(..=safe).next_back().map_or(-1, |(floor, _)| floor.0);
                shard.memory.replay_log.retain(|seq, _| *seq > floor);
            }
        }
        shard.frozen = Some(shard.memory.clone());
    }

    /// The commit on its way is written.
    pub fn land(&mut self, number: usize) {
        let shard = &mut self.shards[number];
        let Some(written) = shard.frozen.take() else { return };
        if self.variant == Variant::TwoWrites {
            let applied = shard.committed().applied.clone();
            shard.disk.push(Stored { applied, ..written.clone() });
        }
        if self.variant != Variant::CommitOnDispatch && self.variant != Variant::NoLaneChain {
            shard.lanes.committed(written.applied.iter().map(|(lane, offset)| (*lane, *offset)));
        }
        shard.disk.push(written);
        if shard.disk.len() > COMMITS_PER_SYNC || std::mem::take(&mut shard.sync) {
            let synced = shard.disk.len() - 1;
            shard.disk.drain(..synced);
        }
        self.note(|| format!("shard {number} commits"));
    }
}
