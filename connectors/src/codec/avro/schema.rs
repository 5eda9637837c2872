//! A parsed schema, with the schemas that it refers to, and its fingerprint.

use std::{collections::HashMap, fmt};

use apache_avro::{Schema, rabin::Rabin, schema::NamespaceRef};

/// Size beyond which a schema is refused: far above any that people write, and below what parsing could choke on.
const TEXT_MAX: usize = 4 << 20;
/// Types within types beyond which a schema is refused: parsing recurses.
const NESTING_MAX: usize = 128;

/// A schema that stands on its own.
#[derive(Clone)]
pub struct AvroSchema {
    pub(super) root: Schema,
    /// All named types by full name, those of referenced schemas among them.
    named: HashMap<String, Schema>,
}

impl fmt::Debug for AvroSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AvroSchema({})", self.root.name().map_or_else(|| "unnamed".to_owned(), |name| name.fullname(None)))
    }
}

impl AvroSchema {
    /// Parses a schema; `references` are schemas whose types it uses, in any order.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str, references: &[String]) -> Result<Self, String> {
        for text in std::iter::once(text).chain(references.iter().map(String::as_str)) {
            if text.len() > TEXT_MAX {
                return Err(format!("the schema has {} bytes, more than {TEXT_MAX}", text.len()));
            }
            if nesting(text) > NESTING_MAX {
                return Err(format!("the schema is nested more than {NESTING_MAX} deep"));
            }
        }
        let wrong = |error: apache_avro::Error| super::super::explain::clipped(&error.to_string(), 240);
        // A name alone ("string") is a schema, too, but without its quotes it is no JSON: some registries keep it so.
        let text =
            if text.trim_start().starts_with(['{', '[', '"']) { text.to_owned() } else { format!("\"{}\"", text.trim()) };
        let (root, others) = if references.is_empty() {
            (Schema::parse_str(&text).map_err(wrong)?, Vec::new())
        } else {
            Schema::parse_str_with_list(&text, references).map_err(wrong)?
        };
        let mut named = HashMap::new();
        for schema in others.iter().chain([&root]) {
            collect(schema, None, &mut named);
        }
        Ok(Self { root, named })
    }

    /// The type with this full name.
    pub(super) fn named(&self, name: &str) -> Option<&Schema> {
        self.named.get(name)
    }

    /// The CRC-64-AVRO fingerprint of its canonical form, as in the single-object encoding.
    pub fn fingerprint(&self) -> u64 {
        let bytes = self.root.fingerprint::<Rabin>().bytes;
        bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// How deep the brackets of a JSON text go.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn collect(schema: &Schema, enclosing: NamespaceRef<'_>, named: &mut HashMap<String, Schema>) {
    let own = schema.name().map(|name| name.fully_qualified_name(enclosing).into_owned());
    if let (Some(name), false) = (&own, matches!(schema, Schema::Ref { .. })) {
        named.insert(name.fullname(None), schema.clone());
    }
    match schema {
        Schema::Record(record) => {
            let namespace = own.as_ref().and_then(|name| name.namespace());
            record.fields.iter().for_each(|field| collect(&field.schema, namespace, named));
        }
        Schema::Array(array) => collect(&array.items, enclosing, named),
        Schema::Map(map) => collect(&map.types, enclosing, named),
        Schema::Union(union) => union.variants().iter().for_each(|variant| collect(variant, enclosing, named)),
        _ => {}
    }
}
