//! The vocabulary of Karst, in the order of the path: Record → Message → Event → Update → Change → Answer.
//!
//! No I/O, no async, and no clock is read here: time is handed in ([`Clock`] is only the trait).
//!
//! Reading order: [`time`], [`position`], [`record`], [`envelope`], [`message`], [`value`], [`entity`], [`update`], [`outcome`].
//! The two types to start from are [`Records`] (what a source hands over) and [`Updates`] (what a resolver wrote).

pub mod time;
pub use time::{BrokerTime, Clock, EventTime, ProcessingTime};

pub mod span;
pub use span::{ByteSize, TimeSpan};

pub mod position;
pub use position::{Offset, PartitionId, Position, SourceId, SourceName};

pub mod record;
pub use record::{RecordRef, Records};

pub mod envelope;
pub use envelope::Record;

pub mod message;
pub use message::{FieldSchema, FieldType, Invalid, Message, MessageSchema, TimeField};

pub mod value;
pub use value::{FeatureValue, Value, ValueType};

pub mod entity;
pub use entity::{EntityKey, ShardCount, ShardId, shard_of};

pub mod version;
pub use version::Version;

pub mod update;
pub use update::{ClassId, FeatureId, FeatureSlot, UpdateRef, Updates};

pub mod expr;
pub use expr::Expr;

pub mod window;
pub use window::{AggregateSlot, Aggregation, WindowKind, WindowLength};

pub mod outcome;
pub use outcome::{DeadLetter, Outcome, Outcomes, Reason};

pub mod lateness;
pub use lateness::{LatenessBucket, LatenessHistogram};

pub mod fault;
pub use fault::{Domain, Retry};

pub mod kill_point;
pub use kill_point::KillPoint;

/// A short string: up to 24 bytes are stored inline, without an allocation. Use it in messages on hot topics.
pub use compact_str::CompactString as Str;
