//! What the engine answered, one line of JSON for each value, and the SQL that judges it.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::PathBuf,
    process::Command,
};

use karst::{EngineHandle, EventTime, QueryRequest, TimeSpan, Value};
use serde_json::{Value as Json, json};

/// The file of answers, and from where everything else is known.
pub(crate) struct Answers {
    path: PathBuf,
    out: BufWriter<File>,
    pub(crate) written: usize,
}

/// A Python that has DuckDB, and the flights; `None` if there is none, which has then been said.
pub(crate) fn sql() -> Option<(PathBuf, PathBuf)> {
    let python = std::env::var_os("KARST_TEST_DUCKDB").filter(|python| !python.is_empty());
    let cache = std::env::var_os("KARST_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/karst")));
    let flights = cache.map(|cache| cache.join("flights/flights.csv")).filter(|flights| flights.exists());
    let missing = match (&python, &flights) {
        (None, _) => "sql: KARST_TEST_DUCKDB is not set (scripts/venv.sh tests/sql/requirements.txt prints a path)",
        (_, None) => "sql: the flights are not there (scripts/flights_data.sh fetches them)",
        _ => return python.map(PathBuf::from).zip(flights),
    };
    eprintln!("skipped: {missing}");
    if let Some(file) = std::env::var_os("KARST_TEST_SKIPPED") {
        writeln!(fs::OpenOptions::new().append(true).create(true).open(file).unwrap(), "{missing}").unwrap();
    }
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "with CI=true nothing is skipped");
    None
}

impl Answers {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { out: BufWriter::with_capacity(1 << 20, File::create(&path).unwrap()), path, written: 0 }
    }

    /// Asks for all windows of an entity at `now`, after the first `prefix` records of the log.
    pub(crate) fn ask(&mut self, engine: &EngineHandle, prefix: usize, class: &str, id: &str, now: EventTime) {
        let windowed = engine.registry().class(class).unwrap().windowed_features();
        let request = QueryRequest { now: Some(now), ..QueryRequest::new() }.input(format!("{class}.id"), id);
        let request = windowed.iter().fold(request, |request, feature| request.output(format!("{class}.{}", feature.name)));
        let answer = engine.query(&request);
        assert!(answer.errors.is_empty(), "{class} {id} at {now}: {:?}", answer.errors);
        for got in answer.data {
            assert!(got.error.is_none(), "{class} {id} at {now} after {prefix} records: {:?}", got.error);
            self.line(&json!({
                "prefix": prefix, "class": class, "id": id, "now": now.0, "ts": got.ts.unwrap().0,
                "feature": got.field.split_once('.').unwrap().1, "value": plain(&got.value),
            }));
        }
    }

    /// Notes the log watermark of each partition, after the first `prefix` records of the log.
    pub(crate) fn watermarks(&mut self, engine: &EngineHandle, prefix: usize) {
        for partition in &engine.status().sources[0].partitions {
            self.line(&json!({
                "prefix": prefix, "class": "watermark", "id": partition.partition.0.to_string(),
                "feature": "log_watermark", "value": partition.watermark.map(|watermark| watermark.0),
            }));
        }
    }

    fn line(&mut self, line: &Json) {
        serde_json::to_writer(&mut self.out, line).unwrap();
        self.out.write_all(b"\n").unwrap();
        self.written += 1;
    }

    /// Lets SQL judge. The differences are in the message of the panic.
    #[track_caller]
    pub(crate) fn judge(mut self, (python, flights): &(PathBuf, PathBuf), deadline: TimeSpan) {
        self.out.flush().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/flights/windows.py");
        let mut command = Command::new(python);
        command.arg(script).arg("--csv").arg(flights).arg("--answers").arg(&self.path);
        if !deadline.is_infinite() {
            command.args(["--deadline-us", &deadline.micros().to_string()]);
        }
        let output = command.output().unwrap();
        let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{told}{wrong}");
        // Also that it looked at all of it.
        let compared = format!("compared={}", self.written);
        assert!(told.split_whitespace().any(|word| word == compared), "expected {compared}: {told}");
        eprintln!("{}", told.trim_end());
    }
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Int(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Str(text) => json!(text.as_str()),
        Value::List(values) => values.iter().map(plain).collect(),
        other => panic!("the flights have no such value: {other:?}"),
    }
}
