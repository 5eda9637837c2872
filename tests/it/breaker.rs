//! The circuit breaker: a source of which too much fails stops where it is, says so, and loses nothing.

use karst::{BrokerTime, EngineHandle, PartitionId, prelude::*};
use serde_json::json;

use crate::world::{outcomes, small, until};

#[derive(Message)]
struct Tick {
    id: String,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Ticked {
    id: String,
    last: String,
}

#[stream(source = "ticks")]
fn on_tick(tick: Tick) -> Updates![Ticked::id, Ticked::last] {
    updates!(tick.id.clone(), tick.id)
}

fn told(handle: &EngineHandle) -> bool {
    let problems = handle.health().problems;
    problems.iter().any(|problem| problem.what == "partition ticks[0]" && problem.why.contains("max_failing_percent"))
}

/// 300 good records, then a producer that has gone mad.
async fn filled(source: &MemorySource) -> karst::Result<()> {
    for nth in 0..1_000 {
        let value = if nth < 300 { json!({ "id": format!("{nth}") }).to_string() } else { "mad".to_owned() };
        source.send_to(PartitionId(0), BrokerTime::from_secs(1_000), None, Some(value.as_bytes())).await?;
        source.send_to(PartitionId(1), BrokerTime::from_secs(1_000), None, Some(b"{\"id\":\"x\"}")).await?;
    }
    Ok(())
}

#[test]
fn a_partition_that_fails_too_often_stops_and_says_so_and_goes_on_after_the_limit_is_raised() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("ticks").partitions(2).batch_records(10);
        filled(&source).await?;
        for _ in 0..2 {
            // The second time after a restart: nothing has changed, so the same record trips it.
            let careful = source.clone().max_failing_percent(10).failing_window(200);
            let engine = Engine::builder(dir.path()).settings(small()).source(careful).resolver(on_tick).start().await?;
            let handle = engine.handle();
            until("it says that it stopped", || told(&handle)).await;
            until("the other partition goes on", || outcomes(&engine).applied == 300 + 1_000).await;
            // 20 of 200 may fail; the 21st, the record 320, is one too many, and its batch is not taken.
            until("what was before is stored", || outcomes(&engine).dead_letters == 20).await;
            let committed = || handle.status().sources[0].partitions[0].committed.map(|offset| offset.0);
            until("it is committed", || committed() == Some(319)).await;
            until("the doctor names it", || handle.watermarks()[0].why.contains("ticks[0] stands still: too many")).await;
            let doctor = &handle.watermarks()[0];
            assert!(doctor.hint.contains("raise max_failing_percent"), "{doctor:?}");
            assert!(doctor.partitions[0].fault.as_ref().is_some_and(|why| why.contains("max_failing_percent")), "{doctor:?}");
            engine.shutdown().await?;
        }
        let careless = source.clone().max_failing_percent(100);
        let engine = Engine::builder(dir.path()).settings(small()).source(careless).resolver(on_tick).start().await?;
        engine.drain().await?;
        let sums = outcomes(&engine);
        assert_eq!((sums.records, sums.applied, sums.dead_letters), (2_000, 1_300, 700));
        engine.shutdown().await
    })
    .unwrap();
}

/// One tick a second, so far apart that the good partition has to wait for the mad one as long as that is read.
#[test]
fn the_others_do_not_wait_for_a_partition_that_has_stopped() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("ticks").partitions(2).batch_records(10).max_drift("10s");
        for second in 0..1_000 {
            let (at, good) = (BrokerTime::from_secs(second), json!({ "id": "x" }).to_string());
            source.send_to(PartitionId(0), at, None, Some(if second < 300 { good.as_bytes() } else { b"mad" })).await?;
            source.send_to(PartitionId(1), at, None, Some(good.as_bytes())).await?;
        }
        let careful = source.clone().max_failing_percent(10).failing_window(200);
        let settings = karst::EngineSettings { credits: 4, ..small() };
        let engine = Engine::builder(dir.path()).settings(settings).source(careful).resolver(on_tick).start().await?;
        let handle = engine.handle();
        until("it says that it stopped", || told(&handle)).await;
        until("the other partition comes to its end", || outcomes(&engine).applied == 300 + 1_000).await;
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}
