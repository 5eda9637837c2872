//! Started far behind a wide topic: what is read must not fill the memory, whatever waits.

use std::time::{Duration, Instant};

use karst::{
    BrokerTime,
    connectors::kafka::{KafkaProducer, admin::create_topic},
};

use crate::process::{Process, agent};

const PARTITIONS: u64 = 100;
/// All partitions span the same time. The first holds most records and is slow for that, so that all others wait for it (`max_drift`)
/// with what was read ahead of them: eight megabytes each, if nothing bounds them together.
const SLOW: u64 = 100_000;
const OTHERS: u64 = 4_000;
const SPAN_MS: u64 = 100_000;
const RECORDS: u64 = SLOW + (PARTITIONS - 1) * OTHERS;
/// Records of 10 MB, in [`WITH_LARGE`] of the partitions.
const LARGE: u64 = 24;
const WITH_LARGE: u64 = 4;
const LARGE_BYTES: usize = 10_000_000;
/// 2023-11-14
const START_MS: u64 = 1_700_000_000_000;
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
max_drift = "1s"
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
    let padding = "x".repeat(2_000);
    for partition in 0..PARTITIONS {
        let (count, padding) = if partition == 0 { (SLOW, "") } else { (OTHERS, &padding[..]) };
        for n in 0..count {
            let value = format!(r#"{{"user":"u{partition}","n":{n},"padding":"{padding}"}}"#);
            let time = BrokerTime::from_millis((START_MS + n * SPAN_MS / count) as i64);
            producer.send(topic, partition as i32, time, None, Some(value.as_bytes())).unwrap();
        }
    }
    producer.flush(WITHIN).unwrap();
    let padding = "y".repeat(LARGE_BYTES);
    let end = BrokerTime::from_millis((START_MS + SPAN_MS) as i64);
    for number in 0..LARGE {
        let value = format!(r#"{{"user":"large{number}","n":{number},"padding":"{padding}"}}"#);
        producer.send(topic, (1 + number % WITH_LARGE) as i32, end, None, Some(value.as_bytes())).unwrap();
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
    create_topic(servers, &topic, PARTITIONS as i32, &[("max.message.bytes", "12000000"), ("retention.ms", "-1")]).unwrap();
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
    let newest = |partition| if partition == 0 { SLOW - 1 } else { OTHERS - 1 };
    (0..PARTITIONS).for_each(|partition| assert_eq!(last(&format!("u{partition}")), Some(newest(partition))));
    (0..LARGE).for_each(|number| assert_eq!(last(&format!("large{number}")), Some(number)));
    let peak = peak(process.id());
    let (peak_mb, max_mb) = (peak / 1_000_000, BYTES_MAX / 1_000_000);
    let records = RECORDS + LARGE;
    let line = format!(
        "backlog partitions={PARTITIONS} records={records} large={LARGE} seconds={seconds:.1} peak_mb={peak_mb} peak_max_mb={max_mb}"
    );
    Figures { line, peak, peak_max: BYTES_MAX }
}
