//! Finds what is stuck rather than dead (`docs/runtime-semantics.md`, Health): stages with work and no progress, and
//! partitions whose records have been read and are not committed. On a thread of its own, since a blocked thread would block
//! its own watchdog.

use std::{collections::HashMap, sync::Arc, time::Duration};

use karst_runtime::{HealthBoard, Stage, StageError, StageHealth, StageState};
use karst_state::{LaneId, Store};
use karst_types::{Clock, Offset};

use crate::{
    metrics::{LetterMetrics, PartitionGauges},
    partition::Partition,
    protocol::{NoControl, NoData},
    source_time::SourceTime,
    store_shard::Origins,
    windows::WindowClock,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Where there are windows, whose tiles are rolled up as time goes on.
const LOOK_EVERY_WINDOWS: Duration = Duration::from_millis(20);

pub(crate) struct Watchdog {
    /// Whose progress is looked at, so that its metrics are up to date.
    pub(crate) times: Vec<Arc<SourceTime>>,
    pub(crate) windows: WindowClock,
    pub(crate) board: HealthBoard,
    pub(crate) origins: Origins,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stuck_after: Duration,
    /// After this a decoder or resolver that cannot be interrupted ends the process.
    pub(crate) stuck_abort_after: Option<Duration>,
    /// What was committed of a partition, and since when it has not moved.
    pub(crate) seen: HashMap<LaneId, (Option<Offset>, Duration)>,
    pub(crate) letters: LetterMetrics,
    pub(crate) gauges: HashMap<LaneId, PartitionGauges>,
}

impl Watchdog {
    fn look(&mut self) {
        let now = self.clock.elapsed();
        let stuck = self.board.check(now);
        if let Some((stage, stuck_for)) = self.stuck_abort_after.and_then(|after| beyond_help(&stuck, now, after)) {
            tracing::error!(
                stage,
                ?stuck_for,
                "a stage never comes back; the process ends, so that its record can be set aside (stuck_abort_after_s)"
            );
            std::process::abort();
        }
        let sources: Vec<_> = self.times.iter().map(|time| time.look(self.clock.now())).collect();
        self.windows.look(&sources, now);
        for partition in self.origins.partitions() {
            let lane = partition.lane();
            let of_source = sources.iter().filter(|source| source.name == partition.settings.name.as_str());
            if let Some(time) = of_source.flat_map(|source| &source.partitions).find(|time| time.partition == partition.id) {
                let gauges = self.gauges.entry(lane).or_insert_with(|| PartitionGauges::new(&partition));
                gauges.look(&partition, time, self.store.source_reader().outcomes_of(lane), self.clock.now());
            }
        }
        for partition in self.origins.lanes() {
            let lane = partition.lane();
            let committed = self.store.committed(lane);
            let (before, since) = self.seen.entry(lane).or_insert((committed, now));
            if !is_owed(&partition, committed) || *before != committed {
                (*before, *since) = (committed, now);
                partition.set_stalled(false);
            } else if now.saturating_sub(*since) >= self.stuck_after {
                // Whatever the cause, reading again from the last commit is safe; if a batch was lost on the way, it is the cure.
                *since = now;
                tracing::warn!(partition = %partition.label, ?committed, "records are read and not committed; rewinding");
                partition.set_stalled(true);
                self.origins.rewind(lane, partition.epoch(), "nothing was committed for long");
            }
        }
    }
}

/// A stage that runs code of the user's, and has been stuck for so long although its abort was ordered: its thread is in a call that does
/// not return. `check` orders the abort as soon as it is stuck, which is long before.
fn beyond_help(stuck: &[StageHealth], now: Duration, after: Duration) -> Option<(&str, Duration)> {
    let of_user = stuck.iter().filter(|stage| ["parse_stage", "stream_resolver"].contains(&stage.name));
    of_user.into_iter().find_map(|stage| match stage.state {
        StageState::Stuck { since } => {
            Some((stage.id.as_str(), now.saturating_sub(since))).filter(|(_, stuck)| *stuck >= after)
        }
        _ => None,
    })
}

/// Whether something of this partition should come to a commit. What waits for a dependency is told by its stage, what has tripped
/// by itself; reading again would bring neither back.
fn is_owed(partition: &Partition, committed: Option<Offset>) -> bool {
    let under_way = partition.fetched_through().is_some_and(|fetched| committed < Some(fetched));
    under_way && !partition.is_waiting() && partition.tripped().is_none()
}

impl Stage for Watchdog {
    type Message = NoData;
    type Control = NoControl;

    async fn handle(&mut self, message: &mut NoData) -> Result<(), StageError> {
        match *message {}
    }
    async fn poison(&mut self, message: &mut NoData, _: &str) -> Result<(), StageError> {
        match *message {}
    }
    async fn control(&mut self, control: NoControl) -> Result<(), StageError> {
        match control {}
    }
    fn tick_interval(&self) -> Option<Duration> {
        Some(if self.windows.is_empty() { LOOK_EVERY } else { LOOK_EVERY_WINDOWS })
    }
    async fn tick(&mut self) -> Result<(), StageError> {
        self.look();
        // A source shard that is stopped is told by its stage; the figures stay as they were.
        if let Ok(counts) = self.store.source_reader().dead_letter_counts() {
            self.letters.look(counts);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use karst_connectors::SourceSettings;
    use karst_types::{PartitionId, SourceId};

    use super::*;

    #[test]
    fn what_is_read_is_owed_unless_a_dependency_is_away_or_too_much_of_it_failed() {
        let partition = Partition::new(SourceSettings::new("clicks"), SourceId(0), PartitionId(0), false);
        partition.set_begun(Default::default());
        assert!(!is_owed(&partition, None), "nothing is read");
        partition.fetched(Offset(9), Some(1), false);
        assert!(is_owed(&partition, Some(Offset(8))) && !is_owed(&partition, Some(Offset(9))));
        partition.set_waiting(true);
        assert!(!is_owed(&partition, Some(Offset(8))));
        partition.set_waiting(false);
        assert!(partition.has_more(), "the others wait for it (max_drift)");
        partition.trip("too many records fail".to_owned());
        assert!(!is_owed(&partition, Some(Offset(8))), "a second problem that is none");
        assert!(!partition.has_more(), "nobody waits for what has stopped");
    }
}
