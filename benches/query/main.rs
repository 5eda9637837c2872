//! Measures online queries of 1 and 50 features: p50 and p99 latency in µs and requests per second, over HTTP and in the engine.
//!
//! The engine holds 100,000 entities with 50 features each, and takes in 2,000 updates of all 50 features per second meanwhile
//! (`INGEST=…`). Clients and server share the machine; a client sends its next request when it has the answer (closed loop, so
//! p99 is what one caller sees, not what a queue would do). One line for each case:
//!
//! ```text
//! query features=1 clients=1 p50_us=… p99_us=… rps=…
//! query_engine features=50 p50_us=… p99_us=… rps=…
//! ```
//! A thousandth of the answers is compared with what was loaded; exit status 1 if one differs. `ENTITIES=…`, `SECONDS=…` (per
//! case) change the size.

// Its output is what it is for.
#![allow(clippy::print_stdout, missing_docs)]

use std::{
    env,
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use karst::{
    Clock, Engine, EngineHandle, EventTime, Feature, FeatureClass, MemorySource, Message, QueryRequest, StreamResolver, Value,
    features::{MessageSlot, ResolverError, StreamDeclaration, UpdateWriter, ValueRow},
    runtime::SystemClock,
    types::{FieldSchema, MessageSchema},
};
use karst_server::{ServerSettings, serve};

#[allow(dead_code)] // the ingest benchmark uses the rest
#[path = "../support/process.rs"]
mod process;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const FEATURES: usize = 50;
/// Of so many answers one is compared.
const COMPARED: usize = 1000;

/// New values of one entity.
#[derive(serde::Deserialize)]
struct Reading {
    id: i64,
    at: EventTime,
    values: Vec<i64>,
}

impl Message for Reading {
    fn schema() -> &'static MessageSchema {
        const SCHEMA: MessageSchema = MessageSchema {
            name: "Reading",
            fields: &[
                FieldSchema::required("id", "i64"),
                FieldSchema::required("at", "EventTime"),
                FieldSchema::required("values", "Vec<i64>"),
            ],
            event_time: Some("at"),
        };
        &SCHEMA
    }
    fn event_time(&self) -> Option<EventTime> {
        Some(self.at)
    }
}

fn name(feature: usize) -> String {
    format!("sensor.v{feature}")
}

/// What feature `feature` of entity `id` is, whenever it was written last.
fn value(id: i64, feature: usize) -> i64 {
    id * FEATURES as i64 + feature as i64
}

fn sensor() -> FeatureClass {
    let class = FeatureClass::new("sensor", Feature::new::<i64>("id"));
    (0..FEATURES).fold(class, |class, feature| class.feature(Feature::new::<i64>(format!("v{feature}"))))
}

struct OnReading;

impl StreamResolver for OnReading {
    type Message = Reading;
    type Row = ValueRow;
    fn declaration(&self) -> StreamDeclaration {
        let outputs = std::iter::once("sensor.id".to_owned()).chain((0..FEATURES).map(name));
        StreamDeclaration::of::<Self>("on_reading", "readings", outputs)
    }
    fn resolve(
        &self,
        reading: MessageSlot<'_, Reading>,
        out: &mut UpdateWriter<'_, ValueRow>,
    ) -> std::result::Result<(), ResolverError> {
        let reading = reading.get();
        let values = std::iter::once(&reading.id).chain(&reading.values).map(|number| Value::Int(*number));
        out.write(&ValueRow(values.collect()))
    }
}

fn record(id: i64, at_us: i64) -> String {
    let values: Vec<String> = (0..FEATURES).map(|feature| value(id, feature).to_string()).collect();
    format!("{{\"id\":{id},\"at\":{at_us},\"values\":[{}]}}", values.join(","))
}

/// A small generator: which entity is asked for next.
struct Random(u64);

impl Random {
    fn below(&mut self, end: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end as u64) as i64
    }
}

struct Size {
    entities: i64,
    seconds: u64,
    ingest: i64,
}

fn main() -> ExitCode {
    let done = (|| {
        let size =
            Size { entities: number("ENTITIES", 100_000)?, seconds: number("SECONDS", 5)?, ingest: number("INGEST", 2000)? };
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(&size))
    })();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("query: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number<N: std::str::FromStr<Err = std::num::ParseIntError>>(name: &str, default: N) -> Result<N> {
    match env::var(name) {
        Ok(text) if !text.is_empty() => Ok(text.parse().map_err(|error| format!("{name}={text}: {error}"))?),
        _ => Ok(default),
    }
}

async fn measure(size: &Size) -> Result<()> {
    let dir = process::empty_state("query")?;
    let readings = MemorySource::json("readings").log_bytes(karst::ByteSize::mib(2048));
    let engine = Engine::builder(&dir).source(readings.clone()).class(sensor()).resolver(OnReading).start().await?;
    for id in 0..size.entities {
        readings.send(record(id, SystemClock.now().0)).await?;
    }
    engine.drain().await?;

    let stop = Arc::new(AtomicBool::new(false));
    let ingest = background(readings, size, Arc::clone(&stop));
    let server = serve(engine.handle(), ServerSettings::at(SocketAddr::from(([127, 0, 0, 1], 0)))).await?;
    for (features, clients) in [(1, 1), (FEATURES, 1), (1, 8), (FEATURES, 8)] {
        over_http(server.address(), size, features, clients)?;
    }
    for features in [1, FEATURES] {
        in_engine(&engine.handle(), size, features)?;
    }
    stop.store(true, Ordering::Release);
    ingest.join().map_err(|_| "the producer panicked")??;
    server.stop().await;
    engine.shutdown().await?;
    Ok(process::remove(&dir)?)
}

/// Sends updates at a steady rate until it is told to stop.
fn background(readings: MemorySource, size: &Size, stop: Arc<AtomicBool>) -> thread::JoinHandle<Result<()>> {
    const EVERY: Duration = Duration::from_millis(10);
    let (entities, each) = (size.entities, size.ingest / 100);
    thread::spawn(move || {
        let mut random = Random(1);
        let mut sent = 0;
        karst::run(async {
            let start = SystemClock.elapsed();
            while !stop.load(Ordering::Acquire) {
                let due = (SystemClock.elapsed() - start).as_millis() as i64 / EVERY.as_millis() as i64 * each;
                for _ in sent..due {
                    readings.send(record(random.below(entities), SystemClock.now().0)).await?;
                }
                sent = sent.max(due);
                tokio::time::sleep(EVERY).await;
            }
            Ok(())
        })?;
        Ok(())
    })
}

/// Asks until the time is up; prints the line.
fn over_http(address: SocketAddr, size: &Size, features: usize, clients: usize) -> Result<()> {
    let start = SystemClock.elapsed();
    let until = start + Duration::from_secs(size.seconds);
    let entities = size.entities;
    let workers: Vec<_> = (0..clients)
        .map(|number| {
            thread::spawn(move || -> Result<Vec<u32>> {
                let mut client = Client::connect(address)?;
                let mut random = Random(number as u64 + 7);
                let mut took = Vec::new();
                loop {
                    let asked = SystemClock.elapsed();
                    if asked >= until {
                        return Ok(took);
                    }
                    let id = random.below(entities);
                    let compare = took.len().is_multiple_of(COMPARED);
                    client.ask(id, features, compare)?;
                    took.push((SystemClock.elapsed() - asked).as_nanos() as u32);
                }
            })
        })
        .collect();
    let mut took = Vec::new();
    for worker in workers {
        took.extend(worker.join().map_err(|_| "a client panicked")??);
    }
    report(&format!("query features={features} clients={clients}"), took, SystemClock.elapsed() - start);
    Ok(())
}

fn in_engine(engine: &EngineHandle, size: &Size, features: usize) -> Result<()> {
    let start = SystemClock.elapsed();
    let until = start + Duration::from_secs(size.seconds);
    let mut random = Random(3);
    let mut took = Vec::new();
    loop {
        let id = random.below(size.entities);
        let request = QueryRequest::new().input("sensor.id", id);
        let request = (0..features).fold(request, |request, feature| request.output(name(feature)));
        let asked = SystemClock.elapsed();
        if asked >= until {
            break;
        }
        let answer = engine.query(&request);
        took.push((SystemClock.elapsed() - asked).as_nanos() as u32);
        let last = features - 1;
        if answer.get(&name(last)) != Some(&Value::Int(value(id, last))) {
            return Err(format!("{} of {id}: expected {}, got {answer:?}", name(last), value(id, last)).into());
        }
    }
    report(&format!("query_engine features={features}"), took, SystemClock.elapsed() - start);
    Ok(())
}

fn report(case: &str, mut took: Vec<u32>, elapsed: Duration) {
    took.sort_unstable();
    let quantile = |share: f64| took.get(((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1))).copied();
    let micros = |share: f64| f64::from(quantile(share).unwrap_or(0)) / 1e3;
    let rps = took.len() as f64 / elapsed.as_secs_f64();
    println!("{case} p50_us={:.1} p99_us={:.1} rps={rps:.0}", micros(0.5), micros(0.99));
}

/// A connection that is kept alive.
struct Client {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
    request: Vec<u8>,
    body: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream), host: address, request: Vec::new(), body: Vec::new() })
    }

    /// One query; its answer is read whole, and compared if wanted.
    fn ask(&mut self, id: i64, features: usize, compare: bool) -> Result<()> {
        let outputs: Vec<String> = (0..features).map(|feature| format!("\"{}\"", name(feature))).collect();
        let query = format!("{{\"inputs\":{{\"sensor.id\":{id}}},\"outputs\":[{}]}}", outputs.join(","));
        self.request.clear();
        write!(
            self.request,
            "POST /v1/query/online HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{query}",
            self.host,
            query.len()
        )?;
        self.stream.get_mut().write_all(&self.request)?;
        let (mut status, mut length) = (String::new(), 0);
        self.stream.read_line(&mut status)?;
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(bytes) = header.strip_prefix("content-length:") {
                length = bytes.trim().parse()?;
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)?;
        if !status.starts_with("HTTP/1.1 200") {
            return Err(format!("{}: {}", status.trim_end(), String::from_utf8_lossy(&self.body)).into());
        }
        if compare { self.compare(id, features) } else { Ok(()) }
    }

    fn compare(&self, id: i64, features: usize) -> Result<()> {
        let answer: serde_json::Value = serde_json::from_slice(&self.body)?;
        let data = answer["data"].as_array().ok_or("an answer without data")?;
        let right = |feature: usize| {
            let wanted = |item: &&serde_json::Value| item["field"] == name(feature).as_str();
            data.iter().find(wanted).is_some_and(|item| item["value"] == value(id, feature))
        };
        match (0..features).find(|feature| !right(*feature)) {
            None => Ok(()),
            Some(feature) => Err(format!("{} of {id}: expected {}, got {answer}", name(feature), value(id, feature)).into()),
        }
    }
}
