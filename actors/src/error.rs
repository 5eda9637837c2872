//! What can go wrong with an engine, by what the caller can do about it.

use karst_features::Mistakes;
use karst_runtime::StageError;
use karst_types::{Domain, PartitionId, Retry};

use crate::subscription::{Cursor, Missed};

/// See [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an engine could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The declarations do not hold. All mistakes at once, each with where it was made.
    #[error("{0}")]
    Declarations(Mistakes),
    /// The settings do not hold. All of them at once.
    #[error("settings of the engine do not hold: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// The state directory could not be opened or written.
    #[error("{0}{hint}", hint = hint(.0.hint()))]
    State(#[source] Box<karst_state::Error>),
    /// The stored catalog does not go with the declarations, or cannot be read.
    #[error("the catalog of the state directory does not hold: {0}")]
    Catalog(String),
    /// A source could not be started, or not be written to.
    #[error("{0}")]
    Source(#[from] karst_connectors::Error),
    /// A source has no path now, so nothing of it can be replayed.
    #[error("source \"{source_name}\" is not read: no resolver of this engine reads it; hint: start the engine with one")]
    NotRead {
        /// Its name.
        source_name: String,
    },
    /// No source has ever had that name here.
    #[error("no source \"{source_name}\" is known; there {names}", names = names_of(.known))]
    UnknownSource {
        /// What was asked for.
        source_name: String,
        /// Those that the state directory knows.
        known: Vec<String>,
    },
    /// A subscription does not hold. All of it at once.
    #[error("the subscription does not hold: {}", .0.join("; "))]
    Subscription(Vec<String>),
    /// A subscriber cannot be told everything from where it stands; what it can go on with is said.
    #[error("{missed}; hint: go on from the cursor of this error, and ask for the values that matter")]
    Missed {
        /// What it cannot be told.
        missed: Missed,
        /// From where on it can be told everything.
        resume: Box<Cursor>,
    },
    /// There is no gap to be accepted.
    #[error(
        "{source_name}[{partition}] has no gap that could be accepted; hint: karst health names the partitions that have one"
    )]
    NoGap {
        /// The source.
        source_name: String,
        /// The partition.
        partition: PartitionId,
    },
    /// A part is being built anew.
    #[error("{what} is being opened again; hint: nothing is lost, ask again in a moment")]
    Busy {
        /// Which.
        what: &'static str,
    },
    /// The machine gives no thread.
    #[error("could not start a thread")]
    Thread(#[from] std::io::Error),
    /// Something did not end in time.
    #[error("{what} did not end within {within_s} s: {left}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        within_s: f64,
        /// What was left, by name.
        left: String,
    },
}

fn hint(hint: Option<&str>) -> String {
    hint.map(|hint| format!("; hint: {hint}")).unwrap_or_default()
}

fn names_of(names: &[String]) -> String {
    match names {
        [] => "is none".to_owned(),
        [only] => format!("is \"{only}\""),
        many => format!("are {}", many.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")),
    }
}

impl From<karst_state::Error> for Error {
    fn from(error: karst_state::Error) -> Self {
        Self::State(Box::new(error))
    }
}
impl From<Mistakes> for Error {
    fn from(mistakes: Mistakes) -> Self {
        Self::Declarations(mistakes)
    }
}

impl Error {
    /// Who is at fault.
    pub fn domain(&self) -> Domain {
        match self {
            Self::Declarations(_)
            | Self::Settings(_)
            | Self::Catalog(_)
            | Self::NotRead { .. }
            | Self::Subscription(_)
            | Self::Missed { .. }
            | Self::NoGap { .. }
            | Self::UnknownSource { .. } => Domain::User,
            Self::State(error) => error.domain(),
            Self::Source(error) => error.domain(),
            Self::Thread(_) | Self::Timeout { .. } | Self::Busy { .. } => Domain::External,
        }
    }
    /// Whether a later try may work.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Declarations(_)
            | Self::Settings(_)
            | Self::Catalog(_)
            | Self::NotRead { .. }
            | Self::Subscription(_)
            | Self::Missed { .. }
            | Self::NoGap { .. }
            | Self::UnknownSource { .. } => Retry::Never,
            Self::State(error) => error.retry(),
            Self::Source(error) => error.retry(),
            Self::Thread(_) | Self::Timeout { .. } | Self::Busy { .. } => Retry::Backoff,
        }
    }
}

/// A fault of a source, as its stage reports it: what may pass is tried again, what will not is given up after some restarts.
pub(crate) fn stage_error(error: karst_connectors::Error) -> StageError {
    StageError::new(error.domain(), error.retry(), error.to_string())
}

/// A fault of a shard always rebuilds it: the writer must be made anew from the last commit.
pub(crate) fn state_error(error: karst_state::Error) -> StageError {
    StageError::new(error.domain(), Retry::Never, error.to_string()).because(error)
}
