//! Dead letters forwarded to a topic: whole, once, past restarts of the engine and of the broker; and a topic that does not
//! answer stops nothing.

use std::{collections::BTreeMap, time::Duration};

use karst::{BrokerTime, EngineHandle, KafkaProducer, KafkaSource, prelude::*};
use serde_json::json;

use crate::world::{Kafka, kafka, run_folder, small, until};

#[derive(Message)]
struct Note {
    id: String,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Noted {
    id: String,
    last: String,
}

#[stream(source = "notes")]
fn on_note(note: Note) -> Updates![Noted::id, Noted::last] {
    updates!(note.id.clone(), note.id)
}

/// What a letter brought, by the position that its headers say.
type Seen = BTreeMap<String, Vec<(Option<Vec<u8>>, Option<Vec<u8>>, BTreeMap<String, String>)>>;

/// Everything in the topic, read with the kafka source itself: every record of it is put aside there, whole.
async fn read(servers: &str, topic: &str, count: usize) -> Seen {
    #[stream(source = "letters")]
    fn on_letter(note: Note) -> Updates![Noted::id, Noted::last] {
        updates!(note.id.clone(), note.id)
    }
    let dir = tempfile::tempdir().unwrap();
    let source = KafkaSource::new("letters").bootstrap_server(servers).topic(topic).max_record_bytes("4MiB");
    let engine = Engine::builder(dir.path()).settings(small()).source(source).resolver(on_letter).start().await.unwrap();
    let handle = engine.handle();
    until("the letters are read", || records(&handle) >= count as u64).await;
    engine.drain().await.unwrap();
    let mut seen = Seen::new();
    for stored in handle.dead_letters("letters", 100_000).unwrap() {
        let letter = stored.letter;
        let headers: BTreeMap<String, String> = letter
            .headers
            .into_iter()
            .map(|(name, value)| (name, String::from_utf8(value.unwrap_or_default()).unwrap()))
            .collect();
        let place = format!("{}[{}]@{}", headers["karst.source"], headers["karst.partition"], headers["karst.offset"]);
        seen.entry(place).or_default().push((letter.key, letter.value, headers));
    }
    engine.shutdown().await.unwrap();
    seen
}

fn records(engine: &EngineHandle) -> u64 {
    engine.status().outcomes().records
}

fn produce(kafka: &Kafka, topic: &str, numbers: std::ops::Range<usize>) {
    let producer = KafkaProducer::new(&kafka.servers).unwrap();
    for nth in numbers {
        let value = if nth % 2 == 0 { json!({ "id": format!("{nth}") }).to_string() } else { format!("broken {nth}") };
        let (key, headers) = (format!("k{nth}"), [("trace", Some(&b"abc"[..]))]);
        let partition = nth as i32 % 3;
        let time = BrokerTime::from_secs(1_700_000_000);
        producer.send_with_headers(topic, partition, time, Some(key.as_bytes()), Some(value.as_bytes()), &headers).unwrap();
    }
    producer.flush(Duration::from_secs(60)).unwrap();
}

fn source(kafka: &Kafka, topic: &str, letters: &str) -> KafkaSource {
    KafkaSource::new("notes").bootstrap_server(&kafka.servers).topic(topic).dead_letter_queue_topic(letters)
}

#[test]
fn letters_are_forwarded_whole_with_their_headers_once_over_restarts_of_the_engine() {
    let Some(kafka) = kafka() else { return };
    let (topic, letters) = (kafka.topic("notes"), kafka.topic("notes-dead"));
    let dir = tempfile::tempdir().unwrap();
    let seen = karst::run(async {
        for round in 0..3 {
            produce(&kafka, &topic, round * 200..(round + 1) * 200);
            let engine = Engine::builder(dir.path())
                .settings(small())
                .source(source(&kafka, &topic, &letters))
                .resolver(on_note)
                .start()
                .await?;
            let handle = engine.handle();
            until("all are read", || records(&handle) == (round as u64 + 1) * 200).await;
            engine.drain().await?;
            assert_eq!(handle.status().outcomes().dead_letters, (round as u64 + 1) * 100);
            read(&kafka.servers, &letters, (round + 1) * 100).await; // waits until all have come
            engine.shutdown().await?;
        }
        Ok(read(&kafka.servers, &letters, 300).await)
    })
    .unwrap();
    assert_eq!(seen.len(), 300);
    for (place, copies) in &seen {
        let [(key, value, headers)] = &copies[..] else { panic!("{place} came {} times", copies.len()) };
        let nth: usize = std::str::from_utf8(key.as_deref().unwrap()).unwrap()[1..].parse().unwrap();
        assert_eq!(value.as_deref(), Some(format!("broken {nth}").as_bytes()), "{place}");
        let header = |name: &str| headers[name].as_str();
        assert_eq!((header("trace"), header("karst.reason"), header("karst.stage")), ("abc", "malformed", "parse_stage"));
        assert_eq!((header("karst.attempt"), header("karst.value_is")), ("1", "whole"));
        assert_eq!(header("karst.broker_time"), "2023-11-14T22:13:20Z");
        assert!(!header("karst.error").is_empty());
    }
}

#[test]
fn a_topic_that_is_not_there_stops_nothing_and_the_letters_come_once_it_is() {
    let Some(kafka) = kafka() else { return };
    let topic = kafka.topic("notes");
    let letters = format!("{topic}-dead.later");
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        produce(&kafka, &topic, 0..400);
        let engine = Engine::builder(dir.path())
            .settings(small())
            .source(source(&kafka, &topic, &letters))
            .resolver(on_note)
            .start()
            .await?;
        let handle = engine.handle();
        engine.drain().await?;
        assert_eq!((records(&handle), handle.status().outcomes().dead_letters), (400, 200), "the source goes on");
        let told = || handle.health().problems.iter().any(|problem| problem.what.starts_with("dead letters of notes to topic"));
        until("health says so", told).await;
        karst::connectors::kafka::admin::create_topic(&kafka.servers, &letters, 1, &[]).unwrap();
        until("health says that it is over", || !told()).await;
        let seen = read(&kafka.servers, &letters, 200).await; // before the engine stops: a second batch may still be under way
        engine.shutdown().await?;
        assert_eq!((seen.len(), seen.values().map(Vec::len).max()), (200, Some(1)));
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_broker_that_goes_away_and_comes_back_gets_every_letter() {
    let Some(kafka) = kafka() else { return };
    if run_folder().is_none() {
        return crate::world::skip("kafka: the broker is somebody else's, and is not restarted");
    }
    let (topic, letters) = (kafka.topic("notes"), kafka.topic("notes-dead"));
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let engine = Engine::builder(dir.path())
            .settings(small())
            .source(source(&kafka, &topic, &letters))
            .resolver(on_note)
            .start()
            .await?;
        let handle = engine.handle();
        produce(&kafka, &topic, 0..2_000);
        until("some are read", || records(&handle) > 0).await;
        kafka.script("restart");
        produce(&kafka, &topic, 2_000..4_000);
        until("all are read", || records(&handle) == 4_000).await;
        let seen = read(&kafka.servers, &letters, 2_000).await;
        assert_eq!((seen.len(), seen.values().map(Vec::len).max()), (2_000, Some(1)));
        engine.shutdown().await
    })
    .unwrap();
}
