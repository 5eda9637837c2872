//! What stands before a datum (Confluent's wire format for Avro and Protobuf, the single-object encoding), and plain texts and bytes.
#![no_main]

mod common;

use common::{Mixed, decode};
use karst_connectors::{DecodedRecord, Format, SchemaRegistry};
use karst_types::Reason;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // A registry that is never asked knows no schema: every record is a fault, and whose is decided by its first bytes.
    let registry = || SchemaRegistry::new("http://127.0.0.1:1");
    let expected = if input.first() == Some(&0) && input.len() >= 5 { Reason::SchemaUnknown } else { Reason::Malformed };
    match &decode::<Mixed>(Format::avro().registry(registry()), &[input])[0] {
        Err(DecodedRecord::Fault { reason, .. }) => assert!(*reason == expected || input.is_empty()),
        other => panic!("read without a schema: {other:?}"),
    }
    assert!(decode::<Mixed>(Format::protobuf().registry(registry()), &[input])[0].is_err());
    decode::<Mixed>(Format::avro().single_object(["\"string\"", "\"long\""]), &[input]);
    let text = decode::<String>(Format::text(), &[input]);
    assert_eq!(text[0].as_ref().ok().map(String::as_str), std::str::from_utf8(input).ok());
    assert_eq!(decode::<Vec<u8>>(Format::bytes(), &[input])[0].as_ref().ok().map(Vec::as_slice), Some(input));
});
