//! The engine with a real schema registry, Apicurio through its Confluent API: `make test-registry`, or
//!
//! ```sh
//! KARST_TEST_REGISTRY=$(scripts/registry.sh start) cargo test --workspace --test registry
//! ```
//!
//! Without KARST_TEST_REGISTRY they are skipped, which is said; with CI=true that is a failure.
#![allow(clippy::unwrap_used)] // in helpers of tests, as in tests

mod payments;

use std::{io::Write, path::Path, process::Command, time::Duration};

use karst::{Engine, EngineSettings, EventTime, Format, MemorySource, Outcomes, Reason, SchemaRegistry, Value};

use crate::payments::{framed, on_payment, text};

const FIRST: &str = r#"{"type":"record","name":"Payment","fields":[{"name":"card","type":"string"},
    {"name":"amount","type":"float"},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;
/// With a field more, which has a default, and an amount that is wider: what the registry's rules call compatible.
const SECOND: &str = r#"{"type":"record","name":"Payment","fields":[{"name":"card","type":"string"},
    {"name":"amount","type":"double"},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"shop","type":["null","string"],"default":null}]}"#;
/// Without the amount.
const WITHOUT: &str = r#"{"type":"record","name":"Payment","fields":[{"name":"card","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;
const PROTO: &str = r#"syntax = "proto3";
import "google/protobuf/timestamp.proto";
message Payment { string card = 1; double amount = 2; google.protobuf.Timestamp at = 3; }"#;

fn ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true")
}

/// The registry's URL; `None` if there is none, which has then been said.
fn url() -> Option<String> {
    if let Ok(url) = std::env::var("KARST_TEST_REGISTRY")
        && !url.is_empty()
    {
        return Some(url);
    }
    skip("registry: KARST_TEST_REGISTRY is not set (scripts/registry.sh start prints a URL)");
    None
}

/// Says what does not run here, and why.
fn skip(what: &str) {
    eprintln!("skipped: {what}");
    if let Some(file) = std::env::var_os("KARST_TEST_SKIPPED") {
        writeln!(std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap(), "{what}").unwrap();
    }
    assert!(!ci(), "with CI=true nothing is skipped");
}

fn script(arguments: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/registry.sh");
    let output = Command::new(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "registry.sh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A subject of this test run alone.
fn subject(name: &str) -> String {
    format!("{name}-{}-value", std::process::id())
}

/// Of this test alone: a registry has equal schemas once, under one id, whatever their subjects.
fn own(schema: &str, test: &str) -> String {
    schema.replacen("\"name\":\"Payment\"", &format!("\"name\":\"Payment\",\"namespace\":\"{test}\""), 1)
}

fn first(id: u32, card: &str, amount: f32) -> Vec<u8> {
    framed(id, &[&text(card), &amount.to_le_bytes(), &[2]])
}
fn second(id: u32, card: &str, amount: f64) -> Vec<u8> {
    framed(id, &[&text(card), &amount.to_le_bytes(), &[4, 2], &text("shop")])
}

async fn start(dir: &Path, format: impl Into<Format>) -> (Engine, MemorySource) {
    let source = MemorySource::new("payments").format(format);
    let mut settings = EngineSettings { workers: 2, ..EngineSettings::default() };
    settings.store.shards = 2;
    settings.store.memory = "64MiB".parse().unwrap();
    let engine = Engine::builder(dir).settings(settings).source(source.clone()).resolver(on_payment).start().await.unwrap();
    (engine, source)
}

fn amounts(engine: &Engine) -> Vec<(String, Value)> {
    let rows = engine.handle().scan("card").unwrap();
    let mut amounts: Vec<_> = rows
        .into_iter()
        .map(|(id, cells)| {
            let amount = cells.into_iter().find(|(name, _)| name == "last_amount").map(|(_, value)| value);
            (format!("{id:?}"), amount.unwrap_or(Value::Null))
        })
        .collect();
    amounts.sort_by(|a, b| a.0.cmp(&b.0));
    amounts
}

fn outcomes(engine: &Engine) -> Outcomes {
    let outcomes = engine.handle().status().outcomes();
    assert!(outcomes.conserved(), "{outcomes:?}");
    outcomes
}

fn reasons(engine: &Engine) -> Vec<Reason> {
    engine.handle().dead_letters("payments", 100).unwrap().iter().map(|stored| stored.letter.reason).collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait).await.unwrap_or_else(|_| panic!("two minutes went by before {what}"));
}

#[test]
fn schemas_evolve_and_unknown_deleted_and_incompatible_ones_are_the_records_fault() {
    let Some(url) = url() else { return };
    let registry = || SchemaRegistry::new(&url);
    let evolving = subject("evolving");
    let one = registry().register(&evolving, "AVRO", &own(FIRST, "evolving")).unwrap();
    let two = registry().register(&evolving, "AVRO", &own(SECOND, "evolving")).unwrap();
    let without = registry().register(&subject("without"), "AVRO", WITHOUT).unwrap();
    assert!(one != two && two != without);
    karst::run(async {
        let dir = tempfile::tempdir()?;
        let (engine, source) = start(dir.path(), Format::avro().registry(registry())).await;
        source.send(first(one, "ada", 1.5)).await?;
        source.send(second(two, "bob", 2.5)).await?;
        source.send(first(999_999, "eve", 9.0)).await?;
        source.send(framed(without, &[&text("eve"), &[2]])).await?;
        source.send(first(one, "cat", 3.5)).await?;
        engine.drain().await?;
        let applied: Vec<Value> = amounts(&engine).into_iter().map(|(_, amount)| amount).collect();
        assert_eq!(applied, [1.5, 2.5, 3.5].map(Value::Float));
        assert_eq!(reasons(&engine), [Reason::SchemaUnknown, Reason::SchemaIncompatible]);

        script(&["delete", &evolving]);
        source.send(first(one, "dan", 4.5)).await?;
        engine.drain().await?;
        assert_eq!(outcomes(&engine).applied, 4, "what is known stays known");
        engine.shutdown().await?;

        let dir = tempfile::tempdir()?;
        let (engine, source) = start(dir.path(), Format::avro().registry(registry())).await;
        source.send(first(one, "ada", 1.5)).await?;
        engine.drain().await?;
        assert_eq!(reasons(&engine), [Reason::SchemaUnknown], "deleted, and not known to this engine");
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn protobuf_is_read_by_the_registrys_description() {
    let Some(url) = url() else { return };
    let registry = SchemaRegistry::new(&url);
    let id = registry.register(&subject("proto"), "PROTOBUF", PROTO).unwrap();
    karst::run(async {
        let dir = tempfile::tempdir()?;
        let (engine, source) = start(dir.path(), Format::protobuf().registry(registry)).await;
        let amount = 1.5f64.to_le_bytes();
        source.send(framed(id, &[&[0, 0x0a, 3], b"ada", &[0x11], &amount, &[0x1a, 2, 0x08, 7]])).await?;
        engine.drain().await?;
        assert_eq!(outcomes(&engine), Outcomes { records: 1, applied: 1, ..Outcomes::default() }, "{:?}", reasons(&engine));
        assert_eq!(amounts(&engine)[0].1, Value::Float(1.5));
        assert_eq!(engine.handle().status().watermark(), Some(EventTime::from_secs(7)));
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_registry_that_is_killed_in_the_middle_of_a_stream_costs_no_record() {
    let Some(url) = url() else { return };
    if std::env::var_os("KARST_TEST_REGISTRY_RUN").is_none() {
        return skip("registry: a kill in the middle of a stream; the registry is somebody else's, and is not killed");
    }
    let registry = || SchemaRegistry::new(&url);
    let one = registry().register(&subject("killed-one"), "AVRO", &own(FIRST, "killed")).unwrap();
    let two = registry().register(&subject("killed-two"), "AVRO", &own(SECOND, "killed")).unwrap();
    karst::run(async {
        let dir = tempfile::tempdir()?;
        let (engine, source) = start(dir.path(), Format::avro().registry(registry())).await;
        for nth in 0..1_000 {
            source.send(first(one, &format!("a{nth}"), 1.0)).await?;
        }
        until("the first are applied", || outcomes(&engine).applied == 1_000).await;
        script(&["kill9"]);
        for nth in 0..1_000 {
            source.send(first(one, &format!("b{nth}"), 1.0)).await?;
            source.send(second(two, &format!("c{nth}"), 2.0)).await?;
        }
        let handle = engine.handle();
        let named = || handle.health().problems.iter().any(|problem| problem.why.contains("schema registry"));
        until("health names the registry", named).await;
        assert_eq!(outcomes(&engine).dead_letters, 0);
        tokio::task::spawn_blocking(|| script(&["start"])).await.unwrap();
        until("all are decided", || outcomes(&engine).records == 3_000).await;
        assert_eq!(outcomes(&engine), Outcomes { records: 3_000, applied: 3_000, ..Outcomes::default() });
        until("all is well", || handle.health().healthy).await;
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}
