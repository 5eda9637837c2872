//! Partitions: what they read and send, and where they start again.

use karst_state::{LaneHead, RestartPoint, WatermarkState, restart_point};
use karst_types::{Offset, SourceId};

use crate::{
    log::{self, EVENTS, Key},
    replays::{REPLAYS, Replayed},
    shard::{Message, Shard},
    variant::Variant,
    world::{BATCH_MAX, CREDITS, SHARDS, SOURCE, World, lane, shard_of},
};

/// What a batch does to each shard.
pub type Effects = [Vec<(Offset, Key, i64)>; SHARDS + 1];

/// What became of the records of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub in_time: i64,
    pub late: i64,
    pub dead: i64,
}

/// What a batch tells the source shard, and its place in its lane.
#[derive(Clone, Default)]
pub struct Outgoing {
    pub first: i64,
    pub through: i64,
    pub sums: Sums,
    /// Bad events, with the watermark before each.
    pub letters: Vec<(i64, WatermarkState)>,
    pub watermark: WatermarkState,
    pub replayed: Option<Replayed>,
}

#[derive(Default)]
pub struct Partition {
    pub next: i64,
    pub watermark: WatermarkState,
    pub epoch: u64,
    pub lane_seqs: [u64; SHARDS + 1],
    pub cut: Option<Offset>,
    pub group_offset: i64,
}

impl World<'_> {
    /// The partition reads, judges and resolves one batch, and sends one message into each of its lanes.
    pub fn step_partition(&mut self, number: usize) {
        let full = self.shards.iter().any(|shard| shard.mailbox.len() >= CREDITS);
        if full {
            return;
        }
        if number == REPLAYS {
            return self.step_replayer();
        }
        if self.partitions[number].next >= EVENTS {
            return;
        }
        let records = 1 + self.random.below(BATCH_MAX) as i64;
        let partition = &mut self.partitions[number];
        let first = partition.next;
        let mut through = (first + records - 1).min(EVENTS - 1);
        if let Some(cut) = partition.cut.filter(|cut| (first..through).contains(&cut.0) && self.variant != Variant::NoCut) {
            through = cut.0;
        }
        let mut effects = Effects::default();
        let (mut sums, mut letters) = (Sums::default(), Vec::new());
        for offset in first..=through {
            let event = &self.logs[number][offset as usize];
            if event.bad {
                sums.dead += 1;
                letters.push((offset, partition.watermark));
                continue;
            }
            if log::is_late(event, &partition.watermark) {
                sums.late += 1;
            } else {
                sums.in_time += 1;
                event.keys.iter().for_each(|key| effects[shard_of(*key)].push((Offset(offset), *key, event.amount)));
            }
            log::advance(&mut partition.watermark, event);
        }
        partition.next = through + 1;
        partition.group_offset = (partition.next - self.random.one_of(&[0, 0, 0, 1, 2])).max(0);
        let watermark = partition.watermark;
        self.send(number, effects, Outgoing { first, through, sums, letters, watermark, replayed: None });
        self.note(|| format!("partition {number} sends {first}..={through}"));
    }

    /// One message into each lane of a partition.
    pub fn send(&mut self, number: usize, effects: Effects, content: Outgoing) {
        let partition = &mut self.partitions[number];
        for (shard, effects) in effects.into_iter().enumerate() {
            if self.variant == Variant::NoFrontier && shard != SOURCE && effects.is_empty() {
                continue;
            }
            partition.lane_seqs[shard] += 1;
            let head = LaneHead {
                source: SourceId(0),
                partition: lane(number).partition,
                epoch: partition.epoch,
                lane_seq: partition.lane_seqs[shard],
                through: Offset(content.through),
            };
            self.shards[shard].mailbox.push_back(Message { head, effects, content: content.clone() });
        }
    }

    /// The partition starts again, in a new epoch.
    pub fn restart(&mut self, number: usize) {
        self.report.restarts += 1;
        let lane = lane(number);
        let applied = |shard: &Shard| match self.variant {
            Variant::UncommittedRestart => shard.memory.applied.get(&lane).copied(),
            _ => shard.committed().applied.get(&lane).copied(),
        };
        let source = &self.shards[SOURCE];
        let mut barriers = source.committed().barriers.get(&lane).cloned().unwrap_or_default();
        if self.variant == Variant::UncommittedRestart {
            barriers.extend(source.memory.barriers.get(&lane).cloned().unwrap_or_default());
            barriers.extend(source.new_barriers.get(&lane).copied());
        }
        let RestartPoint { after, mut watermark, source_shard, .. } =
            restart_point(self.shards[..SHARDS].iter().map(applied), applied(source), &barriers);
        let newest = self.shards.iter().filter_map(applied).max();
        if self.variant == Variant::NewestWatermark {
            watermark = barriers.values().next_back().copied().unwrap_or_default();
        }
        let partition = &mut self.partitions[number];
        partition.epoch += 1;
        partition.lane_seqs = Default::default();
        partition.next = after.map_or(0, |offset| offset.0 + 1);
        partition.watermark = watermark;
        partition.cut = source_shard;
        if self.variant == Variant::CommitOnDispatch {
            partition.next = partition.group_offset;
            partition.watermark = WatermarkState::default();
        }
        let replay = newest.map_or(0, |newest| newest.0 + 1 - partition.next);
        self.report.longest_replay = self.report.longest_replay.max(replay);
        // The handshake goes by the control lane, to whoever is there to answer.
        let epoch = partition.epoch;
        for shard in 0..=SHARDS {
            if self.random.chance(80) {
                let position = self.shards[shard].lanes.reset(lane, epoch);
                if shard == SOURCE {
                    self.partitions[number].cut = position.applied;
                }
            }
        }
        self.note(|| format!("partition {number} starts again after {after:?} in epoch {epoch}"));
    }
}
