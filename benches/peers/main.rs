//! Measures the same work by Karst and by its peers: CPU seconds per million events, events per second, and peak memory in MB.
//!
//! The work is W1 (`support/w1.rs`, from a file): decode, validate, drop what is more than 30 minutes late; per user the latest values, and
//! count and sum over 1 h and 24 h. One process for each, from its start to its end, in turn, `RUNS` times; then the medians as ratios:
//!
//! ```text
//! peers engine=flink events=8000000 cpu_s_per_million=… events_per_s=… peak_mb=…
//! peers_ratio engine=flink runs=3 cpu=… wall=… target=10 ok
//! ```
//! - `karst`: sliding windows in tiles, every value asked for by name; durable, positions and values in one commit. Its CPU and wall time are
//!   those of the whole process up to the end of its shutdown; what follows (asking all users) is the check.
//! - `flink`: `FeatureJob.java`, state in RocksDB, two slots, incremental checkpoints every 10 s. Tumbling windows, one running window of
//!   each length per user, which is less work.
//! - `bytewax`: `bytewax_job.py`, the form that costs least, and keeps nothing: no recovery store. Tumbling windows as well.
//! - `polars`: `polars_job.py`, a batch over the whole file. Nothing is kept. Tumbling windows, all of them. It reads a file without the
//!   0.2 % of malformed lines: `scan_ndjson` fails on the first of them, `ignore_errors` or not.
//!
//! Every run is compared with a count that is made while the events are drawn (how many are kept, of how many users, and their sum; of Karst
//! the windows); exit status 1 if anything differs. `EVENTS=…` (8 million), `RUNS=…` (1), `PEERS=karst,flink` picks some.
//! `make bench-peers` installs the peers (`prepare.sh`); one that is not there is named and left out.

// Its output is what it is for, and it needs no failure that can be handled.
#![allow(clippy::print_stdout, missing_docs)]

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use karst::{Engine, EventTime, FileSource, prelude::EngineSettings};

#[path = "../windows/cases.rs"]
#[allow(dead_code)]
mod cases;
mod engines;
#[path = "../windows/expected.rs"]
mod expected;
#[path = "../support/payment.rs"]
mod payment;
#[path = "../support/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "../support/w1.rs"]
#[allow(dead_code)]
mod w1;

use cases::{CASES, Case};
use engines::{ENGINES, KARST, Run};
use expected::{Expected, Longest};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let done = match arguments.get(1..) {
        Some([flag, file, now]) if flag == KARST => now.parse().map_err(Into::into).and_then(|now| karst(file, EventTime(now))),
        _ => measure(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("peers: {error}");
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

fn w1_case() -> Result<&'static Case> {
    Ok(CASES.iter().find(|case| case.name == "w1").ok_or("there is no case w1")?)
}

fn measure() -> Result<bool> {
    let (events, runs) = (number("EVENTS", 8_000_000)?, number("RUNS", 1)?.max(1));
    let wanted = env::var("PEERS").unwrap_or_default();
    let (file, expected) = expected::input(w1_case()?, events, 1)?;
    let without_malformed = without_malformed(&file)?;
    let mut all_right = true;
    let mut all: Vec<(&str, Vec<Run>)> = ENGINES.iter().map(|engine| (engine.name, Vec::new())).collect();
    for nth in 0..runs {
        for (engine, (_, known)) in ENGINES.iter().zip(&mut all) {
            if !(wanted.is_empty() || wanted.split(',').any(|name| name == engine.name)) {
                continue;
            }
            let Some(command) = engine.command(if engine.stumbles { &without_malformed } else { &file }, expected.now) else {
                if nth == 0 {
                    println!("peers engine={} left out: it is not installed (benches/peers/prepare.sh)", engine.name);
                }
                continue;
            };
            let run = engines::run(command)?;
            println!(
                "peers engine={} events={events} cpu_s_per_million={:.2} events_per_s={:.0} peak_mb={}",
                engine.name,
                run.cpu_s * 1e6 / events as f64,
                events as f64 / run.wall_s,
                run.peak_mb,
            );
            let wrong = differences(&run, &expected);
            wrong.iter().for_each(|wrong| println!("peers engine={} wrong: {wrong}", engine.name));
            all_right &= wrong.is_empty();
            known.push(run);
        }
    }
    ratios(&all);
    process::empty_state(engines::FLINK_STATE)?;
    Ok(all_right)
}

/// A file of the lines that are whole, made if it is not there.
fn without_malformed(file: &Path) -> Result<PathBuf> {
    let path = file.with_extension("whole.jsonl");
    if !path.exists() {
        let unfinished = path.with_extension("unfinished");
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
        for line in BufReader::new(File::open(file)?).split(b'\n') {
            let mut line = line?;
            if line.ends_with(b"}") {
                line.push(b'\n');
                out.write_all(&line)?;
            }
        }
        out.flush()?;
        fs::rename(&unfinished, &path)?; // last, so that half a file is never found
    }
    Ok(path)
}

/// What a run found, compared with what is in the file.
fn differences(run: &Run, expected: &Expected) -> Vec<String> {
    let (w1, Longest { count, cents }) = (&expected.totals, expected.longest);
    let all = [
        ("kept", w1.kept as i64),
        ("users", w1.users as i64),
        ("cents", w1.amount_cents),
        ("day_count", count as i64),
        ("day_cents", cents),
    ];
    let found = all.into_iter().filter_map(|(name, expected)| Some((name, expected, run.found(name)?)));
    // A sum of 8 million floats is right to ten digits.
    let near = |expected: i64, got: i64| (expected - got).abs() <= expected / 10_000_000_000 + 1;
    let wrong = found
        .clone()
        .filter(|(name, expected, got)| if name.contains("cents") { !near(*expected, *got) } else { expected != got });
    let mut wrong: Vec<String> = wrong.map(|(name, expected, got)| format!("{name}: expected {expected}, got {got}")).collect();
    if found.count() < 3 {
        wrong.push(format!("its last line says too little: {:?}", run.last_line));
    }
    wrong
}

/// How many times more the peers take than Karst, by the medians.
fn ratios(all: &[(&str, Vec<Run>)]) {
    let median = |runs: &[Run], of: fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let Some((_, karst)) = all.iter().find(|(name, _)| *name == "karst") else { return };
    for ((name, runs), engine) in all.iter().zip(ENGINES) {
        let ratio = |of: fn(&Run) -> f64| Some(median(runs, of)? / median(karst, of)?);
        let (Some(target), Some(cpu), Some(wall)) = (engine.target, ratio(|run| run.cpu_s), ratio(|run| run.wall_s)) else {
            continue;
        };
        let verdict = if cpu >= target { "ok" } else { "missed" };
        println!("peers_ratio engine={name} runs={} cpu={cpu:.1} wall={wall:.1} target={target} {verdict}", runs.len());
    }
}

/// Karst's turn, in a process of its own.
fn karst(file: &str, now: EventTime) -> Result<bool> {
    let case = w1_case()?;
    let dir = process::empty_state("peers")?;
    let engine = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut settings = EngineSettings::default();
        settings.store.shards = 2;
        let source = FileSource::json_lines("payments", Path::new(file)).late_arrival_deadline("30m");
        let engine = (case.resolver)(Engine::builder(&dir).source(source).settings(settings)).start().await?;
        engine.drain().await?;
        let handle = engine.handle();
        engine.shutdown().await?;
        Ok::<_, Box<dyn Error>>(handle)
    })?;
    engines::measured();
    let (users, kept) = (engine.scan(case.class)?.len(), engine.status().outcomes().applied);
    let (Longest { count, cents }, wrong) = expected::found(&engine, case, now);
    drop(engine);
    process::remove(&dir)?;
    println!("kept={kept} users={users} day_count={count} day_cents={cents}");
    wrong.iter().for_each(|wrong| println!("{wrong}"));
    Ok(wrong.is_empty())
}
