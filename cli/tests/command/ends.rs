//! How a run ends, and what the next one finds.

use std::io::BufRead;

use serde_json::Value as Json;

use crate::{
    karst,
    running::{CLICKS, RIGHT, Running},
    text,
};

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
