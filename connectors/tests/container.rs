//! Avro object container files as a source, written by apache-avro.
#![allow(clippy::unwrap_used)]

use apache_avro::{Codec, DeflateSettings, Schema, Writer, types::Value};
use karst_connectors::{
    Fetched, FileSource, Format, HealthState, Source,
    testing::{ManualClock, assert_source_compliance, read_to_end},
};
use karst_types::{Message, MessageSchema, Offset, PartitionId, Records, message::Messages};

const P0: PartitionId = PartitionId(0);
const SCHEMA: &str = r#"{"type":"record","name":"Line","fields":[{"name":"text","type":"string"},{"name":"n","type":"long"}]}"#;

#[derive(serde::Deserialize, Debug, PartialEq)]
struct Line {
    n: i64,
}

impl Message for Line {
    fn schema() -> &'static MessageSchema {
        &MessageSchema { name: "Line", fields: &[], event_time: None }
    }
}

fn value(n: i64) -> Value {
    Value::Record(vec![
        ("text".into(), Value::String(format!("line {n}").repeat(n as usize % 5))),
        ("n".into(), Value::Long(n)),
    ])
}

/// A file with `count` data in blocks of about 100 bytes.
fn written(count: i64, codec: Codec) -> Vec<u8> {
    let schema = Schema::parse_str(SCHEMA).unwrap();
    let mut writer = Writer::builder().schema(&schema).writer(Vec::new()).codec(codec).block_size(100).build().unwrap();
    for n in 0..count {
        writer.append_value(value(n)).unwrap();
    }
    writer.into_inner().unwrap()
}

fn file(content: &[u8]) -> (tempfile::TempDir, FileSource) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.avro");
    std::fs::write(&path, content).unwrap();
    (folder, FileSource::avro("lines", path).batch_records(7))
}

fn decoded(source: &FileSource, values: impl IntoIterator<Item = Vec<u8>>) -> Vec<Option<i64>> {
    let mut records = Records::new("lines".into(), P0);
    for (offset, value) in values.into_iter().enumerate() {
        records.push(Offset(offset as i64), Default::default(), None, Some(&value));
    }
    let mut decoded = source.resolved_format().decoder::<Line>(source.settings()).decode(&records);
    let messages = decoded.messages.as_any_mut().downcast_mut::<Messages<Line>>().unwrap();
    messages.slots.iter().map(|slot| slot.as_ref().map(|line| line.n)).collect()
}

#[tokio::test]
async fn a_container_file_passes_the_suite_with_each_codec_and_is_decoded_by_its_own_schema() {
    for codec in [Codec::Null, Codec::Deflate(DeflateSettings::default()), Codec::Snappy] {
        let (_folder, source) = file(&written(50, codec));
        let running = source.start(ManualClock::new()).unwrap();
        let mut reader = running.reader(P0).unwrap();
        reader.seek(None).await.unwrap();
        let (records, end) = read_to_end(&mut *reader).await;
        assert_eq!((records.len(), end), (50, Offset(50)));
        assert!(records.iter().enumerate().all(|(nth, record)| record.offset.0 == nth as i64));
        let values: Vec<Vec<u8>> = records.into_iter().map(|record| record.value.unwrap()).collect();
        assert_eq!(decoded(&source, values.clone()), (0..50).map(Some).collect::<Vec<_>>());
        // A source of its own, whose decoder has never seen the first one's schemas.
        let expected: Vec<_> = values.into_iter().map(Some).collect();
        assert_source_compliance(&source, ManualClock::new(), P0, &expected).await;
    }
}

#[tokio::test]
async fn a_readers_schema_is_kept() {
    let reader = |ty: &str| format!(r#"{{"type":"record","name":"Line","fields":[{{"name":"n","type":"{ty}"}}]}}"#);
    for (ty, expected) in [("long", (0..5).map(Some).collect()), ("double", vec![None; 5])] {
        let (_folder, source) = file(&written(5, Codec::Null));
        let source = source.format(Format::avro().reader_schema(reader(ty)));
        let running = source.start(ManualClock::new()).unwrap();
        let mut reader = running.reader(P0).unwrap();
        reader.seek(None).await.unwrap();
        let (records, _) = read_to_end(&mut *reader).await;
        let values = records.into_iter().map(|record| record.value.unwrap());
        assert_eq!(decoded(&source, values), expected, "a {ty} is handed to a message that wants a whole number");
    }
}

/// What a reader of these bytes ends with: its records, or the words of the fault.
async fn outcome(content: &[u8]) -> Result<Vec<Option<i64>>, String> {
    let (_folder, source) = file(content);
    let running = source.start(ManualClock::new()).unwrap();
    let mut reader = running.reader(P0).unwrap();
    reader.seek(None).await.map_err(|error| error.to_string())?;
    let mut values = Vec::new();
    loop {
        match reader.next().await.map_err(|error| error.to_string())? {
            Fetched::Records(records) => values.extend(records.iter().map(|record| record.value().unwrap().to_vec())),
            Fetched::EndOfLog { .. } => return Ok(decoded(&source, values)),
        }
    }
}

#[tokio::test]
async fn what_is_no_container_file_is_told_and_waited_for() {
    for content in [&b""[..], b"Obj", b"{\"n\":1}\n", b"Obj\x01\x00"] {
        assert!(outcome(content).await.is_err(), "{content:?}");
    }
    let (_folder, source) = file(b"Obj\x02");
    let running = source.start(ManualClock::new()).unwrap();
    let mut reader = running.reader(P0).unwrap();
    let error = reader.seek(None).await.unwrap_err();
    assert!(error.to_string().contains("no Avro container file"), "{error}");
    assert_eq!(error.retry(), karst_types::Retry::Backoff);
    assert!(matches!(running.health().state, HealthState::Waiting { .. }));
}

#[tokio::test]
async fn whatever_is_damaged_no_datum_disappears_silently_and_reading_ends() {
    let whole = written(30, Codec::Null);
    for cut in (0..whole.len()).step_by(7) {
        // A cut file is a fault, or was cut between two blocks: then what is there is read.
        if let Ok(read) = outcome(&whole[..cut]).await {
            assert_eq!(read, (0..read.len() as i64).map(Some).collect::<Vec<_>>());
        }
    }
    let data = whole.len() - 200;
    for at in (data..whole.len()).step_by(3) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        if let Ok(read) = outcome(&damaged).await {
            assert!(read.len() >= 25, "{} of 30, damaged at {at}", read.len());
        }
    }
}

#[tokio::test]
async fn records_are_in_the_single_object_encoding() {
    let (_folder, source) = file(&written(5, Codec::Null));
    let running = source.start(ManualClock::new()).unwrap();
    let mut reader = running.reader(P0).unwrap();
    reader.seek(None).await.unwrap();
    let (records, _) = read_to_end(&mut *reader).await;
    let schema = Schema::parse_str(SCHEMA).unwrap();
    let reference = apache_avro::GenericSingleObjectReader::builder().schema(schema).build().unwrap();
    for (n, record) in records.iter().enumerate() {
        let read = reference.read_value(&mut &record.value.as_ref().unwrap()[..]).unwrap();
        assert_eq!(read, value(n as i64));
    }
}

#[test]
fn a_container_file_holds_avro_and_nothing_else() {
    let (_folder, source) = file(&written(5, Codec::Null));
    let error = source.format(Format::text()).start(ManualClock::new()).err().unwrap();
    assert!(error.to_string().contains("a container file holds Avro, not text"), "{error}");
}
