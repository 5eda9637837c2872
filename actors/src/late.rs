//! The deadline advisor: what the deadline of each source has done, and what another would have done.
//!
//! The counts are durable and exact: they move with the positions of the source shard, so a replay counts nothing twice.

use karst_connectors::LateLane;
use karst_types::{LatenessHistogram, PartitionId, TimeSpan};

use crate::{
    engine::{EngineHandle, SourceView},
    stream_resolver::Tally,
};

/// How late the events of a source were, since the state directory was made.
#[derive(Clone, Debug)]
pub struct SourceLateness {
    /// Its name.
    pub name: String,
    /// The deadline as it is set now. Earlier events may have been judged by another.
    pub deadline: TimeSpan,
    /// What becomes of late events, as it is set now.
    pub lane: LateLane,
    /// Its resolvers, by name, and what each of them did with late events since the engine started.
    pub resolvers: Vec<(String, ResolverLateness)>,
    /// Its partitions, as far as they have records.
    pub partitions: Vec<PartitionLateness>,
}

/// What a resolver did with the late events of its source since the engine started. Which events are late is decided before any
/// parse function, so the sum is the same for all resolvers of a source; what they did with them need not be. Events that are read
/// again after a rewind count again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ResolverLateness {
    /// It did not see them: late lanes `drop` and `dead_letter`.
    pub withheld: u64,
    /// It wrote something (nothing of it is kept where another resolver failed on the same record).
    pub corrected: u64,
    /// It wrote nothing.
    pub nothing: u64,
    /// Its parse function said that they are none of its.
    pub skipped: u64,
    /// It, or its parse function, failed.
    pub failed: u64,
    /// It was cut off: another resolver had failed on the record before its turn, or one of them panicked.
    pub cut_off: u64,
}

impl ResolverLateness {
    /// The names of [`ResolverLateness::counts`]: metric labels, never renamed.
    pub(crate) const DID: [&'static str; 6] = ["withheld", "corrected", "nothing", "skipped", "failed", "cut_off"];

    /// Of `late` events of a batch; `tally` is what the resolver did with those that it saw.
    pub(crate) fn of(late: u64, lane: LateLane, tally: &Tally) -> Self {
        let Tally { wrote: corrected, nothing, skipped, failed, .. } = *tally;
        let unseen = late.saturating_sub(tally.ended());
        let (withheld, cut_off) = if lane == LateLane::Correct { (0, unseen) } else { (unseen, 0) };
        Self { withheld, corrected, nothing, skipped, failed, cut_off }
    }

    /// All late events.
    pub fn late(&self) -> u64 {
        self.counts().map(|(_, count)| count).sum()
    }
    /// What it did, by name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Self { withheld, corrected, nothing, skipped, failed, cut_off } = *self;
        Self::DID.into_iter().zip([withheld, corrected, nothing, skipped, failed, cut_off])
    }
}

/// How late the events of a partition were.
#[derive(Clone, Copy, Debug)]
pub struct PartitionLateness {
    /// Which.
    pub partition: PartitionId,
    /// Events that were judged late.
    pub late: u64,
    /// Those among them whose resolvers wrote something (late lane `correct`).
    pub corrected: u64,
    /// All events by their lateness, late or not.
    pub events: LatenessHistogram,
}

/// What one deadline would have done to the events so far.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Candidate {
    /// The deadline.
    pub deadline: TimeSpan,
    /// How many events it would have judged late: exact.
    pub late: u64,
    /// The same as a share of all events, from 0 to 1.
    pub share: f64,
}

impl SourceLateness {
    /// Events that were judged late.
    pub fn late(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.late).sum()
    }
    /// Late events whose resolvers wrote something.
    pub fn corrected(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.corrected).sum()
    }
    /// All events by their lateness.
    pub fn events(&self) -> LatenessHistogram {
        let mut sum = LatenessHistogram::default();
        self.partitions.iter().for_each(|partition| sum.add(&partition.events));
        sum
    }
    /// The candidate deadlines, rising, each with what it would have done.
    pub fn candidates(&self) -> Vec<Candidate> {
        let events = self.events();
        let share = |late: u64| if late == 0 { 0.0 } else { late as f64 / events.events() as f64 };
        events.candidates().map(|(deadline, late)| Candidate { deadline, late, share: share(late) }).collect()
    }
}

impl EngineHandle {
    /// How late the events of every source were, and so what another deadline would do.
    pub fn lateness(&self) -> Vec<SourceLateness> {
        let inner = &self.0;
        let sums = inner.store.source_reader().outcomes();
        let of_source = |source: &SourceView| {
            let name = source.settings.name.as_str();
            let id = inner.catalog.source_id(name);
            let own = sums.iter().filter(|sums| Some(sums.source) == id);
            SourceLateness {
                name: name.to_owned(),
                deadline: source.settings.late_arrival_deadline,
                lane: source.settings.late_lane,
                resolvers: source.late_by_resolver(),
                partitions: own
                    .map(|sums| PartitionLateness {
                        partition: sums.partition,
                        late: sums.outcomes.late,
                        corrected: sums.lateness.corrected,
                        events: sums.lateness.events,
                    })
                    .collect(),
            }
        };
        inner.sources.iter().map(of_source).collect()
    }
}
