//! Rounds: records are produced all the while, a process is started and ended so many times; then it is left to drain, everything is
//! compared, and it is stopped gracefully, after which it must have nothing to read again.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::ExitStatus,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use karst::{connectors::kafka::admin::create_topic, types::KillPoint};

use crate::{
    check::{self, Seen, Verdict},
    oracle::{Oracle, Reader},
    process::{Log, Process, configure, configure_slow},
    random::Random,
    workload::{PARTITIONS, Producer},
};

const ROUND: u64 = 25;
const SIGKILL: i32 = 9;
const SIGABRT: i32 = 6;

pub struct Options {
    pub servers: String,
    pub kills: u64,
    pub seed: u64,
}

pub struct Tally {
    pub verdict: Verdict,
    pub line: String,
}

/// Where a directory is made: each of these is passed once in its life, so they come first, in this order. The numbers count from
/// the start of the process.
const MAKING: [(KillPoint, i64); 12] = [
    (KillPoint::FileWritten, 1), // the mark
    (KillPoint::OpenMarked, 1),
    (KillPoint::FileWritten, 2), // the identity
    (KillPoint::OpenIdentified, 1),
    (KillPoint::OpenShard, 2),
    (KillPoint::OpenChecked, 3),
    (KillPoint::OpenMade, 1),
    (KillPoint::OpenMade, 1),
    (KillPoint::FileWritten, 1), // the catalog
    (KillPoint::FileReplaced, 1),
    (KillPoint::FileWritten, 1), // the windows
    (KillPoint::FileReplaced, 1),
];

/// How often a moment is passed at most before the end comes, and how long that is waited for; `None`: only while a directory is
/// made, or not by chance.
fn times(point: KillPoint) -> Option<(i64, Duration)> {
    use KillPoint::*;
    Some(match point {
        OpenMarked | OpenIdentified | OpenMade | FileWritten | FileReplaced | FlushBefore | FlushAfter => return None,
        OpenShard | OpenChecked => (4, Duration::from_secs(10)),
        Announced => (6, Duration::from_secs(10)),
        Compacting => (1_000, Duration::from_secs(2)),
        SyncBefore | SyncAfter => (40, Duration::from_secs(8)),
        GroupBefore | GroupAfter => (8, Duration::from_secs(6)),
        StopDrained | StopCommitted => (4, Duration::from_secs(10)),
        Fetched | HandedOn | Judged | ResolvedBatch | RoutedOne | RoutedAll | Applied => (150, Duration::from_secs(4)),
        Frozen | CommitBefore | CommitAfter | FactsBefore | FactsAfter | CommitTold => (80, Duration::from_secs(4)),
    })
}

enum End {
    /// Killed at a moment of chance, however far it is by then.
    After(Duration),
    At {
        point: KillPoint,
        nth: i64,
        patience: Duration,
    },
    /// Told to stop, and killed if it is not done with that in time.
    Stopping {
        after: Duration,
        within: Duration,
    },
}

#[derive(Default)]
struct Done {
    killed: u64,
    under_way: u64,
    hits: BTreeMap<KillPoint, u64>,
    misses: BTreeMap<KillPoint, u32>,
    stopped: u64,
    ready: Vec<Duration>,
}

impl Done {
    fn ends(&self) -> u64 {
        self.killed + self.hits.values().sum::<u64>() + self.stopped
    }
    fn ready_ms(&mut self, of_hundred: usize) -> u128 {
        self.ready.sort_unstable();
        let last = self.ready.len().saturating_sub(1);
        self.ready.get(last * of_hundred / 100).map_or(0, Duration::as_millis)
    }
}

pub struct Harness<'a> {
    dir: &'a Path,
    log: Log,
    random: Random,
    done: Done,
}

impl<'a> Harness<'a> {
    pub fn new(dir: &'a Path, log: Log, seed: u64) -> Self {
        Self { dir, log, random: Random::new(seed), done: Done::default() }
    }

    pub fn start(&mut self, kill_at: Option<&str>) -> Process {
        configure(self.dir, &self.log, &mut self.random);
        Process::start(self.dir, kill_at)
    }

    /// It ended, and not because of us.
    fn by_itself(&self, status: ExitStatus) -> ! {
        let said = fs::read_to_string(self.dir.join("stderr")).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().take(15).collect();
        panic!("karst ended by itself: {status}; its last words, newest first:\n{}", last.join("\n"));
    }

    fn choose(&mut self) -> End {
        let number = self.done.ends();
        if let Some((point, nth)) = MAKING.get(number as usize) {
            return End::At { point: *point, nth: *nth, patience: Duration::from_secs(20) };
        }
        if number % 150 == 149 {
            let point = self.random.one_of(&[KillPoint::FlushBefore, KillPoint::FlushAfter]);
            return End::At { point, nth: 1, patience: Duration::from_secs(45) };
        }
        match self.random.within(0, 100) {
            0..50 => End::After(Duration::from_millis(self.random.within(0, 1_200) as u64)),
            50..60 => End::Stopping {
                after: Duration::from_millis(self.random.within(0, 500) as u64),
                within: Duration::from_millis(self.random.within(0, 120) as u64),
            },
            _ => {
                // Whatever was hit least.
                let points = KillPoint::ALL.iter().filter(|point| times(**point).is_some());
                let tried = |point: &KillPoint| {
                    (self.done.hits.get(point).copied().unwrap_or(0), self.done.misses.get(point).copied().unwrap_or(0))
                };
                let least = points.clone().map(tried).min();
                let least: Vec<KillPoint> = points.filter(|point| Some(tried(point)) == least).copied().collect();
                let point = self.random.one_of(&least);
                let (most, patience) = times(point).unwrap();
                let most = (most >> self.done.misses.get(&point).copied().unwrap_or(0).min(20)).max(1);
                End::At { point, nth: self.random.within(1, most + 1), patience }
            }
        }
    }

    fn end_once(&mut self) {
        let end = self.choose();
        let kill_at = match &end {
            End::At { point, nth, .. } => Some(format!("{}:{nth}", point.name())),
            _ => None,
        };
        let mut process = self.start(kill_at.as_deref());
        match end {
            End::After(wait) => {
                let end = process.started + wait;
                let serves = process.serves_within(wait).is_some();
                if let Some(status) = process.ends_within(end.saturating_duration_since(Instant::now())) {
                    self.by_itself(status);
                }
                if serves && self.random.within(0, 2) == 0 {
                    let status = process.page("/v1/status").unwrap_or_default();
                    self.done.under_way += u64::from(check::is_under_way(&status));
                }
                assert_eq!(process.kill().signal(), Some(SIGKILL));
                self.done.killed += 1;
            }
            End::At { point, patience, .. } => {
                if matches!(point, KillPoint::StopDrained | KillPoint::StopCommitted)
                    && process.serves_within(patience).is_some()
                {
                    let _ = process.ends_within(Duration::from_millis(self.random.within(0, 300) as u64));
                    process.terminate();
                }
                match process.ends_within(patience) {
                    Some(status) if status.signal() == Some(SIGABRT) => *self.done.hits.entry(point).or_default() += 1,
                    Some(status) if status.success() => self.done.stopped += 1,
                    Some(status) => self.by_itself(status),
                    None => {
                        process.kill();
                        self.done.killed += 1;
                        *self.done.misses.entry(point).or_default() += 1;
                    }
                }
            }
            End::Stopping { after, within } => {
                if process.serves_within(Duration::from_secs(60)).is_none() {
                    panic!("karst does not serve a minute after its start");
                }
                if let Some(status) = process.ends_within(after) {
                    self.by_itself(status);
                }
                process.terminate();
                match process.ends_within(within) {
                    Some(status) if status.success() => self.done.stopped += 1,
                    Some(status) => self.by_itself(status),
                    None => {
                        process.kill();
                        self.done.killed += 1;
                    }
                }
            }
        }
        self.done.ready.extend(process.ready);
    }

    /// Waits until all of it has had its effect.
    fn drained(&self, process: &mut Process, oracle: &Oracle) {
        let limit = Instant::now() + Duration::from_secs(240);
        if process.serves_within(Duration::from_secs(60)).is_none() {
            panic!("karst does not serve a minute after its start");
        }
        loop {
            let status = process.page("/v1/status").unwrap_or_default();
            if check::is_drained(&status, oracle) {
                return;
            }
            if Instant::now() > limit {
                let of = |reader| oracle.counts(reader).map(|counts| counts.records).collect::<Vec<u64>>();
                let wanted = Reader::ALL.map(of); // records of each partition
                panic!("not drained to {wanted:?}: {status:#}\n{:#}", process.page("/healthz").unwrap_or_default());
            }
            if let Some(status) = process.ends_within(Duration::from_millis(10)) {
                self.by_itself(status);
            }
        }
    }

    pub fn stops(&self, process: &mut Process) {
        process.terminate();
        match process.ends_within(Duration::from_secs(30)) {
            Some(status) if status.success() => {}
            Some(status) => self.by_itself(status),
            None => panic!("karst does not stop"),
        }
    }

    pub fn compare(&mut self, producer: &Producer, oracle: &mut Oracle, seen: &mut Seen, verdict: &mut Verdict) {
        producer.flush();
        oracle.read(&producer.book);
        let mut process = self.start(None);
        self.drained(&mut process, oracle);
        check::answers(&process, oracle, seen, verdict);
        self.stops(&mut process);
        // What was stopped gracefully has nothing to read again.
        let mut process = self.start(None);
        self.drained(&mut process, oracle);
        assert_eq!(records_read(&process), 0, "records read again after a graceful stop");
        self.stops(&mut process);
        check::history(self.dir, &producer.book, oracle, seen, verdict);
    }
}

/// Records that it has read since its start.
fn records_read(process: &Process) -> u64 {
    let metrics = process.text("/metrics").unwrap();
    let read = metrics.lines().filter(|line| line.starts_with("karst_actors_records_total{"));
    read.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Stopped gracefully in the middle of a backlog, it ends in time, and the next start reads what is left and nothing again.
pub fn stop_under_load(servers: &str, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let topic = format!("stop-{}-{seed}", std::process::id());
    assert!(create_topic(servers, &topic, PARTITIONS as i32, &[("retention.ms", "-1")]).unwrap());
    let mut producer = Producer::new(servers, &topic, seed);
    while producer.records() < 30_000 {
        producer.burst();
    }
    producer.flush();
    let mut oracle = Oracle::default();
    oracle.read(&producer.book);
    let all = 2 * producer.records() as u64; // two sources
    let log = Log { servers: servers.to_owned(), topic };
    let mut harness = Harness::new(dir.path(), log, seed);
    let mut done = 0;
    for _ in 0..3 {
        configure_slow(dir.path(), &harness.log);
        let mut process = Process::start(dir.path(), None);
        assert!(process.serves_within(Duration::from_secs(60)).is_some(), "it serves");
        let records = || process.page("/v1/status").and_then(|status| status["outcomes"]["records"].as_u64()).unwrap_or(0);
        while records() < done + 1_000 {}
        harness.stops(&mut process);
        done = check::records_done(dir.path());
    }
    assert!((3_000..all).contains(&done), "it was stopped in the middle: {done} of {all}");
    let mut process = harness.start(None);
    harness.drained(&mut process, &oracle);
    assert_eq!(records_read(&process), all - done, "what was done before the stop is not read again");
    let (mut seen, mut verdict) = (Seen::default(), Verdict::default());
    check::answers(&process, &oracle, &mut seen, &mut verdict);
    harness.stops(&mut process);
    check::history(dir.path(), &producer.book, &oracle, &mut seen, &mut verdict);
    assert!(verdict.is_clean(), "{}", verdict.told.join("\n"));
}

/// Tells the thread that produces to end, also when this one panics.
pub struct Ends<'a>(pub &'a AtomicBool);
impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[allow(clippy::print_stdout)] // how far it is
pub fn run(options: &Options) -> Tally {
    let began = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let topic = format!("crash-{}-{}", std::process::id(), options.seed);
    assert!(create_topic(&options.servers, &topic, PARTITIONS as i32, &[("retention.ms", "-1")]).unwrap());
    let producer = Mutex::new(Producer::new(&options.servers, &topic, options.seed));
    let log = Log { servers: options.servers.clone(), topic };
    let mut harness = Harness::new(dir.path(), log, !options.seed);
    let (mut oracle, mut seen, mut verdict) = (Oracle::default(), Seen::default(), Verdict::default());
    let mut rounds = 0;
    while harness.done.ends() < options.kills && verdict.is_clean() {
        let goal = (harness.done.ends() + ROUND.min(options.kills.div_ceil(2))).min(options.kills);
        let enough = AtomicBool::new(false);
        thread::scope(|scope| {
            let _ends = Ends(&enough);
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let pause = producer.lock().unwrap().burst();
                    thread::sleep(pause); // the load has gaps
                }
            });
            while harness.done.ends() < goal {
                harness.end_once();
            }
        });
        let producer = producer.lock().unwrap();
        harness.compare(&producer, &mut oracle, &mut seen, &mut verdict);
        rounds += 1;
        println!(
            "round {rounds}: {} ends, {} records, {} s",
            harness.done.ends(),
            producer.records(),
            began.elapsed().as_secs()
        );
    }
    let done = &mut harness.done;
    let sum = |reader: Reader, of: fn(&crate::oracle::Counts) -> u64| oracle.counts(reader).map(of).sum::<u64>();
    let late = sum(Reader::Clicks, |counts| counts.late) + sum(Reader::Views, |counts| counts.late);
    let letters: usize = oracle.partitions.values().map(|partition| partition.letters.len()).sum();
    let at_moments: u64 = done.hits.values().sum();
    let (half, most) = (done.ready_ms(50), done.ready_ms(99));
    let line = format!(
        "crash kills={} sigkill={} at_moments={at_moments} moments={}/{} stopped={} under_way={} rounds={rounds} records={} updates={} \
         commits={} letters={letters} late={late} ready_ms_p50={half} ready_ms_p99={most} seconds={} seed={} lost={} doubled={} wrong={}",
        done.killed + at_moments,
        done.killed,
        done.hits.len(),
        KillPoint::ALL.len(),
        done.stopped,
        done.under_way,
        producer.into_inner().unwrap().records(),
        seen.updates,
        seen.versions,
        began.elapsed().as_secs(),
        options.seed,
        verdict.lost,
        verdict.doubled,
        verdict.wrong,
    );
    Tally { verdict, line }
}
