//! What operators see: is it keeping up, is anything being lost, and what needs a hand?

use std::time::Duration;

use karst_runtime::StageHealth;
use karst_state::LetterCounts;
use karst_types::{ByteSize, EventTime, Offset, Outcomes, PartitionId, ProcessingTime, Reason};

/// How far an engine is.
#[derive(Clone, Debug)]
pub struct Status {
    /// One entry for each source.
    pub sources: Vec<SourceStatus>,
    /// One entry for each shard of feature values.
    pub shards: Vec<ShardStatus>,
    /// The dead letters of all sources; `None` while the source shard cannot be read.
    pub dead_letters: Option<LetterCounts>,
}

impl Status {
    /// The outcomes of all records of all sources.
    pub fn outcomes(&self) -> Outcomes {
        let mut sum = Outcomes::default();
        self.sources.iter().flat_map(|source| &source.partitions).for_each(|partition| sum.add(&partition.outcomes));
        sum
    }
    /// Whether every record of every partition has exactly one outcome (I8). If not, Karst is at fault.
    pub fn is_conserved(&self) -> bool {
        self.sources.iter().flat_map(|source| &source.partitions).all(|partition| partition.outcomes.conserved())
    }
    /// Records that are not read yet, as far as known.
    pub fn lag(&self) -> u64 {
        self.sources.iter().flat_map(|source| &source.partitions).filter_map(|partition| partition.lag).sum()
    }
    /// The least watermark of a source's partitions; `None` while one has none.
    pub fn watermark(&self) -> Option<EventTime> {
        self.sources.iter().flat_map(|source| &source.partitions).map(|partition| partition.watermark).min().flatten()
    }
}

/// How far a source is.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// `kafka`, `file`, `memory`.
    pub kind: &'static str,
    /// Its partitions; empty while they are not known.
    pub partitions: Vec<PartitionStatus>,
    /// Its resolvers, in the order in which they see a message.
    pub resolvers: Vec<ResolverStatus>,
}

/// What a resolver did with the events that it was given, since the engine started. Events that are read again after a rewind
/// count again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolverStatus {
    /// Its name.
    pub name: String,
    /// Events of which it wrote something (nothing of them is kept where another resolver failed on the same record).
    pub applied: u64,
    /// Events of which it wrote nothing.
    pub nothing: u64,
    /// Events that its parse function said are none of its.
    pub skipped: u64,
    /// Events on which it, or its parse function, failed.
    pub failed: u64,
}

/// How far a partition is.
#[derive(Clone, Debug)]
pub struct PartitionStatus {
    /// Which.
    pub partition: PartitionId,
    /// All records up to here have had their effect, and a crash would keep it.
    pub committed: Option<Offset>,
    /// The last record read.
    pub fetched: Option<Offset>,
    /// The offset that will be written next, as far as known.
    pub end: Option<Offset>,
    /// Records between the two (a file source counts bytes).
    pub lag: Option<u64>,
    /// Its log watermark.
    pub watermark: Option<EventTime>,
    /// What became of its records, since the state directory was made. Sums to all records up to the applied position.
    pub outcomes: Outcomes,
    /// The dead letters among them, by reason.
    pub reasons: Vec<(Reason, u64)>,
    /// Why its circuit breaker has stopped it, if it has.
    pub tripped: Option<String>,
    /// Why it stands still until somebody decides how it is to go on (a gap, another log), if it does.
    pub halted: Option<String>,
    /// Whether backpressure has paused it.
    pub paused: bool,
    /// Times it went back to its stored position since the engine started.
    pub rewinds: u64,
}

/// How a shard is.
#[derive(Clone, Debug)]
pub struct ShardStatus {
    /// Which.
    pub shard: u16,
    /// Its last commit.
    pub commit: u64,
    /// Entities in memory.
    pub hot_entities: usize,
    /// Bytes that they take.
    pub hot_bytes: ByteSize,
}

/// Whether an engine is well.
#[derive(Clone, Debug)]
pub struct Health {
    /// Whether nothing needs a hand.
    pub healthy: bool,
    /// What is not well.
    pub problems: Vec<Problem>,
    /// Parts that were looked at: sources, shards, stages.
    pub looked_at: usize,
}

/// One thing that is not well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The source, shard or stage, by name.
    pub what: String,
    /// Why.
    pub why: String,
    /// Since when, if that is known.
    pub since: Option<ProcessingTime>,
    /// What to do.
    pub hint: String,
}

/// The stages as they run.
#[derive(Clone, Debug)]
pub struct Topology {
    /// A mermaid flowchart with the capacity of each mailbox.
    pub diagram: String,
    /// Every stage, in the order in which it was made.
    pub stages: Vec<StageView>,
}

impl Topology {
    /// The mermaid flowchart.
    pub fn diagram(&self) -> &str {
        &self.diagram
    }
}

/// One stage.
#[derive(Clone, Debug)]
pub struct StageView {
    /// `parse_stage flights[0]`.
    pub id: String,
    /// `parse_stage`.
    pub hop: &'static str,
    /// The thread it runs on.
    pub thread: String,
    /// In words: `running`, `blocked on shard 2`, …
    pub state: String,
    /// Whether nobody needs to look at it.
    pub healthy: bool,
    /// Messages in its mailbox.
    pub depth: usize,
    /// Messages that its mailbox holds.
    pub capacity: usize,
    /// Messages handled.
    pub handled: u64,
    /// Records put aside.
    pub poisoned: u64,
    /// Times it was rebuilt.
    pub restarts: u64,
    /// Why it failed the last time.
    pub last_cause: Option<String>,
}

impl StageView {
    pub(crate) fn new(stage: StageHealth, now: Duration) -> Self {
        Self {
            state: in_words(&stage, now),
            healthy: stage.state.is_healthy(),
            id: stage.id,
            hop: stage.name,
            thread: stage.host,
            depth: stage.depth,
            capacity: stage.capacity,
            handled: stage.handled,
            poisoned: stage.poisoned,
            restarts: stage.restarts,
            last_cause: stage.last_cause,
        }
    }

    pub(crate) fn problem(&self) -> Option<Problem> {
        let hint = "see the log for the cause; the stage goes on by itself once it is gone, or after a restart of karst";
        (!self.healthy).then(|| Problem { what: self.id.clone(), why: self.state.clone(), since: None, hint: hint.to_owned() })
    }
}

fn in_words(stage: &StageHealth, now: Duration) -> String {
    use karst_runtime::StageState::*;
    match &stage.state {
        Starting => "starting".to_owned(),
        Running => "running".to_owned(),
        Blocked { on } => format!("blocked on {on}"),
        Waiting { cause } => format!("waiting: {cause}"),
        Restarting { attempt, cause } => format!("restarting (attempt {attempt}): {cause}"),
        Stuck { since } => format!("stuck: no progress for {} s", now.saturating_sub(*since).as_secs()),
        Failed { cause } => format!("failed: {cause}"),
        Stopped(status) => format!("stopped: {status:?}"),
        other => format!("{other:?}").to_lowercase(),
    }
}
