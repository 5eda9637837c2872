//! The `karst` binary as a user meets it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::Duration,
};

use karst::{
    BrokerTime, KafkaProducer,
    connectors::{
        kafka::mock::MockBroker,
        registry::{StubMode, StubRegistry},
    },
};
use serde_json::{Value as Json, json};

fn karst() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_karst"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KARST_") || name.contains("KAFKA")) {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn check(config: &Path, more: &[&str]) -> Output {
    karst().arg("check").arg("--config").arg(config).args(more).output().unwrap()
}

#[test]
fn help_teaches_with_examples() {
    let help = text(&karst().arg("--help").output().unwrap().stdout);
    for part in
        ["karst check --config karst.toml", "karst query --in user.id=ada --out user.last_page", "topology", "status", "health"]
    {
        assert!(help.contains(part), "no \"{part}\" in\n{help}");
    }
    let help = text(&karst().args(["run", "--help"]).output().unwrap().stdout);
    for part in ["[[resolver]]", "KARST_SERVER_BIND", "event_time", "exit code 75"] {
        assert!(help.contains(part), "no \"{part}\" in\n{help}");
    }
}

/// The example that `karst run --help` prints is a configuration that holds.
#[test]
fn the_example_of_the_help_is_a_right_configuration() {
    let help = text(&karst().args(["run", "--help"]).output().unwrap().stdout);
    let from = help.find("  [engine]").unwrap();
    let to = help.find("The field `event_time`").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("karst.toml");
    std::fs::write(&path, &help[from..to]).unwrap();
    let checked = check(&path, &[]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).contains("1 classes, 1 sources, 1 resolvers"), "{}", text(&checked.stdout));
}

const WRONG: &str = r#"[server]
bind = "everywhere"
wrokers = 2
max_body = "1MB"
[engine]
shards = 0

[[class]]
name = "user"
key = "id"
[class.features]
id = "str"
visits = "integer"

[[source]]
name = "clicks"
kind = "file"
path = "clicks.jsonl"
late_arrival_deadline = "30 minutes"
late_lane = "dorp"
future_events = "drop"

[[resolver]]
name = "on_click"
source = "klicks"
[resolver.set]
"user.id" = "user_id"
"user.visit" = "visits"
"#;

#[test]
fn every_problem_is_told_at_once_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("karst.toml");
    std::fs::write(&path, WRONG).unwrap();
    let checked = karst()
        .arg("check")
        .arg("--config")
        .arg(&path)
        .args(["--set", "server.workers=many"])
        .env("KARST_SERVER_COLOUR", "red")
        .output();
    let checked = checked.unwrap();
    let told = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(2), "{told}");
    for part in [
        "error: the configuration has ",
        "karst.toml:2:1: server.bind: expected an address such as 127.0.0.1:8080, got \"everywhere\"",
        "karst.toml:3:1: [server] has no setting \"wrokers\"",
        "did you mean \"workers\"?",
        "karst.toml:4:1: server.max_body: \"1MB\" is not a size",
        "karst.toml:6:1: engine.shards: expected 1 to 1024, got 0",
        "karst.toml:13:10: visits: there is no type \"integer\"",
        "karst.toml:19:25: late_arrival_deadline: \"30 minutes\" is not a duration",
        "the command line, server.workers: server.workers: expected a whole number, got \"many\"",
        "the environment, KARST_SERVER_COLOUR: [server] has no setting \"colour\"",
        "klicks",
        "user.visit",
        "karst.toml:20:13: late_lane: expected \"drop\", \"dead_letter\" or \"correct\", got \"dorp\"",
        "karst.toml:21:17: future_events: expected \"keep\" or \"dead_letter\", got \"drop\"",
        "karst.toml:23:1",
        "hint: ",
    ] {
        assert!(told.contains(part), "no \"{part}\" in\n{told}");
    }
}

const WINDOWS: &str = r#"[[class]]
name = "user"
key = "id"
[class.features]
id = "str"
status = "str"
failed = { windows = ["10m", "1d"], aggregate = "cuont" }
worst = { windows = ["1h"], aggregate = "max_by_n(status, by = score, n = 3)", filtre = "status == 1" }
part = { windows = ["1h"], aggregate = "mean(status == \"a, (\")", hop = "7m", default = 1979-05-27 }
visit = { session = "30m", aggregate = "count", filter = "status = 1" }
lone = { windows = ["1h"] }
"#;

#[test]
fn mistakes_of_windowed_features_are_told_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("karst.toml");
    std::fs::write(&path, WINDOWS).unwrap();
    let checked = check(&path, &[]);
    let told = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(2), "{told}");
    for part in [
        "karst.toml:7:1: windowed feature \"user.failed\": aggregate: there is no aggregation \"cuont\"",
        "did you mean \"count\"?",
        "karst.toml:8:80: \"worst\" has no setting \"filtre\"",
        "karst.toml:8:1: windowed feature \"user.worst\": by `score`: \"score\" is not a feature of \"user\" that updates write",
        "default: expected a text, a number, true or false, got datetime",
        "karst.toml:9:1: windowed feature \"user.part\": hop 7m does not divide the window \"1h\"",
        "karst.toml:9:1: windowed feature \"user.part\": mean((status == \"a, (\")) cannot be made of bool values",
        "karst.toml:10:1: windowed feature \"user.visit\": filter: `status = 1` is not an expression",
        "lacks \"aggregate\"",
    ] {
        assert!(told.contains(part), "no \"{part}\" in\n{told}");
    }
}

#[test]
fn the_state_of_windows_is_predicted_from_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("karst.toml");
    let declared = WINDOWS.lines().take(6).collect::<Vec<_>>().join("\n");
    let failed = "failed = { windows = [\"1h\"], aggregate = \"count\", filter = 'status == \"failed\"' }";
    std::fs::write(&path, format!("{declared}\n{failed}\n")).unwrap();
    let plan = |more: &[&str]| karst().arg("plan").arg("--config").arg(&path).args(more).output().unwrap();
    let planned = plan(&["--keys", "user=1e6"]);
    // 71 tiles of 16 bytes, and 33 bytes of the row: by hand.
    let expected = "\
user: keys: 1000000; as many events as can be
tiles: 71 of 1m

AGGREGATE                         FEATURES     BYTES OF A KEY  BYTES IN ALL
count where (status == \"failed\")  user.failed  568 B           541.7 MiB
(times and lengths)                            601 B           573.2 MiB
all, before compression, at most               1.1 KiB         1.1 GiB
";
    assert_eq!(text(&planned.stdout), expected, "{}", text(&planned.stderr));
    let json: serde_json::Value = serde_json::from_slice(&plan(&["--json"]).stdout).unwrap();
    assert_eq!((json[0]["bytes"].as_f64(), json[0]["levels"][0]["hop"].as_str()), (Some(1169.0), Some("1m")));
    let wrong = plan(&["--keys", "usr=1"]);
    assert!(text(&wrong.stderr).contains("there is no feature class \"usr\""));
    assert!(text(&plan(&["--keys", "user=many"]).stderr).contains("such as user=1e6"));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("karst.toml");
    std::fs::write(&path, "[server]\nbind = \"127.0.0.1:1\"\n").unwrap();
    let bound = |environment: Option<&str>, flags: &[&str]| {
        let mut command = karst();
        command.arg("check").arg("--config").arg(&path).args(flags);
        command.envs(environment.map(|value| ("KARST_SERVER_BIND", value)));
        let told = text(&command.output().unwrap().stdout);
        told.rsplit("127.0.0.1:").next().unwrap().trim().to_owned()
    };
    assert_eq!(bound(None, &[]), "1");
    assert_eq!(bound(Some("127.0.0.1:2"), &[]), "2");
    assert_eq!(bound(Some("127.0.0.1:2"), &["--set", "server.bind=127.0.0.1:3"]), "3");
}

#[test]
fn an_address_that_others_reach_needs_a_word() {
    let refused = karst().args(["check", "--set", "server.bind=0.0.0.0:8080"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("allow_remote"), "{}", text(&refused.stderr));
    let allowed =
        karst().args(["check", "--set", "server.bind=0.0.0.0:8080", "--set", "server.allow_remote=true"]).output().unwrap();
    assert!(allowed.status.success());
}

#[test]
fn errors_have_a_detail_and_a_hint() {
    let missing = karst().args(["check", "--config", "/nonexistent/karst.toml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
    let told = text(&missing.stderr);
    assert!(["error: cannot read", "detail: ", "hint: "].iter().all(|part| told.contains(part)), "{told}");
    let nobody =
        karst().args(["query", "--url", "http://127.0.0.1:1", "--in", "user.id=ada", "--out", "user"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    let told = text(&nobody.stderr);
    assert!(
        ["error: no answer from http://127.0.0.1:1", "hint: is `karst run` running?"].iter().all(|part| told.contains(part)),
        "{told}"
    );
}

const RIGHT: &str = r#"
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

const CLICKS: &str = r#"{"type": "click", "user_id": "ada", "page": {"url": "/"}, "visits": 1, "event_time": "2013-01-01T10:00:00Z"}
{"type": "click", "user_id": "ada", "page": {"url": "/docs"}, "visits": null, "event_time": "2013-01-01T11:00:00Z"}
{"type": "click", "user_id": "ada", "page": {"url": "/old"}, "visits": 9, "event_time": "2013-01-01T09:00:00Z"}
{"type": "click", "user_id": null, "page": {"url": "/"}, "event_time": "2013-01-01T12:00:00Z"}
{"type": "scroll", "user_id": "ada", "event_time": "2013-01-01T12:00:00Z"}
{"type": "click", "user_id": "bob", "page": {}, "event_time": "2013-01-01T12:00:00Z"}
not json
"#;

/// `karst run` in a process of its own; killed if a test fails before it is stopped.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    url: String,
}

impl Running {
    fn start(dir: &Path) -> Self {
        Self::start_in(dir, &[])
    }

    /// With this in the environment.
    fn start_in(dir: &Path, environment: &[(&str, &str)]) -> Self {
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

    fn ask(&self, args: &[&str]) -> Output {
        karst().args(args).args(["--url", &self.url]).output().unwrap()
    }

    /// Waits until all records of the file are accounted for, by asking again; bounded by the number of questions.
    fn drained(&self, records: u64) -> Json {
        for _ in 0..2000 {
            let status: Json = serde_json::from_slice(&self.ask(&["status", "--json"]).stdout).unwrap();
            if status["outcomes"]["records"] == records {
                return status;
            }
        }
        panic!("it never got to {records} records");
    }

    fn stop(mut self) -> (Option<i32>, String) {
        self.terminate();
        self.end()
    }

    fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    fn end(&mut self) -> (Option<i32>, String) {
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

/// Two classes of one resolver, the shop's key optional; the event time in a field of the source's choice, in milliseconds.
const SALES_TOML: &str = r#"
[[class]]
name = "user"
key = "id"
features = { id = "str", last_price = "int" }

[[class]]
name = "shop"
key = "id"
features = { id = "str", last_price = "int" }

[[source]]
name = "sales"
kind = "file"
path = "sales.jsonl"
event_time = "meta.at"
event_time_unit = "ms"

[[resolver]]
name = "on_sale"
source = "sales"
[resolver.set]
"user.id" = "user_id"
"user.last_price" = "price"
"shop.id" = "shop_id?"
"shop.last_price" = "price"

[server]
bind = "127.0.0.1:0"
"#;

/// In the order of time: 1, 3, 2; and one with a time that is none.
const SALES: &str = r#"{"user_id": "ada", "shop_id": "north", "price": 1, "meta": {"at": 1356998400000}}
{"user_id": "ada", "price": 3, "meta": {"at": "2013-01-01T02:00:00Z"}, "event_time": "no matter"}
{"user_id": "ada", "shop_id": "north", "price": 2, "meta": {"at": 1357002000000}}
{"user_id": "ada", "price": 4, "meta": {"at": "soon"}}
"#;

#[test]
fn a_source_names_its_event_time_and_a_resolver_writes_two_classes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("karst.toml"), SALES_TOML).unwrap();
    std::fs::write(dir.path().join("sales.jsonl"), SALES).unwrap();
    let running = Running::start(dir.path());
    let status = running.drained(4);
    assert_eq!((&status["outcomes"]["applied"], &status["outcomes"]["dead_letters"]), (&json!(3), &json!(1)), "{status}");
    assert_eq!(status["sources"][0]["partitions"][0]["dead_letters"], json!({"schema_mismatch": 1}));
    assert_eq!(
        status["sources"][0]["resolvers"],
        json!([{"name": "on_sale", "applied": 3, "nothing": 0, "skipped": 0, "failed": 0}])
    );
    let row = |class: &str, key: &str| {
        let input = format!("{class}.id={key}");
        let answer = running.ask(&["query", "--in", &input, "--out", &format!("{class}.last_price")]);
        let line = text(&answer.stdout).lines().nth(1).unwrap_or_default().to_owned();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("user", "ada"), ["user.last_price", "3", "2013-01-01T02:00:00Z", "on_sale"]);
    assert_eq!(row("shop", "north"), ["shop.last_price", "2", "2013-01-01T01:00:00Z", "on_sale"]);
    assert!(text(&running.ask(&["status"]).stdout).contains("on_sale"));
    running.stop();
}

#[test]
fn a_configuration_alone_makes_features_that_can_be_queried() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("karst.toml"), RIGHT).unwrap();
    std::fs::write(dir.path().join("clicks.jsonl"), CLICKS).unwrap();
    let running = Running::start(dir.path());
    let status = running.drained(7);
    let expected = json!({"records": 7, "applied": 3, "skipped": 2, "late": 0, "tombstones": 0, "dead_letters": 2});
    assert_eq!(status["outcomes"], expected, "{status}");

    let answer = running.ask(&["query", "--in", "user.id=ada", "--out", "user.last_page", "--out", "user.visits"]);
    let table = text(&answer.stdout);
    assert!(answer.status.success(), "{table}{}", text(&answer.stderr));
    let mut lines = table.lines();
    assert_eq!(lines.next().unwrap().split_whitespace().collect::<Vec<_>>(), ["FEATURE", "VALUE", "EVENT", "TIME", "FROM"]);
    let row = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(row(lines.next().unwrap()), ["user.last_page", "/docs", "2013-01-01T11:00:00Z", "on_click"]);
    assert_eq!(row(lines.next().unwrap()), ["user.visits", "-", "2013-01-01T11:00:00Z", "on_click"]);

    let missing = running.ask(&["query", "--in", "user.id=bob", "--out", "user.last_page"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stdout).contains("(none)"), "{}", text(&missing.stdout));
    let wrong = running.ask(&["query", "--in", "user.id=ada", "--out", "user.lastpage"]);
    assert!(text(&wrong.stderr).contains("error: the server refused with status 400"), "{}", text(&wrong.stderr));
    assert!(text(&wrong.stderr).contains("user.last_page"), "{}", text(&wrong.stderr));

    assert!(text(&running.ask(&["topology"]).stdout).starts_with("flowchart"));
    let page = text(&running.ask(&["status"]).stdout);
    assert!(page.contains("clicks[0]"), "{page}");
    let letters = text(&running.ask(&["dead-letters", "list", "--source", "clicks"]).stdout);
    assert_eq!(letters.lines().count(), 3, "{letters}");
    let position = letters.lines().nth(1).and_then(|row| row.split_whitespace().next()).unwrap();
    let whole = text(&running.ask(&["dead-letters", "show", position]).stdout);
    assert!(whole.contains("stage        stream_resolver") && whole.contains("attempt      1"), "{whole}");
    let nobody = running.ask(&["dead-letters", "replay"]);
    assert!(!nobody.status.success() && text(&nobody.stderr).contains("--source <SOURCE>"), "{}", text(&nobody.stderr));
    for verb in ["list", "replay"] {
        let typo = running.ask(&["dead-letters", verb, "--source", "clocks"]);
        let told = text(&typo.stderr);
        assert!(
            !typo.status.success() && told.contains("no source \"clocks\" is known; there is \"clicks\""),
            "{verb}: {told}"
        );
    }
    let none = running.ask(&["dead-letters", "list", "--source", "clicks", "--reason", "panicked"]);
    assert_eq!(text(&none.stdout), "none\n");
    let asked = text(&running.ask(&["dead-letters", "replay", "--source", "clicks"]).stdout);
    assert!(asked.starts_with("2 letters are being replayed"), "{asked}");
    let again = || serde_json::from_slice::<Json>(&running.ask(&["dead-letters", "list", "--json"]).stdout).unwrap();
    let failed_again = |letters: &Json| letters["letters"].as_array().unwrap().iter().all(|letter| letter["attempt"] == 2);
    assert!((0..200).any(|_| failed_again(&again())), "data that is wrong stays wrong: {}", again());
    assert!(page.contains("conservation: exact. 7 records =") && page.contains("2 dead letters kept, 0 let go"), "{page}");
    let time = running.ask(&["watermarks"]);
    let told = text(&time.stdout);
    assert!(["clicks: ", "clicks[0]", "held back by: ", "hint: "].iter().all(|part| told.contains(part)), "{told}");
    let late = running.ask(&["late"]);
    let told = text(&late.stdout);
    assert!(told.starts_with("clicks: 6 events, 0 judged late, 0 corrected"), "{told}");
    let line =
        |deadline: &str| told.lines().find(|line| line.starts_with(&format!("{deadline} "))).unwrap_or_default().to_owned();
    // The third click is two hours behind the second one; the sixth and those before it come in order.
    assert!(line("1h").contains(" 1 ") && line("2h").contains(" 0 "), "{told}");
    let health = running.ask(&["health"]);
    assert!(health.status.success() && text(&health.stdout).starts_with("well"), "{}", text(&health.stdout));

    let (code, rest) = running.stop();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("stopped"), "{rest}");
}

const PAYMENTS_TOML: &str = r#"
[[class]]
name = "card"
key = "id"
features = { id = "str", last_amount = "float" }

[[source]]
name = "payments"
kind = "kafka"
format = "avro"
SETTINGS

[[resolver]]
name = "on_payment"
source = "payments"
[resolver.set]
"card.id" = "card"
"card.last_amount" = "amount"

[server]
bind = "127.0.0.1:0"
"#;

#[test]
fn the_schema_registry_of_a_source_is_named_by_the_file_or_by_the_environment() {
    let broker = MockBroker::start(&[("payments", 1)]).unwrap();
    let producer = KafkaProducer::new(broker.bootstrap_servers()).unwrap();
    let value = [&b"\0\0\0\0\x07\x06ada"[..], &2.5f64.to_le_bytes()].concat(); // Confluent's wire format, schema 7
    producer.send("payments", 0, BrokerTime(0), None, Some(&value)).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    let (sick, stub) = (StubRegistry::start().unwrap(), StubRegistry::start().unwrap());
    sick.set_mode(StubMode::Status(503));
    stub.require("Basic YWRhOnMzY3JldA=="); // ada:s3cret
    let fields = r#"[{"name":"card","type":"string"},{"name":"amount","type":"double"}]"#;
    stub.put(7, "AVRO", &format!(r#"{{"type":"record","name":"Payment","fields":{fields}}}"#), &[]);

    let servers = format!("bootstrap_servers = \"{}\"", broker.bootstrap_servers());
    let (sick, url) = (sick.url(), stub.url());
    let table = format!(
        "schema_registry = {{ url = [\"{sick}\", \"{url}\"], username = \"ada\", password = \"s3cret\", timeout = \"2s\", \
         unknown_for = \"1s\" }}"
    );
    let with_credentials = url.replace("http://", "http://ada:s3cret@");
    let named = [
        (format!("{servers}\n{table}"), vec![]),
        (format!("{servers}\nschema_registry = {{ url = \"{with_credentials}\" }}"), vec![]),
        (servers.clone(), vec![("KAFKA_SCHEMA_REGISTRY_URL", with_credentials.as_str())]),
        (
            servers.clone(),
            vec![
                ("PAYMENTS_KAFKA_SCHEMA_REGISTRY_URL", url.as_str()),
                ("PAYMENTS_KAFKA_SCHEMA_REGISTRY_USERNAME", "ada"),
                ("PAYMENTS_KAFKA_SCHEMA_REGISTRY_PASSWORD", "s3cret"),
            ],
        ),
    ];
    for (settings, environment) in named {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("karst.toml"), PAYMENTS_TOML.replace("SETTINGS", &settings)).unwrap();
        let running = Running::start_in(dir.path(), &environment);
        running.drained(1);
        let answer = running.ask(&["query", "--in", "card.id=ada", "--out", "card.last_amount", "--json"]);
        let answer = text(&answer.stdout);
        assert!(answer.contains("2.5"), "{settings} {environment:?}: {answer}");
        assert_eq!(running.stop().0, Some(0));
    }
}

/// The threads of the engine are at work when the process ends.
#[test]
fn a_second_signal_ends_it_at_once_with_the_code_of_a_stop_that_was_not_drained() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("karst.toml"), RIGHT).unwrap();
    std::fs::write(dir.path().join("clicks.jsonl"), CLICKS.repeat(100_000)).unwrap();
    for _ in 0..6 {
        let mut running = Running::start(dir.path());
        running.terminate();
        let mut line = String::new();
        running.out.read_line(&mut line).unwrap();
        assert!(line.starts_with("stopping"), "{line}");
        running.terminate();
        let (code, rest) = running.end();
        assert_eq!(code, Some(if rest.contains("stopped") { 0 } else { 75 }), "{rest}");
    }
}

#[test]
fn a_format_whose_settings_are_wrong_is_told_by_check_with_the_line_of_its_source() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("set.pb"), b"\xff").unwrap();
    std::fs::write(dir.path().join("schema.json"), r#"{"type": "text"}"#).unwrap();
    std::fs::write(dir.path().join("no.pem"), "no certificate").unwrap();
    let wrong = [
        ("format = \"avro\"", "schema_registry = { url"),
        ("format = \"avro\"\nschema_registry = { user = \"ada\" }", "lacks \"url\""),
        ("format = \"avro\"\nschema_registry = { url = \"http://r:1\", ca_file = \"no.pem\" }", "no.pem holds no certificate"),
        ("format = \"avro\"\nschema_registry = { url = \"http://r:1\", timeout = \"1h\" }", "timeout must lie between"),
        ("format = \"protobuf\"\ndescriptor_set = \"set.pb\"\nmessage = \"shop.Payment\"", "descriptor_set: "),
        ("format = \"protobuf\"\ndescriptor_set = \"gone.pb\"\nmessage = \"shop.Payment\"", "gone.pb"),
        ("json_schema = \"schema.json\"", "format json: schema: \"text\""),
        ("format = \"text\"\njson_schema = \"schema.json\"", "format text has no setting json_schema"),
    ];
    for (settings, part) in wrong {
        let path = dir.path().join("karst.toml");
        let settings = format!("bootstrap_servers = \"localhost:1\"\n{settings}");
        std::fs::write(&path, PAYMENTS_TOML.replace("format = \"avro\"\nSETTINGS", &settings)).unwrap();
        let checked = check(&path, &[]);
        let told = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(2), "{settings}\n{told}");
        assert!(told.contains(part) && told.contains("karst.toml:"), "no \"{part}\" in\n{told}");
    }
}

#[test]
fn after_a_restart_it_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("karst.toml"), RIGHT).unwrap();
    std::fs::write(dir.path().join("clicks.jsonl"), CLICKS).unwrap();
    let first = Running::start(dir.path());
    first.drained(7);
    assert_eq!(first.stop().0, Some(0));
    let second = Running::start(dir.path());
    assert_eq!(second.drained(7)["outcomes"]["applied"], 3);
    let answer = second.ask(&["query", "--in", "user.id=ada", "--out", "user.last_page", "--json"]);
    let answer: Json = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["data"][0]["value"], "/docs");
    assert_eq!(second.stop().0, Some(0));
}

#[test]
fn a_backup_of_a_running_engine_is_restored_into_another_directory_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("karst.toml"), RIGHT).unwrap();
    std::fs::write(dir.path().join("clicks.jsonl"), CLICKS).unwrap();
    let running = Running::start(dir.path());
    running.drained(7);
    let made = running.ask(&["backup", "monday"]);
    assert!(text(&made.stdout).contains("made data/backups/monday"), "{}{}", text(&made.stdout), text(&made.stderr));
    let again = running.ask(&["backup", "monday"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("there is a backup in data/backups/monday already"), "{}", text(&again.stderr));
    assert!(text(&running.ask(&["backup", "../monday"]).stderr).contains("cannot be the name of a backup"));
    assert_eq!(running.stop().0, Some(0));

    std::fs::rename(dir.path().join("data/backups/monday"), dir.path().join("elsewhere")).unwrap();
    let restore = |to: &str| karst().args(["restore", "elsewhere", to]).current_dir(dir.path()).output().unwrap();
    let refused = restore("data");
    assert_eq!(refused.status.code(), Some(1));
    let told = text(&refused.stderr);
    assert!(told.contains("error: elsewhere was not restored into data") && told.contains("hint: "), "{told}");
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    assert!(restore("data").status.success());
    let more = r#"{"type": "click", "user_id": "ada", "page": {"url": "/new"}, "event_time": "2013-01-01T13:00:00Z"}"#;
    std::fs::write(dir.path().join("clicks.jsonl"), format!("{CLICKS}{more}\n")).unwrap();
    let running = Running::start(dir.path());
    assert_eq!(running.drained(8)["outcomes"]["applied"], 4, "the seven are known, the eighth is read");
    let answer = running.ask(&["query", "--in", "user.id=ada", "--out", "user.last_page", "--json"]);
    let answer: Json = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["data"][0]["value"], "/new");
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn a_directory_in_use_is_refused_to_a_second_process() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("karst.toml"), RIGHT).unwrap();
    std::fs::write(dir.path().join("clicks.jsonl"), CLICKS).unwrap();
    let first = Running::start(dir.path());
    first.drained(7);
    let run = ["run", "--config", "karst.toml", "--directory", "data"];
    let second = karst().args(run).current_dir(dir.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told = text(&second.stderr);
    assert!(told.contains("data is in use") && told.contains("stop the other karst process"), "{told}");
    assert_eq!(first.drained(7)["outcomes"]["applied"], 3, "the first does not mind");
    assert_eq!(first.stop().0, Some(0));
}

#[test]
fn a_file_that_was_made_anew_is_named_and_there_is_nothing_to_accept() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("karst.toml"), RIGHT).unwrap();
    std::fs::write(dir.path().join("clicks.jsonl"), CLICKS).unwrap();
    let first = Running::start(dir.path());
    first.drained(7);
    assert_eq!(first.stop().0, Some(0));
    let anew = CLICKS.replace("not json", "NOT JSON");
    std::fs::write(dir.path().join("clicks.jsonl"), format!("{anew}{anew}")).unwrap();
    let second = Running::start(dir.path());
    let mut page = String::new();
    for _ in 0..2000 {
        page = text(&second.ask(&["health"]).stdout);
        if page.contains("the log is another one") {
            break;
        }
    }
    assert!(page.contains("partition clicks[0]: the log is another one: at clicks[0]@"), "{page}");
    assert!(text(&second.ask(&["status"]).stdout).contains("halted"));
    let refused = second.ask(&["source", "accept-gap", "clicks", "--partition", "0"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("clicks[0] has no gap that could be accepted"), "{}", text(&refused.stderr));
    let unknown = second.ask(&["source", "accept-gap", "klicks", "--partition", "0"]);
    assert!(text(&unknown.stderr).contains("no source \"klicks\" is known; there is \"clicks\""), "{}", text(&unknown.stderr));
    assert_eq!(second.stop().0, Some(0));
}
