//! What is not there: records, a topic, a broker. The engine runs, says so, and goes on once it is there.

use std::time::Duration;

use karst::{Engine, EngineSettings, KafkaSource, QueryRequest, TimeSpan, connectors::kafka::admin::create_topic};

use crate::{
    declare,
    world::{PARTITIONS, check, drain, kafka, rows, small, start, until},
};

#[test]
fn an_empty_topic_is_well_and_drained_and_goes_on_when_records_come() {
    let Some(kafka) = kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    let topic = kafka.topic("empty");
    karst::run(async {
        let engine = start(dir.path(), kafka.source(&topic)).await?;
        drain(&engine).await?;
        check(&engine, &[], TimeSpan::INFINITY);
        let status = engine.handle().status();
        assert_eq!((status.lag(), status.watermark(), status.sources[0].partitions.len()), (0, None, 3));
        kafka.produce(&topic, &rows()[..1_000]);
        until("they are applied", || engine.handle().status().outcomes().records == 1_000).await;
        check(&engine, &rows()[..1_000], TimeSpan::INFINITY);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_missing_topic_is_named_and_read_once_it_is_made() {
    let Some(kafka) = kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    let topic = format!("missing-{}", std::process::id());
    karst::run(async {
        let engine = start(dir.path(), kafka.source(&topic)).await?;
        let handle = engine.handle();
        let named =
            || handle.health().problems.iter().any(|problem| problem.what == "source flights" && problem.why.contains(&topic));
        until("the topic is named", named).await;
        assert!(!handle.health().healthy);
        assert!(create_topic(&kafka.servers, &topic, PARTITIONS, &[("retention.ms", "-1")])?);
        kafka.produce(&topic, &rows()[..1_000]);
        until("it is read", || handle.status().outcomes().records == 1_000).await;
        drain(&engine).await?;
        check(&engine, &rows()[..1_000], TimeSpan::INFINITY);
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_wrong_bootstrap_server_is_named_and_the_engine_stays_there() {
    let Some(_alone) = kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = KafkaSource::new("flights").bootstrap_server("127.0.0.1:1");
        // A second without a broker must not count as a stage that is stuck.
        let settings = EngineSettings { stuck_after_s: 1, ..small() };
        let builder = Engine::builder(dir.path()).settings(settings).source(source);
        let engine = builder.resolver(declare::aircraft).resolver(declare::route).start().await?;
        let handle = engine.handle();
        let named = || handle.health().problems.iter().any(|problem| problem.why.contains("127.0.0.1:1"));
        until("the server is named", named).await;
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let health = handle.health();
            assert!(!health.healthy && health.problems.iter().all(|problem| problem.what == "source flights"), "{health:?}");
        }
        let told = &handle.health().problems[0];
        assert!(told.since.is_some() && !told.hint.is_empty(), "{told:?}");
        let answer = engine.query(&QueryRequest::new().input("aircraft.id", "N14228").output("aircraft.last_flight"));
        assert!(answer.errors.is_empty() && answer.data[0].error.is_some(), "queries are answered meanwhile");
        assert!(handle.topology().stages.iter().all(|stage| stage.restarts == 0));
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}
