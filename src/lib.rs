//! The front door of Karst: everything that a program, the server and the command need, and nothing that they could not use.
//!
#![doc = include_str!("../README.md")]

pub use karst_connectors as connectors;
pub use karst_connectors::protobuf_message;
pub use karst_features as features;
pub use karst_runtime as runtime;
pub use karst_state as state;
pub use karst_types as types;
pub use serde;

pub use karst_actors::{
    AcceptedGap, AnswerValue, Candidate, ChangeFeed, ChangeKind, Cursor, Engine, EngineBuilder, EngineHandle, EngineSettings,
    Error, ErrorCode, FeatureChange, FeatureChanges, FoundLetter, Health, IntoValue, LetterFilter, Missed, PartitionLateness,
    PartitionStatus, PartitionTime, Problem, QueryAnswer, QueryError, QueryRequest, Replays, ResolverLateness, ResolverStatus,
    Result, ShardStatus, Since, SourceLateness, SourceStatus, SourceWatermark, StageView, Status, Subscription, Topology,
    describe_metrics, diagram,
};

pub use karst_connectors::{
    FileSource, Format, FutureEvents, KafkaProducer, KafkaSource, LateLane, MemorySource, SchemaRegistry, Source,
    SourceSettings, StartAt,
};

pub use karst_features::{Feature, FeatureClass, IntoStreamResolver, Registry, StreamResolver};

pub use karst_state::{Durability, StoreSettings};

pub use karst_types::{
    BrokerTime, ByteSize, Clock, EventTime, Invalid, LatenessHistogram, Message, Offset, Outcomes, PartitionId, Position,
    ProcessingTime, Reason, Record, Str, TimeField, TimeSpan, Value, ValueType,
};

/// What a program that declares features begins with: `use karst::prelude::*;`
pub mod prelude {
    pub use karst_features::{Groups, Windowed, updates};
    pub use karst_macros::{Message, Updates, features, stream};
    pub use karst_types::{EventTime, Invalid, Message, Record, Str, TimeSpan, Value};

    pub use crate::{
        Engine, EngineSettings, FileSource, Format, IntoValue, KafkaSource, MemorySource, QueryRequest, SchemaRegistry,
    };
}

/// Runs a future to its end on the calling thread, with the timers that an engine needs.
///
/// # Errors
/// What the future says, or if the machine gives no runtime.
pub fn run<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
