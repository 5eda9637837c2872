//! `karst run` in a process of its own, with other options each time, and its ends.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value as Json;

use crate::random::Random;

/// What both sources and both classes are; `{}` stand for what differs from run to run.
const CONFIG: &str = r#"
[server]
bind = "127.0.0.1:0"

[engine]
shards = 3
dead_letters = 100000000
dead_letter_bytes = "64GiB"
memory = "{memory}"
workers = {workers}
credits = {credits}
mailbox = {mailbox}
commit_interval = "{commit_interval}"
durability = "{durability}"

[[class]]
name = "user"
key = "id"
[class.features]
id = "str"
page = "str"
amount = "int"
{windows}

[[class]]
name = "visitor"
key = "id"
[class.features]
id = "str"
page = "str"
amount = "int"
{windows}

[[source]]
name = "clicks"
late_lane = "dead_letter"
disorder = "30s"
{source}

[[source]]
name = "views"
late_lane = "correct"
{source}

[[resolver]]
name = "on_click"
source = "clicks"
skip_if_null = ["user_id"]
where = { kind = "click" }
set = { "user.id" = "user_id", "user.page" = "page", "user.amount" = "amount" }

[[resolver]]
name = "on_view"
source = "views"
skip_if_null = ["user_id"]
where = { kind = "click" }
set = { "visitor.id" = "user_id", "visitor.page" = "page", "visitor.amount" = "amount" }
"#;

const WINDOWS: &str = r#"count = { windows = ["10m", "1h", "1d", "all"], aggregate = "count" }
greatest = { windows = ["10m", "1h", "1d"], aggregate = "max(amount)" }
spent = { windows = ["all"], aggregate = "sum(amount)" }"#;

const SOURCE: &str = r#"kind = "kafka"
bootstrap_servers = "{servers}"
topic = "{topic}"
late_arrival_deadline = "10m"
batch_records = {batch_records}
batch_linger = "{batch_linger}""#;

/// Where it reads.
#[derive(Clone)]
pub struct Log {
    pub servers: String,
    pub topic: String,
}

/// Writes a configuration with options of chance.
pub fn configure(dir: &Path, log: &Log, random: &mut Random) {
    let batch = random.within(1, 400).to_string();
    let options = [
        ("memory", random.one_of(&["32MiB", "48MiB", "64MiB"])),
        ("workers", random.one_of(&["1", "2", "3"])),
        ("credits", random.one_of(&["1", "2", "8"])),
        ("mailbox", random.one_of(&["1", "2", "4"])),
        ("commit_interval", random.one_of(&["1ms", "5ms", "20ms", "200ms"])),
        ("durability", random.one_of(&["process", "process", "process", "power"])),
        ("batch_records", &batch),
        ("batch_linger", random.one_of(&["1ms", "5ms", "20ms"])),
    ];
    write(dir, log, &options);
}

/// Writes one with which a process takes its time: a record at a time.
pub fn configure_slow(dir: &Path, log: &Log) {
    let options = [
        ("memory", "32MiB"),
        ("workers", "1"),
        ("credits", "2"),
        ("mailbox", "1"),
        ("commit_interval", "20ms"),
        ("durability", "process"),
        ("batch_records", "1"),
        ("batch_linger", "1ms"),
    ];
    write(dir, log, &options);
}

fn write(dir: &Path, log: &Log, options: &[(&str, &str)]) {
    let mut text = CONFIG.replace("{windows}", WINDOWS).replace("{source}", SOURCE);
    for (name, value) in [("servers", log.servers.as_str()), ("topic", &log.topic)].iter().chain(options) {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    fs::write(dir.join("karst.toml"), text).unwrap();
}

pub struct Process {
    child: Child,
    address: mpsc::Receiver<String>,
    url: Option<String>,
    pub started: Instant,
    /// From its start until it said where it serves.
    pub ready: Option<Duration>,
}

impl Process {
    /// Starts it in `dir`; it ends itself at `kill_at`, if that is said.
    pub fn start(dir: &Path, kill_at: Option<&str>) -> Self {
        let built = || env!("CARGO_BIN_EXE_karst").into();
        let mut command = Command::new(std::env::var_os("KARST_CRASH_BIN").unwrap_or_else(built));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KARST_") || name.contains("KAFKA")) {
            command.env_remove(name);
        }
        command.args(["run", "--config", "karst.toml", "--directory", "data", "--log", "error"]).current_dir(dir);
        command.envs(kill_at.map(|moment| ("KARST_KILL_AT", moment)));
        let said: File = OpenOptions::new().create(true).append(true).open(dir.join("stderr")).unwrap();
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(said).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, address) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(url) = line.strip_prefix("serving ") {
                    let _ = tell.send(url.to_owned()); // nobody may be interested any more
                }
            }
        });
        Self { child, address, url: None, started, ready: None }
    }

    /// Whether it serves, and where, after at most this long.
    pub fn serves_within(&mut self, limit: Duration) -> Option<&str> {
        if self.url.is_none()
            && let Ok(url) = self.address.recv_timeout(limit)
        {
            self.ready = Some(self.started.elapsed());
            self.url = Some(url);
        }
        self.url.as_deref()
    }

    /// How it ended by itself, waiting for that no longer than this.
    pub fn ends_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return Some(status),
                None if Instant::now() >= end => return None,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().unwrap(); // SIGKILL
        self.child.wait().unwrap()
    }

    pub fn terminate(&self) {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(told.unwrap().success());
    }

    /// A page of it as JSON; `None` if it does not answer.
    pub fn page(&self, path: &str) -> Option<Json> {
        serde_json::from_str(&self.text(path)?).ok()
    }
    pub fn text(&self, path: &str) -> Option<String> {
        let url = format!("{}{path}", self.url.as_deref()?);
        agent().get(url).call().ok()?.body_mut().read_to_string().ok()
    }
    pub fn query(&self, agent: &ureq::Agent, body: &Json) -> Json {
        let url = format!("{}/v1/query/online", self.url.as_deref().unwrap());
        let answer = agent.post(url).header("Content-Type", "application/json").send(body.to_string());
        serde_json::from_str(&answer.unwrap().body_mut().read_to_string().unwrap()).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client with a limit on its patience.
pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(20)));
    config.http_status_as_error(false).proxy(None).build().new_agent()
}
