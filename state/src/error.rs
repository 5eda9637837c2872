//! What can go wrong with state, by what the caller can do about it.

use std::{fmt, io, path::PathBuf};

use karst_types::{Domain, Retry, ShardId};

/// The result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// One shard, or the source shard that keeps what belongs to partitions rather than to entities.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ShardName {
    /// A shard of feature values.
    Shard(ShardId),
    /// Outcomes, watermark history and dead letters.
    Source,
}

impl fmt::Display for ShardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shard(id) => write!(f, "shard {id}"),
            Self::Source => f.write_str("the source shard"),
        }
    }
}

impl ShardName {
    /// For metric labels and folder names: `003`, `source`.
    pub fn label(&self) -> String {
        match self {
            Self::Shard(id) => format!("{:03}", id.0),
            Self::Source => "source".to_owned(),
        }
    }
}

/// Why state could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings do not hold; all of them are named.
    #[error("settings of the state do not hold: {}", problems.join("; "))]
    Settings {
        /// Each in words.
        problems: Vec<String>,
    },
    /// The file system says no.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Another process, or another engine in this one, has it open.
    #[error("state directory {} is in use", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory, or a shard in it, is not the one that was expected.
    #[error("{} has another {what}: expected {expected}, got {got}", path.display())]
    Mismatch {
        /// Which property: shard count, hash version, format, shard, store.
        what: &'static str,
        /// Where it was read.
        path: PathBuf,
        /// What these settings or this program expect.
        expected: String,
        /// What is stored.
        got: String,
    },
    /// A name that cannot be used.
    #[error("{name:?} cannot be the name of a {what}: expected 1 to 64 letters, digits and -_., not beginning with a dot")]
    Name {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Where something is to be made, there is something.
    #[error("there is {what} in {} already", path.display())]
    Exists {
        /// What.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A backup was being restored into the directory, and that did not come to its end.
    #[error("{} is a backup that was not restored to its end", path.display())]
    Unfinished {
        /// The directory.
        path: PathBuf,
    },
    /// Part of the directory is gone.
    #[error("{what} is missing: expected it at {}", path.display())]
    Missing {
        /// What.
        what: String,
        /// Where.
        path: PathBuf,
    },
    /// The write-ahead log has a hole: commits were lost from the middle, so what is there belongs to no moment.
    #[error("{shard} at {} has lost commits: expected commit {missing} before commit {newest}, and it is not there", path.display())]
    WalHole {
        /// Which shard.
        shard: ShardName,
        /// Its folder.
        path: PathBuf,
        /// The newest commit.
        newest: u64,
        /// The oldest of those that are missing.
        missing: u64,
    },
    /// Bytes on disk are not what was written.
    #[error("{what} of {shard} at {} is corrupt", path.display())]
    Corrupt {
        /// Which shard.
        shard: ShardName,
        /// Its folder.
        path: PathBuf,
        /// Which part.
        what: String,
        /// What RocksDB said, if it was the one to find it.
        #[source]
        source: Option<Cause>,
    },
    /// RocksDB could not do it; a later try may work.
    #[error("could not {action} {shard} at {}", path.display())]
    Storage {
        /// open, read, write, flush, sync.
        action: &'static str,
        /// Which shard.
        shard: ShardName,
        /// Its folder.
        path: PathBuf,
        /// What RocksDB said.
        #[source]
        source: Cause,
    },
    /// An earlier write failed. The shard serves what is committed and takes nothing more until its writer is built anew,
    /// which opens it again at the last commit.
    #[error("{shard} at {} is stopped since a write failed: {cause}", path.display())]
    Poisoned {
        /// Which shard.
        shard: ShardName,
        /// Its folder.
        path: PathBuf,
        /// The failed write.
        cause: String,
    },
    /// A newer writer of the shard exists; this one has lost its rights.
    #[error("{shard} has a newer writer; this one may no longer write")]
    Fenced {
        /// Which shard.
        shard: ShardName,
    },
}

impl Error {
    /// Who is at fault.
    pub fn domain(&self) -> Domain {
        match self {
            Self::Settings { .. } | Self::Mismatch { .. } | Self::Locked { .. } => Domain::User,
            Self::Name { .. } | Self::Exists { .. } | Self::Unfinished { .. } => Domain::User,
            Self::Io { .. } | Self::Missing { .. } | Self::WalHole { .. } | Self::Corrupt { .. } => Domain::External,
            Self::Storage { .. } | Self::Poisoned { .. } => Domain::External,
            Self::Fenced { .. } => Domain::Internal,
        }
    }

    /// Whether a later try may work.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Io { .. } | Self::Locked { .. } | Self::Storage { .. } | Self::Poisoned { .. } => Retry::Backoff,
            _ => Retry::Never,
        }
    }

    /// What to do about it, for people.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Settings { .. } => "correct the settings named above",
            Self::Name { .. } => "choose another name, such as monday",
            Self::Exists { .. } => "choose another name or directory; nothing is overwritten",
            Self::Unfinished { .. } => "remove the directory, and restore the backup again",
            Self::Locked { .. } => "stop the other karst process, or choose another data directory",
            Self::Mismatch { what: "shard count", .. } => {
                "the number of shards is fixed when a directory is made: set `shards` back, or start with an empty directory"
            }
            Self::Mismatch { what: "format" | "hash version", .. } => {
                "the directory was made by another version of karst: run that version, or start with an empty directory"
            }
            Self::Mismatch { .. } => "a shard was copied or moved: put back the folder that belongs there",
            Self::Missing { .. } => {
                "restore the folder from a backup, or start with an empty directory to replay from the source"
            }
            Self::WalHole { .. } | Self::Corrupt { .. } => {
                "do not go on with this directory: restore it from a backup, or start with an empty one to replay from the source"
            }
            Self::Storage { .. } | Self::Poisoned { .. } | Self::Io { .. } => {
                "look at free space, permissions and the health of the disk"
            }
            Self::Fenced { .. } => return None,
        })
    }
}
