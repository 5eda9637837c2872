//! Partitions that come later, and partitions that stay empty, on a real broker.

use std::time::Duration;

use karst::{
    Clock, Engine, KafkaProducer, PartitionId, SourceWatermark, StartAt, TimeSpan, connectors::kafka::admin::raise_partitions,
};

use crate::{
    data::Row,
    world::{Kafka, check, drain, kafka, records, rows, run_folder, skip, start, until},
};

fn time_of(engine: &Engine) -> SourceWatermark {
    engine.handle().watermarks().into_iter().next().unwrap()
}

/// Sends rows to a partition that brokers and producers may only just have heard of.
async fn produce_to(kafka: &Kafka, topic: &str, partition: i32, rows: &[Row]) {
    let mut sent = 0;
    for _ in 0..600 {
        let producer = KafkaProducer::new(&kafka.servers).unwrap();
        while let Some(row) = rows.get(sent) {
            let value = row.json().to_string();
            if producer.send(topic, partition, row.known, Some(row.origin.as_bytes()), Some(value.as_bytes())).is_err() {
                break;
            }
            sent += 1;
        }
        if producer.flush(Duration::from_secs(60)).is_ok() && sent == rows.len() {
            return;
        }
        assert_eq!(sent, 0, "all or nothing: the partition is known, or it is not");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("partition {partition} of {topic} does not come");
}

#[test]
fn a_partition_added_to_the_topic_is_found_and_read_from_its_beginning() {
    let Some(kafka) = kafka() else { return };
    let (dir, topic) = (tempfile::tempdir().unwrap(), kafka.topic("widened"));
    karst::run(async {
        let source = || kafka.source(&topic).discover_interval("200ms").start_at(StartAt::Latest);
        let engine = start(dir.path(), source()).await?;
        drain(&engine).await?; // its partitions are known and read from their ends
        kafka.produce(&topic, &rows()[..300]);
        until("they are read", || records(&engine.handle()) == 300).await;
        raise_partitions(&kafka.servers, &topic, 4)?;
        produce_to(&kafka, &topic, 3, &rows()[300..500]).await; // most likely before the engine has found it
        until("the new partition is read", || records(&engine.handle()) == 500).await;
        let time = time_of(&engine);
        assert_eq!(time.partitions.iter().map(|partition| partition.partition.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let status = engine.handle().status();
        let added = status.sources[0].partitions.iter().find(|status| status.partition == PartitionId(3)).unwrap();
        assert_eq!(added.outcomes.records, 200, "each record of it, although the source starts at the latest");
        drain(&engine).await?;
        engine.shutdown().await?;

        let engine = start(dir.path(), source()).await?;
        produce_to(&kafka, &topic, 3, &rows()[500..600]).await;
        until("it goes on there", || records(&engine.handle()) == 600).await;
        drain(&engine).await?;
        assert!(engine.handle().status().outcomes().conserved());
        engine.shutdown().await
    })
    .unwrap();
}

/// apache/beam#40176: two of three partitions never have a record.
#[test]
fn partitions_that_stay_empty_do_not_hold_time_back() {
    let Some(kafka) = kafka() else { return };
    let (dir, topic) = (tempfile::tempdir().unwrap(), kafka.topic("quiet"));
    let only: Vec<Row> = rows().iter().filter(|row| row.partition == 1).take(200).cloned().collect();
    karst::run(async {
        let engine = start(dir.path(), kafka.source(&topic).disorder("10s")).await?;
        kafka.produce(&topic, &only);
        drain(&engine).await?;
        check(&engine, &only, TimeSpan::INFINITY);
        let last = only.iter().map(|row| row.known.0).max().unwrap();
        // Each of them is active for a moment whenever its end has to be confirmed anew.
        let mut time = time_of(&engine);
        let follow = || {
            time = time_of(&engine);
            let caught_up = time.partitions.iter().all(|partition| partition.state.name() == "caught_up");
            caught_up && time.watermark.is_some_and(|at| at.0 > last + 365 * 86_400 * 1_000_000)
        };
        until("all are at their ends, and follow the clock out of 2013", follow).await;
        let before = time.watermark;
        until("it goes on with the clock, as the broker confirms the ends", || time_of(&engine).watermark > before).await;
        engine.shutdown().await
    })
    .unwrap();
}

/// Backpressure of one partition on the others, over a client that all of them share: nobody waits for ever.
#[test]
fn a_year_of_flights_with_a_max_drift_is_read_to_its_end() {
    let Some(kafka) = kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = kafka.source(kafka.flights()).max_drift("12h").late_arrival_deadline("6h").batch_records(100);
        let engine = start(dir.path(), source).await?;
        let mut waited = 0;
        until("one of them has waited for another", || {
            waited += time_of(&engine).partitions.iter().filter(|partition| partition.waits_for.is_some()).count();
            waited > 0
        })
        .await;
        drain(&engine).await?;
        check(&engine, rows(), "6h".parse().unwrap());
        engine.shutdown().await
    })
    .unwrap();
}

/// numaproj/numaflow#2943: a network that is slow, or away, looked like idleness.
#[test]
fn while_the_broker_is_away_time_stands_still() {
    let Some(kafka) = kafka() else { return };
    if run_folder().is_none() {
        return skip("kafka: the broker is not one of scripts/kafka.sh (KARST_TEST_KAFKA_RUN), so it is not stopped");
    }
    let (dir, topic) = (tempfile::tempdir().unwrap(), kafka.topic("away"));
    karst::run(async {
        let clock = karst::runtime::SystemClock;
        let at = |watermark: &SourceWatermark| watermark.watermark.map_or(0, |at| at.0);
        let engine = start(dir.path(), kafka.source(&topic)).await?;
        kafka.produce(&topic, &rows()[..300]);
        drain(&engine).await?;
        let begun = clock.now().0;
        until("it follows the clock", || at(&time_of(&engine)) > begun).await;
        kafka.script("kill9");
        let away = clock.now().0;
        until("it has been away for a while", || clock.now().0 > away + 4_000_000).await;
        assert!(at(&time_of(&engine)) <= away, "nobody knows what was written since");
        kafka.script("start");
        until("it goes on", || at(&time_of(&engine)) > away + 4_000_000).await;
        engine.shutdown().await
    })
    .unwrap();
}
