//! The year's log is read in parts. After each part the engine is asked at its watermarks, and stopped once in between; at the
//! end it is asked at the whole hours of the year.

use std::{collections::BTreeSet, path::Path};

use karst::{Engine, EngineHandle, EngineSettings, EventTime, MemorySource, PartitionId, TimeSpan};

use crate::{
    answers::{Answers, sql},
    data::{self, Row},
    declare,
};

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2013-01-01T05:00:00Z: New York's first hour of the year.
const START: i64 = 1_357_016_400_000_000;
const HOURS: i64 = 365 * 24;
const AIRPORTS: [&str; 3] = ["EWR", "JFK", "LGA"];

async fn start(dir: &Path, source: &MemorySource) -> karst::Result<Engine> {
    let mut settings = EngineSettings { workers: 2, ..EngineSettings::default() };
    settings.store.shards = 2;
    let builder = Engine::builder(dir).settings(settings).source(source.clone());
    builder.resolver(declare::aircraft).resolver(declare::route).resolver(declare::origin).start().await
}

async fn send(source: &MemorySource, rows: &[Row]) -> karst::Result<()> {
    for row in rows {
        let value = row.json().to_string();
        let (partition, key) = (PartitionId(row.partition), row.origin.as_bytes());
        source.send_to(partition, row.known, Some(key), Some(value.as_bytes())).await?;
    }
    Ok(())
}

/// The newest and the oldest of the partitions' log watermarks.
fn watermarks(engine: &EngineHandle) -> (EventTime, EventTime) {
    let status = engine.status();
    let each = || status.sources[0].partitions.iter().filter_map(|partition| partition.watermark);
    (each().max().unwrap(), each().min().unwrap())
}

/// What was touched last, and so is most likely to be wrong: the aircraft and routes of the last records.
fn latest(rows: &[Row], count: usize) -> (BTreeSet<&str>, BTreeSet<String>) {
    let last = rows.iter().rev().take(count);
    let aircraft = last.clone().filter_map(|row| row.tailnum.as_deref()).collect();
    (aircraft, last.map(|row| format!("{}-{}", row.origin, row.destination)).collect())
}

/// At the watermark, where time has come to; at that of the slowest partition, some hours before; at the whole hour, and ahead.
fn ask_while_it_runs(answers: &mut Answers, engine: &EngineHandle, known: &[Row]) {
    answers.watermarks(engine, known.len());
    let (newest, oldest) = watermarks(engine);
    let hour = EventTime(newest.0.div_euclid(HOUR) * HOUR);
    let (aircraft, routes) = latest(known, 40);
    for now in [newest, oldest, hour, newest.plus(TimeSpan::from_micros(37 * MINUTE))] {
        AIRPORTS.iter().for_each(|id| answers.ask(engine, known.len(), "origin", id, now));
        aircraft.iter().for_each(|id| answers.ask(engine, known.len(), "aircraft", id, now));
        routes.iter().for_each(|id| answers.ask(engine, known.len(), "route", id, now));
    }
}

/// Whole hours of the year: all of them for the airports, for routes every ninth day, for each aircraft five.
fn ask_of_the_year(answers: &mut Answers, engine: &EngineHandle, rows: &[Row]) {
    let at = |hour: i64| EventTime(START + hour.rem_euclid(HOURS) * HOUR);
    for id in AIRPORTS {
        (0..HOURS).for_each(|hour| answers.ask(engine, rows.len(), "origin", id, at(hour)));
    }
    let routes: BTreeSet<String> = rows.iter().map(|row| format!("{}-{}", row.origin, row.destination)).collect();
    for (nth, id) in routes.iter().enumerate() {
        (0..40).for_each(|step| answers.ask(engine, rows.len(), "route", id, at(nth as i64 * 7 + step * 9 * 24)));
    }
    let aircraft: BTreeSet<&str> = rows.iter().filter_map(|row| row.tailnum.as_deref()).collect();
    for (nth, id) in aircraft.iter().enumerate() {
        for step in 0..5 {
            // Every other time at midnight, by which windows of all time hop.
            let now = at(nth as i64 * 1_013 + step * 1_999);
            let now = if step % 2 == 0 { EventTime(now.0.div_euclid(DAY) * DAY) } else { now };
            answers.ask(engine, rows.len(), "aircraft", id, now);
        }
    }
}

fn replay(deadline: TimeSpan, parts: usize, whole_year: bool) {
    let Some(judge) = sql() else { return };
    let dir = tempfile::tempdir().unwrap();
    let rows = data::read(&judge.1).unwrap();
    let mut answers = Answers::new(dir.path().join("answers.jsonl"));
    karst::run(async {
        let source = MemorySource::json("flights").partitions(3).log_bytes("512MiB".parse().unwrap());
        let source = source.late_arrival_deadline(deadline);
        let state = dir.path().join("state");
        let mut engine = start(&state, &source).await?;
        let mut sent = 0;
        for part in 1..=parts {
            // Parts of unequal length, so that they end at all times of the day.
            let to = if part == parts { rows.len() } else { (rows.len() * part / parts + part * 131).min(rows.len()) };
            send(&source, &rows[sent..to]).await?;
            sent = to;
            engine.drain().await?;
            assert_eq!(engine.handle().status().outcomes().records, sent as u64);
            ask_while_it_runs(&mut answers, &engine.handle(), &rows[..sent]);
            if part == parts / 2 {
                engine.shutdown().await?;
                engine = start(&state, &source).await?;
            }
        }
        if whole_year {
            ask_of_the_year(&mut answers, &engine.handle(), &rows);
        }
        engine.shutdown().await
    })
    .unwrap();
    assert!(answers.written > if whole_year { 300_000 } else { 5_000 }, "only {} answers", answers.written);
    answers.judge(&judge, deadline);
}

#[test]
fn windows_at_the_watermark_while_the_year_is_read_and_at_its_whole_hours_equal_sql() {
    replay(TimeSpan::INFINITY, 40, true);
}

/// At 2 h more than every fourth flight is late, and in no window.
#[test]
fn with_a_deadline_windows_hold_what_sql_says_is_not_late() {
    replay("2h".parse().unwrap(), 12, false);
}
