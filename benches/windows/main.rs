//! Measures windowed aggregates from a file and from Kafka to durable state: CPU seconds per million events, and µs to read 50 windowed features.
//!
//! The path: workload W1 (`support/w1.rs`) → decoded and validated → late ones dropped (30 min) → latest values and windowed
//! aggregates per user → committed. One line for each case:
//!
//! ```text
//! windows source=file windows=2 aggregates=2 keys=100000 events=… events_per_s=… cpu_s_per_million=… peak_mb=…
//! windows_read features=50 p50_us=… p99_us=…
//! ```
//! `windows` counts different lengths, `aggregates` different aggregates of each event; `keys` are drawn by Zipf's law, but for 10 million
//! (evenly), and `draw=hot_key` (every other event of one user) with `draw=even` beside it. Counts and sums over the longest window, of all
//! users together, are compared with a count made while the events are drawn; exit status 1 if they differ.
//!
//! All cases are read from a file, `w1` also from Kafka: `source=kafka`, from librdkafka's mock cluster in another process, or from the real
//! broker that `KAFKA=host:port` names (as in `benches/ingest`). `CASE=name` picks one case, of both sources; `SOURCE=file` or `kafka` one
//! source; `EVENTS=…` changes the number of events, `RUNS=…` repeats.

// Its output is what it is for, and it needs no failure that can be handled.
#![allow(clippy::print_stdout, missing_docs)]

use std::{env, error::Error, path::Path, process::ExitCode};

use karst::{
    Clock, Engine, EngineHandle, EventTime, FileSource, QueryRequest, Source, prelude::EngineSettings, runtime::SystemClock,
};

mod cases;
mod expected;
#[path = "../support/feed.rs"]
mod feed;
#[path = "../support/payment.rs"]
mod payment;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/w1.rs"]
#[allow(dead_code)]
mod w1;

use cases::{CASES, Case};
use feed::{FEED, Feed, PARTITIONS};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SOURCE: &str = "payments";
const DEADLINE: &str = "30m";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let done = match arguments.get(1..) {
        Some([flag, topic, file]) if flag == FEED => feed::run(topic, Path::new(file)).map(|()| true),
        _ => measure(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("windows: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(name: &str, default: u64) -> Result<u64> {
    match env::var(name) {
        Ok(text) if !text.is_empty() => Ok(text.parse().map_err(|error| format!("{name}={text}: {error}"))?),
        _ => Ok(default),
    }
}

fn measure() -> Result<bool> {
    let (events, runs) = (number("EVENTS", 2_000_000)?, number("RUNS", 1)?);
    let [wanted, source] = ["CASE", "SOURCE"].map(|name| env::var(name).unwrap_or_default());
    let mut all_right = true;
    for _ in 0..runs {
        for (case, from) in CASES.iter().flat_map(|case| ["file", "kafka"].map(|from| (case, from))) {
            let by_default = from == "file" || case.name == "w1";
            let asked = if wanted.is_empty() { by_default } else { wanted == case.name };
            if !asked || !(source.is_empty() || source == from) {
                continue;
            }
            let differences = run(case, from, events)?;
            differences.iter().for_each(|difference| println!("windows source={from} case={} wrong: {difference}", case.name));
            all_right &= differences.is_empty();
        }
    }
    Ok(all_right)
}

fn run(case: &Case, source: &str, events: u64) -> Result<Vec<String>> {
    let partitions = if source == "file" { 1 } else { PARTITIONS };
    let (input, expected) = expected::input(case, events, partitions)?;
    let dir = process::empty_state("windows")?;
    let mut feed = if source == "kafka" { Some(Feed::start(&input)?) } else { None };
    process::forget_peak();
    let (cpu, start) = (process::cpu_seconds(), SystemClock.elapsed());
    let (engine, took, cpu, peak) = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let engine = match &mut feed {
            None => begin(case, &dir, FileSource::json_lines(SOURCE, &input).late_arrival_deadline(DEADLINE)).await?,
            Some(feed) => {
                let engine = begin(case, &dir, feed.source(SOURCE).late_arrival_deadline(DEADLINE)).await?;
                feed.keep_up(&engine.handle(), events).await?;
                engine
            }
        };
        engine.drain().await?;
        let took = SystemClock.elapsed() - start;
        let handle = engine.handle();
        let peak = process::peak_mb();
        if case.reads {
            read(&handle, case, expected.now);
        }
        let reading = process::cpu_seconds();
        engine.shutdown().await?;
        Ok::<_, Box<dyn Error>>((handle, took, if case.reads { f64::NAN } else { reading - cpu }, peak))
    })?;
    println!(
        "windows source={source}{} case={} windows={} aggregates={} keys={} events={events} events_per_s={:.0} cpu_s_per_million={:.2} peak_mb={peak}",
        if source == "file" { "" } else { feed::broker() },
        case.name,
        case.windows,
        case.aggregates,
        case.users(),
        events as f64 / took.as_secs_f64(),
        cpu * 1e6 / events as f64,
    );
    let (found, mut differences) = expected::found(&engine, case, expected.now);
    if found.count != expected.longest.count || (found.cents - expected.longest.cents).abs() > 1 {
        differences.push(format!("all windows of {}: expected {:?}, got {found:?}", case.longest, expected.longest));
    }
    drop(engine);
    if let Some(feed) = feed {
        feed.end()?;
    }
    process::remove(&dir)?;
    Ok(differences)
}

async fn begin(case: &Case, dir: &Path, source: impl Source) -> Result<Engine> {
    let mut settings = EngineSettings::default();
    settings.store.shards = 2;
    let builder = Engine::builder(dir).source(source).settings(settings);
    Ok((case.resolver)(builder).start().await?)
}

/// 50 windowed features of one user after the other, in the engine.
fn read(engine: &EngineHandle, case: &Case, now: EventTime) {
    let mut micros: Vec<f64> = (0..20_000u32)
        .map(|nth| {
            let user = nth.wrapping_mul(7_919) % case.users();
            let request = QueryRequest { now: Some(now), ..QueryRequest::new() };
            let request = request.input(format!("{}.id", case.class), format!("user_{user:06}"));
            let request = case.read.iter().fold(request, |request, name| request.output(*name));
            engine.query(&request).took.as_secs_f64() * 1e6
        })
        .collect();
    micros.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize];
    let features = case.aggregates * case.windows;
    println!("windows_read features={features} p50_us={:.1} p99_us={:.1}", at(0.5), at(0.99));
}
