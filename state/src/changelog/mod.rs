//! History: every committed update, also one that lost against a later value, in the order of commits (`docs/semantics.md`,
//! History).
//!
//! One entry per commit, written in the commit's own batch, numbered by it. Invariants:
//! - entry `n` exists iff commit `n` applied updates; it never changes ([`ChangeVersion`] = incarnation and number; a shard
//!   that fell back to an earlier state continues in a new incarnation, so a version never names two contents);
//! - entries are dropped from the front only, behind the slowest registered cursor, or behind the retention if there is none.

mod encode;
pub(crate) use encode::{Columns, Entry, Part, decode};

use std::sync::Arc;

use karst_types::{ProcessingTime, Updates};

use crate::{core::Core, error::Result, keys};

/// The version of a change: never repeats with other content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ChangeVersion {
    /// Rises when a shard fell back to an earlier state (power loss, restore).
    pub incarnation: u64,
    /// The commit of the shard: 1, 2, 3, …
    pub seq: u64,
}

/// The updates of one lane message that a commit applied.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    /// When they were applied.
    pub stored_at: ProcessingTime,
    /// In the order of their offsets.
    pub updates: Updates,
}

/// What one commit applied.
#[derive(Clone, Debug)]
pub struct Changes {
    /// Its version.
    pub version: ChangeVersion,
    /// In the order of application.
    pub batches: Vec<ChangeBatch>,
}

/// Reads the history of one shard. Waits neither for the writer nor for a commit.
#[derive(Clone)]
pub struct Changelog {
    core: Arc<Core>,
}

impl Changelog {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The newest committed version; its `seq` is 0 before the first commit.
    pub fn newest(&self) -> ChangeVersion {
        self.core.newest()
    }

    /// The oldest `seq` that is still kept; one more than the newest if none is.
    pub fn oldest(&self) -> u64 {
        self.core.oldest_change()
    }

    /// The changes of commit `seq`; `None` if it applied none, is trimmed, or is not there yet
    /// (compare with [`Changelog::oldest`] and [`Changelog::newest`]).
    ///
    /// # Errors
    /// Of the disk, or if the entry is corrupt.
    pub fn read(&self, seq: u64) -> Result<Option<Changes>> {
        self.core.with_rocks(|rocks| match rocks.get(&keys::change(seq))? {
            Some(entry) => decode(&entry).map(Some).ok_or_else(|| rocks.corrupt(format!("changelog entry {seq}"))),
            None => Ok(None),
        })
    }

    /// The first commit after `seq` that applied updates, if there is one.
    ///
    /// # Errors
    /// As [`Changelog::read`].
    pub fn next(&self, seq: u64) -> Result<Option<Changes>> {
        self.core.with_rocks(|rocks| {
            let mut found = None;
            rocks.scan(&[keys::CHANGE], &keys::change(seq + 1), |key, entry| {
                let seq = keys::number_of(key).unwrap_or_default();
                found = Some(decode(entry).ok_or_else(|| rocks.corrupt(format!("changelog entry {seq}")))?);
                Ok(false)
            })?;
            Ok(found)
        })
    }

    /// Registers the durable reader `name`, or moves it: entries up to `seq` may go as far as it is concerned. While a reader
    /// is registered, nothing after its cursor is trimmed, however long it is away.
    ///
    /// # Errors
    /// Of the disk.
    pub fn set_cursor(&self, name: &str, seq: u64) -> Result<()> {
        self.core.set_cursor(name, Some(seq))
    }

    /// Forgets a durable reader.
    ///
    /// # Errors
    /// Of the disk.
    pub fn remove_cursor(&self, name: &str) -> Result<()> {
        self.core.set_cursor(name, None)
    }

    /// The registered readers with their cursors.
    pub fn cursors(&self) -> Vec<(String, u64)> {
        self.core.cursors()
    }
}
