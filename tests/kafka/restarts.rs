//! Restarts in the middle, of the engine and of the broker: the same end.

use karst::TimeSpan;

use crate::world::{check, drain, kafka, records, rows, run_folder, skip, start, until};

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
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}
