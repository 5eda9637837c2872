//! Partitions that come later, and partitions that stay empty, on a real broker.

use std::time::Duration;

use karst::{
    Engine, KafkaProducer, PartitionId, SourceWatermark, StartAt, TimeSpan, connectors::kafka::admin::raise_partitions,
};

use crate::{
    data::Row,
    world::{Kafka, check, drain, kafka, records, rows, start, until},
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
        let follows = || time_of(&engine).watermark.is_some_and(|at| at.0 > last + 365 * 86_400 * 1_000_000);
        until("all are at their ends, and follow the clock out of 2013", follows).await;
        let time = time_of(&engine);
        assert!(time.partitions.iter().all(|partition| partition.state.name() == "caught_up"), "{time:#?}");
        let before = time.watermark;
        until("it goes on with the clock, as the broker confirms the ends", || time_of(&engine).watermark > before).await;
        engine.shutdown().await
    })
    .unwrap();
}
