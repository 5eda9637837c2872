//! Avro data of fixed schemas: reading ends, takes no more memory than the datum justifies, and reads only what apache-avro reads.
#![no_main]

mod common;

use std::sync::OnceLock;

use apache_avro::{Schema, reader::datum::GenericDatumReader};
use common::{Mixed, decode};
use karst_connectors::Format;
use libfuzzer_sys::fuzz_target;

const SCHEMAS: [&str; 4] = [
    r#"{"type":"record","name":"Mixed","fields":[{"name":"name","type":"string"},{"name":"amount","type":"double"},
        {"name":"count","type":["null","long"]},{"name":"items","type":{"type":"array","items":"int"}},
        {"name":"raw","type":["null","bytes"]},{"name":"flag","type":"boolean"}]}"#,
    r#"{"type":"record","name":"Mixed","fields":[{"name":"skipped","type":{"type":"map","values":{"type":"array","items":
        ["null","string",{"type":"fixed","name":"F","size":3}]}}},{"name":"name","type":"string"},{"name":"amount","type":"float"},
        {"name":"count","type":"int"},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#,
    r#"{"type":"record","name":"Mixed","fields":[{"name":"next","type":["null","Mixed"]},{"name":"name","type":"string"},
        {"name":"amount","type":"int"},{"name":"count","type":["null","long"]}]}"#,
    r#"{"type":"record","name":"Mixed","fields":[{"name":"empty","type":{"type":"array","items":"null"}},
        {"name":"name","type":{"type":"enum","name":"E","symbols":["A","B"]}},
        {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},{"name":"count","type":"null"}]}"#,
];

/// A schema, read by itself and resolved against itself, and what apache-avro makes of it.
struct Case {
    read: Format,
    resolved: Format,
    schema: Schema,
}

fn case(text: &str) -> Case {
    let read = Format::avro().writer_schema(text);
    let resolved = read.clone().reader_schema(text).into();
    Case { read: read.into(), resolved, schema: Schema::parse_str(text).expect("a schema") }
}

fuzz_target!(|input: &[u8]| {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    let cases = CASES.get_or_init(|| SCHEMAS.into_iter().map(case).collect());
    let Some((which, datum)) = input.split_first() else { return };
    let case = &cases[usize::from(*which) % SCHEMAS.len()];
    let read = decode::<Mixed>(case.read.clone(), &[datum]);
    let resolved = decode::<Mixed>(case.resolved.clone(), &[datum]);
    assert_eq!(read[0].is_ok(), resolved[0].is_ok(), "a schema resolved against itself changes nothing");
    if read[0].is_ok() {
        let mut rest = datum;
        let reader = GenericDatumReader::builder(&case.schema).build().expect("a reader");
        match reader.read_value(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "apache-avro leaves {} bytes", rest.len()),
            // Of what the message does not have, only the lengths are looked at.
            Err(error) => assert!(error.to_string().contains("utf-8"), "apache-avro does not read it: {error}"),
        }
    }
});
