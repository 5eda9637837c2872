//! The path itself: topology, stages, engine, online queries. Modules stand in the order of the path.
//!
//! The one crate that sees all four siblings (`features`, `runtime`, `state`, `connectors`): it turns them into a running
//! dataflow and holds no logic that could live in one of them. It must not know: HTTP, the command line.
//!
//! The two types to start from are [`Engine`] and `topology::Wiring`, whose `partition` is the wiring in path order.

mod protocol;

mod source_supervisor;

pub mod source_time;
pub use source_time::{PartitionTime, SourceWatermark};

mod source_partition;

mod replayer;

mod breaker;

mod letter_forwarder;

mod parse_stage;

mod stream_resolver;

mod shard_router;

mod store_shard;

mod committer;

mod windows;

pub mod subscription;
pub use subscription::{ChangeFeed, ChangeKind, Cursor, FeatureChange, FeatureChanges, Missed, Since, Subscription};

pub mod online_query;
pub use online_query::{AnswerValue, ErrorCode, IntoValue, QueryAnswer, QueryError, QueryRequest};

mod partition;

mod watchdog;

mod hands;

mod dead_letter;

pub mod letters;
pub use letters::{FoundLetter, LetterFilter, Replays};

pub mod topology;
pub use topology::diagram;

pub mod status;
pub use status::{Health, PartitionStatus, Problem, ResolverStatus, ShardStatus, SourceStatus, StageView, Status, Topology};

pub mod gaps;
pub use gaps::AcceptedGap;

pub mod late;
pub use late::{Candidate, PartitionLateness, ResolverLateness, SourceLateness};

pub mod settings;
pub use settings::EngineSettings;

pub mod engine;
pub use engine::{Engine, EngineBuilder, EngineHandle};

mod short;

pub mod metrics;
pub use metrics::describe_metrics;

pub mod error;
pub use error::{Error, Result};
