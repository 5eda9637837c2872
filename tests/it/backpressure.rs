//! A resolver that does not get on: what is read ahead is bounded, the partition pauses, queries and other partitions do not wait.

use std::sync::{Condvar, Mutex};

use karst::{BrokerTime, EngineSettings, PartitionId, prelude::*};
use serde_json::json;

use crate::world::{column, outcomes, small, until};

const CREDITS: usize = 3;
const BATCH: usize = 10;

#[derive(Message)]
struct Job {
    id: String,
    gated: bool,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Work {
    id: String,
    done: bool,
}

/// Closed until the test opens it.
static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

#[stream(source = "jobs")]
fn on_job(job: Job) -> Updates![Work::id, Work::done] {
    if job.gated {
        let mut open = GATE.0.lock().unwrap();
        while !*open {
            open = GATE.1.wait(open).unwrap();
        }
    }
    updates!(job.id, true)
}

#[test]
fn a_resolver_that_hangs_bounds_what_is_read_and_pauses_its_partition_alone() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let settings = EngineSettings { credits: CREDITS, mailbox: 2, workers: 4, ..small() };
        let source = MemorySource::json("jobs").partitions(2).batch_records(BATCH).capacity(200);
        let engine = Engine::builder(dir.path()).settings(settings).source(source.clone()).resolver(on_job).start().await?;
        let handle = engine.handle();
        let (slow, other) = (PartitionId(0), PartitionId(1));
        let status = |partition: PartitionId| {
            let status = handle.status();
            status.sources[0].partitions.iter().find(|status| status.partition == partition).cloned()
        };
        let record = |partition: PartitionId, nth: usize| {
            json!({ "id": format!("{partition}-{nth}"), "gated": partition == slow }).to_string()
        };
        // What the engine does not take fills the source, and then its sender waits.
        let sender = source.clone();
        let send = async {
            for nth in 0..1_000 {
                let value = record(slow, nth);
                sender.send_to(slow, BrokerTime(nth as i64), None, Some(value.as_bytes())).await?;
            }
            Ok::<(), karst::Error>(())
        };
        let watch = async {
            until("the partition is paused", || status(slow).is_some_and(|status| status.paused)).await;
            for nth in 0..100 {
                let value = record(other, nth);
                source.send_to(other, BrokerTime(nth as i64), None, Some(value.as_bytes())).await?;
                let slow = status(slow).unwrap();
                let read = slow.fetched.map_or(0, |offset| offset.0 as usize + 1);
                assert!(read <= CREDITS * BATCH, "{read} records were read ahead");
                assert_eq!(slow.committed, None);
            }
            until("the other partition is done", || status(other).is_some_and(|status| status.outcomes.applied == 100)).await;
            // Outcomes are counted in a shard of their own, which may be a moment ahead.
            let last = QueryRequest::new().input("work.id", "1-99").output(Work::done);
            until("its last event is seen", || engine.query(&last).get("work.done") == Some(&Value::Bool(true))).await;
            let slow = status(slow).unwrap();
            // A batch may have closed half full, when its sender was slow.
            let read = slow.fetched.map_or(0, |offset| offset.0 as usize + 1);
            assert!((CREDITS..=CREDITS * BATCH).contains(&read), "all credits are out: {read}");
            assert!(slow.end.is_some_and(|end| end.0 <= (CREDITS * BATCH + 200) as i64), "the sender waits too: {slow:?}");
            *GATE.0.lock().unwrap() = true;
            GATE.1.notify_all();
            Ok::<(), karst::Error>(())
        };
        let (sent, watched) = tokio::join!(send, watch);
        sent.and(watched)?;
        engine.drain().await?;
        assert_eq!(column(&handle, "work", "done").len(), 1_100);
        assert_eq!((outcomes(&engine).applied, status(slow).unwrap().paused), (1_100, false));
        engine.shutdown().await
    })
    .unwrap();
}
