//! Measures card payments from a source to durable state: events per second, CPU seconds per million events, peak memory in MB.
//!
//! The path: records of JSON → decoded and validated → late ones dropped (deadline 30 min) → four latest values per user →
//! committed. Input is workload W1 (`support/w1.rs`), from a file and from Kafka. One line for each source:
//!
//! ```text
//! ingest source=file events=2000000 events_per_s=… cpu_s_per_million=… peak_mb=…
//! ```
//! CPU and memory are the engine's process, from before the engine starts until it has shut down (Kafka's broker and producer
//! are another process). The wall clock stops when everything is committed. Every run is checked against a count that is made
//! while the events are drawn; exit status 1 if anything differs.
//!
//! Without `KAFKA` the broker is librdkafka's mock cluster, which keeps 5 MiB of a partition, so that producer, broker and engine
//! share the processors all the time. With `KAFKA=host:port` all is produced before the engine starts: the engine catches up.
//! `EVENTS=…` changes the number of events, `SOURCE=file` or `kafka` picks one, `RUNS=…` repeats, `SHARDS=…` changes the two
//! shards, `COMMIT_MS=…` the commit interval. State and input lie under `$KARST_CACHE`.

// Its output is what it is for, and it needs no failure that can be handled.
#![allow(clippy::print_stdout, missing_docs)]

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use karst::{Clock, Engine, FileSource, Source, TimeSpan, prelude::EngineSettings, runtime::SystemClock};

mod check;
#[path = "../support/feed.rs"]
mod feed;
#[path = "../support/payment.rs"]
mod payment;
mod payments;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/w1.rs"]
mod w1;

use feed::{FEED, Feed, PARTITIONS};
use w1::W1Totals;

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
            println!("ingest: {error}");
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
    let events = number("EVENTS", 2_000_000)?;
    let runs = number("RUNS", 1)?;
    let wanted = env::var("SOURCE").unwrap_or_default();
    let input = input(events)?;
    let mut all_right = true;
    for source in ["file", "kafka"].into_iter().filter(|source| wanted.is_empty() || wanted == *source) {
        let partitions = if source == "file" { 1 } else { PARTITIONS };
        let expected = w1::generate(events, partitions, &mut io::sink())?;
        for _ in 0..runs {
            let differences = run(source, &input, &expected)?;
            differences.iter().for_each(|difference| println!("ingest source={source} wrong: {difference}"));
            all_right &= differences.is_empty();
        }
    }
    Ok(all_right)
}

/// The file of events; made if it is not there.
fn input(events: u64) -> Result<PathBuf> {
    let path = process::input_dir()?.join(format!("w1-{events}.jsonl"));
    if !path.exists() {
        let unfinished = path.with_extension("unfinished");
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
        w1::generate(events, 1, &mut out)?;
        out.flush()?;
        fs::rename(&unfinished, &path)?; // last, so that half a file is never found
    }
    Ok(path)
}

fn run(source: &str, input: &Path, expected: &W1Totals) -> Result<Vec<String>> {
    let dir = process::empty_state("ingest")?;
    let mut feed = if source == "kafka" { Some(Feed::start(input)?) } else { None };
    process::forget_peak();
    let (cpu, start) = (process::cpu_seconds(), SystemClock.elapsed());
    let (engine, took) = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let engine = match &mut feed {
            None => begin(&dir, FileSource::json_lines(SOURCE, input).late_arrival_deadline(DEADLINE)).await?,
            Some(feed) => {
                let engine = begin(&dir, feed.source(SOURCE).late_arrival_deadline(DEADLINE)).await?;
                feed.keep_up(&engine.handle(), expected.events).await?;
                engine
            }
        };
        engine.drain().await?;
        let took = SystemClock.elapsed() - start;
        let handle = engine.handle();
        engine.shutdown().await?;
        Ok::<_, Box<dyn Error>>((handle, took))
    })?;
    let (cpu, peak) = (process::cpu_seconds() - cpu, process::peak_mb());
    let (events, seconds) = (expected.events, took.as_secs_f64());
    let broker = if source == "file" { "" } else { feed::broker() };
    println!(
        "ingest source={source}{broker} events={events} events_per_s={:.0} cpu_s_per_million={:.2} peak_mb={peak}",
        events as f64 / seconds,
        cpu * 1e6 / events as f64,
    );
    let differences = check::differences(&engine, expected);
    drop(engine);
    if let Some(feed) = feed {
        feed.end()?;
    }
    process::remove(&dir)?;
    Ok(differences)
}

async fn begin(dir: &Path, source: impl Source) -> Result<Engine> {
    let mut settings = EngineSettings::default();
    // As an operator would who wants throughput: a shard for each core; more only divide batches into smaller ones.
    settings.store.shards = number("SHARDS", 2)? as u16;
    settings.store.commit_interval = TimeSpan::from_millis(number("COMMIT_MS", 200)? as i64);
    Ok(Engine::builder(dir).source(source).resolver(payments::on_payment).settings(settings).start().await?)
}
