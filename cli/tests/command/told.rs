//! What it says before anything runs: help, configurations, mistakes.

use crate::{check, karst, runs::PAYMENTS_TOML, text};

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
