//! The record behind a message, for resolvers and parse functions that ask for it: its key, its headers and where it stands.
//!
//! It is made of two words when it is asked for; nothing is copied.

use std::fmt;

use crate::{BrokerTime, Offset, PartitionId, Position, RecordRef, Records};

/// One record of a batch, with the source and the partition that it stands in.
///
/// ```
/// use karst_types::{BrokerTime, Offset, PartitionId, Record, Records};
///
/// let mut batch = Records::new("clicks".into(), PartitionId(3));
/// let headers = [("trace", Some(&b"abc"[..]))];
/// batch.push_with_headers(Offset(1842), BrokerTime(7), Some(b"ada"), Some(b"{}"), headers.into_iter());
///
/// let record = Record::new(&batch, 0);
/// assert_eq!(record.position().to_string(), "clicks[3]@1842");
/// assert_eq!((record.key(), record.header("trace")), (Some(&b"ada"[..]), Some(&b"abc"[..])));
/// ```
#[derive(Clone, Copy)]
pub struct Record<'a> {
    batch: &'a Records,
    index: usize,
}

impl<'a> Record<'a> {
    /// The record at `index` of a batch.
    pub const fn new(batch: &'a Records, index: usize) -> Self {
        Self { batch, index }
    }
    fn get(&self) -> RecordRef<'a> {
        self.batch.get(self.index)
    }
    /// The name of its source.
    pub fn source(&self) -> &'a str {
        self.batch.source().as_str()
    }
    /// Its partition.
    pub fn partition(&self) -> PartitionId {
        self.batch.partition()
    }
    /// Its offset in the partition.
    pub fn offset(&self) -> Offset {
        self.get().offset()
    }
    /// Where it stands, for people: `clicks[3]@1842`.
    pub fn position(&self) -> Position {
        self.batch.position(self.index)
    }
    /// When the broker says it was written.
    pub fn broker_time(&self) -> BrokerTime {
        self.get().broker_time()
    }
    /// Its key, if it has one.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.get().key()
    }
    /// Its value as it was sent.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.get().value()
    }
    /// Its headers in order: a name may stand more than once, a value may be null. Empty where the source does not read them.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        self.get().headers()
    }
    /// The value of the last header with this name; `None` if there is none, or it is null.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().filter(|(known, _)| *known == name).last()?.1
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({})", self.position())
    }
}
