//! Compiles a writer's schema, as a reader's schema wants it read, by the rules of the Avro specification 1.12, "Schema
//! Resolution". Without a reader's schema the data are handed over as they were written, and the message picks its fields.
//!
//! Two things are stricter than the specification: a timestamp cannot be read as one of another unit, nor a decimal as one of
//! another scale, since the value would silently be another one.

use std::collections::HashMap;

use apache_avro::schema::{InnerDecimalSchema, RecordSchema, Schema, UuidSchema};

use super::{
    default::encode_default,
    plan::{Added, Field, Handed, Meaning, Node, NodeId, Plan, Record, Written},
    schema::AvroSchema,
};

/// A plan beyond which a schema is refused: named types are compiled once for each pair of writer and reader.
const NODES_MAX: usize = 100_000;

/// Compiles how data of `writer` are read.
///
/// # Errors
/// Why no datum of `writer` can be read as `reader`.
pub(super) fn compile(writer: &AvroSchema, reader: Option<&AvroSchema>) -> Result<Plan, String> {
    let mut compiler = Compiler { writer, reader: reader.unwrap_or(writer), nodes: Vec::new(), known: HashMap::new() };
    let root = match reader {
        Some(reader) => compiler.resolve(At::root(&writer.root), At::root(&reader.root))?,
        None => compiler.plain(At::root(&writer.root), Side::Writer)?,
    };
    let mut plan = Plan { nodes: compiler.nodes, root };
    plan.finish();
    Ok(plan)
}

/// A schema, and the namespace around it.
#[derive(Clone, Copy)]
struct At<'s> {
    schema: &'s Schema,
    namespace: Option<&'s str>,
}

impl<'s> At<'s> {
    fn root(schema: &'s Schema) -> Self {
        Self { schema, namespace: None }
    }
    fn inner(&self, schema: &'s Schema) -> Self {
        Self { schema, namespace: self.namespace }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    Writer,
    Reader,
}

struct Compiler<'s> {
    writer: &'s AvroSchema,
    reader: &'s AvroSchema,
    nodes: Vec<Node>,
    /// Named types by full names: of the writer's, and the reader's if it is resolved against one.
    known: HashMap<(Side, String, Option<String>), NodeId>,
}

impl<'s> Compiler<'s> {
    fn add(&mut self, node: Node) -> Result<NodeId, String> {
        if self.nodes.len() >= NODES_MAX {
            return Err(format!("the schema has more than {NODES_MAX} parts"));
        }
        self.nodes.push(node);
        Ok((self.nodes.len() - 1) as NodeId)
    }

    /// The schema itself behind a reference, its namespace, and its full name if it has one.
    fn follow(&self, at: At<'s>, side: Side) -> Result<(At<'s>, Option<String>), String> {
        let Some(name) = at.schema.name() else { return Ok((at, None)) };
        let full = name.fullname(at.namespace);
        let all = if side == Side::Writer { self.writer } else { self.reader };
        // The stored copy, whose name lives as long as the schema: the namespace is taken from it.
        let Some(schema) = all.named(&full) else { return Err(format!("the type {full} is not defined")) };
        let namespace = schema.name().and_then(|name| name.namespace()).or(at.namespace);
        Ok((At { schema, namespace }, Some(full)))
    }

    /// Data as they were written.
    fn plain(&mut self, at: At<'s>, side: Side) -> Result<NodeId, String> {
        let (at, name) = self.follow(at, side)?;
        let key = name.map(|name| (side, name, None));
        if let Some(id) = key.as_ref().and_then(|key| self.known.get(key)) {
            return Ok(*id);
        }
        let id = self.add(Node::Pending)?;
        if let Some(key) = key {
            self.known.insert(key, id);
        }
        let node = match at.schema {
            Schema::Array(array) => Node::Array(self.plain(at.inner(&array.items), side)?, 0),
            Schema::Map(map) => Node::Map(self.plain(at.inner(&map.types), side)?, 0),
            Schema::Union(union) => {
                let branch = |this: &mut Self, variant| Ok((branch_name(variant), this.plain(at.inner(variant), side)?));
                let branches = union.variants().iter().map(|variant| branch(self, variant)).collect::<Result<_, String>>()?;
                Node::Union(branches)
            }
            Schema::Record(record) => {
                let field = |this: &mut Self, name: &str, schema| {
                    Ok(Field { name: Some(name.into()), node: this.plain(at.inner(schema), side)? })
                };
                let fields =
                    record.fields.iter().map(|own| field(self, &own.name, &own.schema)).collect::<Result<_, String>>()?;
                Node::Record(Record { fields, added: Box::new([]) })
            }
            Schema::Enum(symbols) => Node::Enum(symbols.symbols.iter().map(|symbol| Some(symbol.as_str().into())).collect()),
            leaf => leaf_node(leaf)?,
        };
        self.nodes[id as usize] = node;
        Ok(id)
    }

    /// Data of `writer` as `reader` wants them.
    fn resolve(&mut self, writer: At<'s>, reader: At<'s>) -> Result<NodeId, String> {
        let (writer, writer_name) = self.follow(writer, Side::Writer)?;
        let (reader, reader_name) = self.follow(reader, Side::Reader)?;
        if let (Schema::Union(union), false) = (reader.schema, matches!(writer.schema, Schema::Union(_))) {
            return self.branch(writer, reader, union.variants());
        }
        let key = writer_name.zip(reader_name).map(|(writer, reader)| (Side::Writer, writer, Some(reader)));
        if let Some(id) = key.as_ref().and_then(|key| self.known.get(key)) {
            return Ok(*id);
        }
        let (before, id) = (self.nodes.len(), self.add(Node::Pending)?);
        if let Some(key) = &key {
            self.known.insert(key.clone(), id);
        }
        match self.resolved(writer, reader) {
            Ok(node) => {
                self.nodes[id as usize] = node;
                Ok(id)
            }
            Err(why) => {
                // What was compiled on the way refers to a node that will never be.
                self.nodes.truncate(before);
                self.known.retain(|_, known| (*known as usize) < before);
                Err(why)
            }
        }
    }

    /// The first branch of the reader's union that the writer's type can be read as; one of the very type comes first.
    fn branch(&mut self, writer: At<'s>, reader: At<'s>, variants: &'s [Schema]) -> Result<NodeId, String> {
        let (exact, others): (Vec<_>, Vec<_>) =
            variants.iter().partition(|variant| self.same_type(writer, reader.inner(variant)));
        let mut why = None;
        for variant in exact.into_iter().chain(others) {
            match self.resolve(writer, reader.inner(variant)) {
                Ok(id) => return Ok(id),
                Err(reason) => why = why.or(Some(reason)),
            }
        }
        let why = why.unwrap_or_default();
        Err(format!("{} can be read as no branch of the reader's union: {why}", words(writer.schema)))
    }

    fn resolved(&mut self, writer: At<'s>, reader: At<'s>) -> Result<Node, String> {
        Ok(match (writer.schema, reader.schema) {
            (Schema::Union(union), _) => {
                let mut branches = Vec::new();
                let mut fits = false;
                for variant in union.variants() {
                    let name = branch_name(variant);
                    let id = match self.resolve(writer.inner(variant), reader) {
                        Ok(id) => {
                            fits = true;
                            id
                        }
                        Err(why) => {
                            let skipped = self.plain(writer.inner(variant), Side::Writer)?;
                            self.add(Node::Refused(why.into(), skipped))?
                        }
                    };
                    branches.push((name, id));
                }
                if !fits {
                    return Err(format!("no branch of the writer's union can be read as {}", words(reader.schema)));
                }
                Node::Union(branches.into())
            }
            (Schema::Array(from), Schema::Array(to)) => {
                Node::Array(self.resolve(writer.inner(&from.items), reader.inner(&to.items))?, 0)
            }
            (Schema::Map(from), Schema::Map(to)) => {
                Node::Map(self.resolve(writer.inner(&from.types), reader.inner(&to.types))?, 0)
            }
            (Schema::Enum(from), Schema::Enum(to)) => {
                let symbol = |symbol: &String| {
                    let known = to.symbols.contains(symbol).then_some(symbol).or(to.default.as_ref());
                    known.map(|symbol| symbol.as_str().into())
                };
                Node::Enum(from.symbols.iter().map(symbol).collect())
            }
            (Schema::Record(from), Schema::Record(to)) => self.record(writer, from, reader, to)?,
            (from, to) => leaf_as(from, to)?,
        })
    }

    fn record(&mut self, writer: At<'s>, from: &'s RecordSchema, reader: At<'s>, to: &'s RecordSchema) -> Result<Node, String> {
        let mut fields = Vec::with_capacity(from.fields.len());
        let mut taken = vec![false; to.fields.len()];
        for field in &from.fields {
            let by_name = to.fields.iter().position(|own| own.name == field.name);
            let found = by_name.or_else(|| {
                let missing = |own: &str| from.fields.iter().all(|written| written.name != own);
                to.fields.iter().position(|own| own.aliases.contains(&field.name) && missing(&own.name))
            });
            let field = match found.filter(|index| !taken[*index]) {
                Some(index) => {
                    taken[index] = true;
                    let own = &to.fields[index];
                    let node = self.resolve(writer.inner(&field.schema), reader.inner(&own.schema));
                    let node = node.map_err(|why| format!("field \"{}\": {why}", own.name))?;
                    Field { name: Some(own.name.as_str().into()), node }
                }
                None => Field { name: None, node: self.plain(writer.inner(&field.schema), Side::Writer)? },
            };
            fields.push(field);
        }
        let mut added = Vec::new();
        for (own, _) in to.fields.iter().zip(taken).filter(|(_, taken)| !taken) {
            let Some(default) = &own.default else {
                return Err(format!("field \"{}\" was not written, and the reader's schema has no default for it", own.name));
            };
            let mut datum = Vec::new();
            encode_default(default, &own.schema, reader.namespace, self.reader, 0, &mut datum)
                .map_err(|why| format!("field \"{}\": its default is {why}", own.name))?;
            let node = self.plain(reader.inner(&own.schema), Side::Reader)?;
            added.push(Added { name: own.name.as_str().into(), node, datum: datum.into() });
        }
        Ok(Node::Record(Record { fields: fields.into(), added: added.into() }))
    }

    /// Whether a branch of the reader's union is of the writer's very type, so that it comes before those it could be promoted to.
    fn same_type(&self, writer: At<'s>, reader: At<'s>) -> bool {
        let reader = self.follow(reader, Side::Reader).map_or(reader, |(reader, _)| reader);
        match (writer.schema, reader.schema) {
            (Schema::Record(_), Schema::Record(_))
            | (Schema::Enum(_), Schema::Enum(_))
            | (Schema::Fixed(_), Schema::Fixed(_)) => {
                writer.schema.name().map(|name| name.name()) == reader.schema.name().map(|name| name.name())
            }
            (from, to) => std::mem::discriminant(from) == std::mem::discriminant(to),
        }
    }
}

/// What a union's branch is called: the name of a named type, else the type.
fn branch_name(schema: &Schema) -> Box<str> {
    match schema.name() {
        Some(name) => name.name().into(),
        None => words(schema).into(),
    }
}

/// Everything that contains nothing.
fn leaf_node(schema: &Schema) -> Result<Node, String> {
    use Meaning::{Date, Decimal, Plain, Timestamp, Uuid};
    let number = |written: Written, meaning| {
        let handed = match written {
            Written::Int | Written::Long => Handed::Whole,
            Written::Float => Handed::Float,
            Written::Double => Handed::Double,
        };
        Node::Number(written, handed, meaning)
    };
    Ok(match schema {
        Schema::Null => Node::Null,
        Schema::Boolean => Node::Boolean,
        Schema::Int | Schema::TimeMillis => number(Written::Int, Plain),
        Schema::Long | Schema::TimeMicros => number(Written::Long, Plain),
        Schema::Float => number(Written::Float, Plain),
        Schema::Double => number(Written::Double, Plain),
        Schema::Date => number(Written::Int, Date),
        Schema::TimestampMillis | Schema::LocalTimestampMillis => number(Written::Long, Timestamp(1_000)),
        Schema::TimestampMicros | Schema::LocalTimestampMicros => number(Written::Long, Timestamp(1_000_000)),
        Schema::TimestampNanos | Schema::LocalTimestampNanos => number(Written::Long, Timestamp(1_000_000_000)),
        Schema::Bytes | Schema::BigDecimal => Node::Bytes(Plain),
        Schema::String | Schema::Uuid(UuidSchema::String) => Node::String(Plain),
        Schema::Uuid(UuidSchema::Bytes) => Node::Bytes(Uuid),
        Schema::Uuid(UuidSchema::Fixed(fixed)) => Node::Fixed(fixed.size, Uuid),
        Schema::Fixed(fixed) | Schema::Duration(fixed) => Node::Fixed(fixed.size, Plain),
        Schema::Decimal(decimal) => {
            let meaning = Decimal(u32::try_from(decimal.scale).map_err(|_| "the scale of a decimal is out of range")?);
            match &decimal.inner {
                InnerDecimalSchema::Bytes => Node::Bytes(meaning),
                InnerDecimalSchema::Fixed(fixed) => Node::Fixed(fixed.size, meaning),
            }
        }
        other => return Err(format!("{} cannot be read", words(other))),
    })
}

/// A leaf as another: the same type, or one that it may be promoted to.
fn leaf_as(writer: &Schema, reader: &Schema) -> Result<Node, String> {
    let refused = || Err(format!("{} cannot be read as {}", words(writer), words(reader)));
    let is_leaf = |schema: &Schema| !matches!(schema, Schema::Array(_) | Schema::Map(_) | Schema::Record(_) | Schema::Enum(_));
    if !is_leaf(writer) || !is_leaf(reader) {
        return refused();
    }
    let meaning = |from: Meaning, to: Meaning| match (from, to) {
        // a plain reader wants the value as it is written; a plain writer did not say what it means
        (_, Meaning::Plain) | (Meaning::Plain, _) => Some(to),
        (from, to) => (from == to).then_some(to),
    };
    let node = match (leaf_node(writer)?, leaf_node(reader)?) {
        (Node::Null, Node::Null) => Some(Node::Null),
        (Node::Boolean, Node::Boolean) => Some(Node::Boolean),
        (Node::Number(from, _, was), Node::Number(to, handed, is)) => {
            let order =
                |written| [Written::Int, Written::Long, Written::Float, Written::Double].iter().position(|w| *w == written);
            let same = meaning(was, is).filter(|_| order(from) <= order(to));
            same.map(|meaning| Node::Number(from, handed, meaning))
        }
        (Node::Bytes(was), Node::Bytes(is)) => meaning(was, is).map(Node::Bytes),
        (Node::String(was), Node::String(is)) => meaning(was, is).map(Node::String),
        (Node::Bytes(Meaning::Plain), Node::String(_)) => Some(Node::BytesAsString),
        (Node::String(_), Node::Bytes(Meaning::Plain)) => Some(Node::StringAsBytes),
        (Node::Fixed(size, was), Node::Fixed(wanted, is)) if size == wanted => {
            meaning(was, is).map(|meaning| Node::Fixed(size, meaning))
        }
        _ => None,
    };
    node.map_or_else(refused, Ok)
}

/// A type, for people.
fn words(schema: &Schema) -> String {
    match schema {
        Schema::Record(record) => format!("record {}", record.name.name()),
        Schema::Enum(symbols) => format!("enum {}", symbols.name.name()),
        Schema::Fixed(fixed) => format!("fixed {} of {} bytes", fixed.name.name(), fixed.size),
        Schema::Decimal(decimal) => format!("decimal of scale {}", decimal.scale),
        Schema::Array(_) => "array".to_owned(),
        Schema::Map(_) => "map".to_owned(),
        Schema::Union(_) => "union".to_owned(),
        Schema::Uuid(_) => "uuid".to_owned(),
        Schema::TimestampMillis => "timestamp-millis".to_owned(),
        Schema::TimestampMicros => "timestamp-micros".to_owned(),
        Schema::TimestampNanos => "timestamp-nanos".to_owned(),
        Schema::Ref { name } => name.name().to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}
