//! JSON: what the decoder reads is what serde_json reads, also through a shape that was learned from the document before.
#![no_main]

mod common;

use common::{Mixed, decode};
use karst_connectors::Format;
use libfuzzer_sys::fuzz_target;

/// For equality: NaN cannot be, but -0 can.
fn bits(message: &Mixed) -> (u64, Mixed) {
    (message.amount.to_bits(), message.clone())
}

fuzz_target!(|input: &[u8]| {
    // The first document teaches the shape that the second is read with.
    let (first, second) = match input.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (input, input),
    };
    let read = decode::<Mixed>(Format::json(), &[first, second, first]);
    for (value, read) in [first, second, first].into_iter().zip(read) {
        // As a text: of a slice serde_json does not look whether what it skips is UTF-8.
        let reference = std::str::from_utf8(value).ok().and_then(|text| serde_json::from_str::<Mixed>(text).ok());
        assert_eq!(read.ok().as_ref().map(bits), reference.as_ref().map(bits));
    }
});
