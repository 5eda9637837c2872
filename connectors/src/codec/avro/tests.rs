//! The plan against apache-avro, which reads the same data through its `Value`: on generated schemas, values and pairs of writer
//! and reader; and against damaged data.

use std::{collections::BTreeMap, fmt};

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value as Reference, writer::datum::GenericDatumWriter};
use karst_types::{EventTime, Reason};
use proptest::prelude::*;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Value as Json, json};

use super::*;

/// Whatever serde is handed.
#[derive(Clone, Debug, PartialEq)]
enum Any {
    Null,
    Bool(bool),
    Whole(i64),
    /// As bits, so that a value is equal to itself.
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
    Items(Vec<Any>),
    Fields(BTreeMap<String, Any>),
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Any;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_unit<E>(self) -> Result<Any, E> {
                Ok(Any::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Any, E> {
                Ok(Any::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Any, E> {
                Ok(Any::Whole(value))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Any, E> {
                Ok(float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Any, E> {
                Ok(Any::Text(value.to_owned()))
            }
            fn visit_bytes<E>(self, value: &[u8]) -> Result<Any, E> {
                Ok(Any::Bytes(value.to_vec()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Any, A::Error> {
                let mut read = Vec::new();
                while let Some(item) = items.next_element()? {
                    read.push(item);
                }
                Ok(Any::Items(read))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Any, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    fields.insert(name, value);
                }
                Ok(Any::Fields(fields))
            }
        }
        d.deserialize_any(Visitor)
    }
}

fn float(value: f64) -> Any {
    Any::Float(value.to_bits())
}

/// What a value of apache-avro is to serde, by the promises of docs/formats.md.
fn expected(value: Reference) -> Any {
    match value {
        Reference::Null => Any::Null,
        Reference::Boolean(value) => Any::Bool(value),
        Reference::Int(value) | Reference::TimeMillis(value) => Any::Whole(value.into()),
        Reference::Long(value) | Reference::TimeMicros(value) => Any::Whole(value),
        Reference::Float(value) => float(value.into()),
        Reference::Double(value) => float(value),
        Reference::Bytes(bytes) | Reference::Fixed(_, bytes) => Any::Bytes(bytes),
        Reference::String(text) | Reference::Enum(_, text) => Any::Text(text),
        Reference::Uuid(uuid) => Any::Text(uuid.to_string()),
        Reference::Union(_, inner) => expected(*inner),
        Reference::Array(items) => Any::Items(items.into_iter().map(expected).collect()),
        Reference::Map(entries) => Any::Fields(entries.into_iter().map(|(name, value)| (name, expected(value))).collect()),
        Reference::Record(fields) => Any::Fields(fields.into_iter().map(|(name, value)| (name, expected(value))).collect()),
        Reference::Date(days) => Any::Text(EventTime(i64::from(days) * 86_400_000_000).to_string()[..10].to_owned()),
        Reference::TimestampMillis(millis) => Any::Text(EventTime(millis * 1_000).to_string()),
        Reference::TimestampMicros(micros) => Any::Text(EventTime(micros).to_string()),
        other => panic!("not generated: {other:?}"),
    }
}

/// Choices out of bytes, so that proptest makes schemas and values smaller by making bytes fewer; 0 where there are no more.
struct Choices<'b> {
    bytes: &'b [u8],
    names: usize,
}

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }
    fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }
    fn long(&mut self) -> i64 {
        let size = self.below(9);
        (0..size).fold(0i64, |value, _| value << 8 | i64::from(self.byte()))
    }
    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn schema(&mut self, depth: usize) -> Json {
        const LEAVES: usize = 13;
        match self.below(if depth > 3 { LEAVES } else { LEAVES + 6 }) {
            0 => json!("null"),
            1 => json!("boolean"),
            2 => json!("int"),
            3 => json!("long"),
            4 => json!("float"),
            5 => json!("double"),
            6 => json!("bytes"),
            7 => json!("string"),
            8 => json!({ "type": "fixed", "name": self.name("F"), "size": self.below(5) }),
            9 => json!({ "type": "enum", "name": self.name("E"), "symbols": ["A", "B", "C"] }),
            10 => json!({ "type": "int", "logicalType": "date" }),
            11 => json!({ "type": "long", "logicalType": "timestamp-millis" }),
            12 => json!({ "type": "long", "logicalType": "timestamp-micros" }),
            13 => json!({ "type": "array", "items": self.schema(depth + 1) }),
            14 => json!({ "type": "map", "values": self.schema(depth + 1) }),
            15 => {
                let other = self.schema(depth + 1);
                let known = other == json!("null") || other.is_array();
                if known { json!(["null", "int", "string"]) } else { json!(["null", other]) }
            }
            16 => json!(["string", "double", { "type": "array", "items": self.schema(depth + 1) }, "null"]),
            _ => self.record(depth),
        }
    }

    fn record(&mut self, depth: usize) -> Json {
        let name = self.name("R");
        let count = self.below(5);
        let mut fields: Vec<Json> =
            (0..count).map(|_| json!({ "name": self.name("f"), "type": self.schema(depth + 1) })).collect();
        if self.below(4) == 3 {
            fields.push(json!({ "name": self.name("f"), "type": ["null", name] })); // a list of its own kind
        }
        json!({ "type": "record", "name": name, "fields": fields })
    }

    fn value(&mut self, schema: &Schema, named: &BTreeMap<String, Schema>, depth: usize) -> Reference {
        match schema {
            Schema::Null => Reference::Null,
            Schema::Boolean => Reference::Boolean(self.below(2) == 1),
            Schema::Int => Reference::Int(self.long() as i32),
            Schema::Long => Reference::Long(self.long()),
            Schema::Float => Reference::Float(self.long() as f32 / 8.0),
            Schema::Double => Reference::Double(self.long() as f64 / 3.0),
            Schema::Bytes => Reference::Bytes((0..self.below(5)).map(|_| self.byte()).collect()),
            Schema::String => Reference::String((0..self.below(5)).map(|_| char::from(self.byte())).collect()),
            Schema::Fixed(fixed) => Reference::Fixed(fixed.size, (0..fixed.size).map(|_| self.byte()).collect()),
            Schema::Enum(symbols) => {
                let index = self.below(symbols.symbols.len());
                Reference::Enum(index as u32, symbols.symbols[index].clone())
            }
            Schema::Date => Reference::Date(self.long() as i32 % 100_000),
            Schema::TimestampMillis => Reference::TimestampMillis(self.long() % 100_000_000_000_000),
            Schema::TimestampMicros => Reference::TimestampMicros(self.long() % 100_000_000_000_000_000),
            Schema::Array(array) => {
                Reference::Array((0..self.below(4)).map(|_| self.value(&array.items, named, depth + 1)).collect())
            }
            Schema::Map(map) => Reference::Map(
                (0..self.below(3)).map(|nth| (format!("k{nth}"), self.value(&map.types, named, depth + 1))).collect(),
            ),
            Schema::Union(union) => {
                let variants = union.variants();
                let null = variants.iter().position(|variant| matches!(variant, Schema::Null));
                let index = null.filter(|_| depth > 6).unwrap_or_else(|| self.below(variants.len()));
                Reference::Union(index as u32, Box::new(self.value(&variants[index], named, depth + 1)))
            }
            Schema::Record(record) => {
                let field = |this: &mut Self, name: &str, schema| (name.to_owned(), this.value(schema, named, depth + 1));
                Reference::Record(record.fields.iter().map(|own| field(self, &own.name, &own.schema)).collect())
            }
            Schema::Ref { name } => self.value(&named[name.name()], named, depth),
            other => panic!("not generated: {other:?}"),
        }
    }

    /// The same schema as somebody else would have it later, or earlier.
    fn evolved(&mut self, schema: &Json) -> Json {
        match schema {
            Json::String(name) => match (name.as_str(), self.below(6)) {
                ("int", 1) => json!("long"),
                ("int" | "long", 2) => json!("double"),
                ("int" | "long", 3) => json!("float"),
                ("float", 1) => json!("double"),
                ("string", 1) => json!("bytes"),
                ("bytes" | "int" | "boolean" | "string", 4) => json!(["null", name]),
                (_, 5) => json!("boolean"), // most often not to be read
                _ => schema.clone(),
            },
            Json::Array(variants) => match self.below(4) {
                1 => Json::from(variants.iter().rev().cloned().collect::<Vec<_>>()),
                2 => variants.last().cloned().unwrap_or(Json::Null),
                _ => schema.clone(),
            },
            Json::Object(object) => {
                let mut object = object.clone();
                for part in ["items", "values"] {
                    if let Some(inner) = object.get(part).cloned() {
                        object.insert(part.to_owned(), self.evolved(&inner));
                    }
                }
                if object["type"] == "enum" && self.below(3) == 1 {
                    object.insert("symbols".into(), json!(["C", "A"]));
                    object.insert("default".into(), json!("A"));
                }
                if let Some(Json::Array(fields)) = object.get("fields") {
                    let mut evolved = Vec::new();
                    for field in fields {
                        match self.below(6) {
                            1 => {} // gone
                            2 => evolved.insert(0, json!({ "name": field["name"], "type": self.evolved(&field["type"]) })),
                            _ => evolved.push(json!({ "name": field["name"], "type": self.evolved(&field["type"]) })),
                        }
                    }
                    if self.below(2) == 1 {
                        let (ty, default) = [
                            (json!("string"), json!("new")),
                            (json!(["null", "long"]), Json::Null),
                            (json!({ "type": "array", "items": "int" }), json!([1, -2])),
                            (json!("double"), json!(0.5)),
                            (json!({ "type": "map", "values": "boolean" }), json!({ "a": true })),
                        ][self.below(5)]
                        .clone();
                        evolved.push(json!({ "name": self.name("g"), "type": ty, "default": default }));
                    }
                    object.insert("fields".into(), evolved.into());
                }
                object.into()
            }
            other => other.clone(),
        }
    }
}

fn named(schema: &Schema, into: &mut BTreeMap<String, Schema>) {
    match schema {
        Schema::Record(record) => {
            into.insert(record.name.name().to_owned(), schema.clone());
            record.fields.iter().for_each(|field| named(&field.schema, into));
        }
        Schema::Array(array) => named(&array.items, into),
        Schema::Map(map) => named(&map.types, into),
        Schema::Union(union) => union.variants().iter().for_each(|variant| named(variant, into)),
        Schema::Fixed(fixed) => _ = into.insert(fixed.name.name().to_owned(), schema.clone()),
        Schema::Enum(symbols) => _ = into.insert(symbols.name.name().to_owned(), schema.clone()),
        _ => {}
    }
}

fn plan_of(writer: &Json, reader: Option<&Json>) -> Result<Plan, String> {
    let writer = AvroSchema::parse(&writer.to_string(), &[])?;
    let reader = reader.map(|reader| AvroSchema::parse(&reader.to_string(), &[])).transpose()?;
    resolve::compile(&writer, reader.as_ref())
}

fn written(schema: &Schema, value: Reference) -> Vec<u8> {
    let writer = GenericDatumWriter::builder(schema).build().unwrap();
    writer.write_value_to_vec(value).unwrap()
}

fn resolved(writer: Json, reader: Json, datum: &[u8]) -> Result<Any, Fault> {
    let plan = plan_of(&writer, Some(&reader)).map_err(|why| (Reason::SchemaIncompatible, why))?;
    super::read::<Any>(&plan, datum).map_err(|error| error.fault("message"))
}

fn record(fields: Json) -> Json {
    json!({ "type": "record", "name": "R", "fields": fields })
}

#[test]
fn a_field_is_found_by_its_alias() {
    // apache-avro 0.22 does not follow aliases of fields, so this has no reference.
    let writer = record(json!([{ "name": "old", "type": "int" }]));
    let reader = record(json!([{ "name": "new", "aliases": ["old"], "type": "long" }]));
    assert_eq!(resolved(writer, reader, &[14]).unwrap(), Any::Fields([("new".to_owned(), Any::Whole(7))].into()));
}

#[test]
fn what_would_silently_be_another_value_is_incompatible() {
    let of = |logical: &str| record(json!([{ "name": "at", "type": { "type": "long", "logicalType": logical } }]));
    let (reason, why) = resolved(of("timestamp-millis"), of("timestamp-micros"), &[2]).unwrap_err();
    assert_eq!(reason, Reason::SchemaIncompatible);
    assert_eq!(why, "field \"at\": timestamp-millis cannot be read as timestamp-micros");
    let reader = record(json!([{ "name": "at", "type": "long" }, { "name": "x", "type": "int" }]));
    let (_, why) = resolved(of("timestamp-millis"), reader, &[2]).unwrap_err();
    assert_eq!(why, "field \"x\" was not written, and the reader's schema has no default for it");
}

#[test]
fn logical_types_become_what_the_field_asks_for() {
    #[derive(serde::Deserialize, Debug, PartialEq)]
    struct Typed {
        millis: EventTime,
        maybe: Option<EventTime>,
        raw: i64,
        price: f64,
        exact: String,
        day: EventTime,
        id: String,
        bytes: Vec<u8>,
        status: Status,
        either: Either,
    }
    #[derive(serde::Deserialize, Debug, PartialEq)]
    enum Status {
        Good,
        Bad,
    }
    #[derive(serde::Deserialize, Debug, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Either {
        Long(i64),
        String(String),
    }
    let millis = json!({ "type": "long", "logicalType": "timestamp-millis" });
    let decimal = json!({ "type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2 });
    let schema = record(json!([
        { "name": "unused", "type": { "type": "map", "values": "string" } },
        { "name": "millis", "type": millis }, { "name": "maybe", "type": ["null", millis] }, { "name": "raw", "type": millis },
        { "name": "price", "type": decimal }, { "name": "exact", "type": decimal },
        { "name": "day", "type": { "type": "int", "logicalType": "date" } },
        { "name": "id", "type": { "type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid" } },
        { "name": "bytes", "type": "bytes" },
        { "name": "status", "type": { "type": "enum", "name": "S", "symbols": ["Bad", "Good"] } },
        { "name": "either", "type": ["string", "long"] },
    ]));
    let mut datum = vec![2, 2, b'k', 2, b'v', 0]; // a map with one entry
    default::long(1_500, &mut datum);
    default::long(1, &mut datum); // the second branch
    default::long(-1, &mut datum);
    default::long(1_500, &mut datum);
    datum.extend([4, 0x04, 0xd2, 4, 0x04, 0xd2]); // 12.34 twice
    default::long(1, &mut datum);
    datum.extend([0xab; 16]);
    datum.extend([4, 0xff, 0x00, 2]); // two bytes; the second symbol
    default::long(1, &mut datum);
    default::long(7, &mut datum);
    let plan = plan_of(&schema, None).unwrap();
    let typed: Typed = super::read(&plan, &datum).unwrap();
    let expected = Typed {
        millis: EventTime::from_millis(1_500),
        maybe: Some(EventTime::from_millis(-1)),
        raw: 1_500,
        price: 12.34,
        exact: "12.34".into(),
        day: EventTime::from_secs(86_400),
        id: "abababab-abab-abab-abab-abababababab".into(),
        bytes: vec![0xff, 0],
        status: Status::Good,
        either: Either::Long(7),
    };
    assert_eq!(typed, expected);
}

#[test]
fn faults_say_whose_they_are() {
    #[derive(serde::Deserialize, Debug)]
    #[allow(dead_code)]
    struct Wanted {
        a: i64,
    }
    let fault = |fields: Json, datum: &[u8]| {
        let plan = plan_of(&record(fields), None).unwrap();
        super::read::<Wanted>(&plan, datum).unwrap_err().fault("Wanted")
    };
    let nullable = json!([{ "name": "a", "type": ["null", "long"] }]);
    assert_eq!(fault(nullable.clone(), &[0]), (Reason::SchemaMismatch, "field \"a\": expected i64, got null".into()));
    let missing = fault(json!([{ "name": "b", "type": "long" }]), &[2]);
    assert_eq!(
        missing,
        (
            Reason::SchemaIncompatible,
            "field \"a\": it is missing: the schema it was written with does not have it, or need not have it".into()
        )
    );
    assert_eq!(fault(json!([{ "name": "a", "type": "string" }]), &[2, b'x']).0, Reason::SchemaIncompatible);
    assert_eq!(fault(nullable.clone(), &[2]).0, Reason::Malformed);
    assert_eq!(fault(nullable.clone(), &[4]).0, Reason::Malformed);
    assert_eq!(fault(nullable, &[2, 2, 9]).0, Reason::Malformed, "bytes behind the datum");
    let text = json!([{ "name": "t", "type": "string" }, { "name": "a", "type": "long" }]);
    let plan = plan_of(&record(text), None).unwrap();
    assert_eq!(super::read::<Any>(&plan, &[2, 0xff, 2]).unwrap_err().fault("x").0, Reason::NotUtf8);
    // Found by fuzzing, where apache-avro refuses it.
    assert_eq!(super::read::<Wanted>(&plan, &[2, 0xff, 2]).unwrap().a, 1, "what is skipped is not looked at");
}

#[test]
fn a_datum_that_claims_more_than_it_holds_is_refused_at_once() {
    let read = |schema: Json, datum: &[u8]| super::read::<Any>(&plan_of(&schema, None).unwrap(), datum);
    let mut claim = Vec::new();
    default::long(1 << 60, &mut claim);
    for items in ["null", "int", "string"] {
        assert!(read(json!({ "type": "array", "items": items }), &claim).is_err());
        assert!(read(json!({ "type": "map", "values": items }), &claim).is_err());
    }
    assert!(read(json!("bytes"), &claim).is_err());
    // A list within a list within …: as deep as the datum says.
    let list = record(json!([{ "name": "next", "type": ["null", "R"] }]));
    assert!(read(list.clone(), &[[2; 100].as_slice(), &[0]].concat()).is_ok());
    assert_eq!(read(list, &[2; 100_000]).unwrap_err().fault("x").0, Reason::Malformed);
    // A record of nothing but itself takes no bytes and never ends.
    let endless = record(json!([{ "name": "next", "type": "R" }]));
    assert!(read(endless, &[]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn data_are_read_as_apache_avro_reads_them(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut choices = Choices { bytes: &bytes, names: 0 };
        let text = choices.schema(0);
        let schema = Schema::parse(&text).unwrap();
        let mut types = BTreeMap::new();
        named(&schema, &mut types);
        let value = choices.value(&schema, &types, 0);
        let datum = written(&schema, value);
        let reference = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut &datum[..]).unwrap();
        let plan = plan_of(&text, None).unwrap();
        let read: Any = super::read(&plan, &datum).unwrap();
        prop_assert_eq!(read, expected(reference));
        let mut input = Input::new(&datum);
        plan.skip(plan.root, &mut input).unwrap();
        prop_assert_eq!(input.left(), 0);
        // Avro data are prefix-free: what is cut is never whole, and what follows is never part of it.
        for cut in 0..datum.len() {
            prop_assert!(super::read::<Any>(&plan, &datum[..cut]).is_err());
        }
        let longer = [&datum[..], &[0]].concat();
        prop_assert!(super::read::<Any>(&plan, &longer).is_err());
    }

    #[test]
    fn data_are_resolved_as_apache_avro_resolves_them(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut choices = Choices { bytes: &bytes, names: 0 };
        let text = choices.record(0);
        let schema = Schema::parse(&text).unwrap();
        let mut types = BTreeMap::new();
        named(&schema, &mut types);
        let value = choices.value(&schema, &types, 0);
        let later = choices.evolved(&text);
        let Ok(reader) = Schema::parse(&later) else { return Ok(()) };
        let datum = written(&schema, value);
        let reference = GenericDatumReader::builder(&schema).reader_schema(&reader).build().unwrap().read_value(&mut &datum[..]);
        let read = plan_of(&text, Some(&later)).map_err(|why| (Reason::SchemaIncompatible, why)).and_then(|plan| {
            super::read::<Any>(&plan, &datum).map_err(|error| error.fault("message"))
        });
        match (read, reference) {
            (Ok(read), Ok(reference)) => prop_assert_eq!(read, expected(reference), "{} as {}", text, later),
            (Err(_), Err(_)) => {}
            (Ok(read), Err(reference)) => prop_assert!(false, "{text} as {later}: read as {read:?}, the reference says {reference}"),
            // Some of what the specification refuses for the schemas, apache-avro refuses only when it meets such a value.
            (Err((reason, _)), Ok(_)) => prop_assert_eq!(reason, Reason::SchemaIncompatible),
        }
    }

    #[test]
    fn whatever_the_bytes_are_reading_ends(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        datum in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xff), Just(0)], 0..200),
    ) {
        let text = Choices { bytes: &bytes, names: 0 }.schema(0);
        let plan = plan_of(&text, None).unwrap();
        let read = super::read::<Any>(&plan, &datum).is_ok();
        let mut input = Input::new(&datum);
        let skipped = plan.skip(plan.root, &mut input).is_ok() && input.left() == 0;
        prop_assert!(!read || skipped, "what can be read can be skipped");
    }
}
