//! Avro. A writer's schema is compiled once into a plan (`plan.rs`, `resolve.rs`), and the plan leads serde over the datum
//! (`de.rs`) without a value in between. apache-avro parses the schemas, and is what all of it is tested against.
//!
//! Where the writer's schema comes from is the framing: a registry by the id in the record (Confluent's wire format), a list of
//! known schemas by fingerprint (single-object encoding), or one schema for all records.

mod container;
mod de;
mod default;
mod input;
mod logical;
mod plan;
mod resolve;
mod schema;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use karst_types::{Message, Reason, Records};
use parking_lot::RwLock;

pub(crate) use container::Container;
pub use schema::AvroSchema;

use self::{de::Value, input::Input, plan::Plan};
use super::{
    BatchDecoder, Codec, Fault, Unavailable,
    datum_error::DatumError,
    explain,
    per_record::{DecodeRecord, PerRecord},
    wire,
};
use crate::{BoxFuture, SchemaRegistry, SourceSettings};

/// Avro records; see [`Format::avro`](super::Format::avro).
#[derive(Clone, Default)]
pub struct AvroFormat {
    writers: Writers,
    reader: Option<Arc<AvroSchema>>,
    problems: Vec<String>,
}

/// Where the schemas come from that records were written with.
#[derive(Clone, Default)]
enum Writers {
    /// Confluent's wire format, the registry being still unknown: it may come from the environment.
    #[default]
    Unknown,
    Registry(SchemaRegistry),
    Fingerprint(KnownSchemas),
    One(Arc<AvroSchema>),
}

/// Schemas by fingerprint; clones share them.
#[derive(Clone, Default)]
pub(crate) struct KnownSchemas(Arc<RwLock<HashMap<u64, Arc<AvroSchema>>>>);

impl fmt::Debug for KnownSchemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KnownSchemas({})", self.0.read().len())
    }
}

impl KnownSchemas {
    /// Adds a schema, and returns its fingerprint.
    pub(crate) fn add(&self, schema: Arc<AvroSchema>) -> u64 {
        let fingerprint = schema.fingerprint();
        self.0.write().insert(fingerprint, schema);
        fingerprint
    }
}

impl fmt::Debug for AvroFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("AvroFormat");
        match &self.writers {
            Writers::Unknown => {}
            Writers::Registry(registry) => _ = debug.field("registry", registry),
            Writers::Fingerprint(known) => _ = debug.field("schemas", &known.0.read().len()),
            Writers::One(schema) => _ = debug.field("writer", schema),
        }
        debug.field("reader", &self.reader).finish()
    }
}

impl AvroFormat {
    /// Records are in Confluent's wire format, and their schemas in this registry.
    #[must_use]
    pub fn registry(mut self, registry: SchemaRegistry) -> Self {
        self.writers = Writers::Registry(registry);
        self
    }
    /// Records are data of this schema (JSON text), without anything before them.
    #[must_use]
    pub fn writer_schema(mut self, schema: impl AsRef<str>) -> Self {
        if let Some(schema) = self.parsed("writer_schema", schema.as_ref()) {
            self.writers = Writers::One(schema);
        }
        self
    }
    /// Records are in Avro's single-object encoding, and written with one of these schemas (JSON texts).
    #[must_use]
    pub fn single_object<S: AsRef<str>>(mut self, schemas: impl IntoIterator<Item = S>) -> Self {
        let known = KnownSchemas::default();
        for schema in schemas {
            if let Some(schema) = self.parsed("single_object", schema.as_ref()) {
                known.add(schema);
            }
        }
        self.writers = Writers::Fingerprint(known);
        self
    }
    /// Records are in Avro's single-object encoding, and their schemas become known while they are read.
    pub(crate) fn known(mut self, known: &KnownSchemas) -> Self {
        self.writers = Writers::Fingerprint(known.clone());
        self
    }
    /// The reader's schema (JSON text): data are resolved against it, which adds its defaults, follows its aliases and promotes
    /// numbers. Without one the message takes the fields of the writer's schema by their names.
    #[must_use]
    pub fn reader_schema(mut self, schema: impl AsRef<str>) -> Self {
        self.reader = self.parsed("reader_schema", schema.as_ref()).or(self.reader);
        self
    }

    fn parsed(&mut self, setting: &str, text: &str) -> Option<Arc<AvroSchema>> {
        match AvroSchema::parse(text, &[]) {
            Ok(schema) => Some(Arc::new(schema)),
            Err(why) => {
                self.problems.push(format!("format avro: {setting}: {why}"));
                None
            }
        }
    }
}

impl Codec for AvroFormat {
    const NAME: &'static str = "avro";

    fn problems(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        match &self.writers {
            Writers::Registry(registry) => problems.extend(registry.problems()),
            Writers::Unknown if problems.is_empty() => problems.push(
                "format avro needs a schema registry: Format::avro().registry(SchemaRegistry::new(\"http://…\")), \
                 schema_registry = { url = \"…\" }, or for Kafka SCHEMA_REGISTRY_URL in the environment"
                    .to_owned(),
            ),
            _ => {}
        }
        problems
    }
    fn set_text(&mut self, setting: &str, text: &str) -> Result<(), String> {
        *self = match setting {
            "writer_schema" => std::mem::take(self).writer_schema(text),
            "reader_schema" => std::mem::take(self).reader_schema(text),
            _ => return Err(format!("format avro has no setting {setting}")),
        };
        Ok(())
    }
    fn set_registry(&mut self, make: &mut dyn FnMut() -> Option<SchemaRegistry>) {
        if let Writers::Unknown = self.writers
            && let Some(registry) = make()
        {
            self.writers = Writers::Registry(registry);
        }
    }
    fn decoder<M: Message>(&self, settings: &SourceSettings) -> Box<dyn BatchDecoder> {
        let decoder =
            AvroDecoder { writers: self.writers.clone(), reader: self.reader.clone(), plans: HashMap::new(), last: None };
        Box::new(PerRecord::<M, _>::new(settings, decoder))
    }
}

/// The plan for one writer's schema, or why there is none.
type Compiled = Result<Arc<Plan>, Fault>;

struct AvroDecoder {
    writers: Writers,
    reader: Option<Arc<AvroSchema>>,
    /// By id or fingerprint; of schemas that the registry has, which are never another one.
    plans: HashMap<u64, Compiled>,
    /// The plan that was used last: nearly always the next one, too.
    last: Option<(u64, Arc<Plan>)>,
}

impl AvroDecoder {
    fn plan(&mut self, key: u64) -> Result<&Plan, Fault> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != key) {
            let compiled = match self.plans.get(&key) {
                Some(compiled) => compiled.clone(),
                None => {
                    let compiled = self.writer(key)?.and_then(|writer| {
                        let compiled = resolve::compile(&writer, self.reader.as_deref());
                        compiled.map(Arc::new).map_err(|why| self.incompatible(key, &why))
                    });
                    self.plans.insert(key, compiled.clone());
                    compiled
                }
            };
            self.last = Some((key, compiled?));
        }
        match &self.last {
            Some((_, plan)) => Ok(plan),
            None => Err((Reason::SchemaUnknown, "no schema".to_owned())), // cannot be: it was set above
        }
    }

    fn incompatible(&self, key: u64, why: &str) -> Fault {
        let schema = match &self.writers {
            Writers::Registry(_) => format!("schema {key}"),
            Writers::Fingerprint(_) => format!("the schema with fingerprint {key:016x}"),
            Writers::One(_) | Writers::Unknown => "the writer's schema".to_owned(),
        };
        (Reason::SchemaIncompatible, explain::clipped(&format!("{schema}: {why}"), 300))
    }

    /// The writer's schema. Outside: it is not known now; inside: it will never be of use.
    fn writer(&self, key: u64) -> Result<Result<Arc<AvroSchema>, Fault>, Fault> {
        match &self.writers {
            Writers::One(schema) => Ok(Ok(Arc::clone(schema))),
            Writers::Fingerprint(known) => {
                let schema = known.0.read().get(&key).cloned();
                schema.map(Ok).ok_or_else(|| {
                    (Reason::SchemaUnknown, format!("no schema with fingerprint {key:016x} is among those of the source"))
                })
            }
            Writers::Registry(registry) => {
                let id = u32::try_from(key).unwrap_or(u32::MAX);
                match registry.known(id) {
                    Some(Ok(schema)) if schema.kind != "AVRO" => {
                        Ok(Err(self.incompatible(key, &format!("it is a schema of kind {}, not AVRO", schema.kind))))
                    }
                    Some(Ok(schema)) => {
                        let references: Vec<String> = schema.references.iter().map(|(_, text)| text.clone()).collect();
                        let parsed = AvroSchema::parse(&schema.text, &references);
                        Ok(parsed.map(Arc::new).map_err(|why| self.incompatible(key, &why)))
                    }
                    Some(Err(why)) => Err((Reason::SchemaUnknown, explain::clipped(&why, 300))),
                    None => Err((Reason::SchemaUnknown, format!("schema {id} was not asked for"))),
                }
            }
            Writers::Unknown => Err((Reason::SchemaUnknown, "the source has no schema registry".to_owned())),
        }
    }
}

impl<M: Message> DecodeRecord<M> for AvroDecoder {
    fn prepare<'a>(&'a mut self, records: &'a Records, now: Duration) -> Option<BoxFuture<'a, Result<(), Unavailable>>> {
        let Writers::Registry(registry) = &self.writers else { return None };
        wire::prepare(registry, self.last.as_ref().map(|(id, _)| *id as u32), records, now)
    }

    fn awaits(&self) -> Option<String> {
        match &self.writers {
            Writers::Registry(registry) => Some(registry.called()),
            _ => None,
        }
    }

    fn message(&mut self, value: &[u8]) -> Result<M, Fault> {
        let (key, datum) = match &self.writers {
            Writers::Registry(_) | Writers::Unknown => wire::confluent(value).map(|(id, datum)| (u64::from(id), datum))?,
            Writers::Fingerprint(_) => wire::single_object(value)?,
            Writers::One(_) => (0, value),
        };
        let plan = self.plan(key)?;
        read(plan, datum).map_err(|error| error.fault(M::schema().name))
    }
}

fn read<M: serde::de::DeserializeOwned>(plan: &Plan, datum: &[u8]) -> Result<M, DatumError> {
    let mut input = Input::new(datum);
    let message = M::deserialize(Value::new(plan, plan.root, &mut input))?;
    input.end()?;
    Ok(message)
}
