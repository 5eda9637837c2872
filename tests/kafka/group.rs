//! Several processes in one consumer group, each with a state directory of its own: partitions move between them, members leave and are
//! killed, and in the end every record is in exactly one directory, once.

use std::{
    collections::{BTreeMap, HashSet},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use karst::{
    KafkaProducer, KafkaSource, StoreSettings, connectors::kafka::admin::create_topic, features::Catalog, prelude::*,
    runtime::SystemClock, state::Store, types::TimeSpan,
};

use crate::world::{Kafka, kafka, records, small};

const PARTITIONS: i32 = 6;

#[derive(Message)]
struct Beat {
    id: String,
    number: i64,
}

/// One entity for each record.
#[features(key = "id")]
#[allow(dead_code)]
struct Heard {
    id: String,
    number: i64,
}

#[stream(source = "beats")]
fn on_beat(beat: Beat) -> Updates![Heard::id, Heard::number] {
    updates!(beat.id, beat.number)
}

const DIR: &str = "KARST_TEST_GROUP_DIR";
const TOPIC: &str = "KARST_TEST_GROUP_TOPIC";
const INSTANCE: &str = "KARST_TEST_GROUP_INSTANCE";

/// The child: a member, until its standard input ends. It tells what it has applied, in this directory, ever.
#[allow(clippy::print_stdout)] // it talks to its parent
fn be_a_member(dir: &Path) {
    let topic = std::env::var(TOPIC).unwrap();
    let mut source = KafkaSource::new("beats")
        .bootstrap_server(std::env::var("KARST_TEST_KAFKA").unwrap())
        .topic(&topic)
        .group_id_prefix(format!("{topic}/"))
        .consumer_group(true)
        .batch_records(50)
        .additional_kafka_arg("session.timeout.ms", "6000")
        .additional_kafka_arg("heartbeat.interval.ms", "500");
    if let Ok(instance) = std::env::var(INSTANCE) {
        source = source.group_instance_id(instance);
    }
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        drop(stop);
    });
    karst::run(async {
        let mut settings = small();
        settings.store.commit_interval = TimeSpan::from_millis(5);
        let engine = Engine::builder(dir).settings(settings).source(source).resolver(on_beat).start().await?;
        let handle = engine.handle();
        while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            println!("\nat {}", records(&handle));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(handle);
        engine.shutdown().await?;
        println!("\nstopped");
        Ok(())
    })
    .unwrap();
}

/// A member, as its parent sees it.
struct Member {
    name: &'static str,
    dir: PathBuf,
    applied: Arc<AtomicU64>,
    process: Option<Child>,
}

struct Group<'a> {
    kafka: &'a Kafka,
    test: &'static str,
    topic: String,
    folder: tempfile::TempDir,
    producer: KafkaProducer,
    produced: i64,
    fixed: bool,
    members: BTreeMap<&'static str, Member>,
    /// Something comes whenever a member tells something.
    told: (mpsc::Sender<()>, mpsc::Receiver<()>),
}

impl<'a> Group<'a> {
    fn new(kafka: &'a Kafka, test: &'static str, fixed: bool) -> Self {
        let topic = format!("group-{}-{fixed}", std::process::id());
        assert!(create_topic(&kafka.servers, &topic, PARTITIONS, &[("retention.ms", "-1")]).unwrap());
        let (folder, producer) = (tempfile::tempdir().unwrap(), KafkaProducer::new(&kafka.servers).unwrap());
        Self { kafka, test, topic, folder, producer, produced: 0, fixed, members: BTreeMap::new(), told: mpsc::channel() }
    }

    /// So many records more in each partition.
    fn produce(&mut self, count: i64) {
        for number in self.produced..self.produced + count {
            for partition in 0..PARTITIONS {
                let value = format!(r#"{{"id":"{partition}-{number}","number":{number}}}"#);
                let at = karst::BrokerTime::from_millis(1_700_000_000_000 + number);
                self.producer.send(&self.topic, partition, at, None, Some(value.as_bytes())).unwrap();
            }
        }
        self.producer.flush(Duration::from_secs(60)).unwrap();
        self.produced += count;
    }
    fn all(&self) -> u64 {
        self.produced as u64 * PARTITIONS as u64
    }

    fn start(&mut self, name: &'static str) {
        let dir = self.folder.path().join(name);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", self.test, "--nocapture", "--test-threads=1"]);
        command.env(DIR, &dir).env(TOPIC, &self.topic).env("KARST_TEST_KAFKA", &self.kafka.servers);
        if self.fixed {
            command.env(INSTANCE, name);
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        let applied = Arc::<AtomicU64>::default();
        let (told, news) = (Arc::clone(&applied), self.told.0.clone());
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(records) = line.strip_prefix("at ") {
                    told.store(records.parse().unwrap(), Ordering::Relaxed);
                    let _ = news.send(());
                }
            }
        });
        self.members.insert(name, Member { name, dir, applied, process: Some(process) });
    }

    fn applied(&self, name: &str) -> u64 {
        self.members[name].applied.load(Ordering::Relaxed)
    }
    fn applied_by_all(&self) -> u64 {
        self.members.values().map(|member| member.applied.load(Ordering::Relaxed)).sum()
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..12_000 {
            if holds(self) {
                return;
            }
            let _ = self.told.1.recv_timeout(Duration::from_millis(20));
        }
        let stand: Vec<_> = self.members.values().map(|member| (member.name, member.applied.load(Ordering::Relaxed))).collect();
        panic!("two minutes went by before {what}: {stand:?} of {}", self.all());
    }

    /// Produces a little, again and again, until each of these has read something: the group takes its time to give partitions to whoever joins.
    fn until_they_share(&mut self, names: &[&str]) {
        for _ in 0..200 {
            self.produce(100);
            self.until("all is read", |group| group.applied_by_all() >= group.all());
            if names.iter().all(|name| self.applied(name) > 0) {
                return;
            }
        }
        panic!("the partitions are not shared by {names:?}");
    }

    fn kill(&mut self, name: &'static str) {
        let mut process = self.members.get_mut(name).unwrap().process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn stop(&mut self, name: &'static str) {
        let member = self.members.get_mut(name).unwrap();
        let mut process = member.process.take().unwrap();
        drop(process.stdin.take());
        assert!(process.wait().unwrap().success(), "{name} does not stop gracefully");
        let applied = directory(&member.dir).1; // what it told last may be a moment older
        member.applied.store(applied, Ordering::Relaxed);
    }

    /// Every record is in exactly one directory, and counted once there. How many each has.
    fn check(&self) -> BTreeMap<&'static str, u64> {
        let (mut seen, mut shares) = (HashSet::new(), BTreeMap::new());
        for member in self.members.values() {
            let (keys, counted) = directory(&member.dir);
            assert_eq!(keys.len() as u64, counted, "{}: each record has an entity of its own", member.name);
            for key in keys {
                assert!(seen.insert(key.clone()), "{}: {key} is in two directories", member.name);
            }
            shares.insert(member.name, counted);
        }
        let expected =
            (0..PARTITIONS).flat_map(|partition| (0..self.produced).map(move |number| format!("{partition}-{number}")));
        let missing: Vec<String> = expected.filter(|key| !seen.contains(key)).take(5).collect();
        assert!(missing.is_empty() && seen.len() as u64 == self.all(), "{} of {}, without {missing:?}", seen.len(), self.all());
        shares
    }
}

/// The entities of a directory that nobody has open, and the records that it counts.
fn directory(dir: &Path) -> (Vec<String>, u64) {
    let settings = StoreSettings { shards: 2, memory: "32MiB".parse().unwrap(), ..StoreSettings::default() };
    let store = Store::open(dir, &settings, Arc::new(SystemClock)).unwrap();
    let catalog = Catalog::from_text(&store.catalog_text().unwrap().unwrap()).unwrap();
    let class = catalog.class_id("heard").unwrap();
    let rows = store.reader().shards().iter().flat_map(|shard| shard.rows(class, b"", usize::MAX).unwrap()).collect::<Vec<_>>();
    let keys = rows.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect();
    (keys, store.source_reader().outcomes().iter().map(|sums| sums.outcomes.records).sum())
}

#[test]
fn partitions_move_between_three_members_that_come_leave_and_are_killed_and_each_record_counts_once_in_the_group() {
    if let Some(dir) = std::env::var_os(DIR) {
        return be_a_member(Path::new(&dir));
    }
    let Some(kafka) = kafka() else { return };
    let own =
        "group::partitions_move_between_three_members_that_come_leave_and_are_killed_and_each_record_counts_once_in_the_group";
    let mut group = Group::new(&kafka, own, false);
    group.produce(1_000);
    group.start("ada");
    group.until("ada reads", |group| group.applied("ada") > 500);
    group.start("bob");
    group.until_they_share(&["ada", "bob"]);
    group.start("eve");
    group.until_they_share(&["ada", "bob", "eve"]);
    group.produce(2_000);
    let before = group.applied("bob");
    group.until("bob is in the middle", |group| group.applied("bob") > before + 100);
    group.kill("bob");
    let at_the_kill = group.produced;
    group.produce(1_000);
    // All but what bob had claimed and not applied, which waits for him.
    let without_bob = |group: &Group| group.applied("ada") + group.applied("eve");
    group.until("the others have taken over", |group| {
        without_bob(group) + group.applied("bob") + 6 * 2_000 >= group.all() && group.applied("eve") > 0
    });
    group.stop("eve");
    group.produce(500);
    group.start("bob");
    group.until("everything is read, by whom it belongs to", |group| group.applied_by_all() >= group.all());
    group.stop("ada");
    group.produce(500);
    group.until("bob has all that comes", |group| group.applied_by_all() >= group.all());
    group.stop("bob");
    let shares = group.check();
    assert!(shares.values().all(|records| *records > 0) && at_the_kill < group.produced, "{shares:?}");
}

#[test]
fn a_member_of_a_fixed_name_that_is_killed_keeps_its_partitions_until_it_is_back_and_each_record_counts_once() {
    if let Some(dir) = std::env::var_os(DIR) {
        return be_a_member(Path::new(&dir));
    }
    let Some(kafka) = kafka() else { return };
    let own =
        "group::a_member_of_a_fixed_name_that_is_killed_keeps_its_partitions_until_it_is_back_and_each_record_counts_once";
    let mut group = Group::new(&kafka, own, true);
    group.start("ada");
    group.start("bob");
    group.until_they_share(&["ada", "bob"]);
    for round in 0..3 {
        group.produce(1_000);
        group.kill("bob");
        group.start("bob");
        group.until("all is read", |group| group.applied_by_all() >= group.all());
        assert!(group.applied("bob") > round, "it goes on");
    }
    group.stop("bob");
    group.stop("ada");
    group.check();
}
