//! Bad records over a real broker, the one of 10 MB included: each is counted with its reason and kept, and the next good one is
//! applied.

use std::time::Duration;

use karst::{Engine, KafkaProducer, KafkaSource, connectors::kafka::admin::create_topic};

use crate::{
    bad_records::{OnReading, Sensor, check, good, list, now},
    tried::tried,
    world::{drain, kafka, small},
};

#[test]
fn every_bad_record_is_a_dead_letter_with_its_reason_and_the_next_good_one_is_applied() {
    let Some(kafka) = kafka() else { return };
    let (dir, list) = (tempfile::tempdir().unwrap(), list());
    assert!(list.iter().any(|bad| bad.value.as_ref().is_some_and(|value| value.len() > 10 << 20)), "10 MB");
    let topic = format!("readings-{}", std::process::id());
    assert!(create_topic(&kafka.servers, &topic, 1, &[("max.message.bytes", "20971520"), ("retention.ms", "-1")]).unwrap());
    let producer = KafkaProducer::with(&kafka.servers, [("message.max.bytes", "20971520")]).unwrap();
    for (nth, bad) in list.iter().enumerate() {
        producer.send(&topic, 0, now(nth), Some(b"key"), bad.value.as_deref()).unwrap();
        producer.send(&topic, 0, now(nth), None, Some(good(nth).as_bytes())).unwrap();
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    karst::run(async {
        let source = KafkaSource::new("readings").bootstrap_server(&kafka.servers).topic(&topic).late_arrival_deadline("1h");
        let builder = Engine::builder(dir.path()).settings(small()).features::<Sensor>().source(source);
        let engine = builder.resolver(OnReading).start().await?;
        drain(&engine).await?;
        check(&engine, &list)?;
        tried("every_bad_record_is_a_dead_letter_with_its_reason_and_the_next_good_one_is_applied", list.len());
        engine.shutdown().await
    })
    .unwrap();
}
