//! Which events are late depends on the log of their partition alone: not on how it is cut into batches, nor on which partition
//! was read first, nor on stops, crashes and replays, nor on the late lane.

use std::{collections::BTreeSet, path::Path};

use karst::{BrokerTime, LateLane, PartitionId, Reason, SourceLateness, prelude::*};
use serde_json::json;

use crate::world::{Random, column, once_unlocked, outcomes, small, stored, until};

const DEADLINE_S: i64 = 60;
const DISORDER_S: i64 = 7;
const PARTITIONS: usize = 3;

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
pub(crate) type Log = Vec<(Option<i64>, i64)>;
/// Partition and offset.
pub(crate) type Place = (usize, usize);

fn log(seed: u64) -> Log {
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
    (0..1_000).map(one).collect()
}

pub(crate) fn logs(seed: u64) -> Vec<Log> {
    (0..PARTITIONS as u64).map(|partition| log(seed * 100 + partition)).collect()
}

/// `docs/semantics.md`, Watermark and lateness, read word by word: how far each event is behind the watermark before it, in
/// seconds.
fn lateness_by_the_book(logs: &[Log]) -> Vec<(Place, i64)> {
    let of_partition = |(partition, log): (usize, &Log)| {
        let one = |(index, (event, broker)): (usize, &(Option<i64>, i64))| {
            let before = log[..index].iter().map(|(event, broker)| event.unwrap_or(*broker).min(broker + 300)).max();
            let behind = before.map_or(0, |max| max - DISORDER_S - event.unwrap_or(*broker));
            ((partition, index), behind)
        };
        log.iter().enumerate().map(one).collect::<Vec<_>>()
    };
    logs.iter().enumerate().flat_map(of_partition).collect()
}

pub(crate) fn late_by_the_book(logs: &[Log]) -> BTreeSet<Place> {
    lateness_by_the_book(logs).into_iter().filter(|(_, behind)| *behind > DEADLINE_S).map(|(place, _)| place).collect()
}

/// What interrupts the engine on its way, again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ends {
    Never,
    /// It is stopped, and started again.
    Stops,
    /// It is dropped with whatever it was doing, as a crash does; what was not committed is read again.
    Crashes,
}

pub(crate) fn source(batch: usize, lane: LateLane) -> MemorySource {
    let source = MemorySource::json("steps").partitions(PARTITIONS).late_arrival_deadline(TimeSpan::from_secs(DEADLINE_S));
    source.disorder(TimeSpan::from_secs(DISORDER_S)).max_future_skew("5m").batch_records(batch).late_lane(lane)
}

pub(crate) async fn start(dir: &Path, source: &MemorySource) -> karst::Result<Engine> {
    let mut settings = small();
    settings.store.commit_interval = TimeSpan::from_millis(2);
    let engine = || Engine::builder(dir).settings(settings.clone()).source(source.clone()).resolver(on_step);
    once_unlocked(async || engine().start().await).await
}

/// Sends the logs, their partitions mixed by chance, and lets the engine end every now and then.
pub(crate) async fn read(dir: &Path, source: &MemorySource, logs: &[Log], ends: Ends, seed: u64) -> karst::Result<Engine> {
    let mut random = Random::new(seed);
    let mut next = [0; PARTITIONS];
    let mut engine = start(dir, source).await?;
    let total: usize = logs.iter().map(Vec::len).sum();
    for sent in 1..=total {
        let open: Vec<usize> = (0..PARTITIONS).filter(|partition| next[*partition] < logs[*partition].len()).collect();
        let partition = open[random.below(open.len() as u64) as usize];
        let index = next[partition];
        next[partition] += 1;
        let (event, broker) = logs[partition][index];
        let at = event.map(|event| event * 1_000_000);
        let value = json!({ "id": format!("{partition}/{index}"), "at": at }).to_string();
        let to = PartitionId(partition as i32);
        source.send_to(to, BrokerTime::from_secs(broker), None, Some(value.as_bytes())).await?;
        if sent % 700 == 0 {
            match ends {
                Ends::Never => {}
                Ends::Stops => {
                    engine.shutdown().await?;
                    engine = start(dir, source).await?;
                }
                Ends::Crashes => {
                    let handle = engine.handle();
                    until("it is on its way", || handle.status().outcomes().records as usize * 2 > sent).await;
                    drop((engine, handle));
                    engine = start(dir, source).await?;
                }
            }
        }
    }
    engine.drain().await?;
    Ok(engine)
}

/// All lateness is counted once, in every bucket, whatever was read again.
#[track_caller]
fn check_histogram(engine: &Engine, logs: &[Log]) {
    let book = lateness_by_the_book(logs);
    let [source] = &engine.handle().lateness()[..] else { panic!("one source") };
    assert_eq!(source.events().events(), book.len() as u64);
    for candidate in source.candidates() {
        let late = book.iter().filter(|(_, behind)| behind * 1_000_000 > candidate.deadline.micros()).count();
        assert_eq!(candidate.late, late as u64, "a deadline of {}", candidate.deadline);
    }
    let as_set = source.candidates().into_iter().find(|candidate| candidate.deadline == source.deadline).unwrap();
    assert_eq!(as_set.late, source.late(), "the advisor and the judge agree");
}

/// The late events, as the engine let them go: nothing was written for them.
fn late_in_the_engine(logs: &[Log], batch: usize, ends: Ends, seed: u64) -> BTreeSet<Place> {
    let dir = tempfile::tempdir().unwrap();
    let result = karst::run(async {
        let engine = read(dir.path(), &source(batch, LateLane::Drop), logs, ends, seed).await?;
        let seen = stored(&engine.handle(), "walk");
        let all = logs.iter().enumerate().flat_map(|(partition, log)| (0..log.len()).map(move |index| (partition, index)));
        let late: BTreeSet<Place> =
            all.filter(|(partition, index)| !seen.contains_key(&format!("{partition}/{index}"))).collect();
        let sums = outcomes(&engine);
        assert_eq!((sums.records, sums.late), ((PARTITIONS * logs[0].len()) as u64, late.len() as u64));
        assert_eq!(sums.applied, sums.records - sums.late);
        check_histogram(&engine, logs);
        engine.shutdown().await?;
        Ok(late)
    });
    result.unwrap()
}

#[test]
fn every_schedule_batch_size_stop_and_crash_finds_the_late_events_of_the_book() {
    for seed in 1..=2 {
        let logs = logs(seed);
        let expected = late_by_the_book(&logs);
        assert!(expected.len() > 600 && expected.len() < 2_600, "logs that test something: {}", expected.len());
        for (batch, ends) in [
            (1, Ends::Never),
            (7, Ends::Never),
            (1024, Ends::Never),
            (64, Ends::Stops),
            (13, Ends::Crashes),
            (200, Ends::Crashes),
        ] {
            let schedule = seed * 31 + batch as u64;
            assert_eq!(late_in_the_engine(&logs, batch, ends, schedule), expected, "batches of {batch}, {ends:?}, seed {seed}");
        }
    }
}

#[test]
fn in_the_lane_dead_letter_exactly_the_late_events_are_kept_and_count_as_late() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), logs(3));
    karst::run(async {
        let engine = read(dir.path(), &source(50, LateLane::DeadLetter), &logs, Ends::Crashes, 3).await?;
        let letters = engine.handle().dead_letters("steps", usize::MAX)?;
        let kept: Vec<Place> =
            letters.iter().map(|stored| (stored.partition.0 as usize, stored.letter.offset.0 as usize)).collect();
        assert_eq!(kept.len(), kept.iter().collect::<BTreeSet<_>>().len(), "each once");
        assert_eq!(kept.into_iter().collect::<BTreeSet<_>>(), late_by_the_book(&logs));
        let letter = &letters[0].letter;
        assert_eq!((letter.reason, letter.stage.as_str()), (Reason::Late, "parse_stage"));
        assert!(letter.error.contains("later than late_arrival_deadline allows"), "{}", letter.error);
        assert!(letter.value.as_ref().is_some_and(|value| value.starts_with(b"{")), "the raw bytes are kept");
        let sums = outcomes(&engine);
        assert_eq!((sums.late, sums.dead_letters), (letters.len() as u64, 0));
        engine.shutdown().await
    })
    .unwrap();
}

#[derive(Message)]
struct Reading {
    sensor: String,
    celsius: i64,
    #[message(event_time)]
    at: EventTime,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Sensor {
    id: String,
    celsius: i64,
}

#[stream(source = "readings")]
fn on_reading(reading: Reading) -> Result<Option<Updates![Sensor::id, Sensor::celsius]>, String> {
    match reading.celsius {
        -300.. if reading.celsius < -273 => Err("colder than cold".to_owned()),
        1_000.. => Ok(None),
        celsius => Ok(Some(updates!(reading.sensor, celsius))),
    }
}

#[test]
fn in_the_lane_correct_late_events_correct_what_is_older_still_and_stay_late() {
    let dir = tempfile::tempdir().unwrap();
    let source = MemorySource::json("readings").late_arrival_deadline("10s").late_lane(LateLane::Correct);
    let lines = [
        ("kitchen", 20, 1_000), // the watermark is 1000 from here on
        ("cellar", 8, 900),     // late, and the only word on the cellar: applied
        ("kitchen", 4, 800),    // late, and older than what is stored: history alone
        ("cellar", 9, 950),     // late, and younger than the late one before
        ("cellar", -290, 960),  // late, and its resolver fails
        ("cellar", 5_000, 970), // late, and its resolver writes nothing
        ("attic", 15, 995),     // behind, and within the deadline
    ];
    karst::run(async {
        let engine = Engine::builder(dir.path()).settings(small()).source(source.clone()).resolver(on_reading).start().await?;
        for (sensor, celsius, at) in lines {
            let value = json!({ "sensor": sensor, "celsius": celsius, "at": at * 1_000_000 }).to_string();
            source.send_to(PartitionId(0), BrokerTime::from_secs(at), None, Some(value.as_bytes())).await?;
        }
        engine.drain().await?;
        let values = column(&engine.handle(), "sensor", "celsius");
        let expected = [("attic", 15), ("cellar", 9), ("kitchen", 20)];
        assert_eq!(values, expected.map(|(id, celsius)| (id.to_owned(), Value::Int(celsius))).into());
        let sums = outcomes(&engine);
        assert_eq!((sums.records, sums.applied, sums.late, sums.dead_letters), (7, 2, 5, 0));
        let [lateness]: [SourceLateness; 1] = engine.handle().lateness().try_into().unwrap();
        assert_eq!((lateness.late(), lateness.corrected(), lateness.resolvers.len()), (5, 3, 1));
        let letters = engine.handle().dead_letters("readings", 10)?;
        assert_eq!(letters.len(), 1, "what failed is not lost");
        assert_eq!((letters[0].letter.reason, letters[0].letter.offset.0), (Reason::Late, 4));
        assert!(letters[0].letter.error.contains("(resolver_error): colder than cold"), "{}", letters[0].letter.error);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_deadline_that_is_no_duration_is_told_with_what_one_looks_like() {
    for (text, part) in [
        ("30", "a unit is missing"),
        ("1.5h", "a unit is missing"),
        ("1y", "a unit is unknown"),
        ("1 day", "a unit is missing"),
        ("-10m", "must not be negative"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let source = MemorySource::json("steps").late_arrival_deadline(text);
        let started = karst::run(Engine::builder(dir.path()).settings(small()).source(source).resolver(on_step).start());
        let error = started.err().unwrap_or_else(|| panic!("{text} was taken")).to_string();
        assert!(error.contains("steps") && error.contains("late_arrival_deadline") && error.contains(part), "{text}: {error}");
    }
}
