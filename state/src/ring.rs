//! The commit ring: finds a hole in the write-ahead log when a shard is opened. Pure.
//!
//! RocksDB recovers silently with a whole older log file missing or cut, because it cannot know that there was one
//! (a study for this design: 206 of 400 damaged images opened without an error, with state that did not match its position).
//! So every commit `n` also writes `n` into slot `n mod SLOTS`. If the newest commit is `n`, the last `SLOTS` slots must hold
//! `n, n-1, …`; a commit that was lost from the middle leaves an older number.
//!
//! That proves it only if every commit which may live in the log alone is still in the ring: a shard flushes its memtable
//! itself every [`FLUSH_EVERY`] commits, and waits for that, so at most that many are in log files at any time.

/// Number of slots.
pub(crate) const SLOTS: u64 = 4096;

/// A flush is forced after this many commits; half of the ring, so that the bound holds with room to spare.
pub(crate) const FLUSH_EVERY: u64 = SLOTS / 2;

/// The slot of a commit.
pub(crate) const fn slot(seq: u64) -> u16 {
    (seq % SLOTS) as u16
}

/// Returns the first missing commit among the last [`SLOTS`] up to `newest`, given the content of a slot.
pub(crate) fn hole(newest: u64, mut content: impl FnMut(u16) -> Option<u64>) -> Option<u64> {
    let oldest = newest.saturating_sub(SLOTS - 1).max(1);
    (oldest..=newest).find(|seq| content(slot(*seq)) != Some(*seq))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn ring(commits: impl Iterator<Item = u64>) -> HashMap<u16, u64> {
        commits.map(|seq| (slot(seq), seq)).collect()
    }

    #[test]
    fn a_whole_ring_has_no_hole() {
        for newest in [0, 1, 2, SLOTS - 1, SLOTS, SLOTS + 1, 3 * SLOTS + 17] {
            let ring = ring(1..=newest);
            assert_eq!(hole(newest, |slot| ring.get(&slot).copied()), None, "{newest}");
        }
    }

    #[test]
    fn every_run_of_lost_commits_within_the_ring_is_found() {
        let newest = 2 * SLOTS + 100;
        for (from, count) in [(newest - 1, 1), (newest - 50, 3), (newest - FLUSH_EVERY, FLUSH_EVERY - 1)] {
            let ring = ring((1..=newest).filter(|seq| *seq < from || *seq >= from + count));
            assert_eq!(hole(newest, |slot| ring.get(&slot).copied()), Some(from));
        }
    }
}
