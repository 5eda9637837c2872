//! What a Kafka source is declared with. Touches neither the network nor the process's environment.
#![allow(clippy::unwrap_used, clippy::type_complexity)]

use karst_connectors::{Error, KafkaSource};

fn bare(name: &str) -> KafkaSource {
    KafkaSource::new(name).environment(|_| None)
}

#[track_caller]
fn problems(source: &KafkaSource) -> Vec<String> {
    match source.resolve() {
        Err(Error::Config { problems, .. }) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_least_that_is_needed_is_a_server() {
    let config = bare("flights").bootstrap_server("localhost:9092").resolve().unwrap();
    assert_eq!((config.topic.as_str(), config.brokers.as_str()), ("flights", "localhost:9092"));
    for (option, value) in [
        ("client.id", "karst/flights"),
        ("group.id", "karst/flights"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("check.crcs", "true"),
        ("allow.auto.create.topics", "false"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
        ("queued.max.messages.kbytes", "4096"),
    ] {
        assert_eq!(config.option(option).as_deref(), Some(value), "{option}");
    }
    assert_eq!(
        problems(&bare("flights")),
        ["no bootstrap server: call .bootstrap_server(\"host:9092\"), or set FLIGHTS_KAFKA_BOOTSTRAP_SERVER"]
    );
}

#[test]
fn unset_values_come_from_the_environment_own_name_first() {
    let source = KafkaSource::new("my-flights").client_id_prefix("mine/").environment(|name| {
        Some(match name {
            "MY_FLIGHTS_KAFKA_BOOTSTRAP_SERVER" => "a:1, b:2 c:3".into(),
            "KAFKA_BOOTSTRAP_SERVER" => "never:1".into(),
            "MY_FLIGHTS_KAFKA_TOPIC" => "departures".into(),
            "KAFKA_SECURITY_PROTOCOL" => "SASL_PLAINTEXT".into(),
            "KAFKA_SASL_MECHANISM" => "SCRAM-SHA-512".into(),
            "MY_FLIGHTS_KAFKA_SASL_USERNAME" => "ada".into(),
            "MY_FLIGHTS_KAFKA_SASL_PASSWORD" => "hunter2".into(),
            "MY_FLIGHTS_KAFKA_CLIENT_ID_PREFIX" => "overruled/".into(),
            "MY_FLIGHTS_KAFKA_GROUP_ID_PREFIX" => "group/".into(),
            "MY_FLIGHTS_KAFKA_ADDITIONAL_KAFKA_ARGS" => r#"{"retry.backoff.ms": "250", "fetch.wait.max.ms": 20}"#.into(),
            _ => return None,
        })
    });
    let config = source.resolve().unwrap();
    assert_eq!((config.topic.as_str(), config.brokers.as_str()), ("departures", "a:1,b:2,c:3"));
    for (option, value) in [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanisms", "SCRAM-SHA-512"),
        ("sasl.username", "ada"),
        ("client.id", "mine/my-flights"),
        ("group.id", "group/my-flights"),
        ("retry.backoff.ms", "250"),
        ("fetch.wait.max.ms", "20"),
    ] {
        assert_eq!(config.option(option).as_deref(), Some(value), "{option}");
    }
}

#[test]
fn an_unprefixed_topic_in_the_environment_is_not_for_every_source() {
    let source =
        KafkaSource::new("flights").bootstrap_server("a:1").environment(|name| (name == "KAFKA_TOPIC").then(|| "x".into()));
    assert_eq!(source.resolve().unwrap().topic, "flights");
}

#[test]
fn all_problems_are_reported_at_once() {
    let source = bare("flights")
        .bootstrap_server("localhost")
        .topic("no good")
        .security_protocol("SASL_SSL")
        .sasl_mechanism("PLAIN")
        .ssl_ca_file("/no/such/file.pem")
        .additional_kafka_arg("enable.auto.commit", "true")
        .additional_kafka_arg("auto.offset.reset", "earliest")
        .additional_kafka_arg("no.such.option", "1")
        .additional_kafka_arg("fetch.wait.max.ms", "soon")
        .msk_iam_auth(true)
        .late_arrival_deadline("1 fortnight");
    let problems = problems(&source);
    for expected in [
        "late_arrival_deadline: ",
        "bootstrap server \"localhost\": expected host:port",
        "topic \"no good\" is no name of a topic",
        "security_protocol SASL_SSL needs a sasl_username",
        "security_protocol SASL_SSL needs a sasl_password",
        "ssl_ca_file \"/no/such/file.pem\": there is no such file",
        "additional_kafka_args must not set enable.auto.commit: ",
        "additional_kafka_args must not set auto.offset.reset: a gap in the log must stop the partition",
        "No such configuration property: \"no.such.option\"",
        "Invalid value for configuration property \"fetch.wait.max.ms\": \"soon\"",
        "msk_iam_auth is not supported yet",
    ] {
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected} is missing in {problems:#?}");
    }
    assert_eq!(problems.len(), 11, "{problems:#?}");
}

#[test]
fn mechanisms_that_this_build_lacks_say_so() {
    let with =
        |mechanism: &str| bare("flights").bootstrap_server("a:1").security_protocol("SASL_SSL").sasl_mechanism(mechanism);
    assert!(problems(&with("GSSAPI"))[0].contains("built without libsasl2; use SCRAM-SHA-512"));
    assert!(problems(&with("OAUTHBEARER"))[0].contains("no token provider yet"));
    assert!(problems(&with("MAGIC"))[0].starts_with("sasl_mechanism \"MAGIC\": expected one of PLAIN, "));
    let unused = bare("flights").bootstrap_server("a:1").sasl_mechanism("PLAIN");
    assert!(problems(&unused)[0].contains("has no effect with security_protocol PLAINTEXT"));
    let java = bare("flights").bootstrap_server("a:1").security_protocol("SSL").ssl_keystore_location("/etc/keys.jks");
    assert!(problems(&java)[0].contains("librdkafka reads PKCS#12"));
}

#[test]
fn a_setting_given_twice_is_a_problem() {
    let source =
        bare("flights").bootstrap_server("a:1").security_protocol("SSL").additional_kafka_arg("security.protocol", "SSL");
    assert_eq!(problems(&source), ["security.protocol is given twice: by security_protocol and in additional_kafka_args"]);
}

#[test]
fn secrets_are_never_shown() {
    let source = bare("flights")
        .bootstrap_server("a:1")
        .security_protocol("SASL_PLAINTEXT")
        .sasl_mechanism("PLAIN")
        .sasl_username("ada")
        .sasl_password("hunter2")
        .ssl_keystore_password("hunter2")
        .additional_kafka_arg("ssl.key.password", "hunter2")
        .additional_kafka_arg("ssl.key.pem", "hunter2");
    let config = source.resolve().unwrap();
    let shown = format!("{source:?} {config:?} {:?} {:?}", config.option("sasl.password"), source.clone().topic("?").resolve());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("ada"));
}
