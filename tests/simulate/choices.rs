//! What a seed chooses before anything runs: how the engine is set, what is read, and what is done to it.

use karst::{
    ByteSize, Durability, EngineSettings, FutureEvents, LateLane, SourceSettings, StoreSettings, TimeSpan, types::KillPoint,
};

use crate::random::Random;

pub const MINUTE: i64 = 60_000_000;

/// Everything that a run is determined by, but for the numbers that are drawn on the way.
#[derive(Clone, Debug)]
pub struct Choices {
    pub engine: EngineSettings,
    pub source: SourceSettings,
    pub partitions: usize,
    /// Of `partitions`, those that are there from the beginning; the others are added while the source is read.
    pub partitions_at_first: usize,
    pub records: usize,
    /// Whether there is a second resolver, for pages.
    pub pages: bool,
    /// Whether the resolver of users takes the message by value.
    pub by_value: bool,
    pub pace: PaceChoices,
    pub harm: Harm,
    /// Whether the state is opened once more at the end, to read its history.
    pub reads_history: bool,
}

/// How uneven the turns of stages are.
#[derive(Clone, Debug)]
pub struct PaceChoices {
    /// Percentage of turns that are held back.
    pub held: u64,
    /// By so many milliseconds at most.
    pub wait_ms: u64,
    /// One kind of stage that is slow: a part of its id, and its milliseconds for each turn.
    pub slow: Option<(&'static str, u64)>,
}

/// What is done to the engine.
#[derive(Clone, Debug, Default)]
pub struct Harm {
    /// Ends of the engine before it is let be.
    pub crashes: u64,
    /// How many of them are losses of power, in percent.
    pub power_percent: u64,
    /// Panics of stages and of the writing of commits, one in so many moments; 0: none.
    pub panic_one_in: u64,
    /// Panics in all: past the restart intensity a stage is parked for good, and rightly so.
    pub panics: u64,
    /// Moments at a disk that fail, one in so many; 0: none.
    pub disk_one_in: u64,
    /// Such moments in all: shards that always fail wait longer and longer.
    pub disk_faults: u64,
    /// The disk of a shard (or of all) is full for so many milliseconds, once.
    pub disk_full: Option<DiskFull>,
    /// Fetches that fail, one in so many; 0: none.
    pub fetch_one_in: u64,
    /// A fetch takes so many milliseconds at most.
    pub fetch_ms: u64,
    /// One thing at one moment, the nth time that it comes.
    pub once: Option<Once>,
}

#[derive(Clone, Copy, Debug)]
pub struct Once {
    pub at: KillPoint,
    pub nth: u64,
    pub what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    Panic,
    DiskFault,
    End,
}

#[derive(Clone, Copy, Debug)]
pub struct DiskFull {
    pub from_ms: u64,
    pub to_ms: u64,
    /// `None`: of all shards.
    pub shard: Option<u16>,
}

const STAGES: [&str; 7] =
    ["source_partition", "parse_stage", "stream_resolver", "shard_router", "shard 0", "source shard", "commit"];

impl Choices {
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xc401_ce50);
        let partitions = 1 + random.below(4) as usize;
        let shards = random.one_of(&[1, 1, 2, 2, 3, 4]);
        Self {
            engine: engine(&mut random, shards),
            source: source(&mut random),
            partitions,
            partitions_at_first: if random.chance(25) { 1 + random.below(partitions as u64) as usize } else { partitions },
            records: random.one_of(&[5, 30, 80, 150, 300]),
            pages: random.chance(60),
            by_value: random.chance(30),
            pace: PaceChoices {
                held: random.one_of(&[5, 20, 40]),
                wait_ms: random.one_of(&[1, 3, 12]),
                slow: random.chance(40).then(|| (random.one_of(&STAGES), 1 + random.below(20))),
            },
            harm: harm(&mut random, shards),
            reads_history: random.chance(25),
        }
    }

    /// A short log of several partitions for two shards, to which nothing is done but this.
    pub fn only(once: Once) -> Self {
        let mut choices = Self::of(1);
        choices.engine.store.shards = 2;
        choices.engine.store.commit_interval = TimeSpan::from_millis(5);
        (choices.source.late_lane, choices.source.batch_records) = (LateLane::DeadLetter, 3);
        (choices.partitions, choices.partitions_at_first, choices.records) = (2, 2, 60);
        (choices.pages, choices.reads_history) = (true, true);
        let crashes = u64::from(once.what == What::End);
        choices.harm = Harm { crashes, once: Some(once), ..Harm::default() };
        choices
    }
}

fn engine(random: &mut Random, shards: u16) -> EngineSettings {
    let store = StoreSettings {
        memory: ByteSize::mib(32),
        shards,
        commit_interval: TimeSpan::from_millis(random.one_of(&[1, 5, 20, 200])),
        commit_events: random.one_of(&[1, 4, 40, 250_000]),
        durability: if random.chance(40) { Durability::Power } else { Durability::Process },
        ..StoreSettings::default()
    };
    EngineSettings {
        store,
        credits: random.one_of(&[1, 2, 8]),
        mailbox: random.one_of(&[1, 2, 4]),
        shard_mailbox: random.one_of(&[1, 3, 16]),
        workers: 1,
        stuck_after_s: 30,
        ..EngineSettings::default()
    }
}

fn source(random: &mut Random) -> SourceSettings {
    let mut source = SourceSettings::new("clicks");
    source.late_lane = random.one_of(&[LateLane::Drop, LateLane::DeadLetter, LateLane::Correct]);
    source.late_arrival_deadline =
        random.one_of(&[TimeSpan::INFINITY, TimeSpan::from_secs(600), TimeSpan::from_secs(600), TimeSpan::ZERO]);
    source.disorder = TimeSpan::from_secs(random.one_of(&[0, 0, 30, 300]));
    source.future_events = random.one_of(&[FutureEvents::Keep, FutureEvents::DeadLetter]);
    source.max_drift = random.one_of(&[TimeSpan::INFINITY, TimeSpan::INFINITY, TimeSpan::from_secs(600)]);
    source.discover_interval = TimeSpan::from_millis(100);
    source.batch_records = random.one_of(&[1, 3, 10, 40]);
    source
}

fn harm(random: &mut Random, shards: u16) -> Harm {
    let some =
        |random: &mut Random, percent: u64, choices: &[u64]| if random.chance(percent) { random.one_of(choices) } else { 0 };
    let from_ms = random.below(200);
    let disk_full = DiskFull {
        from_ms,
        to_ms: from_ms + 1 + random.below(3_000),
        shard: random.chance(50).then(|| random.below(u64::from(shards)) as u16),
    };
    Harm {
        crashes: random.one_of(&[0, 1, 1, 2, 3]),
        power_percent: random.one_of(&[0, 50, 100]),
        panic_one_in: some(random, 50, &[20, 100, 400]),
        panics: 4,
        disk_one_in: some(random, 30, &[10, 40, 200]),
        disk_faults: 8,
        disk_full: random.chance(15).then_some(disk_full),
        fetch_one_in: some(random, 30, &[5, 20]),
        fetch_ms: some(random, 40, &[2, 10, 100]),
        once: None,
    }
}
