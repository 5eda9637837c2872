//! What an operator chooses about an engine.

use std::time::Duration;

use karst_state::StoreSettings;
use serde::{Deserialize, Serialize};

/// Settings of an engine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// The state directory's settings: memory, shards, commits, durability.
    pub store: StoreSettings,
    /// Batches of a partition that may be on the way from source to shards. More hides the unevenness of stages; each may hold
    /// `batch_bytes` of the source. Default 8.
    pub credits: usize,
    /// Batches that the mailbox of a stage holds. Default 4.
    pub mailbox: usize,
    /// Lane messages that the mailbox of a shard holds, from all partitions together. Default 16.
    pub shard_mailbox: usize,
    /// Threads for everything between source and shards. 0: one for each core. Default 0.
    pub workers: usize,
    /// A stage that has work and makes no progress for this many seconds is stuck. Default 30.
    pub stuck_after_s: u64,
    /// A decoder or resolver that has been stuck for this many seconds, and cannot be interrupted, ends the process: the only way to set
    /// its record aside, after `deaths_before_aside`. Needs something that starts karst again. 0: never, it is named as stuck. Default 0.
    pub stuck_abort_after_s: u64,
    /// A record that was alone in hand when the process ended, this many times in a row, is a dead letter (`ends_process`). 0: never.
    /// Default 3.
    pub deaths_before_aside: u32,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            store: StoreSettings::default(),
            credits: 8,
            mailbox: 4,
            shard_mailbox: 16,
            workers: 0,
            stuck_after_s: 30,
            stuck_abort_after_s: 0,
            deaths_before_aside: 3,
        }
    }
}

impl EngineSettings {
    /// Everything that is wrong with them, in words; empty if nothing is.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.store.problems();
        let counts = [("credits", self.credits), ("mailbox", self.mailbox), ("shard_mailbox", self.shard_mailbox)];
        for (name, count) in counts.into_iter().filter(|(_, count)| !(1..=4096).contains(count)) {
            problems.push(format!("{name}: expected 1 to 4096, got {count}"));
        }
        if self.workers > 1024 {
            problems.push(format!("workers: expected at most 1024, got {}", self.workers));
        }
        if self.stuck_after_s == 0 {
            problems.push("stuck_after_s: expected at least 1, got 0".to_owned());
        }
        if self.stuck_abort_after_s != 0 && self.stuck_abort_after_s < self.stuck_after_s {
            problems.push(format!(
                "stuck_abort_after_s: expected 0 (never) or at least stuck_after_s ({}), got {}",
                self.stuck_after_s, self.stuck_abort_after_s
            ));
        }
        problems
    }

    pub(crate) fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            count => count,
        }
    }
    pub(crate) fn stuck_abort_after(&self) -> Option<Duration> {
        (self.stuck_abort_after_s > 0).then(|| Duration::from_secs(self.stuck_abort_after_s))
    }
    pub(crate) fn stuck_after(&self) -> Duration {
        Duration::from_secs(self.stuck_after_s)
    }
}
