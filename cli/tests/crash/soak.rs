//! Hours of load, queries and faults together: memory must stay flat, and in the end nothing may be missing or there twice.

use std::{
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use karst::connectors::kafka::admin::create_topic;
use serde_json::json;

use crate::{
    check::{Seen, Verdict},
    oracle::Oracle,
    process::{Log, Process, agent},
    random::Random,
    rounds::{Ends, Harness, Tally},
    workload::{PARTITIONS, Producer, USERS},
};

/// What is done to it, one after the other.
const FAULTS: [&str; 4] = ["kill", "freeze", "broker", "stop"];
const FROZEN: Duration = Duration::from_secs(5);

/// A sample of the process.
struct Sample {
    /// Since this life of it began.
    age: Duration,
    rss_kib: u64,
    lag: u64,
}

fn rss_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Asks for users of chance at whatever serves; microseconds of each answer.
fn ask(url: &Mutex<Option<String>>, enough: &AtomicBool, failed: &AtomicU64, seed: u64) -> Vec<u32> {
    let (mut random, mut took) = (Random::new(seed), Vec::new());
    let agent = agent();
    while !enough.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(10)); // a hundred a second
        let Some(at) = url.lock().unwrap().clone() else { continue };
        let user = format!("u{}", random.within(0, USERS));
        let body = json!({"inputs": {"user.id": user}, "outputs": ["user"]}).to_string();
        let asked = Instant::now();
        let answer = agent.post(format!("{at}/v1/query/online")).header("Content-Type", "application/json").send(body);
        let answered = answer.is_ok_and(|mut answer| answer.status() == 200 && answer.body_mut().read_to_string().is_ok());
        if answered {
            took.push(asked.elapsed().as_micros() as u32);
        } else {
            failed.fetch_add(1, Ordering::Relaxed); // while it is killed or frozen
        }
    }
    took
}

fn signal(id: u32, name: &str) {
    assert!(Command::new("kill").args([name, &id.to_string()]).status().unwrap().success());
}

/// A command of scripts/kafka.sh, if the broker is one of it.
fn broker(command: &str) {
    if std::env::var_os("KARST_TEST_KAFKA_RUN").is_some() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka.sh");
        assert!(Command::new(script).arg(command).output().unwrap().status.success(), "kafka.sh {command}");
    }
}

#[allow(clippy::print_stdout)] // how far it is
pub fn run(servers: &str, minutes: u64, seed: u64) -> Tally {
    let began = Instant::now();
    let length = Duration::from_secs(60 * minutes);
    let fault_every = (length / 8).min(Duration::from_secs(60));
    let dir = tempfile::tempdir().unwrap();
    let topic = format!("soak-{}-{seed}", std::process::id());
    assert!(create_topic(servers, &topic, PARTITIONS as i32, &[("retention.ms", "-1")]).unwrap());
    let producer = Mutex::new(Producer::new(servers, &topic, seed));
    let log = Log { servers: servers.to_owned(), topic };
    let mut harness = Harness::new(dir.path(), log, !seed);
    let (url, enough, failed) = (Mutex::new(None), AtomicBool::new(false), AtomicU64::new(0));
    let (mut samples, mut faults, mut unconserved) = (Vec::new(), [0u64; FAULTS.len()], 0u64);
    let mut took = thread::scope(|scope| {
        let _ends = Ends(&enough);
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                let pause = producer.lock().unwrap().burst();
                thread::sleep(pause); // the load has gaps
            }
        });
        let asking = scope.spawn(|| ask(&url, &enough, &failed, seed));
        let mut process = harness.started(&url);
        let mut next_fault = began + fault_every;
        while began.elapsed() < length {
            thread::sleep(Duration::from_secs(1));
            let status = process.page("/v1/status").unwrap_or_default();
            unconserved += u64::from(status["conservation"]["exact"] == json!(false));
            let lag = status["lag"].as_u64().unwrap_or(0);
            samples.push(Sample { age: process.started.elapsed(), rss_kib: rss_kib(process.id()), lag });
            if Instant::now() < next_fault {
                continue;
            }
            next_fault += fault_every;
            let fault = (faults.iter().sum::<u64>() % FAULTS.len() as u64) as usize;
            faults[fault] += 1;
            match FAULTS[fault] {
                "kill" => {
                    *url.lock().unwrap() = None;
                    process.kill();
                    process = harness.started(&url);
                }
                "freeze" => {
                    signal(process.id(), "-STOP");
                    thread::sleep(FROZEN);
                    signal(process.id(), "-CONT");
                }
                "broker" => {
                    broker("kill9");
                    broker("start");
                }
                _ => {
                    *url.lock().unwrap() = None;
                    harness.stops(&mut process);
                    process = harness.started(&url);
                }
            }
            println!("{} s: {}", began.elapsed().as_secs(), FAULTS[fault]);
        }
        enough.store(true, Ordering::Relaxed);
        harness.stops(&mut process);
        asking.join().unwrap()
    });
    let (mut oracle, mut seen, mut verdict) = (Oracle::default(), Seen::default(), Verdict::default());
    let producer = producer.into_inner().unwrap();
    harness.compare(&producer, &mut oracle, &mut seen, &mut verdict);
    verdict.wrong += unconserved;
    took.sort_unstable();
    let of_hundred = |part: usize| took.get(took.len().saturating_sub(1) * part / 100).copied().unwrap_or(0);
    let line = format!(
        "soak minutes={minutes} records={} faults={} kills={} freezes={} broker_kills={} stops={} {} lag_max={} queries={} \
         queries_unanswered={} query_us_p50={} query_us_p99={} seed={seed} lost={} doubled={} wrong={}",
        producer.records(),
        faults.iter().sum::<u64>(),
        faults[0],
        faults[1],
        faults[2],
        faults[3],
        memory(&samples),
        samples.iter().map(|sample| sample.lag).max().unwrap_or(0),
        took.len(),
        failed.load(Ordering::Relaxed),
        of_hundred(50),
        of_hundred(99),
        verdict.lost,
        verdict.doubled,
        verdict.wrong,
    );
    Tally { verdict, line }
}

/// The most that was resident, and the means of the first and the last third of the time, of processes that have come to rest.
fn memory(samples: &[Sample]) -> String {
    let rested: Vec<u64> =
        samples.iter().filter(|sample| sample.age > Duration::from_secs(10)).map(|sample| sample.rss_kib / 1024).collect();
    let third = rested.len() / 3;
    let mean = |part: &[u64]| part.iter().sum::<u64>() / (part.len() as u64).max(1);
    let most = samples.iter().map(|sample| sample.rss_kib / 1024).max().unwrap_or(0);
    let (first, last) = (mean(&rested[..third]), mean(&rested[rested.len() - third..]));
    format!("rss_mib_max={most} rss_mib_first_third={first} rss_mib_last_third={last}")
}

impl Harness<'_> {
    /// A process that serves, where `url` says.
    fn started(&mut self, url: &Mutex<Option<String>>) -> Process {
        let mut process = self.start(None);
        let at = process.serves_within(Duration::from_secs(60)).map(str::to_owned);
        assert!(at.is_some(), "karst does not serve a minute after its start");
        *url.lock().unwrap() = at;
        process
    }
}
