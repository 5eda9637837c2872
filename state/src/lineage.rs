//! Which commits of its earlier incarnations a shard still has.
//!
//! A shard that may have fallen back (a loss of power, a backup) goes on in a new incarnation, so that a version never names two contents.
//! Where each began is kept: (incarnation, last commit before it), 16 bytes each, little-endian. An incarnation follows on the one before
//! it by number; where it does not, since a restored shard leaps ahead of whatever the original may have come to, an entry with the
//! incarnation it follows on and [`LEAP`] stands before its own.

use crate::changelog::ChangeVersion;

/// So many entries are kept, the newest.
const ENTRIES_MAX: usize = 64;
const ENTRY: usize = 16;
const LEAP: u64 = u64::MAX;

/// The beginnings that are known, the oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Lineage(Vec<(u64, u64)>);

impl Lineage {
    pub(crate) fn decode(stored: &[u8]) -> Self {
        let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self(stored.chunks_exact(ENTRY).map(|entry| (number(entry), number(&entry[8..]))).collect())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let newest = &self.0[self.0.len().saturating_sub(ENTRIES_MAX)..];
        newest.iter().flat_map(|(incarnation, seq)| [incarnation.to_le_bytes(), seq.to_le_bytes()].concat()).collect()
    }

    /// `to` begins with what `from` had up to commit `seq`.
    pub(crate) fn begin(&mut self, from: u64, to: u64, seq: u64) {
        if to != from + 1 {
            self.0.push((from, LEAP));
        }
        self.0.push((to, seq));
    }

    /// What incarnation `now` has of what `version` names: the commits up to the answer. 0 if it does not descend from it, or not as far as
    /// is known.
    pub(crate) fn survived(&self, version: ChangeVersion, now: u64) -> u64 {
        let (mut at, mut seq, mut leap) = (version.incarnation, version.seq, None);
        for (incarnation, base) in &self.0 {
            if *base == LEAP {
                leap = Some(*incarnation);
                continue;
            }
            let follows_on = leap.take().unwrap_or(incarnation.saturating_sub(1));
            if *incarnation <= version.incarnation {
                continue;
            }
            if follows_on != at {
                return 0;
            }
            (at, seq) = (*incarnation, seq.min(*base));
        }
        if at == now { seq } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(incarnation: u64, seq: u64) -> ChangeVersion {
        ChangeVersion { incarnation, seq }
    }

    #[test]
    fn what_survives_is_the_least_that_any_later_incarnation_began_with() {
        let mut lineage = Lineage::default();
        lineage.begin(1, 2, 50);
        lineage.begin(2, 3, 40);
        let lineage = Lineage::decode(&lineage.encode());
        assert_eq!(
            [at(1, 60), at(1, 45), at(1, 30), at(2, 70), at(3, 70)].map(|version| lineage.survived(version, 3)),
            [40, 40, 30, 40, 70]
        );
        assert_eq!(lineage.survived(at(3, 70), 4), 0, "4 is not known");
    }

    #[test]
    fn after_a_leap_descendants_are_told_from_what_the_original_went_on_to() {
        let mut lineage = Lineage::default();
        lineage.begin(1, 2, 50);
        lineage.begin(2, 900, 60);
        lineage.begin(900, 901, 75);
        let lineage = Lineage::decode(&lineage.encode());
        assert_eq!(
            [at(1, 70), at(2, 70), at(2, 55), at(900, 80)].map(|version| lineage.survived(version, 901)),
            [50, 60, 55, 75]
        );
        assert_eq!(lineage.survived(at(3, 55), 901), 0, "of the original, after the backup");
    }

    #[test]
    fn of_incarnations_that_are_forgotten_nothing_is_claimed() {
        let mut lineage = Lineage::default();
        (1..=100).for_each(|number| lineage.begin(number, number + 1, 1_000 + number));
        let lineage = Lineage::decode(&lineage.encode());
        assert_eq!([at(20, 500), at(37, 500), at(60, 5_000)].map(|version| lineage.survived(version, 101)), [0, 500, 1_060]);
    }
}
