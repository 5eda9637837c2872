//! Whether an event came too late (`docs/semantics.md`, Watermark and lateness). Pure; decided once per record, after
//! decoding, before parse and fan-out.

use karst_types::{EventTime, TimeSpan};

/// The judgement over one event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Its resolvers run.
    OnTime,
    /// Its resolvers do not run; the late lane decides what becomes of it.
    Late {
        /// The part of the lateness beyond the deadline; always positive.
        by: TimeSpan,
    },
}

/// Judges whether an event may still run its resolvers.
///
/// Late exactly if `watermark - event_time > deadline`, strictly; [`TimeSpan::INFINITY`] accepts everything. `watermark` is the
/// log watermark of the event's own partition *before* the event. Before the first watermark nothing is late.
///
/// Same measure as Kafka Streams' grace period (stream time minus record time, KIP-633), but per event, not per window.
///
/// ```
/// use karst_runtime::lateness::{Verdict, verdict};
/// use karst_types::{EventTime, TimeSpan};
///
/// let (watermark, deadline) = (Some(EventTime::from_secs(90)), TimeSpan::from_secs(30));
/// assert_eq!(verdict(EventTime::from_secs(60), watermark, deadline), Verdict::OnTime);
/// assert_eq!(verdict(EventTime::from_secs(59), watermark, deadline), Verdict::Late { by: TimeSpan::from_secs(1) });
/// ```
#[inline]
pub fn verdict(event_time: EventTime, watermark: Option<EventTime>, deadline: TimeSpan) -> Verdict {
    let Some(watermark) = watermark else { return Verdict::OnTime };
    // An infinite deadline equals the largest span that `since` can return, so "strictly greater" accepts all.
    let behind = watermark.since(event_time);
    if behind > deadline {
        Verdict::Late { by: TimeSpan::from_micros(behind.micros().saturating_sub(deadline.micros())) }
    } else {
        Verdict::OnTime
    }
}

/// How far the event is behind the watermark, never negative; zero before the first watermark. For histograms.
#[inline]
pub fn lateness(event_time: EventTime, watermark: Option<EventTime>) -> TimeSpan {
    watermark.map_or(TimeSpan::ZERO, |watermark| watermark.since(event_time).max(TimeSpan::ZERO))
}

#[cfg(test)]
mod tests {
    use karst_types::BrokerTime;
    use proptest::prelude::*;

    use super::*;
    use crate::LogWatermark;

    #[test]
    fn before_the_first_watermark_nothing_is_late() {
        assert_eq!(verdict(EventTime::MIN, None, TimeSpan::ZERO), Verdict::OnTime);
    }

    #[test]
    fn an_infinite_deadline_accepts_the_oldest_event_there_can_be() {
        assert_eq!(verdict(EventTime::MIN, Some(EventTime::MAX), TimeSpan::INFINITY), Verdict::OnTime);
    }

    #[test]
    fn with_no_deadline_an_event_is_late_from_one_microsecond_on() {
        let watermark = Some(EventTime(10));
        assert_eq!(verdict(EventTime(10), watermark, TimeSpan::ZERO), Verdict::OnTime);
        assert_eq!(verdict(EventTime(9), watermark, TimeSpan::ZERO), Verdict::Late { by: TimeSpan::from_micros(1) });
        assert_eq!(lateness(EventTime(11), watermark), TimeSpan::ZERO);
    }

    proptest! {
        /// S4 read literally over the log: same late set whatever the batch borders and wherever the engine restarted.
        #[test]
        fn every_batching_and_every_restart_finds_the_same_late_events(
            records in prop::collection::vec((prop::option::of(-1_000i64..1_000), -1_000i64..1_000), 0..60),
            deadline in 0i64..400, disorder in 0i64..200, skew in 0i64..500, batch in 1usize..7,
        ) {
            let event = |(event, broker): (Option<i64>, i64)| event.unwrap_or(broker);
            let naive: Vec<bool> = (0..records.len())
                .map(|index| {
                    let before = records[..index].iter().map(|record| event(*record).min(record.1 + skew)).max();
                    before.is_some_and(|max| max - disorder - event(records[index]) > deadline)
                })
                .collect();
            let [deadline, disorder, skew] = [deadline, disorder, skew].map(TimeSpan::from_micros);
            let mut late = Vec::new();
            let mut stored = None;
            for records in records.chunks(batch) {
                let mut log = LogWatermark::restored(stored);
                for record in records {
                    let at = EventTime(event(*record));
                    late.push(verdict(at, log.watermark(disorder), deadline) != Verdict::OnTime);
                    log.observe(at, BrokerTime(record.1), skew);
                }
                stored = log.stored();
            }
            prop_assert_eq!(late, naive);
        }
    }
}
