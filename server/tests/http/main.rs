//! The server over real sockets, in front of a real engine with a memory source.
#![allow(missing_docs, clippy::unwrap_used)]

mod letters;
mod site;
mod subscribe;

use std::{io::Write, net::TcpStream, time::Duration};

use karst::{Clock, Engine, MemorySource, TimeSpan, prelude::*, runtime::SystemClock};
use karst_server::{ServerSettings, serve};
use serde_json::{Value as Json, json};

use crate::site::{Site, post_head, read};

#[derive(Message)]
struct Click {
    user_id: String,
    page: String,
    #[message(event_time)]
    at: EventTime,
}

#[features(key = "id")]
struct User {
    id: String,
    #[feature(max_staleness = "1d")]
    last_page: String,
}

#[stream(source = "clicks")]
fn on_click(click: Click) -> Updates![User::id, User::last_page] {
    updates!(click.user_id, click.page)
}

/// An engine that has applied one click of ada, and its server.
fn site() -> Site {
    site_with(|settings| settings)
}

fn site_with(change: impl FnOnce(ServerSettings) -> ServerSettings) -> Site {
    Site::over(tempfile::tempdir().unwrap(), change, async |dir| {
        let clicks = MemorySource::json("clicks");
        let engine = Engine::builder(dir).source(clicks.clone()).resolver(on_click).start().await.unwrap();
        clicks.send(r#"{"user_id": "ada", "page": "/home", "at": "2013-01-01T10:00:00Z"}"#).await.unwrap();
        clicks.finish();
        engine.drain().await.unwrap();
        engine
    })
}

const NOW: &str = "2013-01-01T11:00:00Z";

#[test]
fn a_stored_value_is_answered_with_where_it_came_from() {
    let site = site();
    let asked =
        json!({"inputs": {"user.id": "ada"}, "outputs": ["user.last_page"], "now": NOW, "include_meta": true, "explain": true});
    let reply = site.query(asked);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let mut answer = reply.json();
    let item = &mut answer["data"][0];
    assert!(item["meta"]["stored_at"].take().is_string());
    let expected = json!({"field": "user.last_page", "value": "/home", "pkey": "ada", "valid": true, "ts": "2013-01-01T10:00:00Z",
        "meta": {"chosen_resolver_fqn": "on_click", "cache_hit": true, "version": 1, "stored_at": null}});
    assert_eq!(*item, expected);
    assert!(answer["meta"]["execution_duration_s"].is_f64());
    assert!(answer["meta"]["explain_output"].as_str().unwrap().contains("written by on_click"));
}

/// A process that ended while some thread still closed a database was aborted by RocksDB, whose globals were gone by then.
#[test]
fn when_engine_and_server_have_stopped_nothing_keeps_the_state_directory_open() {
    for round in 0..12 {
        let site = site();
        site.query(json!({"inputs": {"user.id": "ada"}, "outputs": ["user.id"]})); // its connection is kept alive
        let dir = site.close();
        let lock = std::fs::File::open(dir.path().join("LOCK")).unwrap();
        lock.try_lock().unwrap_or_else(|error| panic!("stop {round}: {error}"));
    }
}

#[test]
fn the_smallest_query_has_the_smallest_answer() {
    let reply = site().query(json!({"inputs": {"user.id": "ada"}, "outputs": ["user.id"]}));
    assert_eq!(reply.json(), json!({"data": [{"field": "user.id", "value": "ada", "valid": true}]}));
}

#[test]
fn a_missing_and_a_stale_value_are_errors_of_their_feature_in_a_200() {
    let site = site();
    for asked in [
        json!({"inputs": {"user.id": "nobody"}, "outputs": ["user.last_page"], "now": NOW}),
        json!({"inputs": {"user.id": "ada"}, "outputs": ["user.last_page"], "now": "2013-01-03T00:00:00Z"}),
        json!({"inputs": {"user.id": "ada"}, "outputs": ["user.last_page"], "now": NOW, "staleness": {"user.last_page": "1m"}}),
    ] {
        let reply = site.query(asked);
        let answer = reply.json();
        assert_eq!((reply.status, &answer["data"][0]["valid"]), (200, &json!(false)), "{answer}");
        assert_eq!(answer["errors"][0]["feature"], "user.last_page");
        assert_eq!(answer["errors"][0]["category"], "FIELD");
    }
}

#[test]
fn a_wrong_query_is_a_400_that_says_what_and_where() {
    let site = site();
    let check = |asked: Json, code: &str, feature: Json, part: &str| {
        let reply = site.query(asked);
        let answer = reply.json();
        assert_eq!((reply.status, &answer["errors"][0]["code"]), (400, &json!(code)), "{answer}");
        assert_eq!(answer["errors"][0]["feature"], feature, "{answer}");
        assert!(reply.detail().contains(part), "{answer}");
        assert!(answer["trace"].is_string());
    };
    check(
        json!({"inputs": {"user.id": "ada"}, "outputs": ["user.last_pag"]}),
        "RESOLVER_NOT_FOUND",
        json!("user.last_pag"),
        "user.last_page",
    );
    check(
        json!({"inputs": {"user.id": 7}, "outputs": ["user"]}),
        "VALIDATION_FAILED",
        json!("user.id"),
        "expected str, got a number",
    );
    check(json!({"inputs": {"user.id": null}, "outputs": ["user"]}), "VALIDATION_FAILED", json!("user.id"), "user.id");
    check(json!({"inputs": {}, "outputs": ["user.last_page"]}), "INVALID_QUERY", json!("user.last_page"), "user.id");
    check(json!({"inputs": {"user.id": "ada"}, "outputs": []}), "INVALID_QUERY", json!(null), "no outputs");
    let many = vec!["user.id"; 1025];
    check(json!({"inputs": {"user.id": "ada"}, "outputs": many}), "PARSE_FAILED", json!(null), "at most 1024");
    let reply = site.post("{\"inputs\": {\"user.id\": \"ada\"},\n\"outputs\": }");
    assert_eq!(reply.status, 400);
    assert!(reply.detail().contains("line 2 column 12"), "{}", reply.body);
}

#[test]
fn a_body_that_is_too_large_is_refused_by_its_length_and_by_its_bytes() {
    let site = site_with(|settings| {
        let mut settings = settings;
        settings.max_body = "1KiB".parse().unwrap();
        settings
    });
    let announced = site.send(&post_head(10 << 20));
    assert_eq!(announced.status, 413);
    assert!(announced.detail().contains("max_body"), "{}", announced.body);
    let chunk = "a".repeat(2000);
    let head = "POST /v1/query/online HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = site.send(&format!("{head}{:x}\r\n{chunk}\r\n0\r\n\r\n", chunk.len()));
    assert_eq!(chunked.status, 413, "{}", chunked.body);
}

#[test]
fn a_body_that_does_not_arrive_is_a_408_and_others_are_answered_meanwhile() {
    let site = site_with(|settings| {
        let mut settings = settings;
        settings.request_timeout = TimeSpan::from_millis(200);
        settings
    });
    let mut slow = site.connect();
    slow.write_all(post_head(100).as_bytes()).unwrap();
    assert_eq!(site.get("/healthz").status, 200);
    let reply = read(&slow);
    assert_eq!(reply.status, 408, "{}", reply.body);
}

#[test]
fn what_is_not_there_is_told_as_json() {
    let site = site();
    let reply = site.get("/nope\x1b[31m");
    assert!(matches!(reply.status, 400 | 404), "{}", reply.body);
    let reply = site.get("/nope");
    assert_eq!(reply.status, 404);
    assert!(reply.detail().contains("/v1/query/online"));
    let reply = site.get("/v1/query/online");
    assert_eq!(reply.status, 405);
    assert!(reply.head.to_lowercase().contains("allow: post") && reply.detail().contains("takes POST"), "{}", reply.head);
}

#[test]
fn a_name_that_is_not_this_machines_is_refused() {
    let site = site();
    let reply = site.send("GET /healthz HTTP/1.1\r\nHost: evil.example:8080\r\n\r\n");
    assert_eq!(reply.status, 421);
    for host in ["localhost:1", "127.0.0.1", "[::1]:80"] {
        assert_eq!(site.send(&format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")).status, 200);
    }
}

#[test]
fn operators_pages_tell_how_it_is() {
    let site = site();
    let health = site.get("/healthz");
    assert_eq!((health.status, &health.json()["healthy"]), (200, &json!(true)), "{}", health.body);
    let status = site.get("/v1/status").json();
    assert_eq!((&status["outcomes"]["applied"], &status["sources"][0]["name"]), (&json!(1), &json!("clicks")));
    assert_eq!(status["watermark"], "2013-01-01T10:00:00Z");
    let time = &site.get("/v1/watermarks").json()["sources"][0];
    assert_eq!((&time["name"], &time["held_by"], &time["max_drift"]), (&json!("clicks"), &json!(0), &json!("infinity")));
    assert_eq!(time["partitions"][0]["watermark"], "2013-01-01T10:00:00Z");
    assert!(time["hint"].is_string() && time["partitions"][0]["state"].is_string(), "{time}");
    let late = site.get("/v1/late").json();
    let source = &late["sources"][0];
    assert_eq!((&source["name"], &source["events"], &source["late"]), (&json!("clicks"), &json!(1), &json!(0)));
    assert_eq!((&source["late_arrival_deadline"], &source["late_lane"]), (&json!("infinity"), &json!("drop")));
    assert_eq!(source["candidates"][0], json!({"deadline": "0s", "deadline_us": 0, "late": 0, "share": 0.0}));
    assert!(site.get("/topology").body.contains("flowchart"));
    let topology = site.get("/topology?format=json").json();
    assert!(
        topology["stages"].as_array().unwrap().iter().any(|stage| stage["hop"] == "parse_stage" && stage["healthy"] == true)
    );
    site.query(json!({"inputs": {"user.id": "ada"}, "outputs": ["user"], "now": NOW}));
    let metrics = site.get("/metrics").body;
    for name in [
        "karst_server_query_seconds_bucket",
        "karst_server_requests_total{",
        "karst_actors_lateness_seconds_bucket{",
        "karst_actors_partition_state{",
        "karst_actors_records_total{",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    site.server.as_ref().unwrap().announce_stop();
    let health = site.get("/healthz");
    assert_eq!(health.status, 503);
    assert!(health.body.contains("shutting down"));
}

/// What Chalk's Python client does: headers and body in two writes, Nagle on. Without TCP_QUICKACK each takes 40 ms or more.
#[test]
fn a_client_that_writes_twice_does_not_wait_for_a_delayed_acknowledgement() {
    let site = site();
    let mut stream = site.connect();
    stream.set_nodelay(false).unwrap();
    let body = json!({"inputs": {"user.id": "ada"}, "outputs": ["user.last_page"], "now": NOW}).to_string();
    let mut took: Vec<Duration> = (0..41)
        .map(|_| {
            let began = SystemClock.elapsed();
            stream.write_all(post_head(body.len()).as_bytes()).unwrap();
            stream.write_all(body.as_bytes()).unwrap();
            assert_eq!(read(&stream).status, 200);
            SystemClock.elapsed() - began
        })
        .collect();
    took.sort();
    assert!(took[20] < Duration::from_millis(20), "half of the requests took longer than {:?}", took[20]);
}

#[test]
fn after_a_stop_the_port_is_free_again() {
    let mut site = site();
    let server = site.server.take().unwrap();
    site.runtime.block_on(server.stop());
    assert!(TcpStream::connect(site.address).is_err());
    std::net::TcpListener::bind(site.address).unwrap();
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let site = site();
    let engine = site.engine.as_ref().unwrap();
    let Err(error) = site.runtime.block_on(serve(engine.handle(), ServerSettings::at(site.address))) else {
        panic!("it was taken")
    };
    assert!(error.to_string().contains("cannot listen at"), "{error}");
    assert!(error.hint().unwrap().contains("another port"));
}
