//! Measures windowed aggregates from a file to durable state: CPU seconds per million events, and µs to read 50 windowed features.
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
//! `CASE=name` picks one case, `EVENTS=…` changes their number, `RUNS=…` repeats.

// Its output is what it is for, and it needs no failure that can be handled.
#![allow(clippy::print_stdout, missing_docs)]

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use karst::{
    Clock, Engine, EngineHandle, EventTime, FileSource, QueryRequest, Value, prelude::EngineSettings, runtime::SystemClock,
};

mod cases;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/w1.rs"]
#[allow(dead_code)]
mod w1;

use cases::{CASES, Case};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MINUTE_MS: i64 = 60_000;
/// Users whose windows are added up: all of up to 100,000, of more every hundredth.
const ASKED_MAX: u32 = 100_000;

fn main() -> ExitCode {
    match measure() {
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
    let wanted = env::var("CASE").unwrap_or_default();
    let mut all_right = true;
    for _ in 0..runs {
        for case in CASES.iter().filter(|case| wanted.is_empty() || wanted == case.name) {
            let differences = run(case, events)?;
            differences.iter().for_each(|difference| println!("windows case={} wrong: {difference}", case.name));
            all_right &= differences.is_empty();
        }
    }
    Ok(all_right)
}

/// What the windows of all users must add up to.
struct Expected {
    /// The instant that is asked for: the last whole hour that time has come to.
    now: EventTime,
    count: u64,
    cents: i64,
}

fn stride(case: &Case) -> u32 {
    (case.users() / ASKED_MAX).max(1)
}

/// The file of events, made if it is not there; and what must come out.
fn input(case: &Case, events: u64) -> Result<(PathBuf, Expected)> {
    let path = process::input_dir()?.join(format!("w1-{events}-{:?}.jsonl", case.draw).replace(['(', ')'], "-"));
    let mut kept = Vec::new();
    let asked = stride(case);
    let keep = |user: u32, ts: i64, cents: i64| {
        if user.is_multiple_of(asked) {
            kept.push((ts, cents));
        }
    };
    if path.exists() {
        w1::generate_with(events, 1, case.draw, &mut std::io::sink(), keep)?;
    } else {
        let unfinished = path.with_extension("unfinished");
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
        w1::generate_with(events, 1, case.draw, &mut out, keep)?;
        out.flush()?;
        fs::rename(&unfinished, &path)?; // last, so that half a file is never found
    }
    let now = kept.iter().map(|(ts, _)| *ts).max().unwrap_or(0).div_euclid(60 * MINUTE_MS) * 60 * MINUTE_MS + 60 * MINUTE_MS;
    let within = |ts: i64| ts > now - case.longest_minutes * MINUTE_MS && ts <= now;
    let (count, cents) =
        kept.iter().filter(|(ts, _)| within(*ts)).fold((0, 0), |(count, sum), (_, cents)| (count + 1, sum + cents));
    Ok((path, Expected { now: EventTime(now * 1000), count, cents }))
}

fn run(case: &Case, events: u64) -> Result<Vec<String>> {
    let (input, expected) = input(case, events)?;
    let dir = process::empty_state("windows")?;
    process::forget_peak();
    let (cpu, start) = (process::cpu_seconds(), SystemClock.elapsed());
    let (engine, took, cpu, peak) = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let engine = begin(case, &dir, &input).await?;
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
        "windows source=file case={} windows={} aggregates={} keys={} events={events} events_per_s={:.0} cpu_s_per_million={:.2} peak_mb={peak}",
        case.name,
        case.windows,
        case.aggregates,
        case.users(),
        events as f64 / took.as_secs_f64(),
        cpu * 1e6 / events as f64,
    );
    let differences = differences(&engine, case, &expected);
    drop(engine);
    process::remove(&dir)?;
    Ok(differences)
}

async fn begin(case: &Case, dir: &Path, input: &Path) -> Result<Engine> {
    let mut settings = EngineSettings::default();
    settings.store.shards = 2;
    let source = FileSource::json_lines("payments", input).late_arrival_deadline("30m");
    let builder = Engine::builder(dir).source(source).settings(settings);
    Ok((case.resolver)(builder).start().await?)
}

/// Counts and sums over the longest window, of all users together.
fn differences(engine: &EngineHandle, case: &Case, expected: &Expected) -> Vec<String> {
    let (mut count, mut cents, mut wrong) = (0, 0.0, Vec::new());
    let outputs = [format!("{}.payments", case.class), format!("{}.spent", case.class)]
        .map(|name| format!("{name}[\"{}\"]", case.longest));
    for user in (0..case.users()).step_by(stride(case) as usize) {
        let request = QueryRequest { now: Some(expected.now), ..QueryRequest::new() };
        let request = request.input(format!("{}.id", case.class), format!("user_{user:06}"));
        let answer = engine.query(&outputs.iter().fold(request, |request, output| request.output(output)));
        let errors = answer.errors.iter().chain(answer.data.iter().filter_map(|value| value.error.as_ref()));
        wrong.extend(errors.take(1).map(|error| format!("user {user}: {}", error.message)));
        for value in &answer.data {
            match &value.value {
                Value::Int(number) => count += *number as u64,
                Value::Float(amount) => cents += amount * 100.0,
                _ => {}
            }
        }
    }
    wrong.truncate(5);
    if count != expected.count {
        wrong.push(format!("payments in {}: expected {}, got {count}", case.longest, expected.count));
    }
    if (cents - expected.cents as f64).abs() > 1.0 {
        wrong.push(format!("cents in {}: expected {}, got {cents:.0}", case.longest, expected.cents));
    }
    wrong
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
