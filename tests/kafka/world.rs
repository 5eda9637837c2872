//! The broker, the data, and what several of these tests need.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use karst::{
    Engine, EngineHandle, EngineSettings, KafkaProducer, KafkaSource, LateLane, TimeSpan,
    connectors::kafka::admin::create_topic,
};

use crate::{
    data::{self, Row},
    declare, oracle,
};

/// One for each of New York's airports.
pub(crate) const PARTITIONS: i32 = 3;

/// The broker, held by one test at a time: some of them restart it.
pub(crate) struct Kafka {
    pub(crate) servers: String,
    _alone: MutexGuard<'static, ()>,
}

/// The broker to test with; `None` if there is none, which has then been said.
pub(crate) fn kafka() -> Option<Kafka> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match std::env::var("KARST_TEST_KAFKA") {
        Ok(servers) if !servers.is_empty() => Some(Kafka { servers, _alone: alone }),
        _ => {
            static SAID: AtomicBool = AtomicBool::new(false);
            if !SAID.swap(true, Ordering::Relaxed) {
                skip("kafka: KARST_TEST_KAFKA is not set (scripts/kafka.sh start prints an address)");
            }
            assert!(!ci(), "with CI=true nothing is skipped");
            None
        }
    }
}

fn ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true")
}

/// Says what does not run here, and why.
pub(crate) fn skip(what: &str) {
    eprintln!("skipped: {what}");
    if let Some(file) = std::env::var_os("KARST_TEST_SKIPPED") {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        writeln!(file, "{what}").unwrap();
    }
    assert!(!ci(), "with CI=true nothing is skipped");
}

/// The folder of a broker that scripts/kafka.sh runs; `None` for somebody else's.
pub(crate) fn run_folder() -> Option<PathBuf> {
    std::env::var_os("KARST_TEST_KAFKA_RUN").map(PathBuf::from).filter(|folder| folder.join("address").exists())
}

impl Kafka {
    /// A fresh topic.
    pub(crate) fn topic(&self, name: &str) -> String {
        for nth in 0.. {
            let topic = format!("{name}-{}-{nth}", std::process::id());
            if create_topic(&self.servers, &topic, PARTITIONS, &[("retention.ms", "-1")]).unwrap() {
                return topic;
            }
        }
        unreachable!("numbers do not end")
    }

    /// Sends records, each to its partition.
    pub(crate) fn produce(&self, topic: &str, rows: &[Row]) {
        let producer = KafkaProducer::new(&self.servers).unwrap();
        for row in rows {
            let value = row.json().to_string();
            producer.send(topic, row.partition, row.known, Some(row.origin.as_bytes()), Some(value.as_bytes())).unwrap();
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    }

    /// The topic with all flights, produced once for all tests.
    pub(crate) fn flights(&self) -> &'static str {
        static TOPIC: OnceLock<String> = OnceLock::new();
        TOPIC.get_or_init(|| {
            let topic = self.topic("flights");
            self.produce(&topic, rows());
            topic
        })
    }

    /// The source `flights`, reading `topic`.
    pub(crate) fn source(&self, topic: &str) -> KafkaSource {
        KafkaSource::new("flights").bootstrap_server(&self.servers).topic(topic)
    }

    /// A command of scripts/kafka.sh, such as `restart`.
    pub(crate) fn script(&self, command: &str) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka.sh");
        let output = Command::new(script).arg(command).output().unwrap();
        assert!(output.status.success(), "kafka.sh {command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// All flights in the order in which they become known.
pub(crate) fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let cache = std::env::var_os("KARST_CACHE").map(PathBuf::from);
        let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/karst"));
        let csv = cache.join("flights/flights.csv");
        data::read(&csv).unwrap_or_else(|error| panic!("{error}; scripts/flights_data.sh fetches it"))
    })
}

/// Two shards and little memory: engines of tests come by the dozen.
pub(crate) fn small() -> EngineSettings {
    let mut settings = EngineSettings { workers: 2, ..EngineSettings::default() };
    settings.store.shards = 2;
    settings.store.memory = "64MiB".parse().unwrap();
    settings
}

/// The engine of the example.
pub(crate) async fn start(dir: &Path, source: impl karst::Source) -> karst::Result<Engine> {
    let mut settings = small();
    // All of them, were each flight late.
    settings.store.dead_letters = 500_000;
    settings.store.dead_letter_bytes = "1GiB".parse().unwrap();
    let builder = Engine::builder(dir).settings(settings).source(source);
    builder.resolver(declare::aircraft).resolver(declare::route).start().await
}

/// Records that have had their effect.
pub(crate) fn records(engine: &EngineHandle) -> u64 {
    engine.status().outcomes().records
}

/// Everything that is stored is what the oracle says of these rows, and all is well.
#[track_caller]
pub(crate) fn check(engine: &Engine, rows: &[Row], deadline: TimeSpan) {
    check_against(engine, &oracle::expect(rows, deadline, LateLane::Drop));
}

/// The same, when the oracle has spoken already.
#[track_caller]
pub(crate) fn check_against(engine: &Engine, expected: &oracle::Expected) {
    let differences = oracle::compare(&engine.handle(), expected);
    let some = &differences[..differences.len().min(5)];
    assert!(differences.is_empty(), "{} differences, such as {some:#?}", differences.len());
    assert!(engine.handle().status().outcomes().conserved());
    let health = engine.handle().health();
    assert!(health.healthy, "{:?}", health.problems);
}

/// Where the records stand that are kept as dead letters, each once.
#[track_caller]
pub(crate) fn letters(engine: &Engine) -> BTreeSet<(i32, i64)> {
    let letters = engine.handle().dead_letters("flights", usize::MAX).unwrap();
    let places: BTreeSet<_> = letters.iter().map(|stored| (stored.partition.0, stored.letter.offset.0)).collect();
    assert_eq!(places.len(), letters.len(), "each once");
    places
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait).await.unwrap_or_else(|_| panic!("two minutes went by before {what}"));
}

/// Waits until all that is in the log is applied and committed.
pub(crate) async fn drain(engine: &Engine) -> karst::Result<()> {
    match tokio::time::timeout(Duration::from_secs(240), engine.drain()).await {
        Ok(drained) => drained,
        Err(_) => panic!("not drained: {:#?}\n{:#?}", engine.handle().status(), engine.handle().health()),
    }
}
