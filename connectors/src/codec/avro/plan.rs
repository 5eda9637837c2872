//! How data of one writer's schema are read: the schema, compiled once, with everything the reader wants to be different about
//! it decided already. Nodes refer to each other by number, so that types may contain themselves.

use super::{super::datum_error::DatumError as Error, input::Input};

/// The number of a node.
pub(super) type NodeId = u32;

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
}

/// How one value is read.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Null,
    Boolean,
    /// A number, as it is written, as what it is handed over, and what it stands for.
    Number(Written, Handed, Meaning),
    Bytes(Meaning),
    String(Meaning),
    /// Bytes that the reader takes for a string.
    BytesAsString,
    /// A string that the reader takes for bytes.
    StringAsBytes,
    Fixed(usize, Meaning),
    /// The symbols; `None` for one that the reader does not know.
    Enum(Box<[Option<Box<str>>]>),
    /// Items, and the least bytes that one takes.
    Array(NodeId, usize),
    /// Values, and the least bytes that an entry takes.
    Map(NodeId, usize),
    /// By the writer's branch: its name (for Rust enums), and how it is read.
    Union(Box<[(Box<str>, NodeId)]>),
    Record(Record),
    /// A branch of the writer's union that the reader cannot take: why, and how to get over it.
    Refused(Box<str>, NodeId),
    /// A type whose compilation is under way; none is left when it is done.
    Pending,
}

/// A number's encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Int,
    Long,
    Float,
    Double,
}

/// The reader's type of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handed {
    Whole,
    Float,
    Double,
}

/// What a value stands for, by its logical type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Plain,
    /// A moment; so many of its units are a second.
    Timestamp(i64),
    /// Days since the epoch.
    Date,
    /// An unscaled number with so many digits behind the point.
    Decimal(u32),
    /// 16 bytes.
    Uuid,
}

/// The fields of a record in the order of the writer, then those that the reader adds.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) fields: Box<[Field]>,
    pub(super) added: Box<[Added]>,
}

/// A field that was written.
#[derive(Debug, Clone)]
pub(super) struct Field {
    /// The reader's name of it; `None`: the reader has no such field.
    pub(super) name: Option<Box<str>>,
    pub(super) node: NodeId,
}

/// A field that was not written: the reader's default, as a datum.
#[derive(Debug, Clone)]
pub(super) struct Added {
    pub(super) name: Box<str>,
    pub(super) node: NodeId,
    pub(super) datum: Box<[u8]>,
}

impl Plan {
    #[inline]
    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// Goes over a value without making anything of it.
    pub(super) fn skip(&self, id: NodeId, input: &mut Input<'_>) -> Result<(), Error> {
        self.skip_value(self.node(id), input)
    }
    pub(super) fn skip_value(&self, node: &Node, input: &mut Input<'_>) -> Result<(), Error> {
        match node {
            Node::Null => Ok(()),
            Node::Boolean => input.boolean().map(|_| ()),
            Node::Number(Written::Int, ..) => input.int().map(|_| ()),
            Node::Number(Written::Long, ..) => input.long().map(|_| ()),
            Node::Number(Written::Float, ..) => input.take(4).map(|_| ()),
            Node::Number(Written::Double, ..) => input.take(8).map(|_| ()),
            Node::Bytes(_) | Node::BytesAsString | Node::String(_) | Node::StringAsBytes => input.bytes().map(|_| ()),
            Node::Fixed(size, _) => input.take(*size).map(|_| ()),
            Node::Enum(symbols) => input.index("a symbol", symbols.len()).map(|_| ()),
            Node::Refused(_, node) => self.skip(*node, input),
            Node::Union(branches) => {
                let branch = input.index("a branch of a union", branches.len())?;
                self.skip(branches[branch].1, input)
            }
            Node::Array(items, least) => {
                input.enter()?;
                loop {
                    let count = input.block(*least)?;
                    if count == 0 {
                        break;
                    }
                    for _ in 0..count {
                        self.skip(*items, input)?;
                    }
                }
                input.leave();
                Ok(())
            }
            Node::Map(values, least) => {
                input.enter()?;
                loop {
                    let count = input.block(*least)?;
                    if count == 0 {
                        break;
                    }
                    for _ in 0..count {
                        input.bytes()?;
                        self.skip(*values, input)?;
                    }
                }
                input.leave();
                Ok(())
            }
            Node::Record(record) => {
                input.enter()?;
                for field in &record.fields {
                    self.skip(field.node, input)?;
                }
                input.leave();
                Ok(())
            }
            Node::Pending => Err(unfinished()),
        }
    }

    /// Fills in the least size of array items and map entries, once all nodes are there.
    pub(super) fn finish(&mut self) {
        let least: Vec<usize> = (0..self.nodes.len())
            .map(|id| match &self.nodes[id] {
                Node::Array(items, _) => self.least(*items, &mut Vec::new()),
                Node::Map(values, _) => 1 + self.least(*values, &mut Vec::new()),
                _ => 0,
            })
            .collect();
        for (node, found) in self.nodes.iter_mut().zip(least) {
            if let Node::Array(_, least) | Node::Map(_, least) = node {
                *least = found;
            }
        }
    }

    /// The least bytes that a value takes; 0 for a type within itself, which is safe.
    fn least(&self, id: NodeId, above: &mut Vec<NodeId>) -> usize {
        const ENOUGH: usize = 64; // a bound need not be sharp, and wide schemas must not take long
        if above.contains(&id) || above.len() > 16 {
            return 0;
        }
        above.push(id);
        let least = match self.node(id) {
            Node::Null | Node::Pending => 0,
            Node::Number(Written::Float, ..) => 4,
            Node::Number(Written::Double, ..) => 8,
            Node::Fixed(size, _) => *size,
            Node::Refused(_, node) => self.least(*node, above),
            Node::Record(record) => {
                let mut sum = 0;
                for field in &record.fields {
                    if sum >= ENOUGH {
                        break;
                    }
                    sum += self.least(field.node, above);
                }
                sum
            }
            _ => 1,
        };
        above.pop();
        least
    }
}

pub(super) fn unfinished() -> Error {
    Error::malformed("the schema was compiled only in part".to_owned())
}
