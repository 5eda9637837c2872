//! Avro with a schema registry, through the whole engine: whose fault is what.

use karst::{
    Engine, Format, MemorySource, Outcomes, Reason, SchemaRegistry, Value,
    connectors::registry::{StubMode, StubRegistry},
    prelude::*,
};

#[path = "../registry/payments.rs"]
mod payments;

use payments::{framed, on_payment, text};

use crate::world::{column, outcomes, small, until};

/// The first version, with amounts as floats.
const FIRST: &str = r#"{"type":"record","name":"Payment","fields":[
    {"name":"card","type":"string"},{"name":"amount","type":"float"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;
/// Evolved: a field more in front, amounts as doubles, time in microseconds.
const SECOND: &str = r#"{"type":"record","name":"Payment","fields":[
    {"name":"shop","type":["null","string"]},{"name":"amount","type":"double"},{"name":"card","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}}]}"#;
/// Evolved as it must not be: the message's amount is gone.
const WITHOUT: &str = r#"{"type":"record","name":"Payment","fields":[
    {"name":"card","type":"string"},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;

/// A small long, by zigzag.
fn long(value: u8) -> Vec<u8> {
    assert!(value < 64);
    vec![2 * value]
}
fn first(id: u32, card: &str, amount: f32) -> Vec<u8> {
    framed(id, &[&text(card), &amount.to_le_bytes(), &long(1)])
}
fn second(id: u32, card: &str, amount: f64) -> Vec<u8> {
    framed(id, &[&[2], &text("shop"), &amount.to_le_bytes(), &text(card), &long(2)])
}

fn amounts(engine: &Engine) -> Vec<(String, Value)> {
    column(&engine.handle(), "card", "last_amount").into_iter().collect()
}

fn payments(stub: &StubRegistry) -> MemorySource {
    let registry = SchemaRegistry::new(stub.url()).timeout("2s").unknown_for("0s");
    MemorySource::new("payments").format(Format::avro().registry(registry))
}

async fn start(dir: &std::path::Path, source: MemorySource) -> Engine {
    Engine::builder(dir).settings(small()).source(source).resolver(on_payment).start().await.unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn schemas_evolve_and_what_the_schema_is_to_blame_for_is_a_dead_letter_with_its_reason() {
    let (dir, stub) = (tempfile::tempdir().unwrap(), StubRegistry::start().unwrap());
    stub.put(1, "AVRO", FIRST, &[]);
    stub.put(2, "AVRO", SECOND, &[]);
    stub.put(3, "AVRO", WITHOUT, &[]);
    stub.put(4, "PROTOBUF", "syntax = \"proto3\";", &[]);
    stub.put(5, "AVRO", "{\"type\":\"nothing\"}", &[]);
    let source = payments(&stub);
    let records: [(Vec<u8>, Option<Reason>); 9] = [
        (first(1, "ada", 1.5), None),
        (second(2, "bob", 2.5), None),
        (first(99, "eve", 9.0), Some(Reason::SchemaUnknown)),
        (framed(3, &[&text("eve"), &long(1)]), Some(Reason::SchemaIncompatible)),
        (first(4, "eve", 9.0), Some(Reason::SchemaIncompatible)),
        (first(5, "eve", 9.0), Some(Reason::SchemaIncompatible)),
        (b"{\"card\":\"eve\"}".to_vec(), Some(Reason::Malformed)),
        (first(1, "cat", 3.5)[..9].to_vec(), Some(Reason::Malformed)),
        (first(1, "cat", 3.5), None),
    ];
    for (record, _) in &records {
        source.send(record).await.unwrap();
    }
    let engine = start(dir.path(), source).await;
    engine.drain().await.unwrap();
    let expected = [("ada", 1.5), ("bob", 2.5), ("cat", 3.5)].map(|(card, amount)| (card.to_owned(), Value::Float(amount)));
    assert_eq!(amounts(&engine), expected);
    assert_eq!(outcomes(&engine), Outcomes { records: 9, applied: 3, dead_letters: 6, ..Outcomes::default() });
    let letters = engine.handle().dead_letters("payments", 10).unwrap();
    let found: Vec<_> = letters.iter().map(|stored| (stored.letter.offset.0 as usize, Some(stored.letter.reason))).collect();
    let wanted: Vec<_> =
        records.iter().enumerate().filter(|(_, (_, reason))| reason.is_some()).map(|(at, (_, reason))| (at, *reason)).collect();
    assert_eq!(found, wanted, "{letters:?}");
    assert!(stub.requests() <= 8, "each schema is asked for once, not for every record: {}", stub.requests());
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_registry_that_is_away_pauses_the_partition_and_no_record_is_blamed() {
    for mode in [StubMode::Down, StubMode::Status(503), StubMode::Status(404), StubMode::Status(401)] {
        let (dir, stub) = (tempfile::tempdir().unwrap(), StubRegistry::start().unwrap());
        stub.put(1, "AVRO", FIRST, &[]);
        stub.set_mode(mode);
        let source = payments(&stub);
        source.send(first(1, "ada", 1.5)).await.unwrap();
        source.send(first(1, "bob", 2.5)).await.unwrap();
        let engine = start(dir.path(), source).await;
        let handle = engine.handle();
        let url = stub.url();
        let named = || {
            let health = handle.health();
            health.problems.iter().any(|problem| problem.what.starts_with("parse_stage") && problem.why.contains(&url))
        };
        until("health names the registry", named).await;
        let doctor = || handle.watermarks().into_iter().next().unwrap();
        until("so does the doctor", || doctor().why.contains("payments[0] waits for a schema registry")).await;
        assert!(doctor().hint.contains("karst health"), "{:?}", doctor());
        let tries = stub.requests();
        until("it is asked again", || stub.requests() > tries + 1).await;
        assert_eq!(outcomes(&engine), Outcomes::default(), "{mode:?}: nothing is decided");
        stub.set_mode(StubMode::Well);
        until("both are applied", || outcomes(&engine).applied == 2).await;
        assert_eq!(outcomes(&engine), Outcomes { records: 2, applied: 2, ..Outcomes::default() }, "{mode:?}");
        until("all is well", || handle.health().healthy).await;
        assert!(handle.topology().stages.iter().all(|stage| stage.restarts == 0), "waiting is no failure of a stage");
        drop(handle);
        engine.shutdown().await.unwrap();
    }
}

#[features(key = "id")]
#[allow(dead_code)]
struct Shop {
    id: String,
    open: bool,
}

#[derive(Message)]
struct Opening {
    shop: String,
}

#[stream(source = "openings")]
fn on_opening(opening: Opening) -> Updates![Shop::id, Shop::open] {
    updates!(opening.shop, true)
}

/// A stop takes 18 s at most, and a request here 20 s: neither is waited for.
#[tokio::test(flavor = "current_thread")]
async fn a_stop_does_not_wait_for_a_registry_that_is_away_and_loses_nothing() {
    for mode in [StubMode::Silent, StubMode::Down, StubMode::Status(503)] {
        let (dir, stub) = (tempfile::tempdir().unwrap(), StubRegistry::start().unwrap());
        stub.put(1, "AVRO", FIRST, &[]);
        stub.set_mode(mode);
        let registry = || SchemaRegistry::new(stub.url()).timeout("20s");
        let source = MemorySource::new("payments").format(Format::avro().registry(registry()));
        let openings = MemorySource::new("openings");
        let start = |source: &MemorySource| {
            let engine = Engine::builder(dir.path()).settings(small()).source(source.clone()).source(openings.clone());
            engine.resolver(on_payment).resolver(on_opening).start()
        };
        let engine = start(&source).await.unwrap();
        source.send(first(1, "ada", 1.5)).await.unwrap();
        openings.send(r#"{"shop": "corner"}"#).await.unwrap();
        until("it is asked", || stub.requests() > 0).await;
        until("the other source is read", || outcomes(&engine).applied == 1).await;
        let stop = tokio::time::timeout(std::time::Duration::from_secs(9), engine.shutdown()).await;
        stop.unwrap_or_else(|_| panic!("{mode:?}: it waits")).unwrap();

        stub.set_mode(StubMode::Well);
        let source = source.format(Format::avro().registry(registry()));
        let engine = start(&source).await.unwrap();
        engine.drain().await.unwrap();
        assert_eq!(outcomes(&engine), Outcomes { records: 2, applied: 2, ..Outcomes::default() }, "{mode:?}");
        assert_eq!(amounts(&engine), [("ada".to_owned(), Value::Float(1.5))]);
        engine.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_schema_that_is_registered_late_is_found() {
    let (dir, stub) = (tempfile::tempdir().unwrap(), StubRegistry::start().unwrap());
    let source = payments(&stub);
    let engine = start(dir.path(), source.clone()).await;
    source.send(first(1, "ada", 1.5)).await.unwrap();
    until("it is a dead letter", || outcomes(&engine).dead_letters == 1).await;
    stub.put(1, "AVRO", FIRST, &[]);
    source.send(first(1, "bob", 2.5)).await.unwrap();
    until("the next one is applied", || outcomes(&engine).applied == 1).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn an_avro_source_without_a_registry_is_a_mistake_that_says_what_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let source = MemorySource::new("payments").format(Format::avro());
    let built = Engine::builder(dir.path()).settings(small()).source(source).resolver(on_payment).start().await;
    let error = built.err().unwrap().to_string();
    assert!(error.contains("payments") && error.contains("schema_registry"), "{error}");
}
