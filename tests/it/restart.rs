//! One effect of each record, whatever ends the engine: a graceful stop, a drop, kill -9.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
};

use karst::{BrokerTime, EngineHandle, FileSource, PartitionId, prelude::*};
use serde_json::json;

use crate::world::{Random, child, is_child, outcomes, small, stored, until};

const RECORDS: u64 = 200_000;
const USERS: u64 = 500;
const DEADLINE_S: i64 = 60;

#[derive(Message)]
struct Payment {
    user: String,
    amount: Option<i64>,
    #[message(event_time)]
    at: EventTime,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Account {
    id: String,
    last_amount: i64,
    last_at: EventTime,
}

/// Calls of the resolver in this process.
static CALLS: AtomicU64 = AtomicU64::new(0);

#[stream(source = "payments")]
fn on_payment(payment: Payment) -> Option<Updates![Account::id, Account::last_amount, Account::last_at]> {
    CALLS.fetch_add(1, Ordering::Relaxed);
    Some(updates!(payment.user, payment.amount?, payment.at))
}

/// One record: its bytes and what it is.
struct Line {
    json: String,
    user: String,
    amount: Option<i64>,
    at: i64,
    good: bool,
}

fn lines(count: u64) -> Vec<Line> {
    let mut random = Random::new(42);
    let line = |nth: u64| {
        let user = format!("u{}", random.below(USERS));
        let amount = (random.below(50) > 0).then_some(nth as i64);
        let at = (1_000_000 + nth as i64 / 10 - random.below(80) as i64) * 1_000_000;
        let good = random.below(100) > 0;
        let json = if good {
            json!({ "user": user, "amount": amount, "at": at }).to_string()
        } else {
            format!("{{\"user\":\"{user}\"")
        };
        Line { json, user, amount, at, good }
    };
    (0..count).map(line).collect()
}

/// What must be there in the end, by plain maps.
#[derive(Default)]
struct Expected {
    values: BTreeMap<String, (i64, i64)>,
    applied: u64,
    skipped: u64,
    late: u64,
    dead: u64,
}

fn expect(lines: &[Line]) -> Expected {
    let mut expected = Expected::default();
    let mut watermark = i64::MIN / 2;
    for line in lines {
        if !line.good {
            expected.dead += 1;
            continue;
        }
        let late = watermark - line.at > DEADLINE_S * 1_000_000;
        watermark = watermark.max(line.at);
        match line.amount {
            _ if late => expected.late += 1,
            None => expected.skipped += 1,
            Some(amount) => {
                expected.applied += 1;
                let kept = expected.values.entry(line.user.clone()).or_insert((line.at, amount));
                if line.at >= kept.0 {
                    *kept = (line.at, amount);
                }
            }
        }
    }
    expected
}

#[track_caller]
fn compare(engine: &Engine, lines: &[Line]) {
    let expected = expect(lines);
    let sums = outcomes(engine);
    let got = (sums.records, sums.applied, sums.skipped, sums.late, sums.dead_letters);
    assert_eq!(got, (lines.len() as u64, expected.applied, expected.skipped, expected.late, expected.dead));
    let values: BTreeMap<String, (i64, i64)> = stored(&engine.handle(), "account")
        .into_iter()
        .map(|(user, cells)| match (&cells["last_at"], &cells["last_amount"]) {
            (Value::Time(at), Value::Int(amount)) => (user, (at.0, *amount)),
            other => panic!("{user}: {other:?}"),
        })
        .collect();
    assert_eq!(values, expected.values);
}

fn records(engine: &EngineHandle) -> u64 {
    engine.status().outcomes().records
}

fn deadline() -> TimeSpan {
    TimeSpan::from_secs(DEADLINE_S)
}

#[test]
fn stops_in_the_middle_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let lines = lines(20_000);
    karst::run(async {
        let source = MemorySource::json("payments").late_arrival_deadline(deadline()).max_future_skew(TimeSpan::INFINITY);
        let source = source.capacity(100_000).batch_records(100);
        for line in &lines {
            source.send_to(PartitionId(0), BrokerTime(line.at), None, Some(line.json.as_bytes())).await?;
        }
        let mut seen = 0;
        let mut stops = 0;
        loop {
            let engine =
                Engine::builder(dir.path()).settings(small()).source(source.clone()).resolver(on_payment).start().await?;
            let handle = engine.handle();
            assert!(records(&handle) >= seen, "what was stored stays");
            until("it goes on", || records(&handle) >= (seen + 2_000).min(20_000)).await;
            seen = records(&handle);
            drop(handle);
            if seen == 20_000 {
                engine.drain().await?;
                compare(&engine, &lines);
                break engine.shutdown().await?;
            }
            stops += 1;
            engine.shutdown().await?;
        }
        assert!(stops > 0, "it was stopped in the middle");
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_engine_that_is_dropped_in_the_middle_leaves_a_directory_to_go_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let lines = lines(20_000);
    karst::run(async {
        let source = MemorySource::json("payments").late_arrival_deadline(deadline()).max_future_skew(TimeSpan::INFINITY);
        let source = source.capacity(100_000).batch_records(50);
        let start = || Engine::builder(dir.path()).settings(small()).source(source.clone()).resolver(on_payment).start();
        for line in &lines {
            source.send_to(PartitionId(0), BrokerTime(line.at), None, Some(line.json.as_bytes())).await?;
        }
        let engine = start().await?;
        let handle = engine.handle();
        until("it is on its way", || records(&handle) > 0).await;
        drop(handle);
        drop(engine); // its threads end when they notice; the directory is free soon after
        let mut again = start().await;
        for _ in 0..2_000 {
            if again.is_ok() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            again = start().await;
        }
        let engine = again?;
        engine.drain().await?;
        compare(&engine, &lines);
        engine.shutdown().await
    })
    .unwrap();
}

async fn from_file(state: &Path, file: PathBuf) -> karst::Result<Engine> {
    let source = FileSource::json_lines("payments", file).late_arrival_deadline(deadline()).max_future_skew(TimeSpan::INFINITY);
    let mut settings = small();
    settings.store.commit_interval = TimeSpan::from_millis(5);
    Engine::builder(state).settings(settings).source(source.batch_records(200)).resolver(on_payment).start().await
}

/// The child: reads the file, and tells how far it is, until it is killed.
#[allow(clippy::print_stdout)] // it talks to its parent
fn work_until_killed() {
    let [state, file] = ["KARST_TEST_STATE", "KARST_TEST_FILE"].map(|name| PathBuf::from(std::env::var_os(name).unwrap()));
    karst::run::<()>(async {
        let engine = from_file(&state, file).await?;
        let handle = engine.handle();
        loop {
            let status = handle.status();
            let committed = status.sources[0].partitions.first().and_then(|partition| partition.committed);
            println!("\nat {} {}", committed.map_or(-1, |offset| offset.0), status.outcomes().records);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .unwrap();
}

#[test]
fn kill_9_in_the_middle_again_and_again_changes_nothing() {
    if is_child() {
        return work_until_killed();
    }
    let dir = tempfile::tempdir().unwrap();
    let (state, file) = (dir.path().join("state"), dir.path().join("payments.jsonl"));
    let lines = lines(RECORDS);
    let mut out = std::io::BufWriter::new(std::fs::File::create(&file).unwrap());
    lines.iter().for_each(|line| writeln!(out, "{}", line.json).unwrap());
    out.into_inner().unwrap();

    let (mut committed, mut told) = (-1, 0);
    let mut in_the_middle = 0;
    for kill in 0..4 {
        let environment = [("KARST_TEST_STATE", state.to_str().unwrap()), ("KARST_TEST_FILE", file.to_str().unwrap())];
        let mut command = child("restart::kill_9_in_the_middle_again_and_again_changes_nothing", &environment);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some((at, records)) = line.strip_prefix("at ").and_then(|told| told.split_once(' ')) else { continue };
            let (at, records): (i64, u64) = (at.parse().unwrap(), records.parse().unwrap());
            assert!(at >= committed, "kill {kill}: what was committed is gone: {committed}, then {at}");
            (committed, told) = (at, records);
            if records >= (kill + 1) * RECORDS / 8 {
                break;
            }
        }
        process.kill().unwrap(); // SIGKILL
        assert!(!process.wait().unwrap().success(), "it was killed, and did not end by itself");
        in_the_middle += u64::from(told < RECORDS);
    }
    assert!(in_the_middle > 0, "no kill came before the end");
    karst::run(async {
        let engine = from_file(&state, file.clone()).await?;
        engine.drain().await?;
        compare(&engine, &lines);
        engine.shutdown().await
    })
    .unwrap();
}
