//! The default of a reader's field, written in JSON in its schema, as a datum of the field's type (Avro specification 1.12,
//! "Complex Types", the table of default values).

use apache_avro::schema::{InnerDecimalSchema, Schema, UuidSchema};
use serde_json::Value as Json;

use super::schema::AvroSchema;

const DEPTH_MAX: u32 = 64;

/// Appends the datum of `default`; of a union it is one of the first branch that fits.
pub(super) fn encode_default(
    default: &Json,
    schema: &Schema,
    namespace: Option<&str>,
    all: &AvroSchema,
    depth: u32,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let wrong = |expected: &str| Err(format!("expected {expected}"));
    if depth > DEPTH_MAX {
        return wrong("fewer values within values");
    }
    let inner = |json: &Json, schema: &Schema, namespace: Option<&str>, out: &mut Vec<u8>| {
        encode_default(json, schema, namespace, all, depth + 1, out)
    };
    match (schema, default) {
        (Schema::Null, Json::Null) => {}
        (Schema::Boolean, Json::Bool(value)) => out.push(u8::from(*value)),
        (Schema::Int | Schema::Date | Schema::TimeMillis, Json::Number(number)) => {
            match number.as_i64().and_then(|number| i32::try_from(number).ok()) {
                Some(number) => long(i64::from(number), out),
                None => return wrong("an int of 32 bits"),
            }
        }
        (
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos,
            Json::Number(number),
        ) => match number.as_i64() {
            Some(number) => long(number, out),
            None => return wrong("a long of 64 bits"),
        },
        (Schema::Float, number) => match float(number) {
            Some(number) => out.extend_from_slice(&(number as f32).to_le_bytes()),
            None => return wrong("a float"),
        },
        (Schema::Double, number) => match float(number) {
            Some(number) => out.extend_from_slice(&number.to_le_bytes()),
            None => return wrong("a double"),
        },
        (Schema::String | Schema::Uuid(UuidSchema::String), Json::String(text)) => {
            long(text.len() as i64, out);
            out.extend_from_slice(text.as_bytes());
        }
        (Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes), Json::String(text)) => {
            let bytes = latin(text)?;
            long(bytes.len() as i64, out);
            out.extend(bytes);
        }
        (Schema::Decimal(decimal), Json::String(text)) => {
            let bytes = latin(text)?;
            match &decimal.inner {
                InnerDecimalSchema::Bytes => long(bytes.len() as i64, out),
                InnerDecimalSchema::Fixed(fixed) if bytes.len() == fixed.size => {}
                InnerDecimalSchema::Fixed(fixed) => return wrong(&format!("{} bytes", fixed.size)),
            }
            out.extend(bytes);
        }
        (Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)), Json::String(text)) => {
            let bytes = latin(text)?;
            if bytes.len() != fixed.size {
                return wrong(&format!("{} bytes", fixed.size));
            }
            out.extend(bytes);
        }
        (Schema::Enum(symbols), Json::String(text)) => match symbols.symbols.iter().position(|symbol| symbol == text) {
            Some(index) => long(index as i64, out),
            None => return wrong("a symbol of the enum"),
        },
        (Schema::Array(array), Json::Array(items)) => {
            if !items.is_empty() {
                long(items.len() as i64, out);
            }
            for item in items {
                inner(item, &array.items, namespace, out)?;
            }
            long(0, out);
        }
        (Schema::Map(map), Json::Object(entries)) => {
            if !entries.is_empty() {
                long(entries.len() as i64, out);
            }
            for (key, value) in entries {
                long(key.len() as i64, out);
                out.extend_from_slice(key.as_bytes());
                inner(value, &map.types, namespace, out)?;
            }
            long(0, out);
        }
        (Schema::Union(union), json) => {
            let start = out.len();
            for (index, variant) in union.variants().iter().enumerate() {
                long(index as i64, out);
                if inner(json, variant, namespace, out).is_ok() {
                    return Ok(());
                }
                out.truncate(start);
            }
            return wrong("a value of one of the union's branches");
        }
        (Schema::Record(record), Json::Object(entries)) => {
            let name = record.name.fully_qualified_name(namespace);
            for field in &record.fields {
                let Some(value) = entries.get(&field.name).or(field.default.as_ref()) else {
                    return wrong(&format!("the field \"{}\"", field.name));
                };
                inner(value, &field.schema, name.namespace(), out)?;
            }
        }
        (Schema::Ref { name }, json) => {
            let full = name.fully_qualified_name(namespace);
            let Some(schema) = all.named(&full.fullname(None)) else {
                return wrong(&format!("the type {full:?} to be defined"));
            };
            inner(json, schema, full.namespace(), out)?;
        }
        (schema, _) => return wrong(&format!("a value of its type, {:?}", apache_avro::schema::SchemaKind::from(schema))),
    }
    Ok(())
}

/// Not-a-number and the infinities have no form in JSON; these texts are what implementations write.
fn float(json: &Json) -> Option<f64> {
    match json {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" | "INF" => Some(f64::INFINITY),
            "-Infinity" | "-INF" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// Bytes are written as the characters of these numbers.
fn latin(text: &str) -> Result<Vec<u8>, String> {
    text.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| "expected characters up to U+00FF".to_owned())).collect()
}

/// Zigzag, 7 bits per byte.
pub(super) fn long(value: i64, out: &mut Vec<u8>) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left > 0x7f {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}
