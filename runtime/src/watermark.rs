//! The log watermark of one partition (`docs/semantics.md`, Watermark and lateness): how far event time has come, as the log
//! itself says.
//!
//! Invariants:
//! - a pure function of the partition's log prefix: no clock, no batch border, no schedule takes part;
//! - monotone: a record can only move it forward;
//! - a record dated in the future moves it no further than `max_future_skew` beyond that record's *broker* time, so that one
//!   wrong date cannot make the rest of the partition late.
//!
//! Not the progress watermark of a source (the minimum over partitions, which knows idleness).

use karst_types::{BrokerTime, EventTime, TimeSpan};

/// The fold over the records of one partition. `Copy`, 16 bytes: store it with the position it belongs to.
///
/// Feed it every decoded message, skipped and late ones too; judge a record against the watermark *before* it.
///
/// ```
/// use karst_runtime::LogWatermark;
/// use karst_types::{BrokerTime, EventTime, TimeSpan};
///
/// let mut log = LogWatermark::default();
/// assert_eq!(log.watermark(TimeSpan::ZERO), None);
/// log.observe(EventTime::from_secs(100), BrokerTime::from_secs(101), TimeSpan::from_secs(300));
/// assert_eq!(log.watermark(TimeSpan::from_secs(10)), Some(EventTime::from_secs(90)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogWatermark {
    max: Option<EventTime>,
}

impl LogWatermark {
    /// Continues from what [`LogWatermark::stored`] gave for the restart offset. `None`: the log starts here.
    pub const fn restored(stored: Option<EventTime>) -> Self {
        Self { max: stored }
    }

    /// The state to store: the guarded maximum, without `disorder`, so that changing `disorder` needs no rewriting.
    #[inline]
    pub const fn stored(self) -> Option<EventTime> {
        self.max
    }

    /// Takes in one record. Where the message has no event time, pass the broker time as the event time (S1).
    ///
    /// Returns whether the event lies further in the future than `max_future_skew` beyond its broker time; the watermark then
    /// moved to that limit at most. What becomes of the event is the caller's policy.
    #[inline]
    pub fn observe(&mut self, event_time: EventTime, broker_time: BrokerTime, max_future_skew: TimeSpan) -> bool {
        let limit = EventTime(broker_time.plus(max_future_skew).micros());
        let seen = event_time.min(limit);
        // `None` sorts before every `Some`, so the first record always counts.
        self.max = self.max.max(Some(seen));
        event_time > limit
    }

    /// The watermark, `disorder` behind the latest event; `None` before the first record.
    #[inline]
    pub fn watermark(self, disorder: TimeSpan) -> Option<EventTime> {
        self.max.map(|max| max.minus(disorder))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SKEW: TimeSpan = TimeSpan::from_secs(300);

    #[test]
    fn an_event_at_the_end_of_time_moves_the_watermark_by_the_skew_at_most() {
        let mut log = LogWatermark::default();
        assert!(log.observe(EventTime::MAX, BrokerTime::from_secs(1_000), SKEW));
        assert_eq!(log.watermark(TimeSpan::ZERO), Some(EventTime::from_secs(1_300)));
    }

    #[test]
    fn an_event_exactly_at_the_limit_is_not_in_the_future() {
        let mut log = LogWatermark::default();
        assert!(!log.observe(EventTime::from_secs(1_300), BrokerTime::from_secs(1_000), SKEW));
        assert!(log.observe(EventTime(1_300_000_001), BrokerTime::from_secs(1_000), SKEW));
    }

    #[test]
    fn an_infinite_skew_guards_nothing_and_does_not_overflow() {
        let mut log = LogWatermark::default();
        assert!(!log.observe(EventTime::MAX, BrokerTime::MAX, TimeSpan::INFINITY));
        assert_eq!(log.watermark(TimeSpan::ZERO), Some(EventTime::MAX));
    }

    fn records() -> impl Strategy<Value = Vec<(EventTime, BrokerTime)>> {
        let instant = || prop_oneof![8 => -2_000i64..2_000, 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
        prop::collection::vec((instant().prop_map(EventTime), instant().prop_map(BrokerTime)), 0..40)
    }

    proptest! {
        /// The oracle is S2's sentence, folded naively over the whole prefix with wide integers.
        #[test]
        fn the_watermark_is_the_formula_over_the_log_prefix(
            records in records(), skew in 0i64..500, disorder in 0i64..500, split in 0usize..40,
        ) {
            let mut log = LogWatermark::default();
            let mut previous = None;
            for (index, (event, broker)) in records.iter().enumerate() {
                if index == split {
                    log = LogWatermark::restored(log.stored()); // a restart in the middle changes nothing
                }
                log.observe(*event, *broker, TimeSpan::from_micros(skew));
                let naive = records[..=index].iter()
                    .map(|(event, broker)| i128::from(event.0).min((i128::from(broker.0) + i128::from(skew)).min(i128::from(i64::MAX))))
                    .max()
                    .map(|max| EventTime((max - i128::from(disorder)).max(i128::from(i64::MIN)) as i64));
                let watermark = log.watermark(TimeSpan::from_micros(disorder));
                prop_assert_eq!(watermark, naive);
                prop_assert!(watermark >= previous, "the watermark went back");
                previous = watermark;
            }
        }

        /// Batch borders and other partitions cannot matter because nothing but the record enters; order must not either,
        /// as far as the end state goes.
        #[test]
        fn the_end_state_does_not_depend_on_the_order_of_the_records(records in records(), skew in 0i64..500) {
            let fold = |records: &mut dyn Iterator<Item = &(EventTime, BrokerTime)>| {
                let mut log = LogWatermark::default();
                records.for_each(|(event, broker)| { log.observe(*event, *broker, TimeSpan::from_micros(skew)); });
                log
            };
            prop_assert_eq!(fold(&mut records.iter()), fold(&mut records.iter().rev()));
        }
    }
}
