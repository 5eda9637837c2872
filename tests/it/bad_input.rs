//! Bad records: each is counted with its reason and kept with its bytes and its place, and the next good one is applied.

use std::time::Duration;

use karst::{KafkaProducer, PartitionId, connectors::kafka::mock::MockBroker, prelude::*};

use crate::{
    bad_records::{OnReading, Sensor, check, good, list, now},
    world::{small, until},
};

/// Each bad record, and right behind it a good one.
fn run(batch: usize) {
    let list = list();
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        // With a deadline: a watermark that a bad event time had moved would make all that follows late.
        let source = MemorySource::json("readings").late_arrival_deadline("1h").batch_records(batch);
        let builder = Engine::builder(dir.path()).settings(small()).features::<Sensor>().source(source.clone());
        let engine = builder.resolver(OnReading).start().await?;
        for (nth, bad) in list.iter().enumerate() {
            source.send_to(PartitionId(0), now(nth), Some(b"key"), bad.value.as_deref()).await?;
            source.send_to(PartitionId(0), now(nth), None, Some(good(nth).as_bytes())).await?;
        }
        engine.drain().await?;
        check(&engine, &list)?;
        engine.shutdown().await
    })
    .unwrap();
}

/// The same list through librdkafka. The embedded broker keeps 5 MiB, so that the one record of 10 MB stays at home.
#[test]
fn the_same_over_kafka() {
    let mut list = list();
    list.retain(|bad| bad.value.as_ref().is_none_or(|value| value.len() < 2 << 20));
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let broker = MockBroker::start(&[("readings", 1)])?;
        let source = KafkaSource::new("readings").bootstrap_server(broker.bootstrap_servers()).late_arrival_deadline("1h");
        let builder = Engine::builder(dir.path()).settings(small()).features::<Sensor>().source(source);
        let engine = builder.resolver(OnReading).start().await?;
        let producer = KafkaProducer::new(broker.bootstrap_servers())?;
        for (nth, bad) in list.iter().enumerate() {
            producer.send("readings", 0, now(nth), Some(b"key"), bad.value.as_deref())?;
            producer.send("readings", 0, now(nth), None, Some(good(nth).as_bytes()))?;
        }
        producer.flush(Duration::from_secs(60))?;
        let handle = engine.handle();
        until("all of it has had its effect", || handle.status().outcomes().records == 2 * list.len() as u64).await;
        engine.drain().await?;
        check(&engine, &list)?;
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn every_bad_record_is_a_dead_letter_with_its_reason_and_the_next_good_one_is_applied() {
    run(1024);
}

#[test]
fn the_same_in_batches_of_one() {
    run(1);
}
