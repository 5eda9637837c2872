//! What an operator chooses about the state directory.

use karst_types::{ByteSize, ShardCount, TimeSpan};
use serde::{Deserialize, Serialize};

/// What a commit survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The death of the process (kill -9, panic), not of the machine. After a power cut each shard is an earlier, consistent
    /// state of its own, and the rest is replayed. No fsync per commit.
    #[default]
    Process,
    /// The loss of power too: every commit is fsynced (2–8 ms each on a usual disk).
    Power,
}

/// Settings of a [`Store`](crate::Store).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// All memory that state may use: block cache, memtables, hot set and what waits for a commit. More keeps more entities
    /// in memory; less reads them from disk. Default 512MiB, at least 32MiB.
    pub memory: ByteSize,
    /// Number of shards, fixed when the directory is made (1 to 1024). More shards use more cores. Default 4.
    pub shards: u16,
    /// The longest time that applied updates wait for their commit under load. Longer gathers more updates of one entity into
    /// one write, and makes the replay after a crash longer. A shard to which more than a sixteenth of `commit_events` came
    /// in that time waits up to five times as long, but not for more than 2 MiB of history. Default 200ms.
    pub commit_interval: TimeSpan,
    /// A commit starts at the latest after this many updates. Default 250000.
    pub commit_events: usize,
    /// What a commit survives. Default `process`.
    pub durability: Durability,
    /// History kept per shard when no durable reader is registered. Default 256MiB.
    pub changelog_bytes: ByteSize,
    /// History older than this goes when no durable reader is registered. Default 1d.
    pub changelog_age: TimeSpan,
    /// Dead letters kept; the oldest go first, and are counted. Default 100000.
    pub dead_letters: u64,
    /// Bytes of dead letters kept. Default 64MiB.
    pub dead_letter_bytes: ByteSize,
    /// Dead letters that were stored longer ago than this go, at the next commit of their source. Longer leaves more time to
    /// mend the cause and replay them. Default 30d.
    pub dead_letter_age: TimeSpan,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(512),
            shards: 4, // two per core of a small machine; each is one thread's work at most
            commit_interval: TimeSpan::from_millis(200),
            commit_events: 250_000,
            durability: Durability::Process,
            changelog_bytes: ByteSize::mib(256),
            changelog_age: TimeSpan::from_secs(86_400),
            dead_letters: 100_000,
            dead_letter_bytes: ByteSize::mib(64),
            dead_letter_age: TimeSpan::from_secs(30 * 86_400),
        }
    }
}

impl StoreSettings {
    /// Everything that is wrong with them, in words; empty if nothing is.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut must = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        must(self.memory >= ByteSize::mib(32), format!("memory: expected at least 32MiB, got {}", self.memory));
        must(ShardCount::new(self.shards).is_some(), format!("shards: expected 1 to 1024, got {}", self.shards));
        must(
            self.commit_interval > TimeSpan::ZERO,
            format!("commit_interval: expected a time above 0, got {}", self.commit_interval),
        );
        must(self.commit_events > 0, "commit_events: expected at least 1, got 0".to_owned());
        must(self.dead_letters > 0, "dead_letters: expected at least 1, got 0".to_owned());
        must(
            self.dead_letter_age > TimeSpan::ZERO,
            format!("dead_letter_age: expected a time above 0, got {}", self.dead_letter_age),
        );
        problems
    }

    pub(crate) fn shares(&self, shards: u16) -> Shares {
        let memory = self.memory.bytes();
        let shards = usize::from(shards);
        let memtables = memory / 4;
        Shares {
            cache: memory / 2,
            memtables,
            memtable: (memtables / (shards + 1) / 2).clamp(1 << 20, 64 << 20),
            hot: memory * 3 / 8 / shards,
            gathered: memory / 8 / shards / 2,
        }
    }
}

/// How the one number is divided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    /// Block cache; memtables are charged to it.
    pub(crate) cache: usize,
    /// Part of the cache that memtables may take.
    pub(crate) memtables: usize,
    /// One memtable of one shard: two of them per shard fit, one filling while one is flushed.
    pub(crate) memtable: usize,
    /// Hot set of one shard.
    pub(crate) hot: usize,
    /// Batches of one shard that wait for a commit; as many again may be in the commit that is being written.
    pub(crate) gathered: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_to_the_one_number() {
        for (memory, shards) in [(32, 1), (512, 4), (4096, 64)] {
            let settings = StoreSettings { memory: ByteSize::mib(memory), ..StoreSettings::default() };
            let shares = settings.shares(shards);
            let sum = shares.cache + usize::from(shards) * (shares.hot + 2 * shares.gathered);
            assert!(sum <= settings.memory.bytes() && shares.memtables < shares.cache);
        }
    }

    #[test]
    fn all_problems_are_named_together() {
        let settings = StoreSettings { shards: 0, commit_events: 0, memory: ByteSize(1), ..StoreSettings::default() };
        assert_eq!(settings.problems().len(), 3);
        assert!(StoreSettings::default().problems().is_empty());
    }
}
