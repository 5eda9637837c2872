//! Subscriptions as a client without a library sees them: lines of a stream, and an id to come back with.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use karst::MemorySource;
use karst_server::ServerSettings;
use serde_json::{Value as Json, json};

use crate::{on_click, site::Site};
use karst::Engine;

fn site(clicks: &MemorySource, change: impl FnOnce(ServerSettings) -> ServerSettings) -> Site {
    let clicks = clicks.clone();
    Site::over(tempfile::tempdir().unwrap(), change, async move |dir| {
        Engine::builder(dir).source(clicks).resolver(on_click).start().await.unwrap()
    })
}

fn click(site: &Site, clicks: &MemorySource, user: &str, page: &str) {
    let json = json!({"user_id": user, "page": page, "at": "2013-01-01T10:00:00Z"}).to_string();
    site.runtime.block_on(clicks.send(json.as_bytes())).unwrap();
    site.drain();
}

/// A connection that stays open.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(site: &Site, query: &str, last_event: Option<&str>) -> Self {
        let mut stream = site.connect();
        let last_event = last_event.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let request = format!("GET /v1/subscribe?{query} HTTP/1.1\r\nHost: localhost\r\n{last_event}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut events = Self(BufReader::new(stream));
        let head = events.until("");
        assert!(head[0].contains("200") && head.iter().any(|line| line == "content-type: text/event-stream"), "{head:?}");
        events
    }
    fn until(&mut self, end: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the connection ended after {lines:?}");
            let line = line.trim_end().to_owned();
            let found = if end.is_empty() { line.is_empty() } else { line.starts_with(end) };
            lines.push(line);
            if found {
                return lines;
            }
        }
    }
    /// The id of the next event, and its changes: feature, key, value, kind.
    fn next(&mut self) -> (String, Vec<(String, String, Json, String)>) {
        let lines = self.until("data: ");
        let id = lines.iter().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
        let data: Json = serde_json::from_str(lines.last().unwrap().strip_prefix("data: ").unwrap()).unwrap();
        let text = |change: &Json, name: &str| change[name].as_str().unwrap().to_owned();
        let change = |change: &Json| {
            assert_eq!((&change["ts"], &change["corrected"]), (&json!("2013-01-01T10:00:00Z"), &json!(false)));
            (text(change, "feature"), text(change, "pkey"), change["value"].clone(), text(change, "kind"))
        };
        (id, data["changes"].as_array().unwrap().iter().map(change).collect())
    }
}

fn written(user: &str, page: &str) -> Vec<(String, String, Json, String)> {
    vec![("user.last_page".to_owned(), user.to_owned(), json!(page), "written".to_owned())]
}

#[test]
fn changes_come_as_events_and_a_client_that_comes_back_goes_on_where_it_was() {
    let clicks = MemorySource::json("clicks");
    let site = site(&clicks, |settings| settings);
    click(&site, &clicks, "ada", "/before");
    let mut events = Events::open(&site, "features=user.last_page&from=oldest", None);
    assert_eq!(events.next().1, written("ada", "/before"));
    click(&site, &clicks, "bob", "/1");
    let (id, told) = events.next();
    assert_eq!(told, written("bob", "/1"));
    drop(events);
    click(&site, &clicks, "ada", "/2");
    for back in [(format!("features=user&from={id}"), None), ("features=user".to_owned(), Some(&*id))] {
        assert_eq!(Events::open(&site, &back.0, back.1).next().1, written("ada", "/2"), "{back:?}");
    }
    let mut of_bob = Events::open(&site, "features=user.last_page&keys=user.id:bob&from=oldest", None);
    assert_eq!(of_bob.next().1, written("bob", "/1"));
    click(&site, &clicks, "ada", "/3");
    click(&site, &clicks, "bob", "/4");
    assert_eq!(of_bob.next().1, written("bob", "/4"));
}

#[test]
fn a_subscription_that_makes_no_sense_is_refused_and_so_is_one_too_many() {
    let clicks = MemorySource::json("clicks");
    let site = site(&clicks, |settings| {
        let mut settings = settings;
        settings.max_subscribers = 1;
        settings
    });
    for (query, part) in [
        ("", "features"),
        ("features=", "expected 1 to 1024"),
        ("features=user.last_pag", "user.last_page"),
        ("features=user&keys=ada", "user.id:ada"),
        ("features=user&keys=cart.id:7", "cart.id"),
        ("features=user&from=then", "now, oldest"),
        ("features=user&limit=7", "limit"),
        ("features=user&from=v1.1.1-1-0", "another state directory"),
    ] {
        let reply = site.get(&format!("/v1/subscribe?{query}"));
        assert_eq!(reply.status, 400, "{query}: {}", reply.body);
        assert!(reply.detail().contains(part), "{query}: {}", reply.body);
    }
    let one = Events::open(&site, "features=user", None);
    let refused = site.get("/v1/subscribe?features=user");
    assert_eq!(refused.status, 503);
    assert!(refused.detail().contains("max_subscribers"), "{}", refused.body);
    drop(one);
}
