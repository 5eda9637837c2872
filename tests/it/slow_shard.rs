//! A shard that does not get on (its disk hangs, say): partitions pause, what is read ahead is bounded, and nothing is lost.
//!
//! The shard is held from outside: see `gate`.

use karst::{BrokerTime, EngineSettings, PartitionId, prelude::*};
use serde_json::json;

use crate::{
    gate::Gate,
    world::{child, column, is_child, outcomes, small, succeeded, until_or},
};

const CREDITS: usize = 3;
const BATCH: usize = 10;
const RECORDS: usize = 1_000;
/// The batch on which the shard is held counts as applied.
const READ_MAX: usize = (CREDITS + 1) * BATCH;

#[derive(Message)]
struct Job {
    id: String,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Work {
    id: String,
    done: bool,
}

#[stream(source = "jobs")]
fn on_job(job: Job) -> Updates![Work::id, Work::done] {
    updates!(job.id, true)
}

async fn hold_a_shard() -> karst::Result<()> {
    let closed = Gate::of_process().closed();

    let dir = tempfile::tempdir()?;
    let settings = EngineSettings { credits: CREDITS, mailbox: 2, shard_mailbox: 2, workers: 4, ..small() };
    let source = MemorySource::json("jobs").partitions(2).batch_records(BATCH).capacity(200);
    let engine = Engine::builder(dir.path()).settings(settings).source(source.clone()).resolver(on_job).start().await?;
    let handle = engine.handle();
    // What the engine does not take fills the source, and then its sender waits.
    let sender = source.clone();
    let send = async {
        for nth in 0..RECORDS {
            for partition in [PartitionId(0), PartitionId(1)] {
                let job = json!({ "id": format!("{partition}-{nth}") }).to_string();
                sender.send_to(partition, BrokerTime(nth as i64), None, Some(job.as_bytes())).await?;
            }
        }
        Ok::<(), karst::Error>(())
    };
    let partitions = || handle.status().sources[0].partitions.clone();
    let watch = async {
        let paused = || partitions().iter().any(|partition| partition.paused);
        until_or("a partition is paused", paused, || format!("{:?}", partitions())).await;
        for partition in partitions() {
            let read = partition.fetched.map_or(0, |offset| offset.0 as usize + 1);
            assert!(read <= READ_MAX, "{read} records of {} are on their way", partition.partition);
            assert_eq!(partition.committed, None, "a record counts only when every shard has it");
        }
        // Queries do not go through the mailbox of the shard that is held.
        for nth in 0..10 {
            engine.query(&QueryRequest::new().input("work.id", format!("0-{nth}").as_str()).output(Work::done));
        }
        drop(closed);
        Ok::<(), karst::Error>(())
    };
    tokio::try_join!(send, watch)?;
    engine.drain().await?;
    assert_eq!(column(&handle, "work", "done").len(), 2 * RECORDS);
    assert_eq!(outcomes(&engine).applied, 2 * RECORDS as u64);
    assert!(partitions().iter().all(|partition| !partition.paused && partition.rewinds == 0), "{:?}", partitions());
    drop(handle);
    engine.shutdown().await
}

#[test]
fn a_shard_that_hangs_pauses_the_source_and_bounds_what_is_read() {
    if is_child() {
        return karst::run(hold_a_shard()).unwrap();
    }
    // In a process of its own: the subscriber sees all engines of the process.
    succeeded(&child("slow_shard::a_shard_that_hangs_pauses_the_source_and_bounds_what_is_read", &[]).output().unwrap());
}
