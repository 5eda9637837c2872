//! Avro schemas of any text, as writer and as reader: compiling and reading end.
#![no_main]

mod common;

use common::{Mixed, decode};
use karst_connectors::{AvroSchema, Format};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // writer, reader, datum, by zero bytes
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let (writer, reader) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let datum = parts.next().unwrap_or_default();
    let (Ok(writer), Ok(reader)) = (std::str::from_utf8(writer), std::str::from_utf8(reader)) else { return };
    if AvroSchema::parse(writer, &[]).is_err() {
        return;
    }
    decode::<Mixed>(Format::avro().writer_schema(writer), &[datum]);
    if AvroSchema::parse(reader, &[]).is_ok() {
        decode::<Mixed>(Format::avro().writer_schema(writer).reader_schema(reader), &[datum]);
    }
});
