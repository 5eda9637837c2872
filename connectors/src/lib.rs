//! Bytes in: Kafka, files, memory; codecs. No actors, no features.
//!
//! A [`Source`] is a declaration; [`Source::start`] makes it a [`RunningSource`], which hands out one [`PartitionReader`] per
//! partition. A reader yields [`Records`](karst_types::Records) in bounded batches; a [`BatchDecoder`] makes typed messages of
//! them. Everything here is plain async Rust: no actor, no store, and no clock is read (one is handed in).
//!
//! Invariants, the same for every source and proven by [`testing::assert_source_compliance`]:
//! - offsets of a partition rise strictly, and reading again from an offset yields the same records;
//! - nothing read is dropped: a record that cannot be used is still a record, the decoder names its fault;
//! - memory is bounded by the settings, whatever the lag: a full hand-off stops the fetching;
//! - an unreachable broker, a missing topic or file is a state that is retried and told, not the end.
//!
//! Reading order: [`settings`], [`source`], [`memory`], [`mod@file`], [`kafka`], [`codec`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod error;
pub use error::{Error, Result};

pub mod settings;
pub use settings::{FutureEvents, LateLane, SourceSettings, StartAt};

pub mod source;
pub use source::{
    BoxFuture, Fetched, HealthState, LogBounds, PartitionHealth, PartitionReader, RunningSource, Source, SourceHealth,
};

pub mod letters;
pub use letters::{LetterSink, OutgoingLetter};

pub mod codec;
pub use codec::{
    AvroFormat, AvroSchema, BatchDecoder, BytesFormat, Codec, Decoded, DecodedRecord, Format, JsonDecoder, JsonFormat,
    ProtobufFormat, TextFormat, Unavailable, decoder,
};

pub mod registry;
pub use registry::{RegisteredSchema, SchemaRegistry};

mod handoff;

pub mod memory;
pub use memory::MemorySource;

pub mod file;
pub use file::FileSource;

pub mod kafka;
pub use kafka::{KafkaProducer, KafkaSource};

pub mod testing;

/// What `protobuf_message!` writes is made of.
#[doc(hidden)]
pub mod export {
    pub use karst_types::{EventTime, Message, MessageSchema, message::ReadBytes};
    pub use prost;
    pub use serde;
}
