//! Restarts in the middle, of the engine and of the broker: the same end.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use karst::{Engine, KafkaSource, LateLane, TimeSpan};

use crate::{
    declare, oracle,
    tried::tried,
    world::{check, check_against, drain, kafka, letters, records, rows, run_folder, skip, small, start, until},
};

#[test]
fn restarts_of_the_engine_in_the_middle_change_nothing() {
    let Some(kafka) = kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    let deadline: TimeSpan = "6h".parse().unwrap();
    karst::run(async {
        let source = || kafka.source(kafka.flights()).late_arrival_deadline(deadline).batch_records(200);
        let mut seen = 0;
        for goal in [1, 60_000, 120_000] {
            let engine = start(dir.path(), source()).await?;
            let handle = engine.handle();
            assert!(records(&handle) >= seen, "what was stored stays");
            until("it goes on", || records(&handle) >= goal).await;
            seen = records(&handle);
            drop(handle);
            engine.shutdown().await?;
        }
        assert!(seen < 336_776, "it was stopped in the middle");
        let engine = start(dir.path(), source()).await?;
        drain(&engine).await?;
        check(&engine, rows(), deadline);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn restarts_of_the_broker_in_the_middle_change_nothing() {
    let Some(kafka) = kafka() else { return };
    if run_folder().is_none() {
        return skip("kafka: the broker is not one of scripts/kafka.sh (KARST_TEST_KAFKA_RUN), so it is not restarted");
    }
    let dir = tempfile::tempdir().unwrap();
    let topic = kafka.topic("restarts");
    let rows = rows();
    let (first, second) = (rows.len() / 3, rows.len() * 2 / 3);
    karst::run(async {
        kafka.produce(&topic, &rows[..first]);
        let engine = start(dir.path(), kafka.source(&topic)).await?;
        let handle = engine.handle();
        until("it is on its way", || records(&handle) > 0).await;
        // The engine reads on threads of its own while this one waits for the broker.
        kafka.script("restart");
        kafka.produce(&topic, &rows[first..second]);
        until("it goes on", || records(&handle) > first as u64).await;
        kafka.script("kill9");
        until("the broker's end is told", || !handle.health().healthy).await;
        let told = handle.health();
        assert!(told.problems.iter().any(|problem| problem.what == "source flights"), "{told:?}");
        kafka.script("start");
        kafka.produce(&topic, &rows[second..]);
        until("all of it is read", || records(&handle) == rows.len() as u64).await;
        drain(&engine).await?;
        until("the broker is well again", || handle.health().healthy).await;
        check(&engine, rows, TimeSpan::INFINITY);
        tried("restarts_of_the_broker_in_the_middle_change_nothing", 2);
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}

/// Where the child keeps its state, and what it reads; set by its parent.
const CHILD_STATE: &str = "KARST_TEST_CHILD_STATE";
const CHILD_TOPIC: &str = "KARST_TEST_CHILD_TOPIC";

/// Many small commits, so that every kill falls between some of them.
async fn in_small_steps(state: &Path, source: KafkaSource, deadline: TimeSpan) -> karst::Result<Engine> {
    let mut settings = small();
    settings.store.commit_interval = TimeSpan::from_millis(5);
    let source = source.late_arrival_deadline(deadline).late_lane(LateLane::DeadLetter).batch_records(200);
    let builder = Engine::builder(state).settings(settings).source(source);
    builder.resolver(declare::aircraft).resolver(declare::route).start().await
}

/// The child: reads the topic, and tells how far it is, until it is killed.
#[allow(clippy::print_stdout)] // it talks to its parent
fn work_until_killed(state: &Path, deadline: TimeSpan) {
    let topic = std::env::var(CHILD_TOPIC).unwrap();
    let source = KafkaSource::new("flights").bootstrap_server(std::env::var("KARST_TEST_KAFKA").unwrap()).topic(topic);
    karst::run::<()>(async {
        let engine = in_small_steps(state, source, deadline).await?;
        let handle = engine.handle();
        loop {
            println!("\nat {}", records(&handle));
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .unwrap();
}

#[test]
fn kill_9_of_the_engine_in_the_middle_again_and_again_changes_nothing() {
    let deadline: TimeSpan = "2h".parse().unwrap();
    if let Some(state) = std::env::var_os(CHILD_STATE) {
        return work_until_killed(&PathBuf::from(state), deadline);
    }
    let Some(kafka) = kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (topic, all) = (kafka.flights(), rows().len() as u64);
    let mut told: u64 = 0;
    for kill in 1..=4 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let test = "restarts::kill_9_of_the_engine_in_the_middle_again_and_again_changes_nothing";
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        command.env(CHILD_STATE, dir.path()).env(CHILD_TOPIC, topic).env("KARST_TEST_KAFKA", &kafka.servers);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        told = 0; // what was applied and not committed went with the process before, and is read again
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(records) = line.strip_prefix("at ") else { continue };
            let records: u64 = records.parse().unwrap();
            assert!(records >= told, "kill {kill}: what had its effect has lost it: {told}, then {records}");
            told = records;
            if records >= kill * all / 8 {
                break;
            }
        }
        process.kill().unwrap(); // SIGKILL
        assert!(!process.wait().unwrap().success(), "it was killed, and did not end by itself");
        tried("kill_9_of_the_engine_in_the_middle_again_and_again_changes_nothing", 1);
    }
    assert!((1..all).contains(&told), "the last kill came in the middle: {told} of {all}");
    karst::run(async {
        let engine = in_small_steps(dir.path(), kafka.source(topic), deadline).await?;
        drain(&engine).await?;
        let expected = oracle::expect(rows(), deadline, LateLane::DeadLetter);
        check_against(&engine, &expected);
        assert!(expected.late.len() > 10_000, "enough to tell: {}", expected.late.len());
        assert_eq!(letters(&engine), expected.late, "the late events, as a set");
        engine.shutdown().await
    })
    .unwrap();
}
