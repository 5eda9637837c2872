//! The registry against the stub: what is asked, what is kept, and whose fault it is.

use std::time::Duration;

use super::*;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

const NOW: Duration = Duration::from_secs(1);

#[test]
fn a_schema_is_asked_for_once_with_all_it_refers_to() {
    let stub = StubRegistry::start().unwrap();
    stub.put(7, "AVRO", "{a}", &[("b", "b-value", 2)]);
    stub.put_version("b-value", 2, "{b}", &[("c", "c-value", 1)]);
    stub.put_version("c-value", 1, "{c}", &[]);
    let registry = SchemaRegistry::new(stub.url());
    assert!(registry.known(7).is_none() && registry.wants(7, NOW));
    run(registry.fetch(7, NOW)).unwrap();
    let schema = registry.known(7).unwrap().unwrap();
    assert_eq!((schema.kind.as_str(), schema.text.as_str()), ("AVRO", "{a}"));
    assert_eq!(schema.references, [("c".to_owned(), "{c}".to_owned()), ("b".to_owned(), "{b}".to_owned())]);
    assert!(!registry.wants(7, NOW * 1_000_000), "what is known is known for good");
    assert_eq!(stub.requests(), 3);
    stub.delete(7);
    assert!(registry.clone().known(7).unwrap().is_ok(), "clones share what is known, also when it is deleted there");
}

#[test]
fn an_unknown_id_stays_unknown_for_a_while_and_is_then_asked_for_again() {
    let stub = StubRegistry::start().unwrap();
    let registry = SchemaRegistry::new(stub.url()).unknown_for("10s");
    run(registry.fetch(9, NOW)).unwrap();
    assert!(registry.known(9).unwrap().unwrap_err().contains("there is no schema 9"));
    assert!(!registry.wants(9, NOW + Duration::from_secs(10)));
    assert!(registry.wants(9, NOW + Duration::from_secs(11)));
    stub.put(9, "AVRO", "\"int\"", &[]);
    run(registry.fetch(9, NOW + Duration::from_secs(11))).unwrap();
    assert!(registry.known(9).unwrap().is_ok());
}

#[test]
fn a_reference_that_is_gone_or_a_circle_of_them_makes_the_schema_unknown() {
    let stub = StubRegistry::start().unwrap();
    stub.put(1, "AVRO", "{}", &[("gone", "gone", 1)]);
    let registry = SchemaRegistry::new(stub.url());
    run(registry.fetch(1, NOW)).unwrap();
    assert!(registry.known(1).unwrap().unwrap_err().contains("\"gone\" version 1"));
    stub.put(2, "AVRO", "{}", &[("me", "me", 1)]);
    stub.put_version("me", 1, "{}", &[("me", "me", 1)]);
    run(registry.fetch(2, NOW)).unwrap();
    assert!(registry.known(2).unwrap().unwrap_err().contains("to itself"));
}

#[test]
fn what_is_not_the_answer_of_a_registry_is_never_an_unknown_schema() {
    let stub = StubRegistry::start().unwrap();
    let registry = SchemaRegistry::new(stub.url()).timeout("1s");
    let modes = [
        StubMode::Down,
        StubMode::Status(500),
        StubMode::Status(503),
        StubMode::Status(404),
        StubMode::Status(429),
        StubMode::Status(200),
    ];
    for mode in modes {
        stub.set_mode(mode);
        let unavailable = run(registry.fetch(7, NOW)).unwrap_err();
        assert!(unavailable.0.contains(&stub.url()), "{mode:?}: {unavailable}");
        assert!(registry.known(7).is_none() && registry.wants(7, NOW), "{mode:?}");
    }
}

#[test]
fn user_and_password_are_sent_and_a_refusal_is_told_without_the_password() {
    let stub = StubRegistry::start().unwrap();
    stub.require("Basic YWRhOnMzY3JldA==");
    stub.put(7, "AVRO", "\"int\"", &[]);
    let refused = run(SchemaRegistry::new(stub.url()).basic_auth("ada", "wr0ng").fetch(7, NOW)).unwrap_err();
    assert!(refused.0.contains("refuses user and password") && !refused.0.contains("wr0ng"), "{refused}");
    let registry = SchemaRegistry::new(stub.url()).basic_auth("ada", "s3cret");
    run(registry.fetch(7, NOW)).unwrap();
    assert!(registry.known(7).unwrap().is_ok());
}

#[test]
fn the_second_url_is_asked_when_the_first_fails_and_only_when_all_have_failed_is_it_unavailable() {
    let (sick, well) = (StubRegistry::start().unwrap(), StubRegistry::start().unwrap());
    sick.set_mode(StubMode::Status(503));
    well.put(7, "AVRO", "\"int\"", &[]);
    let registry = SchemaRegistry::new(sick.url()).url(well.url());
    run(registry.fetch(7, NOW)).unwrap();
    assert!(registry.wants(7, NOW), "the first try only moved on");
    run(registry.fetch(7, NOW)).unwrap();
    assert!(registry.known(7).unwrap().is_ok());
    well.set_mode(StubMode::Down);
    let tries: Vec<bool> = (0..2).map(|_| run(registry.fetch(8, NOW)).is_ok()).collect();
    assert_eq!(tries, [true, false]);
}
