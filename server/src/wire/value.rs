//! Feature values as JSON: whole numbers and floats as numbers (`"NaN"`, `"inf"`, `"-inf"` as text), times as RFC 3339 text,
//! bytes as base64, lists as arrays, the groups of a grouped aggregate as the members of an object.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use karst::types::{EventTime, Value, ValueType, time::parse_iso};
use serde_json::Value as Json;

/// A value as JSON.
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Float(value) if value.is_nan() => Json::from("NaN"),
        Value::Float(value) if value.is_infinite() => Json::from(if *value > 0.0 { "inf" } else { "-inf" }),
        Value::Float(value) => Json::from(*value),
        Value::Time(value) => Json::from(value.to_string()),
        Value::Str(value) => Json::from(value.as_str()),
        Value::Bytes(value) => Json::from(STANDARD.encode(value)),
        Value::List(values) => values.iter().map(to_json).collect(),
        Value::Map(entries) => Json::Object(entries.iter().map(|(group, value)| (member(group), to_json(value))).collect()),
    }
}

/// A group as the name of a member: text as it is, anything else as its JSON.
fn member(group: &Value) -> String {
    match to_json(group) {
        Json::String(text) => text,
        json => json.to_string(),
    }
}

/// Reads a value of a known type.
///
/// # Errors
/// `expected int, got string`: what was expected and what kind of thing was there, never the content.
pub fn from_json(json: &Json, ty: ValueType) -> Result<Value, String> {
    let mismatch = || format!("expected {ty}, got {}", kind(json));
    Ok(match (ty, json) {
        (_, Json::Null) => Value::Null,
        (ValueType::Bool, Json::Bool(value)) => Value::Bool(*value),
        (ValueType::Int, Json::Number(number)) => {
            let int = number.as_i64().or_else(|| whole(number.as_f64()?));
            Value::Int(int.ok_or_else(|| format!("expected int of 64 bits, got {number}"))?)
        }
        (ValueType::Float, Json::Number(number)) => Value::Float(number.as_f64().ok_or_else(mismatch)?),
        (ValueType::Float, Json::String(text)) => Value::Float(match text.as_str() {
            "NaN" | "nan" => f64::NAN,
            "inf" | "Infinity" => f64::INFINITY,
            "-inf" | "-Infinity" => f64::NEG_INFINITY,
            _ => return Err(mismatch()),
        }),
        (ValueType::Time, Json::String(text)) => Value::Time(parse_iso(text)?),
        (ValueType::Time, Json::Number(number)) => Value::Time(EventTime(number.as_i64().ok_or_else(mismatch)?)),
        (ValueType::Str, Json::String(text)) => Value::Str(text.as_str().into()),
        (ValueType::Bytes, Json::String(text)) => {
            Value::Bytes(STANDARD.decode(text).map_err(|_| "expected bytes in base64, got other text".to_owned())?)
        }
        _ => return Err(mismatch()),
    })
}

/// Reads a value whose feature is not known, so that the query can still be planned and the feature named as unknown.
pub fn guess(json: &Json) -> Value {
    match json {
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int),
        Json::String(text) => Value::Str(text.as_str().into()),
        Json::Null | Json::Array(_) | Json::Object(_) => Value::Null,
    }
}

/// `7.0` is a whole number: JSON does not tell one from the other, and some clients write it so.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: beyond it a float no longer names one integer
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// What kind of JSON it is, for messages.
pub fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a bool",
        Json::Number(number) if number.is_f64() => "a number with a fraction",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_reads_back_as_itself() {
        for (value, ty, wire) in [
            (Value::Null, ValueType::Int, json!(null)),
            (Value::Bool(true), ValueType::Bool, json!(true)),
            (Value::Int(i64::MIN), ValueType::Int, json!(i64::MIN)),
            (Value::Float(0.1), ValueType::Float, json!(0.1)),
            (Value::Float(2.0), ValueType::Float, json!(2.0)),
            (Value::Float(f64::NEG_INFINITY), ValueType::Float, json!("-inf")),
            (Value::Time(EventTime(1_357_034_400_000_001)), ValueType::Time, json!("2013-01-01T10:00:00.000001Z")),
            (Value::Str("naïve\n".into()), ValueType::Str, json!("naïve\n")),
            (Value::Bytes(vec![0, 255]), ValueType::Bytes, json!("AP8=")),
        ] {
            assert_eq!(to_json(&value), wire);
            assert_eq!(from_json(&wire, ty), Ok(value));
        }
        assert_eq!(to_json(&Value::Float(f64::NAN)), json!("NaN"));
    }

    #[test]
    fn a_value_of_another_type_is_refused_without_quoting_it() {
        for (wire, ty, why) in [
            (json!("secret"), ValueType::Int, "expected int, got a string"),
            (json!(7), ValueType::Str, "expected str, got a number"),
            (json!(7.5), ValueType::Int, "expected int of 64 bits, got 7.5"),
            (json!(u64::MAX), ValueType::Int, "expected int of 64 bits, got 18446744073709551615"),
            (json!([1]), ValueType::Float, "expected float, got a list"),
            (json!("not base64!"), ValueType::Bytes, "expected bytes in base64, got other text"),
            (json!({}), ValueType::Bool, "expected bool, got an object"),
        ] {
            assert_eq!(from_json(&wire, ty), Err(why.to_owned()));
        }
        assert_eq!(from_json(&json!(7.0), ValueType::Int), Ok(Value::Int(7)));
        assert!(from_json(&json!("2013-01-01"), ValueType::Time).is_err());
    }
}
