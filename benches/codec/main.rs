//! Measures what decoding a W1 card event costs in each format: nanoseconds per event and megabytes of encoded events per second,
//! by Karst's decoders and by plain libraries.
//!
//! All read the same five of the nine fields into the same struct, which owns what it holds. Karst decodes batches of 1,024
//! records, as a stage does, with framing, limits and the result per record; the libraries decode one slice after the other.
//! The least of the rounds counts, since a machine only ever adds time.
//!
//! environment  EVENTS=200000  ROUNDS=7

#![allow(clippy::print_stdout)] // its output is what it is for

#[allow(dead_code)]
#[path = "../support/w1.rs"]
mod w1;

use std::hint::black_box;

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value as AvroValue};
use karst::{
    BrokerTime, Clock as _, Format, Offset, PartitionId, SchemaRegistry, SourceSettings, Str,
    connectors::{BatchDecoder, DecodedRecord, registry::StubRegistry},
    prelude::*,
    runtime::SystemClock,
    types::{Records, message::Messages},
};
use prost::Message as _;
use serde::Deserialize;

const BATCH: usize = 1024;
type Failure = Box<dyn std::error::Error>;

/// Five of the nine fields.
#[derive(Message, Clone, PartialEq, Debug)]
struct Payment {
    user_id: Str,
    merchant: Str,
    amount: f64,
    status: Str,
    ts: i64,
}

/// All of them, as they are written.
#[derive(Deserialize, prost::Message, Clone)]
struct Event {
    #[prost(string, tag = "1")]
    transaction_id: String,
    #[prost(string, tag = "2")]
    user_id: String,
    #[prost(string, tag = "3")]
    merchant: String,
    #[prost(double, tag = "4")]
    amount: f64,
    #[prost(string, tag = "5")]
    currency: String,
    #[prost(string, tag = "6")]
    status: String,
    #[prost(string, tag = "7")]
    country: String,
    #[prost(string, tag = "8")]
    ip: String,
    #[prost(int64, tag = "9")]
    ts: i64,
}

/// What a user of prost writes to read five of them.
#[derive(prost::Message, Clone)]
struct Typed {
    #[prost(string, tag = "2")]
    user_id: String,
    #[prost(string, tag = "3")]
    merchant: String,
    #[prost(double, tag = "4")]
    amount: f64,
    #[prost(string, tag = "6")]
    status: String,
    #[prost(int64, tag = "9")]
    ts: i64,
}
karst::connectors::protobuf_message!(Typed, "Typed");

const AVRO: &str = r#"{"type":"record","name":"Event","fields":[
    {"name":"transaction_id","type":"string"},{"name":"user_id","type":"string"},{"name":"merchant","type":"string"},
    {"name":"amount","type":"double"},{"name":"currency","type":"string"},{"name":"status","type":"string"},
    {"name":"country","type":"string"},{"name":"ip","type":"string"},{"name":"ts","type":"long"}]}"#;

const JSON_SCHEMA: &str = r#"{"type":"object","required":["user_id","merchant","amount","status","ts"],"properties":{
    "transaction_id":{"type":"string"},"user_id":{"type":"string"},"merchant":{"type":"string"},
    "amount":{"type":"number"},"currency":{"type":"string","maxLength":3},"status":{"type":"string"},
    "country":{"type":"string"},"ip":{"type":"string"},"ts":{"type":"integer","minimum":0}}}"#;

const PROTO: &str = r#"syntax = "proto3";
message Event {
  string transaction_id = 1; string user_id = 2; string merchant = 3; double amount = 4; string currency = 5;
  string status = 6; string country = 7; string ip = 8; int64 ts = 9;
}"#;

/// The same events in one encoding.
struct Encoded {
    values: Vec<Vec<u8>>,
    batches: Vec<Records>,
    bytes: usize,
}

impl Encoded {
    fn new(values: Vec<Vec<u8>>) -> Self {
        let batches = values.chunks(BATCH).map(|chunk| {
            let mut records = Records::new("payments".into(), PartitionId(0));
            for (offset, value) in chunk.iter().enumerate() {
                records.push(Offset(offset as i64), BrokerTime(0), None, Some(value));
            }
            records
        });
        let batches = batches.collect();
        Self { bytes: values.iter().map(Vec::len).sum(), values, batches }
    }
    fn framed(&self, prefix: &[u8]) -> Self {
        Self::new(self.values.iter().map(|value| [prefix, value].concat()).collect())
    }
}

struct Bench {
    rounds: usize,
}

impl Bench {
    /// Runs `round`, which decodes all events, and prints the least time of it.
    fn line(&self, format: &str, decoder: &str, encoded: &Encoded, mut round: impl FnMut(&Encoded)) {
        round(encoded);
        let least = (0..self.rounds)
            .map(|_| {
                let start = SystemClock.elapsed();
                round(encoded);
                SystemClock.elapsed().saturating_sub(start).as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min);
        let (ns, mb) = (least * 1e9 / encoded.values.len() as f64, encoded.bytes as f64 / 1e6 / least);
        let size = encoded.bytes as f64 / encoded.values.len() as f64;
        println!("codec format={format} decoder={decoder} ns_per_event={ns:.0} mb_per_s={mb:.0} bytes_per_event={size:.0}");
    }

    /// Karst's decoder of messages `M`.
    fn karst<M: karst::Message>(
        &self,
        name: &str,
        decoder: &str,
        format: impl Into<Format>,
        encoded: &Encoded,
    ) -> Result<(), Failure> {
        let format = format.into();
        let mut decode = format.decoder::<M>(&SourceSettings::new("payments"));
        prepare(&mut *decode, &encoded.batches[0])?;
        let first = decode.decode(&encoded.batches[0]);
        if let Some(DecodedRecord::Fault { error, .. }) = first.events.first() {
            return Err(error.clone().into());
        }
        self.line(name, decoder, encoded, |encoded| {
            for batch in &encoded.batches {
                black_box(decode.decode(batch));
            }
        });
        Ok(())
    }

    /// A library, one value after the other.
    fn plain<T>(&self, format: &str, decoder: &str, encoded: &Encoded, mut decode: impl FnMut(&[u8]) -> T) {
        self.line(format, decoder, encoded, |encoded| {
            for value in &encoded.values {
                black_box(decode(black_box(value)));
            }
        });
    }
}

fn prepare(decoder: &mut dyn BatchDecoder, records: &Records) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    while let Some(step) = decoder.prepare(records, std::time::Duration::ZERO) {
        runtime.block_on(step)?;
    }
    Ok(())
}

fn number(name: &str, default: usize) -> Result<usize, Failure> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().map_err(|error| format!("{name}={text}: {error}").into()))
}

fn main() -> Result<(), Failure> {
    let mut lines = Vec::new();
    w1::generate(number("EVENTS", 200_000)? as u64, 1, &mut lines)?;
    let bench = Bench { rounds: number("ROUNDS", 7)? };
    let whole = |line: &&[u8]| serde_json::from_slice::<Event>(line).is_ok();
    let lines: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').filter(whole).collect();
    let events = lines.iter().map(|line| serde_json::from_slice(line)).collect::<Result<Vec<Event>, _>>()?;
    let json = Encoded::new(lines.iter().map(|line| line.to_vec()).collect());

    bench.karst::<Payment>("json", "karst", Format::json(), &json)?;
    bench.karst::<Payment>("json-schema", "karst", Format::json().schema(JSON_SCHEMA), &json)?;
    bench.plain("json", "serde_json", &json, |value| serde_json::from_slice::<Payment>(value).is_ok());
    bench.plain("json", "sonic-rs", &json, |value| sonic_rs::from_slice::<Payment>(value).is_ok());
    let mut copy = Vec::new();
    bench.plain("json", "simd-json", &json, |value| {
        copy.clear();
        copy.extend_from_slice(value); // it writes into its input, and a record is not ours to write into
        simd_json::serde::from_slice::<Payment>(&mut copy).is_ok()
    });

    let registry = StubRegistry::start()?;
    registry.put(7, "AVRO", AVRO, &[]);
    registry.put(8, "PROTOBUF", PROTO, &[]);
    let schema = Schema::parse_str(AVRO)?;
    let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&schema).build()?;
    let avro = events.iter().map(|event| writer.write_value_to_vec(avro_value(event))).collect::<Result<Vec<_>, _>>()?;
    let avro = Encoded::new(avro);
    let framed = avro.framed(&[0, 0, 0, 0, 7]);
    let confluent = || SchemaRegistry::new(registry.url());
    bench.karst::<Payment>("avro", "karst", Format::avro().registry(confluent()), &framed)?;
    bench.karst::<Payment>("avro", "karst-resolved", Format::avro().registry(confluent()).reader_schema(AVRO), &framed)?;
    let reader = GenericDatumReader::builder(&schema).build()?;
    bench.plain("avro", "apache-avro", &avro, |mut value| {
        reader.read_value(&mut value).ok().and_then(|value| apache_avro::from_value::<Payment>(&value).ok()).is_some()
    });
    bench.plain("avro", "apache-avro-deser", &avro, |mut value| reader.read_deser::<Payment>(&mut value).is_ok());

    let protobuf = Encoded::new(events.iter().map(prost::Message::encode_to_vec).collect());
    let framed = protobuf.framed(&[0, 0, 0, 0, 8, 0]);
    bench.karst::<Typed>("protobuf", "karst-prost", Format::protobuf().framed(), &framed)?;
    bench.karst::<Payment>("protobuf", "karst-dynamic", Format::protobuf().registry(confluent()), &framed)?;
    bench.plain("protobuf", "prost", &protobuf, |value| Typed::decode(value).is_ok());

    // Not one of the figures counts if they did not read the same.
    let mut decoder = Format::from(Format::avro().writer_schema(AVRO)).decoder::<Payment>(&SourceSettings::new("payments"));
    let mut decoded = decoder.decode(&avro.batches[0]);
    let messages = decoded.messages.as_any_mut().downcast_mut::<Messages<Payment>>().ok_or("messages of another type")?;
    for (line, read) in lines.iter().zip(&messages.slots) {
        assert_eq!(*read, serde_json::from_slice(line).ok());
    }
    Ok(())
}

fn avro_value(event: &Event) -> AvroValue {
    let text = |name: &str, value: &String| (name.to_owned(), AvroValue::String(value.clone()));
    AvroValue::Record(vec![
        text("transaction_id", &event.transaction_id),
        text("user_id", &event.user_id),
        text("merchant", &event.merchant),
        ("amount".to_owned(), AvroValue::Double(event.amount)),
        text("currency", &event.currency),
        text("status", &event.status),
        text("country", &event.country),
        text("ip", &event.ip),
        ("ts".to_owned(), AvroValue::Long(event.ts)),
    ])
}
