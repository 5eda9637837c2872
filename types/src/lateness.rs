//! How late events are, as counts between fixed borders.
//!
//! An event is late exactly if its lateness is *above* the deadline, so each bucket holds what is above one border and at or
//! below the next. Therefore the number of events that a deadline would have judged late is exact at every border, and only
//! there; and sums over partitions, runs and machines are exact too.

use crate::TimeSpan;

/// The borders of a [`LatenessHistogram`], rising. Stored counts refer to them: changing one needs a new format of the
/// source shard's lateness.
pub const BORDERS: [TimeSpan; 21] = [
    TimeSpan::ZERO,
    TimeSpan::from_millis(100),
    TimeSpan::from_secs(1),
    TimeSpan::from_secs(5),
    TimeSpan::from_secs(15),
    TimeSpan::from_secs(30),
    TimeSpan::from_secs(60),
    TimeSpan::from_secs(2 * 60),
    TimeSpan::from_secs(5 * 60),
    TimeSpan::from_secs(10 * 60),
    TimeSpan::from_secs(15 * 60),
    TimeSpan::from_secs(30 * 60),
    TimeSpan::from_secs(3_600),
    TimeSpan::from_secs(2 * 3_600),
    TimeSpan::from_secs(3 * 3_600),
    TimeSpan::from_secs(6 * 3_600),
    TimeSpan::from_secs(12 * 3_600),
    TimeSpan::from_secs(86_400),
    TimeSpan::from_secs(2 * 86_400),
    TimeSpan::from_secs(7 * 86_400),
    TimeSpan::from_secs(30 * 86_400),
];

/// Number of buckets: one before each border, and one behind the last.
pub const BUCKETS: usize = BORDERS.len() + 1;

/// The bucket that an event belongs to; `NONE` for a record that was not judged (undecodable, or without a value).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LatenessBucket(u8);

impl LatenessBucket {
    /// Of a record that was not judged.
    pub const NONE: Self = Self(u8::MAX);

    /// Of an event that is this far behind the watermark; negative spans count as zero.
    #[inline]
    pub fn of(lateness: TimeSpan) -> Self {
        if lateness <= TimeSpan::ZERO {
            return Self(0); // most events of most logs
        }
        Self(BORDERS.partition_point(|border| *border < lateness) as u8)
    }
}

/// Events by their lateness, whether or not they were judged late. Mergeable.
///
/// ```
/// use karst_types::{LatenessHistogram, TimeSpan};
///
/// let mut lateness = LatenessHistogram::default();
/// [0, 59, 60, 61].iter().for_each(|secs| lateness.record(TimeSpan::from_secs(*secs)));
/// assert_eq!(lateness.above(TimeSpan::from_secs(60)), Some(1), "late is what is above the deadline");
/// assert_eq!(lateness.above(TimeSpan::from_secs(61)), None, "not a border: not known exactly");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LatenessHistogram {
    counts: [u64; BUCKETS],
}

impl LatenessHistogram {
    /// From stored counts, in the order of the buckets.
    pub const fn from_counts(counts: [u64; BUCKETS]) -> Self {
        Self { counts }
    }
    /// The counts; entry `i` holds the events above border `i - 1` and at or below border `i`.
    pub const fn counts(&self) -> &[u64; BUCKETS] {
        &self.counts
    }
    /// Counts an event that was this far behind the watermark.
    pub fn record(&mut self, lateness: TimeSpan) {
        self.count(LatenessBucket::of(lateness));
    }
    /// Counts an event whose bucket is known.
    #[inline]
    pub fn count(&mut self, bucket: LatenessBucket) {
        if let Some(count) = self.counts.get_mut(usize::from(bucket.0)) {
            *count += 1;
        }
    }
    /// Adds the events of another part of the log.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
    }
    /// All events.
    pub fn events(&self) -> u64 {
        self.counts.iter().sum()
    }
    /// How many events a deadline would have judged late. `None` if the deadline is no border: the counts cannot tell.
    /// For an infinite one, zero.
    pub fn above(&self, deadline: TimeSpan) -> Option<u64> {
        if deadline.is_infinite() {
            return Some(0);
        }
        let border = BORDERS.iter().position(|border| *border == deadline)?;
        Some(self.counts[border + 1..].iter().sum())
    }
    /// What each border would have judged late, as a deadline.
    pub fn candidates(&self) -> impl Iterator<Item = (TimeSpan, u64)> + '_ {
        BORDERS.iter().map(|border| (*border, self.above(*border).unwrap_or_default()))
    }
}

impl FromIterator<LatenessBucket> for LatenessHistogram {
    fn from_iter<I: IntoIterator<Item = LatenessBucket>>(buckets: I) -> Self {
        let mut histogram = Self::default();
        buckets.into_iter().for_each(|bucket| histogram.count(bucket));
        histogram
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn borders_rise_from_zero() {
        assert!(BORDERS.is_sorted_by(|a, b| a < b) && BORDERS[0] == TimeSpan::ZERO);
        assert!(BUCKETS < usize::from(LatenessBucket::NONE.0), "no bucket is taken for none");
    }

    #[test]
    fn what_was_not_judged_counts_nowhere() {
        let histogram: LatenessHistogram = [LatenessBucket::NONE, LatenessBucket::of(TimeSpan::INFINITY)].into_iter().collect();
        assert_eq!((histogram.events(), histogram.above(BORDERS[20])), (1, Some(1)));
    }

    /// Around every border, and anywhere.
    fn lateness() -> impl Strategy<Value = TimeSpan> {
        let near = (0..BORDERS.len(), -1i64..=1).prop_map(|(nth, by)| TimeSpan::from_micros(BORDERS[nth].micros() + by));
        prop_oneof![near, (-5i64..4_000_000_000_000).prop_map(TimeSpan::from_micros)]
    }

    proptest! {
        /// The oracle counts one by one, by the rule of `docs/semantics.md`, Watermark and lateness.
        #[test]
        fn at_every_border_the_count_is_exact_also_after_merging(
            first in prop::collection::vec(lateness(), 0..50), second in prop::collection::vec(lateness(), 0..50),
        ) {
            let histogram = |events: &[TimeSpan]| events.iter().map(|event| LatenessBucket::of(*event)).collect::<LatenessHistogram>();
            let mut merged = histogram(&first);
            merged.add(&histogram(&second));
            let all: Vec<_> = first.into_iter().chain(second).collect();
            prop_assert_eq!(merged.events(), all.len() as u64);
            for (deadline, late) in merged.candidates() {
                prop_assert_eq!(late, all.iter().filter(|lateness| **lateness > deadline).count() as u64, "{}", deadline);
            }
        }
    }
}
