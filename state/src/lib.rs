//! What is remembered: feature values, positions and history, in shards on RocksDB.
//!
//! It knows no actor, no async and no broker. One [`ShardWriter`] per shard, owned by one thread, takes lane messages and
//! applies them in memory; a [`CommitWriter`] on another thread writes what was gathered; any number of [`StoreReader`]s read
//! beside them and wait for neither.
//!
//! Invariants (the numbers are those of docs/semantics.md and of the tests):
//! - I1–I3: values, applied positions, history and commit number of a shard change in **one** RocksDB batch, in one column
//!   family; whatever a crash leaves is the fold of the records up to the stored positions.
//! - I4, I5: a lane message is applied only right after its predecessor of the same epoch ([`lane`]).
//! - I6: a partition restarts at a recorded barrier that no shard has passed unsaved ([`restart`]).
//! - I23: a directory that is not what it was (shard count, hash, format, foreign shard, hole in the log) is refused.
//! - I24: after a failed write nothing of that batch is ever read.
//!
//! Reading order: [`lane`], [`restart`], [`row`], [`store`], [`shard`], [`source_shard`], [`window`], [`commit`],
//! [`changelog`].
//! The two types to start from are [`Store`] and [`ShardWriter`].

pub mod lane;
pub use lane::{Accept, LaneHead, LaneId, LanePosition, Lanes};

pub mod restart;
pub use restart::{RestartPoint, WatermarkState, restart_point};

pub mod row;
pub use row::{Cell, Row};

pub mod replay;
pub use replay::{REPLAY, ReplayEntry, ReplayRequest, Replayed};

pub mod settings;
pub use settings::{Durability, StoreSettings};

pub mod in_hand;
pub use in_hand::{InHand, Work};

pub mod backup;
pub use backup::restore;

pub mod error;
pub use error::{Error, Result, ShardName};

pub mod store;
pub use store::Store;

pub mod shard;
pub use shard::{Applied, ShardBatch, ShardWriter};

pub mod source_shard;
pub use source_shard::{LetterCounts, PartitionOutcomes, SourceBatch, SourceReader, SourceWriter, StoredDeadLetter};

pub mod lateness;
pub use lateness::Lateness;

pub mod commit;
pub use commit::{CommitWriter, Committed, FrozenCommit};

pub mod reader;
pub use reader::{ClassSize, RowsSize, ShardReader, StoreReader};

pub mod moment;
pub use moment::{ClosedOf, Closings, Moment};

pub mod changelog;
pub use changelog::{ChangeBatch, ChangeVersion, Changelog, Changes};

pub mod window;
pub use window::{
    AggregateDeclaration, ClassSessions, ClassWindows, Closed, Closing, SessionDeclaration, WindowDeclaration, WindowRead,
    WindowValue, Windows,
};

mod bytes;
mod core;
mod dead;
pub use dead::LetterState;
mod hot;
mod keys;
mod layout;
mod lineage;
mod metrics;
mod poison;
mod ring;
mod rocks;

#[cfg(test)]
mod tests;
