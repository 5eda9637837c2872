//! Partitions, shards and their disks, one step at a time, with faults between any two steps.

use std::collections::{BTreeMap, VecDeque};

use karst_state::{Accept, LaneHead, LaneId, Lanes, RestartPoint, WatermarkState, restart::needless_barriers, restart_point};
use karst_types::{Offset, PartitionId, SourceId};

use crate::{
    log::{self, EVENTS, Key, Log, PARTITIONS},
    random::Random,
    replays::{Entry, Letter, LetterState, REPLAYS, Replayed},
};

const SHARDS: usize = 3;
pub const SOURCE: usize = SHARDS; // the source shard is one more
const STEPS: usize = 6000;
const BATCH_MAX: u64 = 4; // records
const CREDITS: usize = 8; // messages in a mailbox at which a partition waits
const GATHERED_MAX: u64 = 4; // messages in a commit
const COMMITS_PER_SYNC: usize = 3;

/// No restart replays more records than this (I7): what waits in a mailbox and the batch that found it not yet full, a commit
/// being gathered, one on its way, and those that a loss of power takes back.
pub const REPLAY_MAX: i64 =
    ((CREDITS + 1 + COMMITS_PER_SYNC * GATHERED_MAX as usize + 2 * GATHERED_MAX as usize) * BATCH_MAX as usize) as i64;
const _: () = assert!(REPLAY_MAX < EVENTS, "or the bound says nothing");

/// The protocol, or the protocol with one thing left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variant {
    Full,
    /// Shards for which a batch has nothing get no message.
    NoFrontier,
    /// A shard looks at offsets alone, not at the numbers of the lane.
    NoLaneChain,
    /// A restart takes the newest watermark instead of the one as of its offset.
    NewestWatermark,
    /// State first, positions in a second write.
    TwoWrites,
    /// The group offset is committed when a batch is sent, and is where a restart begins.
    CommitOnDispatch,
    /// A restart relies on what shards have applied, committed or not.
    UncommittedRestart,
    /// The commit that queues replays is not on stable storage before they are read.
    UnsyncedQueue,
    /// A letter is queued whatever its state.
    QueueAnyState,
    /// An entry of the replay log is a reference to its letter, not a copy.
    LiveEntry,
    /// Replayed batches are not ended where the source shard stands, and it takes them as they come.
    NoCut,
}

impl Variant {
    pub const SHORTCUTS: [Self; 10] = [
        Self::NoFrontier,
        Self::NoLaneChain,
        Self::NewestWatermark,
        Self::TwoWrites,
        Self::CommitOnDispatch,
        Self::UncommittedRestart,
        Self::NoCut,
        Self::UnsyncedQueue,
        Self::QueueAnyState,
        Self::LiveEntry,
    ];

    /// The others lose messages, and with them replays: there is no end to wait for.
    const fn has_letters(self) -> bool {
        matches!(self, Self::Full | Self::UnsyncedQueue | Self::QueueAnyState | Self::LiveEntry)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub lost: i64,
    pub doubled: i64,
    pub outcomes_wrong: i64,
    pub stuck: bool,
    pub shard_panics: u64,
    pub partition_panics: u64,
    pub kills: u64,
    pub power_losses: u64,
    pub restarts: u64,
    pub gaps: u64,
    pub duplicates: u64,
    pub replays: u64,
    pub longest_replay: i64,
    /// A hash of everything that happened.
    pub trace: u64,
}

impl Report {
    pub fn is_right(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.outcomes_wrong == 0 && !self.stuck
    }
    pub fn add(&mut self, other: &Self) {
        self.shard_panics += other.shard_panics;
        self.partition_panics += other.partition_panics;
        self.kills += other.kills;
        self.power_losses += other.power_losses;
        self.restarts += other.restarts;
        self.gaps += other.gaps;
        self.duplicates += other.duplicates;
        self.replays += other.replays;
        self.longest_replay = self.longest_replay.max(other.longest_replay);
    }
}

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

#[derive(Clone)]
struct Message {
    head: LaneHead,
    effects: Vec<(Offset, Key, i64)>,
    content: Outgoing,
}

/// What a shard holds, in memory or on disk.
#[derive(Clone, Default)]
pub struct Stored {
    totals: BTreeMap<Key, i64>,
    pub outcomes: BTreeMap<LaneId, Sums>,
    pub letters: BTreeMap<(usize, i64), Letter>,
    pub replay_log: BTreeMap<i64, Entry>,
    pub replay_next: i64,
    applied: BTreeMap<LaneId, Offset>,
    barriers: BTreeMap<LaneId, BTreeMap<Offset, WatermarkState>>,
}

#[derive(Default)]
pub struct Shard {
    pub memory: Stored,
    /// Letters that someone wants replayed; gone with a crash.
    pub requests: Vec<(usize, i64)>,
    /// The commit on its way is synced as soon as it is written.
    sync: bool,
    lanes: Lanes,
    gathered: u64,
    new_barriers: BTreeMap<LaneId, (Offset, WatermarkState)>,
    /// A commit on its way.
    frozen: Option<Stored>,
    /// Commits since the last sync, that one first: what a loss of power may fall back to.
    disk: Vec<Stored>,
    mailbox: VecDeque<Message>,
}

impl Shard {
    fn new() -> Self {
        Self { disk: vec![Stored::default()], ..Self::default() }
    }
    pub fn committed(&self) -> &Stored {
        self.disk.last().expect("there is always a first state")
    }
    fn stable(&self) -> &Stored {
        &self.disk[0]
    }
    /// Reads back what is on disk; everything in memory is gone.
    fn load(&mut self) {
        self.memory = self.committed().clone();
        self.lanes = Lanes::recovered(self.memory.applied.clone());
        self.gathered = 0;
        self.requests.clear();
        self.new_barriers.clear();
        self.frozen = None;
    }
}

#[derive(Default)]
pub struct Partition {
    pub next: i64,
    watermark: WatermarkState,
    epoch: u64,
    lane_seqs: [u64; SHARDS + 1],
    cut: Option<Offset>,
    group_offset: i64,
}

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
fn number_of(lane: LaneId) -> usize {
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

    /// The partition reads, judges and resolves one batch, and sends one message into each of its lanes.
    fn step_partition(&mut self, number: usize) {
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

    fn step_shard(&mut self, number: usize) {
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
    fn freeze(&mut self, number: usize) {
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
    fn land(&mut self, number: usize) {
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

    /// The partition starts again, in a new epoch.
    fn restart(&mut self, number: usize) {
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
        let RestartPoint { after, mut watermark, source_shard } =
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

    fn fault(&mut self) {
        let kind = match self.variant {
            Variant::CommitOnDispatch => 90,
            Variant::UnsyncedQueue => 95, // only the loss of power can show it
            _ => self.random.below(100),
        };
        match kind {
            0..45 => {
                self.report.shard_panics += 1;
                let number = self.random.below(SHARDS as u64 + 1) as usize;
                self.land(number); // the writer that takes over waits for the commit on its way
                if self.random.chance(50) {
                    self.shards[number].mailbox.clear();
                }
                self.shards[number].load();
                self.note(|| format!("shard {number} panics"));
            }
            45..65 => {
                self.report.partition_panics += 1;
                let number = self.random.below(REPLAYS as u64 + 1) as usize;
                self.restart(number);
            }
            65..91 => {
                self.report.kills += 1;
                for number in 0..=SHARDS {
                    if self.random.chance(50) {
                        self.land(number); // it was written before the process died
                    }
                    if self.variant == Variant::TwoWrites && self.shards[number].disk.len() > 2 && self.random.chance(30) {
                        self.shards[number].disk.pop(); // died between the two
                    }
                }
                self.start_all("the process is killed");
            }
            _ => {
                self.report.power_losses += 1;
                for number in 0..=SHARDS {
                    let keep = 1 + self.random.below(self.shards[number].disk.len() as u64) as usize;
                    self.shards[number].disk.truncate(keep);
                }
                self.start_all("power is lost");
            }
        }
    }

    fn start_all(&mut self, why: &str) {
        for shard in &mut self.shards {
            shard.mailbox.clear();
            shard.load();
        }
        self.note(|| why.to_owned());
        (0..=REPLAYS).for_each(|partition| self.restart(partition));
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
