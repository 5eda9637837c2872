//! How a row becomes the value of a record: JSON, or Avro in Confluent's wire format with its schema in a registry.

use apache_avro::{Schema, types::Value as Avro, writer::datum::GenericDatumWriter};
use karst::{Format, SchemaRegistry};
use serde_json::Value;

use super::data::Row;

const SCHEMA: &str = r#"{
  "type": "record", "name": "Flight", "namespace": "karst.examples",
  "fields": [
    {"name": "carrier", "type": "string"},
    {"name": "number", "type": "int"},
    {"name": "tailnum", "type": ["null", "string"], "default": null},
    {"name": "origin", "type": "string"},
    {"name": "destination", "type": "string"},
    {"name": "departure_at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}], "default": null},
    {"name": "departure_delay_minutes", "type": ["null", "long"], "default": null},
    {"name": "air_time_minutes", "type": ["null", "long"], "default": null}
  ]
}"#;

/// The encoding of the topic.
pub(crate) enum Encoding {
    Json,
    Avro { registry: String, schema: Box<Schema>, id: u32 },
}

impl Encoding {
    /// Registers the schema for values of `topic`.
    pub(crate) fn avro(registry: &str, topic: &str) -> Result<Self, String> {
        let url = format!("{}/subjects/{topic}-value/versions", registry.trim_end_matches('/'));
        let told = |error: &dyn std::fmt::Display| format!("could not register the schema at {url}: {error}");
        let body = serde_json::json!({ "schema": SCHEMA }).to_string();
        let request = ureq::post(&url).header("content-type", "application/vnd.schemaregistry.v1+json");
        let mut answer = request.send(&body).map_err(|error| told(&error))?;
        let text = answer.body_mut().read_to_string().map_err(|error| told(&error))?;
        let id = serde_json::from_str(&text).ok().and_then(|answer: Value| answer["id"].as_u64());
        let id = id.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| told(&format!("expected an id, got {text}")))?;
        let schema = Box::new(Schema::parse_str(SCHEMA).map_err(|error| error.to_string())?);
        Ok(Self::Avro { registry: registry.to_owned(), schema, id })
    }

    /// For the source that reads it.
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Json => Format::json().into(),
            Self::Avro { registry, .. } => Format::avro().registry(SchemaRegistry::new(registry)).into(),
        }
    }

    pub(crate) fn encode(&self, row: &Row) -> Result<Vec<u8>, String> {
        match self {
            Self::Json => Ok(row.json().to_string().into_bytes()),
            Self::Avro { schema, id, .. } => {
                let mut bytes = vec![0]; // the wire format: a zero, the schema's id, the datum
                bytes.extend_from_slice(&id.to_be_bytes());
                let writer = GenericDatumWriter::builder(schema).build().map_err(|error| error.to_string())?;
                writer.write_value(&mut bytes, avro(row)).map_err(|error| error.to_string())?;
                Ok(bytes)
            }
        }
    }
}

fn avro(row: &Row) -> Avro {
    let nullable = |value: Option<Avro>| match value {
        None => Avro::Union(0, Box::new(Avro::Null)),
        Some(value) => Avro::Union(1, Box::new(value)),
    };
    let field = |name: &str, value: Avro| (name.to_owned(), value);
    Avro::Record(vec![
        field("carrier", Avro::String(row.carrier.clone())),
        field("number", Avro::Int(row.number as i32)),
        field("tailnum", nullable(row.tailnum.clone().map(Avro::String))),
        field("origin", Avro::String(row.origin.clone())),
        field("destination", Avro::String(row.destination.clone())),
        field("departure_at", nullable(row.departure.map(|at| Avro::TimestampMicros(at.0)))),
        field("departure_delay_minutes", nullable(row.departure_delay.map(Avro::Long))),
        field("air_time_minutes", nullable(row.air_time.map(Avro::Long))),
    ])
}
