//! Protobuf against prost, which writes and reads the same messages by types.

use std::collections::BTreeMap;

use karst_types::{BrokerTime, EventTime, MessageSchema, Offset, PartitionId, message::Messages};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{Format, SourceSettings, protobuf_message, registry::StubRegistry};

const PROTO: &str = r#"
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message Unused { string a = 1; }
message Payment {
  string card = 1; double amount = 2; optional int64 count = 3; Status status = 4; repeated sint32 items = 5;
  map<string, uint64> sums = 6; bytes raw = 7; Shop shop = 8; google.protobuf.Timestamp at = 9; google.protobuf.StringValue note = 10;
  enum Status { UNKNOWN = 0; GOOD = 1; BAD = 2; }
  message Shop { string name = 1; bool open = 2; float score = 3; }
}
"#;

#[derive(prost::Message, Clone, PartialEq)]
struct Payment {
    #[prost(string, tag = "1")]
    card: String,
    #[prost(double, tag = "2")]
    amount: f64,
    #[prost(int64, optional, tag = "3")]
    count: Option<i64>,
    #[prost(int32, tag = "4")]
    status: i32,
    #[prost(sint32, repeated, tag = "5")]
    items: Vec<i32>,
    #[prost(btree_map = "string, uint64", tag = "6")]
    sums: BTreeMap<String, u64>,
    #[prost(bytes = "vec", tag = "7")]
    raw: Vec<u8>,
    #[prost(message, optional, tag = "8")]
    shop: Option<Shop>,
    #[prost(message, optional, tag = "9")]
    at: Option<Timestamp>,
    #[prost(message, optional, tag = "10")]
    note: Option<Note>,
}
#[derive(prost::Message, Clone, PartialEq)]
struct Shop {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "2")]
    open: bool,
    #[prost(float, tag = "3")]
    score: f32,
}
#[derive(prost::Message, Clone, PartialEq)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}
#[derive(prost::Message, Clone, PartialEq)]
struct Note {
    #[prost(string, tag = "1")]
    value: String,
}
protobuf_message!(Payment, "Payment", |payment| payment.at.as_ref().map(|at| EventTime::from_secs(at.seconds)));

/// The same by description: what serde makes of it.
#[derive(serde::Deserialize, Debug, PartialEq)]
struct Described {
    card: String,
    amount: f64,
    count: Option<i64>,
    status: Status,
    items: Vec<i32>,
    sums: BTreeMap<String, u64>,
    raw: Vec<u8>,
    shop: Option<DescribedShop>,
    at: Option<EventTime>,
    note: Option<String>,
}
#[derive(serde::Deserialize, Debug, PartialEq)]
struct DescribedShop {
    name: String,
    open: bool,
    score: f32,
}
#[derive(serde::Deserialize, Debug, PartialEq, Clone, Copy)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Unknown,
    Good,
    Bad,
}

impl Message for Described {
    fn schema() -> &'static MessageSchema {
        &MessageSchema { name: "Described", fields: &[], event_time: Some("at") }
    }
    fn event_time(&self) -> Option<EventTime> {
        self.at
    }
}

#[derive(serde::Deserialize, Debug)]
#[allow(dead_code)]
struct Counted {
    count: i64,
}
impl Message for Counted {
    fn schema() -> &'static MessageSchema {
        &MessageSchema { name: "Counted", fields: &[], event_time: None }
    }
}
#[derive(serde::Deserialize, Debug)]
#[allow(dead_code)]
struct Strange {
    nowhere: i64,
}
impl Message for Strange {
    fn schema() -> &'static MessageSchema {
        &MessageSchema { name: "Strange", fields: &[], event_time: None }
    }
}

fn decoded<M: Message>(format: impl Into<Format>, value: &[u8]) -> Result<M, (Reason, String)> {
    let mut records = Records::new("payments".into(), PartitionId(0));
    records.push(Offset(0), BrokerTime(0), None, Some(value));
    let mut decoder = format.into().decoder::<M>(&SourceSettings::new("payments"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    while let Some(step) = decoder.prepare(&records, Duration::ZERO) {
        runtime.block_on(step).unwrap();
    }
    let mut decoded = decoder.decode(&records);
    if let crate::DecodedRecord::Fault { reason, error } = decoded.events.remove(0) {
        return Err((reason, error));
    }
    Ok(decoded.messages.as_any_mut().downcast_mut::<Messages<M>>().unwrap().slots.remove(0).unwrap())
}

fn described(payment: &Payment) -> Described {
    let status = [Status::Unknown, Status::Good, Status::Bad][payment.status as usize];
    let at = payment.at.as_ref().map(|at| EventTime(at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000));
    let shop = payment.shop.as_ref();
    let shop = shop.map(|shop| DescribedShop { name: shop.name.clone(), open: shop.open, score: shop.score });
    let Payment { card, amount, count, items, sums, raw, note, .. } = payment.clone();
    let note = note.map(|note| note.value);
    Described { card, amount, count, status, items, sums, raw, shop, at, note }
}

fn payment() -> impl Strategy<Value = Payment> {
    let shop = prop::option::of((".{0,3}", any::<bool>(), -9f32..9.0));
    let shop = shop.prop_map(|shop| shop.map(|(name, open, score)| Shop { name, open, score }));
    let at = prop::option::of((-9_999_999i64..9_999_999_999, 0i32..1_000_000_000));
    let at = at.prop_map(|at| at.map(|(seconds, nanos)| Timestamp { seconds, nanos }));
    let first = (".{0,5}", -1e9f64..1e9, any::<Option<i64>>(), 0..3i32, prop::collection::vec(any::<i32>(), 0..5));
    let sums = prop::collection::btree_map(".{0,3}", any::<u64>(), 0..3);
    let note = prop::option::of(".{0,3}").prop_map(|note| note.map(|value| Note { value }));
    (first, sums, prop::collection::vec(any::<u8>(), 0..9), shop, at, note).prop_map(|(first, sums, raw, shop, at, note)| {
        let (card, amount, count, status, items) = first;
        Payment { card, amount, count, status, items, sums, raw, shop, at, note }
    })
}

proptest! {
    #[test]
    fn by_description_a_message_is_what_prost_says_it_is(payment in payment()) {
        let bytes = payment.encode_to_vec();
        let format = Format::protobuf().proto(PROTO, "shop.Payment");
        prop_assert_eq!(decoded::<Described>(format, &bytes).unwrap(), described(&payment));
        prop_assert_eq!(decoded::<Payment>(Format::protobuf().bare(), &bytes).unwrap(), payment);
    }

    #[test]
    fn whatever_the_bytes_are_reading_ends(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let read = decoded::<Described>(Format::protobuf().proto(PROTO, "shop.Payment"), &bytes);
        prop_assert!(read.is_ok() || read.is_err_and(|(reason, _)| [Reason::Malformed, Reason::SchemaMismatch].contains(&reason)));
    }
}

#[test]
fn a_registry_describes_the_message_with_the_index_in_the_record_and_its_imports() {
    let stub = StubRegistry::start().unwrap();
    let main = "syntax = \"proto3\"; import \"shop.proto\"; message Outer { message Inner { shop.Payment payment = 1; } }";
    stub.put(3, "PROTOBUF", main, &[("shop.proto", "shop", 1)]);
    stub.put_version("shop", 1, PROTO, &[]);
    stub.put(4, "AVRO", "\"int\"", &[]);
    stub.put(5, "PROTOBUF", "message {", &[]);
    let format = || Format::protobuf().registry(SchemaRegistry::new(stub.url()));
    #[derive(serde::Deserialize)]
    struct Inner {
        payment: Described,
    }
    impl Message for Inner {
        fn schema() -> &'static MessageSchema {
            &MessageSchema { name: "Inner", fields: &[], event_time: None }
        }
    }
    let payment = Payment { card: "ada".into(), ..Payment::default() };
    let bytes = payment.encode_to_vec();
    let inner = [&[0, 0, 0, 0, 3, 4, 0, 0, 0x0a, bytes.len() as u8], &bytes[..]].concat();
    assert_eq!(decoded::<Inner>(format(), &inner).unwrap().payment, described(&payment));
    let fault = |value: &[u8]| decoded::<Inner>(format(), value).err().unwrap().0;
    assert_eq!(fault(&[0, 0, 0, 0, 3, 4, 0, 2, 0]), Reason::Malformed, "no such message");
    assert_eq!(fault(&[0, 0, 0, 0, 4, 0]), Reason::SchemaIncompatible);
    assert_eq!(fault(&[0, 0, 0, 0, 5, 0]), Reason::SchemaIncompatible);
    assert_eq!(fault(&[0, 0, 0, 0, 9, 0]), Reason::SchemaUnknown);
}

#[test]
fn typed_messages_ask_the_registry_for_nothing() {
    let stub = StubRegistry::start().unwrap();
    let payment = Payment { card: "ada".into(), at: Some(Timestamp { seconds: 7, nanos: 0 }), ..Payment::default() };
    let framed = [&[0, 0, 0, 0, 3, 0], &payment.encode_to_vec()[..]].concat();
    let read = decoded::<Payment>(Format::protobuf().registry(SchemaRegistry::new(stub.url())), &framed).unwrap();
    assert_eq!((&read, read.event_time()), (&payment, Some(EventTime::from_secs(7))));
    assert_eq!(stub.requests(), 0);
    assert_eq!(decoded::<Payment>(Format::protobuf().framed(), &framed[..8]).unwrap_err().0, Reason::Malformed);
}

#[test]
fn a_field_that_was_not_written_is_the_records_fault_and_one_that_is_not_described_the_schemas() {
    let format = || Format::protobuf().proto(PROTO, "shop.Payment");
    assert_eq!(decoded::<Counted>(format(), &[]).unwrap_err().0, Reason::SchemaMismatch);
    assert_eq!(decoded::<Strange>(format(), &[]).unwrap_err().0, Reason::SchemaIncompatible);
}

/// Found by fuzzing: it was read as the last moment that there is.
#[test]
fn a_timestamp_beyond_64_bits_of_microseconds_is_the_records_fault() {
    let format = || Format::protobuf().proto(PROTO, "shop.Payment");
    for seconds in [i64::MAX, i64::MIN, i64::MAX / 1_000_000 + 1] {
        let payment = Payment { at: Some(Timestamp { seconds, nanos: 0 }), ..Payment::default() };
        let (reason, error) = decoded::<Described>(format(), &payment.encode_to_vec()).unwrap_err();
        assert_eq!(reason, Reason::SchemaMismatch);
        assert!(error.contains("google.protobuf.Timestamp"), "{error}");
    }
    let last = Payment { at: Some(Timestamp { seconds: i64::MAX / 1_000_000, nanos: 0 }), ..Payment::default() };
    assert!(decoded::<Described>(format(), &last.encode_to_vec()).is_ok());
}

#[test]
fn wrong_descriptions_are_problems_that_say_what_there_is() {
    let problems = Format::from(Format::protobuf().proto(PROTO, "Payment")).problems();
    assert!(problems[0].contains("shop.Payment"), "{problems:?}");
    assert!(!Format::from(Format::protobuf().proto("message", "Payment")).problems().is_empty());
    assert!(!Format::from(Format::protobuf().descriptor_set(b"\xff", "Payment")).problems().is_empty());
    assert!(!Format::from(Format::protobuf()).problems().is_empty());
}
