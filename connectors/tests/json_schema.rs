//! JSON documents that must hold against a JSON Schema: what passes, what is told of those that do not, and schemas that are none.
#![allow(clippy::unwrap_used)]

use karst_connectors::{DecodedRecord, Format, SourceSettings};
use karst_types::{BrokerTime, Message, MessageSchema, Offset, PartitionId, Reason, Records, message::Messages};
use proptest::prelude::*;
use serde::Deserialize;

/// It says less than the schema, so that the schema decides.
#[derive(Deserialize, Debug, PartialEq)]
struct Payment {
    #[serde(default)]
    amount: Option<f64>,
}

impl Message for Payment {
    fn schema() -> &'static MessageSchema {
        &MessageSchema { name: "Payment", fields: &[], event_time: None }
    }
}

const SCHEMA: &str = r##"{
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object", "required": ["card", "amount"], "additionalProperties": false,
    "properties": {
        "card": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 200},
        "amount": {"type": "number", "minimum": 0, "maximum": 100},
        "status": {"enum": ["good", "bad"]},
        "tags": {"type": "array", "uniqueItems": true, "items": {"type": "integer"}},
        "shop": {"$ref": "#/$defs/shop"}
    },
    "$defs": {"shop": {"type": "object", "required": ["id"],
        "properties": {"id": {"type": "integer"}, "parent": {"$ref": "#/$defs/shop"}}}}
}"##;

fn decode(schema: &str, documents: &[&str]) -> Vec<Result<Payment, (Reason, String)>> {
    let mut records = Records::new("payments".into(), PartitionId(0));
    for (offset, document) in documents.iter().enumerate() {
        records.push(Offset(offset as i64), BrokerTime(0), None, Some(document.as_bytes()));
    }
    let format = Format::from(Format::json().schema(schema));
    assert_eq!(format.problems(), Vec::<String>::new());
    let mut decoded = format.decoder::<Payment>(&SourceSettings::new("payments")).decode(&records);
    let messages = decoded.messages.as_any_mut().downcast_mut::<Messages<Payment>>().unwrap();
    let results = messages.slots.drain(..).zip(decoded.events).map(|(slot, event)| match event {
        DecodedRecord::Fault { reason, error } => Err((reason, error)),
        _ => Ok(slot.unwrap()),
    });
    results.collect()
}

#[track_caller]
fn fault(schema: &str, document: &str) -> String {
    let good = r#"{"card": "ada", "amount": 1}"#;
    let [first, bad, last] = &decode(schema, &[good, document, good])[..] else { panic!() };
    assert!(first.is_ok() && last.is_ok(), "its neighbours: {first:?} {last:?}");
    let (reason, error) = bad.as_ref().unwrap_err();
    assert_eq!(*reason, Reason::SchemaMismatch, "{error}");
    error.clone()
}

#[test]
fn a_document_that_does_not_hold_is_told_by_field_by_rule_and_by_what_was_there() {
    let told = [
        (r#"{"amount": 1}"#, r#"the document: "card" is a required property, by the JSON Schema's "/required"; got an object"#),
        (
            r#"{"card": "ada", "amount": 101}"#,
            r#"field "/amount": value is greater than the maximum of 100, by the JSON Schema's "/properties/amount/maximum"; got 101"#,
        ),
        (
            r#"{"card": "Ada", "amount": 1}"#,
            r#"field "/card": value does not match "^[a-z]+$", by the JSON Schema's "/properties/card/pattern"; got "Ada""#,
        ),
        (
            r#"{"card": "ada", "amount": 1, "tags": [1, 2, "3"]}"#,
            r#"field "/tags/2": value is not of type "integer", by the JSON Schema's "/properties/tags/items/type"; got "3""#,
        ),
        (
            r#"{"card": "ada", "amount": 1, "tags": [1, 2, 1]}"#,
            r#"field "/tags": value has non-unique elements, by the JSON Schema's "/properties/tags/uniqueItems"; got an array of 3"#,
        ),
        (
            r#"{"card": "ada", "amount": 1, "shop": {"id": 1, "parent": {"id": 2.5}}}"#,
            r#"field "/shop/parent/id": value is not of type "integer", by the JSON Schema's "/$defs/shop/properties/id/type"; got 2.5"#,
        ),
    ];
    for (document, wanted) in told {
        assert_eq!(fault(SCHEMA, document), wanted, "{document}");
    }
    for (document, field) in [
        (r#"{"card": "ada", "amount": 1, "status": "late"}"#, "\"/status\""),
        (r#"{"card": "ada", "amount": 1, "more": 1}"#, "more"),
    ] {
        assert!(fault(SCHEMA, document).contains(field), "{document}");
    }
}

#[test]
fn little_of_the_data_is_quoted() {
    let secret = "s".repeat(100_000);
    let error = fault(SCHEMA, &format!(r#"{{"card": "{secret}", "amount": 1}}"#));
    assert!(error.len() < 400 && error.contains("longer than 200"), "{error}");
    let error = fault(SCHEMA, &format!(r#"{{"card": "ada", "amount": 1, "shop": {{"{secret}": "{secret}"}}}}"#));
    assert!(error.len() < 400 && error.contains("\"/shop\""), "{error}");
}

#[test]
fn a_document_that_is_no_message_is_told_in_the_messages_words() {
    let results = decode(SCHEMA, &[r#"{"amount": "much"}"#, r#"{"amount": "#]);
    assert_eq!(results[0].as_ref().unwrap_err().0, Reason::SchemaMismatch);
    assert!(results[0].as_ref().unwrap_err().1.contains("field \"amount\": expected f64"), "{results:?}");
    assert_eq!(results[1].as_ref().unwrap_err().0, Reason::Malformed);
}

#[test]
fn the_draft_is_the_one_that_the_schema_names() {
    let old = r#"{"$schema": "http://json-schema.org/draft-04/schema#",
                  "properties": {"amount": {"minimum": 0, "exclusiveMinimum": true}}}"#;
    assert!(fault(old, r#"{"amount": 0}"#).contains("/amount"));
    let new = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"amount": {"exclusiveMinimum": 0}}}"#;
    assert!(fault(new, r#"{"amount": 0}"#).contains("/amount"));
    // To the drafts up to 7 `format` is a rule, to those after it a remark.
    let format = |draft: &str| format!(r#"{{"$schema": "{draft}", "properties": {{"ip": {{"format": "ipv4"}}}}}}"#);
    assert!(fault(&format("http://json-schema.org/draft-07/schema#"), r#"{"ip": "1.2.3"}"#).contains("/ip"));
    assert!(decode(&format("https://json-schema.org/draft/2020-12/schema"), &[r#"{"ip": "1.2.3"}"#])[0].is_ok());
}

#[test]
fn a_schema_that_is_none_is_a_problem_of_the_source_that_says_why() {
    let problem = |schema: &str| {
        let problems = Format::from(Format::json().schema(schema)).problems();
        assert_eq!(problems.len(), 1, "{schema}: {problems:?}");
        assert!(problems[0].starts_with("format json: schema: "), "{problems:?}");
        problems[0].clone()
    };
    assert!(problem("{\"type\": ").contains("line 1"));
    assert!(problem(r#"{"type": "text"}"#).contains("\"text\""));
    assert!(problem(r#"{"properties": {"amount": {"minimum": "none"}}}"#).contains("number"));
    assert!(problem(r##"{"$ref": "#/$defs/gone"}"##).contains("gone"));
    // Nothing is fetched: not from the network, not from a disk.
    for elsewhere in ["https://example.com/payment.json", "file:///etc/hostname"] {
        assert!(problem(&format!(r#"{{"$ref": "{elsewhere}"}}"#)).contains(elsewhere));
    }
}

proptest! {
    #[test]
    fn what_passes_is_what_the_rules_say(
        card in prop::option::of("[a-zA-Z]{0,3}"),
        amount in prop::option::of(-50i32..150),
        status in prop::option::of(prop_oneof![Just("good"), Just("bad"), Just("ugly")]),
        tags in prop::option::of(prop::collection::vec(0..6i32, 0..4)),
        shop in prop::option::of(any::<bool>()),
        more in prop::bool::weighted(0.1),
    ) {
        let mut document = serde_json::Map::new();
        card.iter().for_each(|card| _ = document.insert("card".into(), card.as_str().into()));
        amount.iter().for_each(|amount| _ = document.insert("amount".into(), (*amount).into()));
        status.iter().for_each(|status| _ = document.insert("status".into(), (*status).into()));
        tags.iter().for_each(|tags| _ = document.insert("tags".into(), tags.as_slice().into()));
        shop.iter().for_each(|id| _ = document.insert("shop".into(), if *id { serde_json::json!({"id": 1}) } else { serde_json::json!({}) }));
        if more {
            document.insert("more".into(), 1.into());
        }
        let unique = |tags: &Vec<i32>| tags.iter().collect::<std::collections::BTreeSet<_>>().len() == tags.len();
        let right = card.is_some_and(|card| !card.is_empty() && card.bytes().all(|byte| byte.is_ascii_lowercase()))
            && amount.is_some_and(|amount| (0..=100).contains(&amount))
            && status.is_none_or(|status| status != "ugly")
            && tags.as_ref().is_none_or(unique)
            && shop.is_none_or(|id| id)
            && !more;
        let document = serde_json::Value::Object(document).to_string();
        prop_assert_eq!(decode(SCHEMA, &[&document])[0].is_ok(), right, "{}", document);
    }
}
