//! What a configuration alone makes: features that can be queried.

use std::time::Duration;

use karst::{
    BrokerTime, KafkaProducer,
    connectors::{
        kafka::mock::MockBroker,
        registry::{StubMode, StubRegistry},
    },
};
use serde_json::{Value as Json, json};

use crate::{
    running::{CLICKS, RIGHT, Running},
    text,
};

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

pub(crate) const PAYMENTS_TOML: &str = r#"
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
