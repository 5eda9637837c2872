//! Bad input, record by record: each is a fault with its reason and words that help, and never disturbs its neighbours.
#![allow(clippy::unwrap_used, clippy::type_complexity)]

use karst_connectors::{BatchDecoder, DecodedRecord, JsonDecoder, SourceSettings};
use karst_types::{
    BrokerTime, EventTime, FieldSchema, Invalid, Message, MessageSchema, Offset, PartitionId, Reason, Records,
    message::Messages,
};
use serde::Deserialize;

#[derive(Deserialize, Debug, PartialEq)]
struct Card {
    user_id: String,
    amount: f64,
    #[serde(default)]
    count: u8,
    at: Option<EventTime>,
    #[serde(default)]
    shop: Option<Shop>,
    #[serde(default)]
    rest: serde_json::Value,
}

#[derive(Deserialize, Debug, PartialEq)]
struct Shop {
    id: i64,
}

impl Message for Card {
    fn schema() -> &'static MessageSchema {
        const SCHEMA: MessageSchema = MessageSchema {
            name: "Card",
            fields: &[FieldSchema::required("user_id", "String"), FieldSchema::required("amount", "f64")],
            event_time: Some("at"),
        };
        &SCHEMA
    }
    fn event_time(&self) -> Option<EventTime> {
        self.at
    }
    fn check(&self) -> Result<(), Invalid> {
        if self.amount < 0.0 { Err(Invalid::new("amount", "zero or more", self.amount)) } else { Ok(()) }
    }
}

const GOOD: &[u8] = br#"{"user_id": "ada", "amount": 1.5, "at": "2024-01-01T00:00:00Z"}"#;

fn decode(values: &[Option<&[u8]>]) -> (Vec<Option<Card>>, Vec<DecodedRecord>) {
    let mut records = Records::new("cards".into(), PartitionId(0));
    for (offset, value) in values.iter().enumerate() {
        records.push(Offset(offset as i64), BrokerTime(0), Some(b"key"), *value);
    }
    let mut decoded = JsonDecoder::<Card>::new(&SourceSettings::new("cards")).decode(&records);
    assert_eq!(decoded.messages.len(), values.len());
    let messages = decoded.messages.as_any_mut().downcast_mut::<Messages<Card>>().unwrap();
    (std::mem::take(&mut messages.slots), decoded.events)
}

/// Decodes a record between two good ones, and returns its fault.
#[track_caller]
fn fault(value: &[u8]) -> (Reason, String) {
    let (messages, events) = decode(&[Some(GOOD), Some(value), Some(GOOD)]);
    for good in [0, 2] {
        assert_eq!(messages[good].as_ref().unwrap().user_id, "ada");
        assert_eq!(events[good], DecodedRecord::Message { event_time: Some(EventTime::from_secs(1_704_067_200)) });
    }
    assert!(messages[1].is_none());
    match &events[1] {
        DecodedRecord::Fault { reason, error } => (*reason, error.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_record_becomes_a_message_and_null_a_tombstone() {
    let (messages, events) = decode(&[Some(GOOD), None, Some(br#"{"user_id":"bob","amount":2,"at":null}"#)]);
    assert_eq!(messages[2].as_ref().unwrap().amount, 2.0);
    assert!(messages[1].is_none());
    assert_eq!(events[1], DecodedRecord::Tombstone);
    assert_eq!(events[2], DecodedRecord::Message { event_time: None });
}

#[test]
fn every_bad_record_has_a_reason_and_says_which_field_where_and_what_was_expected() {
    let table: &[(&[u8], Reason, &str)] = &[
        (b"", Reason::Empty, "expected a JSON document with a Card, got nothing"),
        (b" \r\n\t", Reason::Empty, "expected a JSON document with a Card, got nothing"),
        (
            br#"{"user_id": "ada", "amo"#,
            Reason::Malformed,
            "the JSON document breaks off at line 1 column 23, after 23 bytes: EOF while parsing a string",
        ),
        (br#"{"user_id": 7, "amo"#, Reason::Malformed, "the JSON document breaks off at line 1 column 19, after 19 bytes"),
        (br#"{"user_id":"ada","amount":1}}"#, Reason::Malformed, "not JSON: trailing characters at line 1 column 29"),
        (br#"{"user_id":"ada","amount":NaN}"#, Reason::Malformed, "not JSON: expected value at line 1 column 27"),
        (br#"{"user_id":"ada","amount":Infinity}"#, Reason::Malformed, "not JSON: expected value at line 1 column 27"),
        (b"\xef\xbb\xbf{}", Reason::Malformed, "expected JSON, got a byte order mark at byte 0"),
        (b"{\"user_id\":\"a\x01\"}", Reason::Malformed, "not JSON: control character"),
        (b"{\"user_id\":\"\xff\"}", Reason::NotUtf8, "expected UTF-8, got the byte 0xff at byte 12 of 15"),
        (b"\xff\xfe{\0}\0", Reason::NotUtf8, "expected UTF-8, got the byte order mark of UTF-16 at byte 0"),
        (b"null", Reason::SchemaMismatch, "the document, a Card: expected struct Card, got null at line 1 column 4"),
        (b"[1]", Reason::SchemaMismatch, "field \"[0]\": expected a string, got integer `1` at line 1 column 2"),
        (
            b"\"text\"",
            Reason::SchemaMismatch,
            "the document, a Card: expected struct Card, got string \"text\" at line 1 column 6",
        ),
        (b"{}", Reason::SchemaMismatch, "field \"user_id\": expected String, but it is missing at line 1 column 2"),
        (
            br#"{"user_id":7,"amount":1}"#,
            Reason::SchemaMismatch,
            "field \"user_id\": expected a string, got integer `7` at line 1 column 12",
        ),
        (
            br#"{"user_id":"ada","amount":1,"shop":{"id":"x, expected y"}}"#,
            Reason::SchemaMismatch,
            "field \"shop.id\": expected i64, got string \"x, expected y\" at line 1 column 56",
        ),
        (
            br#"{"user_id":"ada","amount":1,"shop":{}}"#,
            Reason::SchemaMismatch,
            "field \"shop.id\": expected a value, but it is missing at line 1 column 37",
        ),
        (
            br#"{"user_id":"ada","amount":1e400}"#,
            Reason::SchemaMismatch,
            "field \"amount\": number out of range at line 1 column",
        ),
        (
            br#"{"user_id":"ada","amount":1,"count":300}"#,
            Reason::SchemaMismatch,
            "field \"count\": expected u8, got integer `300` at line 1 column 39",
        ),
        (
            br#"{"user_id":"ada","amount":1,"shop":{"id":18446744073709551616}}"#,
            Reason::SchemaMismatch,
            "field \"shop.id\": expected i64, got floating point `1.8446744073709552e+19` at line 1 column 61",
        ),
        (
            br#"{"user_id":"ada","user_id":"bob","amount":1}"#,
            Reason::SchemaMismatch,
            "field \"user_id\": expected once, but it stands there twice at line 1 column 26",
        ),
        (br#"{"user_id":"ada","amount":-1}"#, Reason::Invalid, "field \"amount\": expected zero or more, got -1"),
    ];
    for (value, reason, error) in table {
        let found = fault(value);
        let shown = String::from_utf8_lossy(value);
        assert_eq!(found.0, *reason, "{shown}: {}", found.1);
        assert!(found.1.starts_with(error), "{shown}\n   found: {}\nexpected: {error}", found.1);
    }
}

#[test]
fn deep_nesting_is_a_fault_and_does_not_overflow_the_stack() {
    for depth in [127, 128, 129, 200, 400_000] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let text = format!(r#"{{"user_id":"ada","amount":1,"rest":{nested}}}"#);
        let (messages, events) = decode(&[Some(text.as_bytes())]);
        if depth < 127 {
            assert!(messages[0].is_some());
        } else {
            assert!(
                matches!(&events[0], DecodedRecord::Fault { reason: Reason::Malformed, error }
                if error.contains("recursion limit exceeded")),
                "{depth}: {:?}",
                events[0]
            );
        }
        assert_eq!(fault(nested.as_bytes()).0, Reason::SchemaMismatch);
        assert_eq!(fault("[".repeat(depth).as_bytes()).0, Reason::Malformed);
    }
}

#[test]
fn a_huge_record_is_too_large_before_it_is_parsed() {
    let huge = vec![b'['; 10 << 20];
    let (reason, error) = fault(&huge);
    assert_eq!(reason, Reason::TooLarge);
    assert_eq!(error, "the value has 10485760 bytes, the source's max_record_bytes is 1048576");
}

#[test]
fn little_of_the_data_is_quoted() {
    let secret = "secret".repeat(1000);
    for value in [
        format!(r#"{{"user_id":"ada","amount":"{secret}"}}"#),
        format!(r#"{{"user_id":"ada","amount":1,"shop":"{secret}"}}"#),
        format!(r#""{secret}""#),
    ] {
        let (reason, error) = fault(value.as_bytes());
        assert_eq!(reason, Reason::SchemaMismatch);
        assert!(error.len() < 300 && error.matches("secret").count() <= 14, "{error}");
    }
}

#[test]
fn a_character_split_between_two_records_is_a_fault_of_both() {
    // the arena as a whole is UTF-8: "é" is 0xc3 0xa9
    let mut records = Records::new("cards".into(), PartitionId(0));
    records.push(Offset(0), BrokerTime(0), None, Some(b"\"\xc3"));
    records.push(Offset(1), BrokerTime(0), None, Some(b"\xa9\""));
    let decoded = JsonDecoder::<Card>::new(&SourceSettings::new("cards")).decode(&records);
    for event in decoded.events {
        assert!(matches!(event, DecodedRecord::Fault { reason: Reason::NotUtf8, .. }), "{event:?}");
    }
}

#[test]
fn binary_keys_do_not_matter_to_the_value() {
    let mut records = Records::new("cards".into(), PartitionId(0));
    records.push(Offset(0), BrokerTime(0), Some(b"\xff\xfe"), Some(GOOD));
    let decoded = JsonDecoder::<Card>::new(&SourceSettings::new("cards")).decode(&records);
    assert!(matches!(decoded.events[0], DecodedRecord::Message { .. }));
}
