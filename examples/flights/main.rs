//! A year of flights through Kafka into features: `make demo`, or `cargo run --example flights`. See README.md beside this file.
//!
//! Environment: DEADLINE (late_arrival_deadline, default infinity), LATE_LANE (drop, dead_letter or correct; default drop), FORMAT
//! (json or avro, default json; avro needs REGISTRY, the URL of a schema registry), PORT (default 8080; 0: any free one), KEEP (0:
//! end when all is applied, with exit status 0 only if the values are right), KAFKA (host:port of a real broker; default: an
//! embedded one).
#![allow(clippy::print_stdout)] // it talks to a person

mod data;
mod declare;
mod encode;
#[path = "../support/expect.rs"]
mod expect;
mod oracle;
mod produce;
mod windows;

use std::{
    env,
    io::IsTerminal,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use karst::{
    ByteSize, Clock, Engine, EngineHandle, EngineSettings, KafkaSource, LateLane, QueryRequest, TimeSpan, Value,
    connectors::kafka::{admin::create_topic, mock::MockBroker},
    runtime::SystemClock,
};
use karst_server::ServerSettings;

use encode::Encoding;

type Failure = Box<dyn std::error::Error>;

/// What was asked for.
struct Asked {
    deadline: TimeSpan,
    lane: LateLane,
    port: u16,
    keep: bool,
    kafka: Option<String>,
    /// The URL of the schema registry, for Avro.
    registry: Option<String>,
    cache: PathBuf,
}

impl Asked {
    fn from_environment() -> Result<Self, String> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let cache = set("KARST_CACHE").or_else(|| set("HOME").map(|home| format!("{home}/.cache/karst")));
        Ok(Self {
            deadline: set("DEADLINE")
                .unwrap_or_else(|| "infinity".into())
                .parse()
                .map_err(|wrong| format!("DEADLINE: {wrong}"))?,
            lane: set("LATE_LANE")
                .map_or(Ok(LateLane::Drop), |lane| lane.parse())
                .map_err(|wrong| format!("LATE_LANE: {wrong}"))?,
            port: set("PORT").map_or(Ok(8080), |port| port.parse()).map_err(|_| "PORT: expected a number from 0 to 65535")?,
            keep: set("KEEP").is_none_or(|keep| keep != "0"),
            kafka: set("KAFKA"),
            registry: match set("FORMAT").as_deref() {
                None | Some("json") => None,
                Some("avro") => Some(set("REGISTRY").ok_or(
                    "FORMAT=avro needs REGISTRY, the URL of a schema registry; \"FORMAT=avro make demo\" starts one by itself",
                )?),
                Some(other) => return Err(format!("FORMAT: expected json or avro, got \"{other}\"")),
            },
            cache: cache.ok_or("neither KARST_CACHE nor HOME is set")?.into(),
        })
    }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(demo())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<bool, Failure> {
    let asked = Asked::from_environment()?;
    let csv = asked.cache.join("flights/flights.csv");
    println!("reading {}", csv.display());
    let rows = Arc::new(data::read(&csv).map_err(|error| format!("{error}\nhint: scripts/flights_data.sh fetches the data"))?);

    let (_embedded, servers, topic) = broker(asked.kafka.as_deref())?;
    println!("topic {topic} with 3 partitions at {servers}{}", if asked.kafka.is_none() { " (embedded broker)" } else { "" });

    let state = asked.cache.join("state/flights-demo");
    start_afresh(&state)?;
    karst_server::metrics::install()?; // before the engine, whose counters are made when its stages are
    let source = KafkaSource::new("flights").bootstrap_server(&servers).topic(&topic).late_arrival_deadline(asked.deadline);
    let encoding = match &asked.registry {
        None => Encoding::Json,
        Some(registry) => Encoding::avro(registry, &topic)?,
    };
    let source = source.late_lane(asked.lane).format(encoding.format());
    // Any of the events may be late, and with LATE_LANE=dead_letter all that are must still be there to be compared.
    let mut settings = EngineSettings::default();
    settings.store.dead_letters = rows.len() as u64;
    settings.store.dead_letter_bytes = ByteSize::mib(256);
    let engine = Engine::builder(&state)
        .settings(settings)
        .source(source)
        .resolver(declare::aircraft)
        .resolver(declare::route)
        .resolver(declare::origin)
        .start()
        .await?;
    let server =
        karst_server::serve(engine.handle(), ServerSettings::at(SocketAddr::from(([127, 0, 0, 1], asked.port)))).await?;
    println!("{}", engine.handle().topology().diagram());

    let progress = produce::start(Arc::clone(&rows), encoding, servers, topic, engine.handle(), asked.kafka.is_none());
    let rate = watch(&engine, &progress, rows.len() as u64).await?;
    let handle = engine.handle();
    summary(&handle);
    ask(&handle);

    let expected = oracle::expect(&rows, asked.deadline, asked.lane);
    let mut differences = oracle::compare(&handle, &expected);
    let (windows, wrong) = windows::compare(&handle, &rows, &expected);
    differences.extend(wrong);
    for difference in differences.iter().take(10) {
        println!("WRONG {difference}");
    }
    advise(&handle);
    let right = differences.is_empty();
    if right {
        println!(
            "all {} aircraft and {} routes equal the independent computation, and so do {windows} windows at whole hours of 2013",
            expected.aircraft.len(),
            expected.route.len()
        );
    }

    if asked.keep {
        println!("\nserving at {} until Ctrl-C; for example:", server.url());
        println!(
            "  curl -s {}/v1/query/online -d '{{\"inputs\":{{\"aircraft.id\":\"N14228\"}},\"outputs\":[\"aircraft\"]}}'\n  curl -s {0}/healthz",
            server.url()
        );
        tokio::signal::ctrl_c().await?;
        println!();
    }
    let sums = handle.status().outcomes();
    drop(handle);
    server.stop().await;
    engine.shutdown().await?;
    println!(
        "demo records={} applied={} late={} skipped={} dead_letters={} events_per_s={:.0}",
        sums.records, sums.applied, sums.late, sums.skipped, sums.dead_letters, rate
    );
    Ok(right)
}

/// The broker to use, and a fresh topic there.
fn broker(kafka: Option<&str>) -> Result<(Option<MockBroker>, String, String), Failure> {
    let Some(servers) = kafka else {
        let embedded = MockBroker::start(&[("flights", produce::TOPIC_PARTITIONS)])?;
        let servers = embedded.bootstrap_servers().to_owned();
        return Ok((Some(embedded), servers, "flights".to_owned()));
    };
    // Retention goes by the records' time, which is 2013.
    let settings = [("retention.ms", "-1")];
    let mut topic = "flights".to_owned();
    if !create_topic(servers, &topic, produce::TOPIC_PARTITIONS, &settings)? {
        topic = format!("flights-{}", SystemClock.now().millis());
        create_topic(servers, &topic, produce::TOPIC_PARTITIONS, &settings)?;
    }
    Ok((None, servers.to_owned(), topic))
}

fn start_afresh(state: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {error}", state.display()).into()),
        _ => Ok(()),
    }
}

/// Shows how it keeps up, until everything is applied and committed. Returns events per second.
async fn watch(engine: &Engine, progress: &produce::Progress, total: u64) -> Result<f64, Failure> {
    let clock = SystemClock;
    let began = clock.elapsed();
    let bar = ProgressBar::new(total);
    bar.set_style(ProgressStyle::with_template("{bar:32} {human_pos}/{human_len} {msg}")?);
    let terminal = std::io::stderr().is_terminal();
    let mut told = Duration::ZERO;
    let mut first = None;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Some(error) = progress.failed.lock().take() {
            return Err(format!("the producer gave up: {error}").into());
        }
        let status = engine.handle().status();
        let sums = status.outcomes();
        let now = clock.elapsed();
        if sums.records > 0 && first.is_none() {
            first = Some(now - Duration::from_millis(100));
        }
        let seconds = (now - first.unwrap_or(began)).as_secs_f64().max(1e-3);
        let watermark = status.watermark().map_or("none".to_owned(), |at| at.to_string());
        let line = format!(
            "{:.0} events/s  watermark {watermark}  late {}  lag {}",
            sums.records as f64 / seconds,
            sums.late,
            status.lag()
        );
        bar.set_position(sums.records);
        bar.set_message(line.clone());
        if !terminal && now - told > Duration::from_secs(2) {
            told = now;
            println!("{}/{total} {line}", sums.records);
        }
        let health = engine.handle().health();
        if !health.healthy && now - began > Duration::from_secs(10) && sums.records == 0 {
            told = now;
            health.problems.iter().for_each(|problem| bar.println(format!("{}: {}", problem.what, problem.why)));
        }
        if sums.records >= total && progress.sent.load(Ordering::Relaxed) >= total {
            engine.drain().await?;
            bar.finish();
            let whole = clock.elapsed() - first.unwrap_or(began);
            return Ok(total as f64 / whole.as_secs_f64().max(1e-3));
        }
    }
}

fn summary(engine: &EngineHandle) {
    println!();
    let status = engine.status();
    for partition in status.sources.iter().flat_map(|source| &source.partitions) {
        let sums = partition.outcomes;
        println!(
            "flights[{}]  records {}  applied {}  late {}  skipped {}  dead letters {}  watermark {}  lag {}",
            partition.partition,
            sums.records,
            sums.applied,
            sums.late,
            sums.skipped,
            sums.dead_letters,
            partition.watermark.map_or("none".to_owned(), |at| at.to_string()),
            partition.lag.unwrap_or(0),
        );
    }
    let hot =
        status.shards.iter().fold((0, 0), |(count, bytes), shard| (count + shard.hot_entities, bytes + shard.hot_bytes.0));
    println!("{} shards  {} entities in memory, {}", status.shards.len(), hot.0, ByteSize(hot.1));
}

/// What other deadlines would have done.
fn advise(engine: &EngineHandle) {
    for source in engine.lateness() {
        println!(
            "{} late of {} events, {} corrected; as a deadline,",
            source.late(),
            source.events().events(),
            source.corrected()
        );
        for candidate in source.candidates().iter().filter(|candidate| candidate.late > 0) {
            println!("  {:<6} would have judged {} late", candidate.deadline.to_string(), candidate.late);
        }
    }
    println!();
}

/// A few queries with their answers.
fn ask(engine: &EngineHandle) {
    for (key, id, outputs) in [
        ("aircraft.id", "N14228", &["aircraft"][..]),
        ("route.id", "EWR-IAH", &["route.last_carrier", "route.last_departure_at", "route.last_air_time_minutes"][..]),
        ("route.id", "JFK-PDX", &["route"][..]),
        ("aircraft.id", "N0000", &["aircraft.last_flight"][..]),
    ] {
        let request = outputs.iter().fold(QueryRequest::new().input(key, id), |request, output| request.output(*output));
        let answer = engine.query(&request);
        println!("\n{key} = {id}  ({} µs)", answer.took.as_micros());
        for value in &answer.data {
            let shown = match (&value.error, &value.value) {
                (Some(error), _) => format!("error: {}", error.message),
                (None, Value::Str(text)) => text.to_string(),
                (None, Value::Int(number)) => number.to_string(),
                (None, Value::Time(at)) => at.to_string(),
                (None, Value::Null) => "null".to_owned(),
                (None, other) => format!("{other:?}"),
            };
            println!("  {:<40} {shown}", value.field);
        }
    }
    println!();
}
