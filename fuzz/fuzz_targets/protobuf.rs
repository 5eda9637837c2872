//! Protobuf by description: reading ends, and reads what prost reads.
#![no_main]

mod common;

use std::sync::OnceLock;

use common::{Mixed, decode};
use karst_connectors::{Format, ProtobufFormat};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

const PROTO: &str = r#"syntax = "proto3";
import "google/protobuf/timestamp.proto";
message Mixed {
  string name = 1; double amount = 2; optional int64 count = 3; repeated int32 items = 5; bytes raw = 6;
  google.protobuf.Timestamp at = 7; bool flag = 8; Mixed next = 9; map<string, Mixed> more = 10;
}"#;

#[derive(prost::Message, Clone)]
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
    #[prost(bool, tag = "8")]
    flag: bool,
}

fuzz_target!(|input: &[u8]| {
    static FORMAT: OnceLock<ProtobufFormat> = OnceLock::new();
    let format = FORMAT.get_or_init(|| Format::protobuf().proto(PROTO, "Mixed"));
    if let Ok(read) = &decode::<Mixed>(format.clone(), &[input])[0] {
        let typed = Typed::decode(input).expect("prost reads it, too: it looks at less");
        assert_eq!((&read.name, read.amount.to_bits(), read.count), (&typed.name, typed.amount.to_bits(), typed.count));
        assert_eq!((&read.items, read.raw.as_ref(), read.flag), (&typed.items, Some(&typed.raw), typed.flag));
    }
});
