//! How far the event time of one source has come: what its partitions know of each other, and the doctor that says which of them
//! holds the others back, since when, and what to do.
//!
//! The decisions are [`karst_runtime::progress_watermark`]; here the facts are gathered. A fact that is read a moment too early only makes a
//! partition look busier than it is.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use karst_connectors::{PartitionHealth, RunningSource, SourceSettings};
use karst_runtime::progress_watermark::{
    Facts, Pace, PartitionState, PartitionView, Progress, ProgressWatermark, has_to_wait_for,
};
use karst_state::{LaneId, Store};
use karst_types::{EventTime, Offset, PartitionId, ProcessingTime, SourceId, TimeSpan};
use parking_lot::{Mutex, RwLock};

use crate::{engine::EngineHandle, metrics::TimeMetrics, partition::Partition};

/// A source that answers confirms the end of a quiet log every few seconds.
const UNCONFIRMED_MAX: TimeSpan = TimeSpan::from_secs(30);

/// Shared by all that read a source, and all that ask about it.
pub(crate) struct SourceTime {
    pub(crate) settings: SourceSettings,
    id: SourceId,
    running: Arc<dyn RunningSource>,
    store: Store,
    partitions: RwLock<Vec<Arc<Partition>>>,
    /// Set once all partitions that there were at the start have their paths.
    discovered: AtomicBool,
    watermark: Mutex<ProgressWatermark>,
    metrics: TimeMetrics,
}

impl SourceTime {
    pub(crate) fn new(settings: SourceSettings, id: SourceId, running: Arc<dyn RunningSource>, store: Store) -> Arc<Self> {
        let metrics = TimeMetrics::new(settings.name.as_str());
        let (partitions, discovered, watermark) = Default::default();
        Arc::new(Self { settings, id, running, store, partitions, discovered, watermark, metrics })
    }

    pub(crate) fn add(&self, partition: Arc<Partition>) {
        self.partitions.write().push(partition);
    }
    pub(crate) fn knows(&self, partition: PartitionId) -> bool {
        self.partitions.read().iter().any(|known| known.id == partition)
    }
    pub(crate) fn set_discovered(&self) {
        self.discovered.store(true, Ordering::Release);
    }
    pub(crate) fn is_discovered(&self) -> bool {
        self.discovered.load(Ordering::Acquire)
    }

    /// The slowest partition, if `own` is so far ahead of it that it has to wait (`max_drift`).
    pub(crate) fn has_to_wait_for(&self, own: &Partition) -> Option<PartitionId> {
        if self.settings.max_drift.is_infinite() {
            return None;
        }
        let partitions = self.partitions.read();
        let others = partitions.iter().filter(|other| other.id != own.id).map(|other| Pace {
            partition: other.id,
            watermark: other.watermark(),
            reading: other.has_more(),
        });
        has_to_wait_for(own.watermark(), others, self.settings.max_drift)
    }

    /// How things are now.
    pub(crate) fn look(&self, now: ProcessingTime) -> SourceWatermark {
        let discovered = self.is_discovered();
        let health = self.running.health().partitions;
        let known = self.partitions.read().clone();
        let mut partitions: Vec<PartitionTime> = known
            .iter()
            .map(|partition| self.partition(partition, health.iter().find(|view| view.partition == partition.id), now))
            .collect();
        // Read before, and not found (any more).
        let left = self.store.source_reader().positions().into_iter().map(|(lane, _)| lane);
        for lane in left.filter(|lane| lane.source == self.id && known.iter().all(|known| known.id != lane.partition)) {
            partitions.push(PartitionTime::new(lane.partition, PartitionState::Unassigned, self.committed(lane), None));
        }
        partitions.sort_by_key(|partition| partition.partition);

        let disorder = self.settings.disorder;
        let views: Vec<PartitionView> = partitions.iter().map(PartitionTime::view).collect();
        let progress = {
            let mut watermark = self.watermark.lock();
            // The least of some partitions says nothing while there may be others.
            let progress = watermark.look(if discovered { &views } else { &[] }, disorder, now);
            for (partition, view) in partitions.iter_mut().zip(&views) {
                partition.reach = view.reach(disorder, now);
                partition.since = watermark.since(partition.partition).unwrap_or(now);
            }
            progress
        };
        self.metrics.look(&progress, now, &partitions);
        let advice = advise(&self.settings, &progress, &partitions, now);
        SourceWatermark {
            name: self.settings.name.to_string(),
            watermark: progress.watermark,
            held_by: progress.held_by,
            since: progress.held_by.map(|_| progress.since),
            disorder,
            max_drift: self.settings.max_drift,
            why: advice.0,
            hint: advice.1,
            partitions,
        }
    }

    fn partition(&self, partition: &Partition, health: Option<&PartitionHealth>, now: ProcessingTime) -> PartitionTime {
        // In this order: what was taken from the reader, then what is committed of it.
        let end = partition.end_seen();
        let confirmed = health.and_then(|health| health.end_confirmed);
        let end_seen = match (end, confirmed) {
            (Some(end), _) if end.finished => Some(now), // nothing more will ever come
            (Some(end), Some((at, as_of))) if end.offset == at => Some(as_of),
            _ => None,
        };
        let fetched = partition.fetched_through();
        let committed = self.store.committed(partition.lane());
        // A rewind forgets the end before it forgets what was fetched: then that was not the whole.
        let end_seen = end_seen.filter(|_| partition.end_seen().is_some());
        let facts = Facts {
            assigned: true,
            held_up: partition.is_held_up() || partition.is_waiting() || health.is_some_and(|health| health.paused),
            under_way: fetched.is_some_and(|fetched| committed < Some(fetched)),
            end_seen,
        };
        let mut time = PartitionTime::new(
            partition.id,
            PartitionState::of(&facts),
            self.committed(partition.lane()),
            health.and_then(|view| view.lag),
        );
        time.waits_for = partition.waits_for();
        time.at_end_unconfirmed = end.is_some() && end_seen.is_none();
        let tripped = partition.tripped();
        time.tripped = tripped.is_some();
        time.fault = tripped.or_else(|| health.and_then(|health| health.fault.clone())).or_else(|| partition.fault());
        time.waits_outside = partition.is_waiting();
        time.paused = health.map_or_else(|| partition.is_paused(), |health| health.paused);
        time.read_through = fetched;
        time.applied = self.store.applied_watermark(partition.lane());
        time
    }

    /// The log watermark as of what every shard has committed: a restart would find the same.
    fn committed(&self, lane: LaneId) -> Option<EventTime> {
        self.store.restart_point(lane).watermark.max_event_time.map(|max| max.minus(self.settings.disorder))
    }
}

/// How far the event time of a source has come, and what holds it back.
#[derive(Clone, Debug)]
pub struct SourceWatermark {
    /// Its name.
    pub name: String,
    /// The progress watermark: the least that any partition has reached. It never goes back while the engine runs. `None` while a
    /// partition has nothing to go by.
    pub watermark: Option<EventTime>,
    /// The partition that has come least far, and so holds back the others.
    pub held_by: Option<PartitionId>,
    /// Since when it is that one.
    pub since: Option<ProcessingTime>,
    /// The source's setting.
    pub disorder: TimeSpan,
    /// The source's setting.
    pub max_drift: TimeSpan,
    /// What it is that holds time back, in words.
    pub why: String,
    /// What to do.
    pub hint: String,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionTime>,
}

impl SourceWatermark {
    /// How far the source is as of what is applied, be it committed or not, but not beyond its newest event. Whatever comes to a shard
    /// after this is behind it in the log of its partition: it is late or newer.
    pub(crate) fn applied(&self) -> Option<EventTime> {
        let read = self.partitions.iter().filter(|partition| partition.state != PartitionState::Unassigned);
        let least = read.map(PartitionTime::applied_reach).min().flatten();
        let newest = self.partitions.iter().filter_map(|partition| partition.watermark.max(partition.applied)).max()?;
        Some(self.watermark.max(least)?.min(newest))
    }
}

/// How far the event time of a partition has come.
#[derive(Clone, Debug)]
pub struct PartitionTime {
    /// Which.
    pub partition: PartitionId,
    /// What it is doing.
    pub state: PartitionState,
    /// Since when it is doing that.
    pub since: ProcessingTime,
    /// Its log watermark, as of what is committed.
    pub watermark: Option<EventTime>,
    /// How far it has come: its log watermark, or, caught up, the clock less `disorder` where that is later.
    pub reach: Option<EventTime>,
    /// Records between the reading and the end of its log, as far as known.
    pub lag: Option<u64>,
    /// The partition that it waits for, since it is more than `max_drift` ahead of it.
    pub waits_for: Option<PartitionId>,
    /// Why it stands still.
    pub fault: Option<String>,
    /// The last record read in this run.
    pub read_through: Option<Offset>,
    /// Its end was seen, and the source has not said lately that it is still the end.
    at_end_unconfirmed: bool,
    /// Its circuit breaker has stopped it; `fault` says why.
    pub(crate) tripped: bool,
    /// It waits for a dependency of its format, such as a schema registry.
    waits_outside: bool,
    /// Its log watermark, as of what every shard has applied in this run.
    pub(crate) applied: Option<EventTime>,
    /// Backpressure has paused it.
    pub(crate) paused: bool,
}

impl PartitionTime {
    fn new(partition: PartitionId, state: PartitionState, watermark: Option<EventTime>, lag: Option<u64>) -> Self {
        Self {
            partition,
            state,
            since: ProcessingTime::default(),
            watermark,
            reach: watermark,
            lag,
            waits_for: None,
            fault: None,
            read_through: None,
            at_end_unconfirmed: false,
            applied: None,
            tripped: false,
            waits_outside: false,
            paused: false,
        }
    }
    /// How far it has come as of what is applied, be it committed or not.
    fn applied_reach(&self) -> Option<EventTime> {
        self.reach.max(self.applied)
    }
    fn view(&self) -> PartitionView {
        PartitionView { partition: self.partition, state: self.state, watermark: self.watermark }
    }
}

/// What holds time back, and what to do about it.
fn advise(
    settings: &SourceSettings,
    progress: &Progress,
    partitions: &[PartitionTime],
    now: ProcessingTime,
) -> (String, String) {
    let held = progress.held_by.and_then(|held| partitions.iter().find(|partition| partition.partition == held));
    let Some(held) = held else {
        let why = "no partition of it is read, as far as is known".to_owned();
        return (why, "the source has to be found first: `karst health` says what is missing".to_owned());
    };
    let name = format!("{}[{}]", settings.name, held.partition);
    if let Some(fault) = &held.fault {
        let hint = if held.tripped {
            "mend the cause, or raise max_failing_percent, and restart karst: nothing is lost, and time waits for it"
        } else {
            "see `karst health`; time waits for it, so that nothing is taken for complete that is not"
        };
        return (format!("{name} stands still: {fault}"), hint.to_owned());
    }
    let lag = held.lag.map_or_else(|| "an unknown number of".to_owned(), |lag| lag.to_string());
    match held.state {
        PartitionState::CaughtUp { as_of } => {
            let ago = now.since(as_of).max(TimeSpan::ZERO);
            let why = format!("nothing: {name} is at the end of its log, and follows the clock (its end was confirmed {} s ago)", ago.micros() / 1_000_000);
            let answers = ago <= UNCONFIRMED_MAX;
            let hint = if answers { "nothing to do" } else { "the source does not answer, so time stands still: `karst health`" };
            (why, hint.to_owned())
        }
        PartitionState::Starved if held.waits_outside => (
            format!("{name} waits for a schema registry, with {lag} records to read"),
            "`karst health` names it and says what is wrong; nothing is lost, and it goes on by itself once that answers".to_owned(),
        ),
        PartitionState::Starved => (
            format!("{name} is held up by what comes after it, with {lag} records to read; that is not taken for idleness"),
            "see `karst topology` for the stage that is blocked: a slow resolver or disk, or too few workers".to_owned(),
        ),
        PartitionState::Active if held.at_end_unconfirmed => (
            format!("{name} was at the end of its log, and the source has not confirmed since that there is no more"),
            "nothing to do if that lasts for seconds; if not, look at the broker: `karst health`".to_owned(),
        ),
        PartitionState::Active if held.lag == Some(0) => (
            format!("{name} has read everything, and the last records are on their way"),
            "nothing to do".to_owned(),
        ),
        PartitionState::Active if held.watermark.is_none() && held.read_through.is_none() => (
            format!("{name} has not answered a first fetch, so nobody knows whether it holds records"),
            "look at the broker that leads this partition: `karst health`".to_owned(),
        ),
        _ => (
            format!("{name} has {lag} records to read"),
            "nothing to do while that number falls; if it grows, give the engine more workers, or the topic more partitions; with max_drift the others wait for it".to_owned(),
        ),
    }
}

impl EngineHandle {
    /// The progress watermark of every source, and which partition holds it back.
    pub fn watermarks(&self) -> Vec<SourceWatermark> {
        let now = self.0.clock.now();
        self.0.sources.iter().map(|source| source.time.look(now)).collect()
    }
}
