//! `karst run` in a process of its own, and what most tests let it run.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use serde_json::Value as Json;

use crate::karst;

pub(crate) const RIGHT: &str = r#"
[server]
bind = "127.0.0.1:0"

[[class]]
name = "user"
key = "id"
[class.features]
id = "str"
last_page = "str"
visits = { type = "int?", description = "visits so far" }

[[source]]
name = "clicks"
kind = "file"
path = "clicks.jsonl"

[[resolver]]
name = "on_click"
source = "clicks"
skip_if_null = ["user_id"]
where = { type = "click" }
[resolver.set]
"user.id" = "user_id"
"user.last_page" = "page.url"
"user.visits" = "visits"
"#;

pub(crate) const CLICKS: &str = r#"{"type": "click", "user_id": "ada", "page": {"url": "/"}, "visits": 1, "event_time": "2013-01-01T10:00:00Z"}
{"type": "click", "user_id": "ada", "page": {"url": "/docs"}, "visits": null, "event_time": "2013-01-01T11:00:00Z"}
{"type": "click", "user_id": "ada", "page": {"url": "/old"}, "visits": 9, "event_time": "2013-01-01T09:00:00Z"}
{"type": "click", "user_id": null, "page": {"url": "/"}, "event_time": "2013-01-01T12:00:00Z"}
{"type": "scroll", "user_id": "ada", "event_time": "2013-01-01T12:00:00Z"}
{"type": "click", "user_id": "bob", "page": {}, "event_time": "2013-01-01T12:00:00Z"}
not json
"#;

/// `karst run` in a process of its own; killed if a test fails before it is stopped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) out: BufReader<ChildStdout>,
    pub(crate) url: String,
}

impl Running {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_in(dir, &[])
    }

    /// With this in the environment.
    pub(crate) fn start_in(dir: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = karst()
            .args(["run", "--config", "karst.toml", "--directory", "data"])
            .current_dir(dir)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("serving ").unwrap_or_else(|| panic!("unexpected: {line}")).to_owned();
        Self { child, out, url }
    }

    pub(crate) fn ask(&self, args: &[&str]) -> Output {
        karst().args(args).args(["--url", &self.url]).output().unwrap()
    }

    /// Waits until all records of the file are accounted for, by asking again; bounded by the number of questions.
    pub(crate) fn drained(&self, records: u64) -> Json {
        for _ in 0..2000 {
            let status: Json = serde_json::from_slice(&self.ask(&["status", "--json"]).stdout).unwrap();
            if status["outcomes"]["records"] == records {
                return status;
            }
        }
        panic!("it never got to {records} records");
    }

    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        self.terminate();
        self.end()
    }

    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        let mut rest = String::new();
        while self.out.read_line(&mut rest).unwrap() > 0 {}
        (code, rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
