//! Which events are late depends on the log alone: not on how it is cut into batches, nor on restarts.

use std::collections::BTreeSet;

use karst::{BrokerTime, PartitionId, prelude::*};
use serde_json::json;

use crate::world::{Random, outcomes, small, stored};

const DEADLINE_S: i64 = 100;
const DISORDER_S: i64 = 7;

#[derive(Message)]
struct Step {
    id: String,
    #[message(event_time)]
    at: Option<EventTime>,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Walk {
    id: String,
    seen: bool,
}

#[stream(source = "steps")]
fn on_step(step: Step) -> Updates![Walk::id, Walk::seen] {
    updates!(step.id, true)
}

/// Event time (seconds; `None`: the broker's stands in) and broker time of each record of a partition.
fn log(seed: u64) -> Vec<(Option<i64>, i64)> {
    let mut random = Random::new(seed);
    let one = |nth: i64| {
        let broker = 10_000 + nth * 3;
        let event = match random.below(400) {
            0..20 => None,
            20 => Some(broker + random.below(1_000_000) as i64), // from the future: the watermark follows up to max_future_skew
            _ => Some(broker - random.below(400) as i64),
        };
        (event, broker)
    };
    (0..2_000).map(one).collect()
}

/// DESIGN S2 and S4, read word by word.
fn late_by_the_book(log: &[(Option<i64>, i64)]) -> BTreeSet<usize> {
    let mut late = BTreeSet::new();
    for (index, (event, broker)) in log.iter().enumerate() {
        let before = &log[..index];
        let watermark =
            before.iter().map(|(event, broker)| event.unwrap_or(*broker).min(broker + 300)).max().map(|max| max - DISORDER_S);
        if watermark.is_some_and(|watermark| watermark - event.unwrap_or(*broker) > DEADLINE_S) {
            late.insert(index);
        }
    }
    late
}

/// The records whose resolver did not run.
fn late_in_the_engine(log: &[(Option<i64>, i64)], batch: usize, restart_after: Option<usize>) -> BTreeSet<usize> {
    let dir = tempfile::tempdir().unwrap();
    let deadline = TimeSpan::from_secs(DEADLINE_S);
    let source = MemorySource::json("steps").late_arrival_deadline(deadline).disorder(TimeSpan::from_secs(DISORDER_S));
    let source = source.max_future_skew("5m").batch_records(batch);
    let start = || Engine::builder(dir.path()).settings(small()).source(source.clone()).resolver(on_step).start();
    let result = karst::run(async {
        let mut engine = start().await?;
        for (index, (event, broker)) in log.iter().enumerate() {
            if restart_after == Some(index) {
                engine.drain().await?;
                engine.shutdown().await?;
                engine = start().await?;
            }
            let at = event.map(|event| event * 1_000_000);
            let value = json!({ "id": index.to_string(), "at": at }).to_string();
            source.send_to(PartitionId(0), BrokerTime::from_secs(*broker), None, Some(value.as_bytes())).await?;
        }
        engine.drain().await?;
        let seen = stored(&engine.handle(), "walk");
        let late: BTreeSet<usize> = (0..log.len()).filter(|index| !seen.contains_key(&index.to_string())).collect();
        let sums = outcomes(&engine);
        assert_eq!((sums.records, sums.late), (log.len() as u64, late.len() as u64));
        assert_eq!(sums.applied, sums.records - sums.late);
        engine.shutdown().await?;
        Ok(late)
    });
    result.unwrap()
}

#[test]
fn every_batch_size_and_every_restart_finds_the_late_events_of_the_book() {
    for seed in 1..=2 {
        let log = log(seed);
        let expected = late_by_the_book(&log);
        assert!(expected.len() > 300 && expected.len() < 1_700, "a log that tests something: {}", expected.len());
        for batch in [1, 7, 1024] {
            assert_eq!(late_in_the_engine(&log, batch, None), expected, "batches of {batch}");
        }
        assert_eq!(late_in_the_engine(&log, 64, Some(999)), expected, "a restart in the middle");
    }
}
