//! How each engine is started, and what its process took.

use std::{
    env,
    error::Error,
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use karst::{Clock, EventTime, runtime::SystemClock};

use crate::process;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The argument that makes this program Karst's turn.
pub(crate) const KARST: &str = "--karst";
/// Its folder, among the state directories of benchmarks.
pub(crate) const FLINK_STATE: &str = "peers-flink";
/// What a process says when the rest of it is a check.
const MEASURED: &str = "measured cpu_s=";
/// How often a process is asked for its memory.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Modules of Java that Flink looks into.
const OPENED: [&str; 10] = [
    "java.lang",
    "java.lang.reflect",
    "java.io",
    "java.net",
    "java.nio",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
];

/// One engine.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    /// How many times Karst's CPU time it is to take at least.
    pub(crate) target: Option<f64>,
    /// Whether it cannot read past a malformed line.
    pub(crate) stumbles: bool,
    start: fn(&Path, EventTime) -> Option<Command>,
}

/// In the order of their turns.
pub(crate) const ENGINES: &[Engine] = &[
    Engine { name: "karst", target: None, stumbles: false, start: karst },
    Engine { name: "flink", target: Some(10.0), stumbles: false, start: flink },
    Engine { name: "bytewax", target: Some(8.0), stumbles: false, start: bytewax },
    Engine { name: "polars", target: Some(1.5), stumbles: true, start: polars },
];

impl Engine {
    /// The command that does the work; `None` if the engine is not installed.
    pub(crate) fn command(&self, file: &Path, now: EventTime) -> Option<Command> {
        (self.start)(file, now)
    }
}

fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
fn own(file: &str) -> String {
    format!("{}/benches/peers/{file}", env!("CARGO_MANIFEST_DIR"))
}

fn karst(file: &Path, now: EventTime) -> Option<Command> {
    let mut command = Command::new(env::current_exe().ok()?);
    command.arg(KARST).arg(file).arg(now.0.to_string());
    Some(command)
}

fn flink(file: &Path, _: EventTime) -> Option<Command> {
    let state = process::empty_state(FLINK_STATE).ok()?;
    let mut command = Command::new("java");
    command.arg("-cp").arg(set("PEER_FLINK")?).arg("-Xmx2g");
    command.args(OPENED.map(|module| format!("--add-opens=java.base/{module}=ALL-UNNAMED")));
    command.arg("FeatureJob").arg(file).args(["2", "10000"]).arg(state);
    Some(command)
}

fn bytewax(file: &Path, _: EventTime) -> Option<Command> {
    let mut command = Command::new(set("PEER_BYTEWAX")?);
    command.args(["-B", "-m", "bytewax.run", "bytewax_job"]).env("FILE", file).current_dir(own(""));
    Some(command)
}

fn polars(file: &Path, _: EventTime) -> Option<Command> {
    let mut command = Command::new(set("PEER_POLARS")?);
    command.arg("-B").arg(own("polars_job.py")).arg(file);
    Some(command)
}

/// What one process took, and found.
pub(crate) struct Run {
    pub(crate) cpu_s: f64,
    pub(crate) wall_s: f64,
    pub(crate) peak_mb: u64,
    pub(crate) last_line: String,
}

impl Run {
    /// A number of its last line.
    pub(crate) fn found(&self, name: &str) -> Option<i64> {
        self.last_line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    }
}

/// Says that the work is done, and what it took so far: the rest of the process is a check.
pub(crate) fn measured() {
    println!("{MEASURED}{}", process::cpu_seconds());
    let _ = std::io::stdout().flush();
}

/// Runs a process to its end.
pub(crate) fn run(mut command: Command) -> Result<Run> {
    let name = format!("{:?}", command.get_program());
    let before = process::children_cpu_seconds();
    let start = SystemClock.elapsed();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (out, err) = child.stdout.take().zip(child.stderr.take()).ok_or("a process without pipes")?;
    let told = thread::spawn(move || BufReader::new(err).lines().map_while(std::result::Result::ok).collect::<Vec<_>>());
    let (ended, peak, pid) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), child.id().to_string());
    let watcher = thread::spawn({
        let (ended, peak) = (Arc::clone(&ended), Arc::clone(&peak));
        move || {
            while !ended.load(Relaxed) {
                peak.fetch_max(process::peak_mb_of(&pid), Relaxed);
                thread::park_timeout(LOOK_EVERY);
            }
        }
    });
    let (mut last_line, mut done) = (String::new(), None);
    for line in BufReader::new(out).lines() {
        let line = line?;
        if let Some(cpu) = line.strip_prefix(MEASURED) {
            ended.store(true, Relaxed);
            done = Some((cpu.parse()?, (SystemClock.elapsed() - start).as_secs_f64()));
        } else if !line.trim().is_empty() {
            last_line = line;
        }
    }
    let status = child.wait()?;
    let whole = (process::children_cpu_seconds() - before, (SystemClock.elapsed() - start).as_secs_f64());
    ended.store(true, Relaxed);
    watcher.join().map_err(|_| "the watcher panicked")?;
    let told = told.join().map_err(|_| "the reader of errors panicked")?;
    if !status.success() {
        let told = told[told.len().saturating_sub(20)..].join("\n");
        return Err(format!("{name}: {status}; its last words:\n{last_line}\n{told}").into());
    }
    let (cpu_s, wall_s) = done.unwrap_or(whole);
    Ok(Run { cpu_s, wall_s, peak_mb: peak.load(Relaxed), last_line })
}
