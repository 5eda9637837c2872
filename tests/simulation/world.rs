//! Partitions, shards and their disks, one step at a time, with faults between any two steps; and in the end the judge.

use std::collections::BTreeMap;

use karst_state::LaneId;
use karst_types::{PartitionId, SourceId};

use crate::{
    log::{self, EVENTS, Key, Log, PARTITIONS},
    partition::Partition,
    random::Random,
    replays::REPLAYS,
    shard::Shard,
    variant::{Report, Variant},
};

pub const SHARDS: usize = 3;
pub const SOURCE: usize = SHARDS; // the source shard is one more
const STEPS: usize = 6000;
pub const BATCH_MAX: u64 = 4; // records
pub const CREDITS: usize = 8; // messages in a mailbox at which a partition waits
pub const GATHERED_MAX: u64 = 4; // messages in a commit
pub const COMMITS_PER_SYNC: usize = 3;

/// No restart replays more records than this (I7): what waits in a mailbox and the batch that found it not yet full, a commit
/// being gathered, one on its way, and those that a loss of power takes back.
pub const REPLAY_MAX: i64 =
    ((CREDITS + 1 + COMMITS_PER_SYNC * GATHERED_MAX as usize + 2 * GATHERED_MAX as usize) * BATCH_MAX as usize) as i64;
const _: () = assert!(REPLAY_MAX < EVENTS, "or the bound says nothing");

pub struct World<'a> {
    pub variant: Variant,
    pub random: Random,
    pub logs: &'a [Log],
    /// The replay log is the last.
    pub partitions: Vec<Partition>,
    pub shards: Vec<Shard>,
    pub report: Report,
    verbose: bool,
}

pub fn lane(partition: usize) -> LaneId {
    match partition {
        REPLAYS => LaneId::replay(SourceId(0)),
        number => LaneId { source: SourceId(0), partition: PartitionId(number as i32) },
    }
}
pub fn number_of(lane: LaneId) -> usize {
    if lane.is_replay() { REPLAYS } else { lane.partition.0 as usize }
}
pub fn shard_of(key: Key) -> usize {
    key as usize % SHARDS
}

/// Runs one schedule.
pub fn run(seed: u64, variant: Variant, verbose: bool) -> Report {
    let mut random = Random::new(seed);
    let mut logs = log::logs(&mut random);
    if !variant.has_letters() {
        logs.iter_mut().flatten().for_each(|event| event.bad = false);
    }
    let mut world = World {
        variant,
        random,
        logs: &logs,
        partitions: (0..=REPLAYS).map(|_| Partition { epoch: 1, ..Partition::default() }).collect(),
        shards: (0..=SHARDS).map(|_| Shard::new()).collect(),
        report: Report::default(),
        verbose,
    };
    world.run();
    world.judge();
    world.report
}

impl World<'_> {
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        // The trace takes the sums of the world rather than texts: cheap, and any difference shows in it sooner or later.
        let mut trace = self.report.trace;
        let positions = self.partitions.iter().flat_map(|partition| [partition.next as u64, partition.epoch]);
        let shards = self.shards.iter().flat_map(|shard| [shard.mailbox.len() as u64, shard.gathered, shard.disk.len() as u64]);
        for number in positions.chain(shards) {
            trace = (trace ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(5);
        }
        self.report.trace = trace;
        if self.verbose {
            println!("{}", what());
        }
    }

    fn run(&mut self) {
        let mut faults: Vec<usize> = (0..1 + self.random.below(6)).map(|_| 20 + self.random.below(1500) as usize).collect();
        // Faults come in twos, and the end of the input is where a lost message is not followed by another.
        let seconds: Vec<usize> = faults.iter().map(|at| at + 1 + self.random.below(40) as usize).collect();
        faults.extend(seconds.into_iter().filter(|_| self.random.chance(40)));
        faults.sort_unstable();
        let mut fault_at_the_end = self.random.chance(50);
        for step in 0..STEPS {
            let all_sent = self.partitions[..PARTITIONS].iter().all(|partition| partition.next >= EVENTS);
            if faults.first().is_some_and(|at| step >= *at) {
                faults.remove(0);
                self.fault();
            } else if fault_at_the_end && all_sent && self.random.chance(10) {
                fault_at_the_end = false;
                self.fault();
            }
            match self.random.below(100) {
                0..2 => self.ask(),
                2..40 => {
                    let partition = self.random.below(REPLAYS as u64 + 1) as usize;
                    self.step_partition(partition);
                }
                40..85 => {
                    let shard = self.random.below(SHARDS as u64 + 1) as usize;
                    self.step_shard(shard);
                }
                _ => {
                    let shard = self.random.below(SHARDS as u64 + 1) as usize;
                    self.land(shard);
                }
            }
            if faults.is_empty() && self.is_at_rest() && self.is_done() {
                return;
            }
        }
        self.report.stuck = true;
    }

    fn is_at_rest(&self) -> bool {
        self.partitions[..PARTITIONS].iter().all(|partition| partition.next >= EVENTS)
            && self.next_entry().is_none()
            && self.shards.iter().all(|shard| shard.mailbox.is_empty())
    }

    /// Commits everything. If some shard then lacks the end of a log, its partition rewinds: a frontier that nobody
    /// acknowledges shows the loss of the very last message too.
    fn is_done(&mut self) -> bool {
        for shard in 0..=SHARDS {
            self.land(shard);
            self.freeze(shard);
            self.land(shard);
        }
        let blind = [Variant::NoFrontier, Variant::NoLaneChain, Variant::CommitOnDispatch];
        if blind.contains(&self.variant) {
            return true; // it cannot tell
        }
        let replays = self.shards[SOURCE].committed().replay_next;
        let last = |partition| if partition == REPLAYS { replays - 1 } else { EVENTS - 1 };
        let behind: Vec<usize> = (0..=REPLAYS)
            .filter(|partition| {
                let at = |shard: &Shard| shard.committed().applied.get(&lane(*partition)).map_or(-1, |offset| offset.0);
                self.shards.iter().any(|shard| at(shard) != last(*partition))
            })
            .collect();
        behind.iter().for_each(|partition| self.restart(*partition));
        behind.is_empty() && self.all_replayed()
    }

    fn judge(&mut self) {
        let (totals, outcomes) = log::oracle(self.logs);
        let mut got: BTreeMap<Key, i64> = BTreeMap::new();
        for shard in &self.shards {
            shard.committed().totals.iter().for_each(|(key, sum)| *got.entry(*key).or_default() += sum);
        }
        let keys: std::collections::BTreeSet<Key> = totals.keys().chain(got.keys()).copied().collect();
        for key in keys {
            let difference = got.get(&key).unwrap_or(&0) - totals.get(&key).unwrap_or(&0);
            self.report.lost += (-difference).max(0);
            self.report.doubled += difference.max(0);
        }
        for (partition, expected) in outcomes.into_iter().enumerate() {
            let got = self.shards[SOURCE].committed().outcomes.get(&lane(partition)).copied().unwrap_or_default();
            self.report.outcomes_wrong += (got.in_time - expected.0).abs() + (got.late - expected.1).abs() + got.dead.abs();
        }
        if self.variant.has_letters() {
            self.judge_letters();
        }
    }
}
