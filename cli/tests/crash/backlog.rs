//! Started far behind a wide topic: what is read must not fill the memory, whatever waits.

use std::time::{Duration, Instant};

use karst::{
    BrokerTime,
    connectors::kafka::{KafkaProducer, admin::create_topic},
};

use crate::process::{Process, agent};

const PARTITIONS: i32 = 100;
const RECORDS: u64 = 1_000_000;
const USERS: u64 = 1_000;
/// Records of 10 MB, in [`WITH_LARGE`] of the partitions.
const LARGE: u64 = 24;
const WITH_LARGE: u64 = 4;
const LARGE_BYTES: usize = 10_000_000;
const WITHIN: Duration = Duration::from_secs(180);

const CONFIG: &str = r#"
[server]
bind = "127.0.0.1:0"

[engine]
shards = 2
memory = "64MiB"

[[class]]
name = "user"
key = "id"
[class.features]
id = "str"
n = "int"

[[source]]
name = "wide"
kind = "kafka"
bootstrap_servers = "{servers}"
topic = "{topic}"
memory = "32MiB"
max_record_bytes = "12MiB"

[[resolver]]
name = "on_record"
source = "wide"
set = { "user.id" = "user", "user.n" = "n" }
"#;

/// What it may take at most: the state's memory, three times that of the source (as read, as messages, as updates), a large record for
/// each partition that has them (as read, and as librdkafka has it) and the two that are being decoded, and what a process takes that
/// does nothing.
const BYTES_MAX: usize = (64 << 20) + 3 * (32 << 20) + (2 * WITH_LARGE as usize + 4) * LARGE_BYTES + (120 << 20);

fn produce(servers: &str, topic: &str) {
    let producer =
        KafkaProducer::with(servers, [("message.max.bytes", "12000000"), ("queue.buffering.max.kbytes", "262144")]).unwrap();
    let padding = "x".repeat(150);
    for number in 0..RECORDS {
        let value = format!(r#"{{"user":"u{}","n":{number},"padding":"{padding}"}}"#, number % USERS);
        let partition = (number % u64::try_from(PARTITIONS).unwrap()) as i32;
        producer.send(topic, partition, BrokerTime(0), None, Some(value.as_bytes())).unwrap();
    }
    producer.flush(WITHIN).unwrap();
    let padding = "y".repeat(LARGE_BYTES);
    for number in 0..LARGE {
        let value = format!(r#"{{"user":"large{number}","n":{number},"padding":"{padding}"}}"#);
        producer.send(topic, (number % WITH_LARGE) as i32, BrokerTime(0), None, Some(value.as_bytes())).unwrap();
        producer.flush(WITHIN).unwrap();
    }
}

/// The most that it has ever had in memory, in bytes.
fn peak(id: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().split(' ').next().unwrap().parse::<usize>().unwrap() << 10
}

/// A line of figures; whether they are within the bounds is for the caller.
pub struct Figures {
    pub line: String,
    pub peak: usize,
    pub peak_max: usize,
}

pub fn run(servers: &str) -> Figures {
    let dir = tempfile::tempdir().unwrap();
    let topic = format!("wide-{}", std::process::id());
    create_topic(servers, &topic, PARTITIONS, &[("max.message.bytes", "12000000"), ("retention.ms", "-1")]).unwrap();
    produce(servers, &topic);
    std::fs::write(dir.path().join("karst.toml"), CONFIG.replace("{servers}", servers).replace("{topic}", &topic)).unwrap();

    let began = Instant::now();
    let mut process = Process::start(dir.path(), None);
    process.serves_within(WITHIN).expect("it serves");
    loop {
        let status = process.page("/v1/status").unwrap();
        let outcomes = &status["outcomes"];
        if outcomes["records"].as_u64() == Some(RECORDS + LARGE) {
            assert_eq!(outcomes["applied"].as_u64(), Some(RECORDS + LARGE), "{outcomes}");
            break;
        }
        assert!(began.elapsed() < WITHIN, "{outcomes}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let seconds = began.elapsed().as_secs_f64();
    let agent = agent();
    let last = |user: &str| {
        let body = serde_json::json!({"inputs": {"user.id": user}, "outputs": ["user.n"]});
        process.query(&agent, &body)["data"][0]["value"].as_u64()
    };
    // A user's records are all in one partition.
    (0..USERS).step_by(97).for_each(|user| assert_eq!(last(&format!("u{user}")), Some(RECORDS - USERS + user)));
    (0..LARGE).for_each(|number| assert_eq!(last(&format!("large{number}")), Some(number)));
    let peak = peak(process.id());
    let (peak_mb, max_mb) = (peak / 1_000_000, BYTES_MAX / 1_000_000);
    let records = RECORDS + LARGE;
    let line = format!(
        "backlog partitions={PARTITIONS} records={records} large={LARGE} seconds={seconds:.1} peak_mb={peak_mb} peak_max_mb={max_mb}"
    );
    Figures { line, peak, peak_max: BYTES_MAX }
}
