//! The progress watermark of a source (`docs/semantics.md`, Progress of a source): how far event time has come over all of its
//! partitions. Pure.
//!
//! It is the minimum over the partitions of how far each has come. Invariants, each after a failure of another system:
//! - a partition counts as idle only after an *empty fetch at the end of its log*, with nothing of it under way; never because
//!   time went by, and never while it is held up by what comes after it;
//! - an idle partition follows the clock only as far as its log is known to have held nothing more, less `disorder`;
//! - a partition that is not read (unassigned) is left out; where none is read there is no watermark, and never the greatest;
//! - it never goes back, also when a partition is added that has old records to read.
//!
//! The part that comes from the log is a pure function of what is committed, so a restart finds it again. What a clock has
//! added for idle partitions is found again by the next empty fetch.

use std::collections::BTreeMap;

use karst_types::{EventTime, PartitionId, ProcessingTime, TimeSpan};

/// What a partition is doing, as far as time goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartitionState {
    /// It has records to read, or nobody knows yet whether it has.
    Active,
    /// All that its log held has had its effect.
    CaughtUp {
        /// The last moment at which its log is known to have held nothing more.
        as_of: ProcessingTime,
    },
    /// It is held up by what comes after it: it has records, and is not idle.
    Starved,
    /// Nobody reads it here.
    Unassigned,
}

impl PartitionState {
    /// All names, for metrics.
    pub const NAMES: [&'static str; 4] = ["active", "caught_up", "starved", "unassigned"];

    /// From what is known of a partition at one moment.
    pub fn of(facts: &Facts) -> Self {
        match facts.end_seen {
            _ if !facts.assigned => Self::Unassigned,
            _ if facts.held_up => Self::Starved,
            Some(as_of) if !facts.under_way => Self::CaughtUp { as_of },
            _ => Self::Active,
        }
    }

    /// Its name: a metric label, never renamed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::CaughtUp { .. } => "caught_up",
            Self::Starved => "starved",
            Self::Unassigned => "unassigned",
        }
    }
}

/// What is known of a partition at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Whether it is read here, or was read before this process and is about to be.
    pub assigned: bool,
    /// Whether it could go on, were it not for what comes after it.
    pub held_up: bool,
    /// Whether records of it were read that have not had their effect for good.
    pub under_way: bool,
    /// When its log was last known to end where the reading stands; `None` if it may hold more.
    pub end_seen: Option<ProcessingTime>,
}

/// A partition as the progress watermark sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionView {
    /// Which.
    pub partition: PartitionId,
    /// What it is doing.
    pub state: PartitionState,
    /// Its log watermark, as of what is committed.
    pub watermark: Option<EventTime>,
}

impl PartitionView {
    /// How far it has come; `None` if nothing is known. `disorder` has been taken off [`PartitionView::watermark`] already.
    pub fn reach(&self, disorder: TimeSpan, now: ProcessingTime) -> Option<EventTime> {
        match self.state {
            // A clock that was set back must not make more of an old fetch than it was.
            PartitionState::CaughtUp { as_of } => self.watermark.max(Some(EventTime(as_of.min(now).micros()).minus(disorder))),
            _ => self.watermark,
        }
    }
}

/// How far a source has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Everything before it has been read, as far as `disorder` allows to say so. `None`: nothing is known yet.
    pub watermark: Option<EventTime>,
    /// The partition that holds it back: the one that has come least far.
    pub held_by: Option<PartitionId>,
    /// Since when it is that one.
    pub since: ProcessingTime,
}

/// The least reach of all partitions that are read, and whose it is. With none, nothing: not the greatest.
pub fn least(views: &[PartitionView], disorder: TimeSpan, now: ProcessingTime) -> Option<(Option<EventTime>, PartitionId)> {
    let read = views.iter().filter(|view| view.state != PartitionState::Unassigned);
    read.map(|view| (view.reach(disorder, now), view.partition)).min()
}

/// The progress watermark over time, and since when things are as they are.
#[derive(Clone, Debug, Default)]
pub struct ProgressWatermark {
    progress: Progress,
    states: BTreeMap<PartitionId, (&'static str, ProcessingTime)>,
}

impl ProgressWatermark {
    /// Takes in how things are now.
    pub fn look(&mut self, views: &[PartitionView], disorder: TimeSpan, now: ProcessingTime) -> Progress {
        let found = least(views, disorder, now);
        let held_by = found.map(|(_, partition)| partition);
        if held_by != self.progress.held_by {
            (self.progress.held_by, self.progress.since) = (held_by, now);
        }
        self.progress.watermark = self.progress.watermark.max(found.and_then(|(reach, _)| reach));
        for view in views {
            let seen = self.states.entry(view.partition).or_insert((view.state.name(), now));
            if seen.0 != view.state.name() {
                *seen = (view.state.name(), now);
            }
        }
        self.progress
    }

    /// Since when a partition has been in its state.
    pub fn since(&self, partition: PartitionId) -> Option<ProcessingTime> {
        self.states.get(&partition).map(|(_, since)| *since)
    }
}

/// How fast a partition is read, as the others of its source see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Which.
    pub partition: PartitionId,
    /// Its log watermark, as of what was read.
    pub watermark: Option<EventTime>,
    /// Whether it has more to read and can: others are not to wait for one that is caught up, unassigned or at fault.
    pub reading: bool,
}

/// The slowest partition, if one whose watermark is at `own` is more than `max_drift` ahead of it and so has to wait.
///
/// The slowest itself never waits, since it is ahead of nobody: so somebody always reads. One without a watermark neither waits nor
/// is waited for: its records may all be unusable.
///
/// The same measure as watermark alignment in Flink (FLIP-182), per partition rather than per reader.
pub fn has_to_wait_for(own: Option<EventTime>, others: impl Iterator<Item = Pace>, max_drift: TimeSpan) -> Option<PartitionId> {
    if max_drift.is_infinite() {
        return None;
    }
    let slowest = others.filter(|pace| pace.reading).filter_map(|pace| Some((pace.watermark?, pace.partition))).min();
    slowest.filter(|(watermark, _)| own.is_some_and(|own| own.since(*watermark) > max_drift)).map(|(_, partition)| partition)
}

#[cfg(test)]
mod tests {
    use karst_types::BrokerTime;
    use proptest::prelude::*;

    use super::*;
    use crate::LogWatermark;

    const NOW: ProcessingTime = ProcessingTime::from_secs(10_000);

    fn view(partition: i32, state: PartitionState, secs: Option<i64>) -> PartitionView {
        PartitionView { partition: PartitionId(partition), state, watermark: secs.map(EventTime::from_secs) }
    }
    fn caught_up(secs: i64) -> PartitionState {
        PartitionState::CaughtUp { as_of: ProcessingTime::from_secs(secs) }
    }
    fn watermark(views: &[PartitionView], disorder: i64) -> Option<EventTime> {
        ProgressWatermark::default().look(views, TimeSpan::from_secs(disorder), NOW).watermark
    }

    /// apache/beam#40176, numaproj/numaflow#3006.
    #[test]
    fn a_partition_that_never_had_a_record_holds_nothing_back_once_its_log_is_known_to_be_empty() {
        let busy = view(0, PartitionState::Active, Some(500));
        assert_eq!(watermark(&[busy, view(1, PartitionState::Active, None)], 5), None, "nobody knows yet whether it is empty");
        assert_eq!(watermark(&[busy, view(1, caught_up(9_000), None)], 5), Some(EventTime::from_secs(500)));
        assert_eq!(watermark(&[view(1, caught_up(9_000), None)], 5), Some(EventTime::from_secs(8_995)), "less the disorder");
    }

    /// apache/flink#4967 (the greatest time was emitted), #22847 (a hang); ArroyoSystems/arroyo#222, hazelcast-jet#559 (no time).
    #[test]
    fn readers_without_a_partition_and_partitions_without_a_reader_neither_hold_time_back_nor_let_it_run() {
        assert_eq!(watermark(&[], 0), None, "more tasks than partitions");
        let nobody = view(0, PartitionState::Unassigned, Some(1));
        assert_eq!(watermark(&[nobody], 0), None, "none is read: no time, and not the end of time");
        assert_eq!(watermark(&[nobody, view(1, PartitionState::Active, Some(70))], 0), Some(EventTime::from_secs(70)));
    }

    /// numaproj/numaflow#3399: idle while back-pressured, so that records on their way became late; #2943.
    #[test]
    fn backpressure_and_records_under_way_are_not_idleness() {
        let idle = Facts { assigned: true, end_seen: Some(NOW), ..Facts::default() };
        assert_eq!(PartitionState::of(&idle), PartitionState::CaughtUp { as_of: NOW });
        assert_eq!(PartitionState::of(&Facts { held_up: true, ..idle }), PartitionState::Starved);
        assert_eq!(PartitionState::of(&Facts { under_way: true, ..idle }), PartitionState::Active);
        assert_eq!(PartitionState::of(&Facts { end_seen: None, ..idle }), PartitionState::Active, "however long it takes");
        for state in [PartitionState::Starved, PartitionState::Active] {
            let views = [view(0, state, Some(100)), view(1, caught_up(9_999), Some(200))];
            assert_eq!(watermark(&views, 0), Some(EventTime::from_secs(100)));
        }
    }

    /// apache/metron#1197: a record two days ahead moved time by two days.
    #[test]
    fn a_record_two_days_in_the_future_moves_time_by_the_skew_at_most() {
        let (broker, skew) = (BrokerTime::from_secs(1_000), TimeSpan::from_secs(300));
        let mut log = LogWatermark::default();
        log.observe(EventTime::from_secs(1_000 + 2 * 86_400), broker, skew);
        let views = [PartitionView {
            partition: PartitionId(0),
            state: PartitionState::Active,
            watermark: log.watermark(TimeSpan::ZERO),
        }];
        assert_eq!(ProgressWatermark::default().look(&views, TimeSpan::ZERO, NOW).watermark, Some(EventTime::from_secs(1_300)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_more_of_an_old_fetch() {
        let ahead = view(0, caught_up(99_999), Some(1));
        assert_eq!(watermark(&[ahead], 0), Some(EventTime(NOW.micros())));
    }

    #[test]
    fn a_partition_that_is_added_holds_time_where_it_is_and_is_named() {
        let mut time = ProgressWatermark::default();
        let first = view(0, PartitionState::Active, Some(100));
        assert_eq!(time.look(&[first], TimeSpan::ZERO, NOW).watermark, Some(EventTime::from_secs(100)));
        let later = ProcessingTime::from_secs(10_060);
        let both = [view(0, PartitionState::Active, Some(200)), view(1, PartitionState::Active, Some(7))];
        let held = time.look(&both, TimeSpan::ZERO, later);
        let expected = Progress { watermark: Some(EventTime::from_secs(100)), held_by: Some(PartitionId(1)), since: later };
        assert_eq!(held, expected, "it does not go back");
        assert_eq!((time.since(PartitionId(0)), time.since(PartitionId(1))), (Some(NOW), Some(later)));
        assert_eq!(time.look(&both, TimeSpan::ZERO, ProcessingTime::from_secs(10_099)).since, later, "since it began");
    }

    type LogOf = Vec<(i64, i64)>;

    fn logs() -> impl Strategy<Value = Vec<LogOf>> {
        prop::collection::vec(prop::collection::vec((0i64..500, 0i64..500), 0..30), 1..5)
    }

    proptest! {
        /// The watermark of each partition is stored as of a barrier, and the reading goes on from there; the oracle folds each
        /// whole prefix naively, and takes the least. Disorder in the middle of a restart (volga-project/volga#169) is in it,
        /// since event times go back and forth at random.
        #[test]
        fn recomputed_from_the_log_and_restored_as_of_the_restart_offset_it_is_the_same(
            logs in logs(), cuts in prop::collection::vec((0usize..31, 0usize..31), 5), skew in 0i64..50, disorder in 0i64..50,
        ) {
            let (skew, disorder) = (TimeSpan::from_micros(skew), TimeSpan::from_micros(disorder));
            let fold = |log: LogWatermark, records: &[(i64, i64)]| records.iter().fold(log, |mut log, (event, broker)| {
                log.observe(EventTime(*event), BrokerTime(*broker), skew);
                log
            });
            let mut restored = Vec::new();
            let mut naive: Option<Option<i64>> = None;
            for (nth, (log, cut)) in logs.iter().zip(&cuts).enumerate() {
                let (restart, end) = (cut.0.min(cut.1).min(log.len()), cut.0.max(cut.1).min(log.len()));
                let stored = fold(LogWatermark::default(), &log[..restart]).stored();
                let again = fold(LogWatermark::restored(stored), &log[restart..end]);
                restored.push(PartitionView {
                    partition: PartitionId(nth as i32), state: PartitionState::Active, watermark: again.watermark(disorder),
                });
                let max = log[..end].iter().map(|(event, broker)| (*event).min(broker + skew.micros())).max();
                let whole = max.map(|max| max - disorder.micros());
                naive = Some(naive.map_or(whole, |least| least.min(whole)));
            }
            let got = ProgressWatermark::default().look(&restored, disorder, NOW).watermark;
            prop_assert_eq!(got, naive.flatten().map(EventTime));
        }

        /// Whatever happens to the partitions, it never goes back, and never beyond what any partition that is read has reached
        /// unless it had been there before.
        #[test]
        fn it_never_goes_back_and_never_passes_a_partition(
            looks in prop::collection::vec(prop::collection::vec((0u8..4, prop::option::of(0i64..1_000)), 1..4), 1..20),
        ) {
            let mut time = ProgressWatermark::default();
            let mut before = None;
            for (second, partitions) in looks.iter().enumerate() {
                let now = ProcessingTime(second as i64 * 50);
                let views: Vec<_> = partitions.iter().enumerate().map(|(nth, (state, at))| PartitionView {
                    partition: PartitionId(nth as i32),
                    state: match state {
                        0 => PartitionState::Active,
                        1 => PartitionState::CaughtUp { as_of: now },
                        2 => PartitionState::Starved,
                        _ => PartitionState::Unassigned,
                    },
                    watermark: at.map(EventTime),
                }).collect();
                let progress = time.look(&views, TimeSpan::ZERO, now);
                prop_assert!(progress.watermark >= before);
                let bound = views.iter().filter(|view| view.state != PartitionState::Unassigned)
                    .map(|view| match view.state {
                        PartitionState::CaughtUp { .. } => Some(EventTime(now.micros()).max(view.watermark.unwrap_or(EventTime::MIN))),
                        _ => view.watermark,
                    }).min();
                prop_assert!(progress.watermark <= before.max(bound.flatten()));
                before = progress.watermark;
            }
        }

        /// apache/flink#22847, #22969: alignment that hangs. Partitions are read by a random schedule under the rule, one record a
        /// step; the bound holds with one record's slack, and everything is read.
        #[test]
        fn with_a_max_drift_everything_is_read_and_no_partition_runs_further_ahead(
            logs in prop::collection::vec(prop::collection::vec(0i64..60, 0..40), 1..5), drift in 1i64..200, seed in any::<u64>(),
        ) {
            // Event times that rise by steps, so that "ahead" means something.
            let logs: Vec<Vec<i64>> = logs.iter().map(|steps| {
                steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect()
            }).collect();
            let max_drift = TimeSpan::from_micros(drift);
            let mut read = vec![0usize; logs.len()];
            let mut random = seed | 1;
            let pace = |read: &[usize], nth: usize| Pace {
                partition: PartitionId(nth as i32),
                watermark: read[nth].checked_sub(1).map(|last| EventTime(logs[nth][last])),
                reading: read[nth] < logs[nth].len(),
            };
            loop {
                let open: Vec<usize> = (0..logs.len()).filter(|nth| read[*nth] < logs[*nth].len()).collect();
                if open.is_empty() {
                    break;
                }
                let may: Vec<usize> = open.iter().copied().filter(|nth| {
                    let others = (0..logs.len()).filter(|other| other != nth).map(|other| pace(&read, other));
                    has_to_wait_for(pace(&read, *nth).watermark, others, max_drift).is_none()
                }).collect();
                prop_assert!(!may.is_empty(), "everybody waits: {:?}", read);
                random ^= random << 13; random ^= random >> 7; random ^= random << 17;
                let chosen = may[(random >> 20) as usize % may.len()];
                let own = pace(&read, chosen).watermark;
                for other in open.into_iter().filter(|other| *other != chosen) {
                    if let (Some(own), Some(other)) = (own, pace(&read, other).watermark) {
                        prop_assert!(own.since(other) <= max_drift, "it read on while it was too far ahead");
                    }
                }
                read[chosen] += 1;
            }
        }
    }
}
