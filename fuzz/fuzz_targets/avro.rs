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

fuzz_target!(|input: &[u8]| {
    static PARSED: OnceLock<Vec<Schema>> = OnceLock::new();
    let parsed = PARSED.get_or_init(|| SCHEMAS.iter().map(|text| Schema::parse_str(text).expect("a schema")).collect());
    let Some((which, datum)) = input.split_first() else { return };
    let which = usize::from(*which) % SCHEMAS.len();
    let read = decode::<Mixed>(Format::avro().writer_schema(SCHEMAS[which]), &[datum]);
    let resolved = decode::<Mixed>(Format::avro().writer_schema(SCHEMAS[which]).reader_schema(SCHEMAS[which]), &[datum]);
    assert_eq!(read[0].is_ok(), resolved[0].is_ok(), "a schema resolved against itself changes nothing");
    if read[0].is_ok() {
        let mut rest = datum;
        let reader = GenericDatumReader::builder(&parsed[which]).build().expect("a reader");
        assert!(reader.read_value(&mut rest).is_ok() && rest.is_empty(), "apache-avro does not read it");
    }
});
