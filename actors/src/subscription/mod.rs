//! Hop 6: subscribers are told what changes, from what is committed (`docs/semantics.md`, Subscriptions).
//!
//! ```text
//! history of a shard ─ updates ─┬─ values that were written
//!                               ├─ values of the windows that saw them          (changed)
//!                               └─ windows that were over already, once more    (closed, corrected)
//! watermark of a class ─────────── windows that it has passed                   (closed)
//! ```
//! A subscriber reads, nobody writes to it: there is no queue that could fill, and no stage that would wait. Each of its steps is a look at one
//! shard, at one moment, of bounded size ([`feed`]); where it stands is a [`Cursor`], which the subscriber keeps.

mod cursor;
mod feed;
mod look;
mod passing;
mod watched;

use std::{fmt, sync::Arc, time::Duration};

use karst_state::ChangeVersion;
use karst_types::{EventTime, Value};

pub use cursor::Cursor;
pub(crate) use passing::Passing;

use crate::{EngineHandle, IntoValue, error::Result};
use feed::Feed;

/// How often a subscriber that has been told everything looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is to be told.
#[derive(Clone, Debug, Default)]
pub struct Subscription {
    /// Features (`user.last_page`), windows (`user.visits["1h"]`), or whole classes (`user`).
    pub features: Vec<String>,
    /// If any is named of a class, only the entities with these keys: `("user.id", "ada")`.
    pub keys: Vec<(String, Value)>,
    /// From where on.
    pub since: Since,
}

/// From where on a subscriber is told.
#[derive(Clone, Debug, Default)]
pub enum Since {
    /// From what is committed after the subscription.
    #[default]
    Now,
    /// From the oldest that is kept.
    Oldest,
    /// From where it was before.
    Cursor(Cursor),
}

impl Subscription {
    /// To nothing yet.
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds a feature, a window, or a whole class.
    #[must_use]
    pub fn feature(mut self, feature: impl Into<String>) -> Self {
        self.features.push(feature.into());
        self
    }
    /// Adds an entity by its key; without any of its class all entities are meant.
    #[must_use]
    pub fn key(mut self, feature: impl Into<String>, value: impl IntoValue) -> Self {
        self.keys.push((feature.into(), value.into_value()));
        self
    }
    /// Sets from where on.
    #[must_use]
    pub fn since(mut self, since: Since) -> Self {
        self.since = since;
        self
    }
}

/// Why something is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    /// A resolver wrote the value. Which of two is kept is decided by their event times, not by which is told first.
    Written,
    /// An update changed what a window holds: its value at `ts`.
    Changed,
    /// A tumbling window or a session is over: its last value.
    Closed,
}

impl ChangeKind {
    /// As on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Changed => "changed",
            Self::Closed => "closed",
        }
    }
}

/// One change of one feature of one entity.
#[derive(Clone, PartialEq, Debug)]
pub struct FeatureChange {
    /// `user.last_page`, `user.visits__3600__`.
    pub feature: Arc<str>,
    /// The entity's key.
    pub key: Value,
    /// The value.
    pub value: Value,
    /// Why it is told.
    pub kind: ChangeKind,
    /// Of a written value its event time; of a window the instant that the value is of; of one that is over its end.
    pub ts: EventTime,
    /// Whether an update came for a time that had been told already: the value stands for one that was, or might have been, told before.
    pub corrected: bool,
    /// Of a window that is over: where it begins, for a session its first event.
    pub from: Option<EventTime>,
    /// The shard, and the commit that it is of.
    pub shard: u16,
    /// Never repeats with other content.
    pub version: ChangeVersion,
}

/// What one step told, and where the subscriber stands after it. To take both or none is to be told everything once.
#[derive(Clone, Debug)]
pub struct FeatureChanges {
    /// In the order of the shard's commits; those of one commit in the order in which it applied them.
    pub changes: Vec<FeatureChange>,
    /// Where to go on.
    pub cursor: Cursor,
}

/// What a subscriber cannot be told any more.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Missed {
    /// The history has been trimmed.
    Trimmed {
        /// Of this shard.
        shard: u16,
        /// The subscriber stands behind this commit.
        seq: u64,
        /// Up to this one nothing is kept.
        trimmed: u64,
    },
    /// Windows were let go before they could be told.
    LetGo {
        /// The feature.
        feature: String,
        /// Those that ended after this
        from: EventTime,
        /// and before this.
        to: EventTime,
    },
    /// After a loss of power, or restored from a backup, a shard has fallen back: what was told is void, and will be told anew.
    FellBack {
        /// Which shard.
        shard: u16,
        /// What was told up to this commit
        seq: u64,
        /// is void after this one.
        survived: u64,
    },
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trimmed { shard, seq, trimmed } => {
                write!(
                    f,
                    "the history of shard {shard} is kept after commit {trimmed}, and the cursor is at commit {seq}: see changelog_bytes and changelog_age"
                )
            }
            Self::LetGo { feature, from, to } => {
                write!(
                    f,
                    "windows of \"{feature}\" that ended after {from} and before {to} may have been let go before they were told: see its retention"
                )
            }
            Self::FellBack { shard, seq, survived } => {
                write!(
                    f,
                    "shard {shard} does not have its commits after {survived} any more (a loss of power, or a backup that is older), and the cursor is at commit {seq}: what they told is void, and is told again"
                )
            }
        }
    }
}

/// What a subscriber is told, step by step. Dropping it ends the subscription; a [`Cursor`] begins it again.
pub struct ChangeFeed {
    feed: Feed,
}

impl ChangeFeed {
    pub(crate) fn new(engine: &EngineHandle, subscription: &Subscription) -> Result<Self> {
        Ok(Self { feed: Feed::new(engine, subscription)? })
    }

    /// Waits for changes. Reads the disk on the calling thread, some milliseconds at a time. Needs a tokio timer. It may be dropped and called
    /// again: nothing is lost by that.
    ///
    /// # Errors
    /// [`Error::Missed`](crate::Error::Missed) with a cursor to go on from; [`Error::State`](crate::Error::State) if the disk could not be read, or a shard is
    /// being opened again: call again.
    pub async fn next(&mut self) -> Result<FeatureChanges> {
        loop {
            match self.poll()? {
                Some(told) if !told.changes.is_empty() => return Ok(told),
                // Others have their turn between two steps.
                Some(_) => tokio::task::yield_now().await,
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// One step: what it told, perhaps nothing; `None`: everything that there is has been told.
    ///
    /// # Errors
    /// As [`ChangeFeed::next`].
    pub fn poll(&mut self) -> Result<Option<FeatureChanges>> {
        self.feed.step()
    }

    /// Where it stands.
    pub fn cursor(&self) -> Cursor {
        self.feed.cursor()
    }
}
