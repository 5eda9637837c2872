//! Protobuf by description: reading ends, and reads what prost reads.
#![no_main]

mod common;

use std::{collections::BTreeMap, sync::OnceLock};

use common::{Mixed, decode};
use karst_connectors::{Format, codec::ProtobufFormat};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

const PROTO: &str = r#"syntax = "proto3";
import "google/protobuf/timestamp.proto";
message Mixed {
  string name = 1; double amount = 2; optional int64 count = 3; repeated int32 items = 5; bytes raw = 6;
  google.protobuf.Timestamp at = 7; bool flag = 8; Mixed next = 9; map<string, Mixed> more = 10;
}"#;

#[derive(prost::Message, Clone, PartialEq)]
struct Typed {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(double, tag = "2")]
    amount: f64,
    #[prost(int64, optional, tag = "3")]
    count: Option<i64>,
    #[prost(int32, repeated, tag = "5")]
    items: Vec<i32>,
    #[prost(bytes = "vec", tag = "6")]
    raw: Vec<u8>,
    #[prost(message, optional, tag = "7")]
    at: Option<Timestamp>,
    #[prost(bool, tag = "8")]
    flag: bool,
    #[prost(message, optional, boxed, tag = "9")]
    next: Option<Box<Typed>>,
    #[prost(btree_map = "string, message", tag = "10")]
    more: BTreeMap<String, Typed>,
}

#[derive(prost::Message, Clone, PartialEq)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fuzz_target!(|input: &[u8]| {
    static FORMAT: OnceLock<ProtobufFormat> = OnceLock::new();
    let format = FORMAT.get_or_init(|| Format::protobuf().proto(PROTO, "Mixed"));
    if let Ok(read) = &decode::<Mixed>(format.clone(), &[input])[0] {
        let typed = Typed::decode(input).expect("prost reads it, too");
        assert_eq!((&read.name, read.amount.to_bits(), read.count), (&typed.name, typed.amount.to_bits(), typed.count));
        let micros = |at: &Timestamp| i128::from(at.seconds) * 1_000_000 + i128::from(at.nanos).div_euclid(1_000);
        assert_eq!(read.at.map(|at| i128::from(at.0)), typed.at.as_ref().map(micros));
        assert_eq!((&read.items, read.raw.as_ref(), read.flag), (&typed.items, Some(&typed.raw), typed.flag));
    }
});
