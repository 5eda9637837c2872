//! A topic that is not what it was: records deleted before they were read, the topic made anew.

use karst::{
    Offset, PartitionId, TimeSpan,
    connectors::kafka::admin::{create_topic, delete_records, delete_topic},
};

use crate::{
    data::Row,
    world::{PARTITIONS, check, drain, kafka, records, rows, start, until},
};

fn named(handle: &karst::EngineHandle, partition: i32) -> Option<karst::Problem> {
    handle.health().problems.into_iter().find(|problem| problem.what == format!("partition flights[{partition}]"))
}

#[test]
fn records_that_are_deleted_before_they_are_read_stop_their_partition_until_the_loss_is_accepted() {
    let Some(kafka) = kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    let topic = kafka.topic("gap");
    let all = rows();
    karst::run(async {
        kafka.produce(&topic, &all[..3_000]);
        let engine = start(dir.path(), kafka.source(&topic)).await?;
        drain(&engine).await?;
        engine.shutdown().await?;

        kafka.produce(&topic, &all[3_000..6_000]);
        let of_first = |rows: &[Row]| rows.iter().filter(|row| row.partition == 0).count() as i64;
        let (had, low) = (of_first(&all[..3_000]), of_first(&all[..5_000]));
        delete_records(&kafka.servers, &topic, 0, low)?;
        let engine = start(dir.path(), kafka.source(&topic)).await?;
        let handle = engine.handle();
        until("the gap is named", || named(&handle, 0).is_some()).await;
        let told = named(&handle, 0).unwrap();
        assert!(
            told.why.contains(&format!("flights[0]@{had}")) && told.hint.contains("accept-gap flights --partition 0"),
            "{told:?}"
        );
        let others = 6_000 - (of_first(&all[..6_000]) - had) as u64;
        until("the other partitions go on", || records(&handle) == others).await;
        let accepted = handle.accept_gap("flights", PartitionId(0))?;
        assert_eq!((accepted.first, accepted.last), (Offset(had), Offset(low - 1)));
        drain(&engine).await?;
        let mut of_first_partition = 0;
        let kept: Vec<_> = all[..6_000]
            .iter()
            .filter(|row| {
                let offset = of_first_partition;
                of_first_partition += i64::from(row.partition == 0);
                row.partition != 0 || !(had..low).contains(&offset)
            })
            .cloned()
            .collect();
        check(&engine, &kept, TimeSpan::INFINITY);
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_topic_that_was_deleted_and_made_anew_is_told_apart_also_when_it_has_grown_beyond_the_stored_positions() {
    let Some(kafka) = kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    let topic = kafka.topic("anew");
    let all = rows();
    karst::run(async {
        kafka.produce(&topic, &all[..3_000]);
        let engine = start(dir.path(), kafka.source(&topic)).await?;
        drain(&engine).await?;
        engine.shutdown().await?;

        delete_topic(&kafka.servers, &topic)?;
        until("the topic is made anew", || {
            create_topic(&kafka.servers, &topic, PARTITIONS, &[("retention.ms", "-1")]).unwrap_or(false)
        })
        .await;
        kafka.produce(&topic, &all[100_000..110_000]);
        let engine = start(dir.path(), kafka.source(&topic)).await?;
        let handle = engine.handle();
        until("every partition is named", || (0..PARTITIONS).all(|partition| named(&handle, partition).is_some())).await;
        let told = named(&handle, 0).unwrap();
        assert!(told.why.contains("the log is another one"), "{told:?}");
        assert_eq!(records(&handle), 3_000, "nothing of it is applied");
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}
