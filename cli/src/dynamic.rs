//! Messages and resolvers whose shape is known only at run time: JSON objects, and fields copied into features.
//!
//! Which field is the event time is a setting of the source; the field `event_time`, in microseconds, if it says nothing.

use std::fmt;

use karst::{
    EventTime, Invalid, Message, Reason, StreamResolver, TimeField, Value, ValueType,
    features::{Location, MessageSlot, ResolverError, StreamDeclaration, UpdateWriter, ValueRow},
    types::{MessageSchema, time::Unit},
};
use karst_server::wire::value;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value as Json};

/// The field that holds the event time, and what numbers in it count, unless the source says otherwise.
pub const EVENT_TIME: &str = "event_time";
/// See [`EVENT_TIME`].
pub const UNIT: Unit = Unit::Micros;

/// Characters of a wrong value that are quoted.
const QUOTED_MAX: usize = 80;

/// Any JSON object.
#[derive(Debug, Default)]
pub struct Dynamic {
    fields: Map<String, Json>,
}

impl Dynamic {
    /// The value at a path of names; `None` where it is missing or null, or something on the way is no object.
    pub fn get(&self, path: &[String]) -> Option<&Json> {
        let (first, rest) = path.split_first()?;
        let found = rest.iter().try_fold(self.fields.get(first)?, |json, name| json.get(name));
        found.filter(|json| !json.is_null())
    }
}

impl Message for Dynamic {
    fn schema() -> &'static MessageSchema {
        const SCHEMA: MessageSchema = MessageSchema { name: "JSON object", fields: &[], event_time: None };
        &SCHEMA
    }
    fn event_time_in(&self, field: &TimeField) -> Result<Option<EventTime>, Invalid> {
        let Some(json) = self.get(&field.path) else { return Ok(None) };
        field.unit.read(json).map_err(|error| {
            let got: String = json.to_string().chars().take(QUOTED_MAX).collect();
            Invalid::new(&field.path.join("."), "an event time", format_args!("{got} ({error})"))
        })
    }
}

impl<'de> Deserialize<'de> for Dynamic {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Dynamic;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Dynamic, A::Error> {
                let mut message = Dynamic::default();
                while let Some(name) = map.next_key::<String>()? {
                    let AnyJson(json) = map.next_value()?;
                    if let Some(_twice) = message.fields.insert(name, json) {
                        return Err(de::Error::custom("a field stands twice: neither value can be trusted"));
                    }
                }
                Ok(message)
            }
        }
        d.deserialize_map(Visitor)
    }
}

/// A value as JSON: bytes, which JSON does not have, as base64 text.
struct AnyJson(Json);

impl<'de> Deserialize<'de> for AnyJson {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = AnyJson;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_unit<E>(self) -> Result<AnyJson, E> {
                Ok(AnyJson(Json::Null))
            }
            fn visit_none<E>(self) -> Result<AnyJson, E> {
                Ok(AnyJson(Json::Null))
            }
            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<AnyJson, D::Error> {
                AnyJson::deserialize(d)
            }
            fn visit_bool<E>(self, value: bool) -> Result<AnyJson, E> {
                Ok(AnyJson(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<AnyJson, E> {
                Ok(AnyJson(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<AnyJson, E> {
                Ok(AnyJson(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<AnyJson, E> {
                Ok(AnyJson(value::to_json(&Value::Float(value)))) // JSON has no NaN
            }
            fn visit_str<E>(self, value: &str) -> Result<AnyJson, E> {
                Ok(AnyJson(value.into()))
            }
            fn visit_string<E>(self, value: String) -> Result<AnyJson, E> {
                Ok(AnyJson(value.into()))
            }
            fn visit_bytes<E>(self, value: &[u8]) -> Result<AnyJson, E> {
                Ok(AnyJson(value::to_json(&Value::Bytes(value.to_vec()))))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<AnyJson, A::Error> {
                let mut read = Vec::new();
                while let Some(AnyJson(item)) = items.next_element()? {
                    read.push(item);
                }
                Ok(AnyJson(read.into()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<AnyJson, A::Error> {
                let mut fields = Map::new();
                while let Some((name, AnyJson(value))) = map.next_entry::<String, _>()? {
                    fields.insert(name, value);
                }
                Ok(AnyJson(fields.into()))
            }
        }
        d.deserialize_any(Visitor)
    }
}

/// One feature, and the field of the message that its value is copied from.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its fully qualified name.
    pub feature: String,
    /// The path of names to the field.
    pub field: Vec<String>,
    /// The feature's type.
    pub ty: ValueType,
    /// Whether it may be null.
    pub nullable: bool,
    /// It is a key, and nothing is written for its class where the field is null.
    pub optional: bool,
}

/// A resolver that copies fields of a message into features, of one entity of each class that it names.
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicResolver {
    /// Its name.
    pub name: String,
    /// The source that it reads.
    pub source: String,
    /// For people.
    pub description: Option<String>,
    /// What it writes, the class's key among it.
    pub outputs: Vec<Output>,
    /// A message in which one of these is null or missing writes nothing.
    pub skip_if_null: Vec<Vec<String>>,
    /// A message in which one of these fields has another value writes nothing.
    pub wanted: Vec<(Vec<String>, Json)>,
    /// Where it was declared.
    pub declared_at: Location,
}

impl DynamicResolver {
    fn skips(&self, message: &Dynamic) -> bool {
        self.skip_if_null.iter().any(|path| message.get(path).is_none())
            || self.wanted.iter().any(|(path, wanted)| message.get(path) != Some(wanted))
    }
}

impl Output {
    fn class(&self) -> &str {
        self.feature.split_once('.').map_or("", |(class, _)| class)
    }
    fn read(&self, message: &Dynamic) -> Result<Value, ResolverError> {
        let json = message.get(&self.field).unwrap_or(&Json::Null);
        let wrong = |why: String| {
            let error = format!("field \"{}\" for {}: {why}", self.field.join("."), self.feature);
            ResolverError { reason: Reason::Invalid, message: error }
        };
        let value = value::from_json(json, self.ty).map_err(wrong)?;
        if value == Value::Null && !self.nullable && !self.optional {
            return Err(wrong(format!("expected {}, got null", self.ty)));
        }
        Ok(value)
    }
}

impl StreamResolver for DynamicResolver {
    type Message = Dynamic;
    type Row = ValueRow;

    fn declaration(&self) -> StreamDeclaration {
        let outputs = self.outputs.iter().map(|output| output.feature.as_str());
        let declaration =
            StreamDeclaration::of::<Self>(&self.name, &self.source, outputs).declared_at(self.declared_at.clone());
        let optional = self.outputs.iter().filter(|output| output.optional);
        let declaration = optional.fold(declaration, |declaration, key| declaration.optional_key(&key.feature));
        self.description.iter().fold(declaration, |declaration, text| declaration.description(text))
    }

    fn resolve(&self, message: MessageSlot<'_, Dynamic>, out: &mut UpdateWriter<'_, ValueRow>) -> Result<(), ResolverError> {
        let message = message.get();
        if self.skips(message) {
            return Ok(());
        }
        let left_out: Vec<&str> = self
            .outputs
            .iter()
            .filter(|output| output.optional && message.get(&output.field).is_none())
            .map(Output::class)
            .collect();
        let read = |output: &Output| {
            if left_out.contains(&output.class()) { Ok(Value::Null) } else { output.read(message) }
        };
        let values = self.outputs.iter().map(read).collect::<Result<_, _>>()?;
        out.write(&ValueRow(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_object_is_a_message_and_its_event_time_is_read() {
        let message: Dynamic =
            serde_json::from_str(r#"{"a": {"b": 1, "n": null, "at": 1500}, "event_time": "1970-01-01T00:00:01Z"}"#).unwrap();
        let time_in = |message: &Dynamic, path: &str, unit| {
            message.event_time_in(&TimeField { path: path.split('.').map(str::to_owned).collect(), unit })
        };
        assert_eq!(time_in(&message, EVENT_TIME, UNIT), Ok(Some(EventTime::from_secs(1))));
        assert_eq!(time_in(&message, "a.at", Unit::Millis), Ok(Some(EventTime::from_millis(1500))));
        assert_eq!(time_in(&message, "a.at", Unit::Secs), Ok(Some(EventTime::from_secs(1500))));
        let get = |path: &str| message.get(&path.split('.').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(get("a.b"), Some(&Json::from(1)));
        assert_eq!((get("a.n"), get("a.b.c"), get("x")), (None, None, None));
        let without: Dynamic = serde_json::from_str(r#"{"event_time": null}"#).unwrap();
        assert_eq!(time_in(&without, EVENT_TIME, UNIT), Ok(None));
        let wrong: Dynamic = serde_json::from_str(r#"{"event_time": "today"}"#).unwrap();
        let told = time_in(&wrong, EVENT_TIME, UNIT).unwrap_err().to_string();
        assert!(told.starts_with("field \"event_time\": expected an event time, got \"today\""), "{told}");
    }

    #[test]
    fn what_is_no_usable_object_is_refused_with_a_reason() {
        let refused = |text: &str| serde_json::from_str::<Dynamic>(text).unwrap_err().to_string();
        assert!(refused("[1]").contains("a JSON object"));
        assert!(refused(r#"{"a": 1, "a": 2}"#).contains("twice"));
    }

    #[test]
    fn a_field_of_another_type_names_field_and_feature() {
        let message: Dynamic = serde_json::from_str(r#"{"n": "seven"}"#).unwrap();
        let output = |field: &str| Output {
            feature: "user.n".into(),
            field: vec![field.into()],
            ty: ValueType::Int,
            nullable: false,
            optional: false,
        };
        assert_eq!(output("n").read(&message).unwrap_err().message, "field \"n\" for user.n: expected int, got a string");
        assert_eq!(output("x").read(&message).unwrap_err().message, "field \"x\" for user.n: expected int, got null");
    }
}
