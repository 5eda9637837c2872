//! How an engine is: what became of every record, and what is not well.

use karst_connectors::HealthState;
use karst_state::{LaneId, ShardReader};
use karst_types::ByteSize;

use super::{EngineHandle, Inner, SourceView};
use crate::{
    status::{Health, PartitionStatus, Problem, ShardStatus, SourceStatus, StageView, Status, Topology},
    topology::diagram,
};

impl EngineHandle {
    /// How far it is: positions, lag, watermarks, and what became of every record.
    pub fn status(&self) -> Status {
        let inner = &self.0;
        let outcomes = inner.store.source_reader().outcomes();
        let partitions = inner.wiring.origins.partitions();
        let sources = inner.sources.iter().map(|source| {
            let health = source.running.health();
            let own = partitions.iter().filter(|partition| partition.settings.name == source.settings.name);
            let mut partitions: Vec<PartitionStatus> = own
                .map(|partition| {
                    let lane = partition.lane();
                    let sums = outcomes.iter().find(|sums| (sums.source, sums.partition) == (lane.source, lane.partition));
                    let view = health.partitions.iter().find(|view| view.partition == partition.id);
                    PartitionStatus {
                        partition: partition.id,
                        committed: inner.store.committed(lane),
                        fetched: partition.fetched_through(),
                        end: view.and_then(|view| view.end),
                        lag: view.and_then(|view| view.lag).or_else(|| partition.lag()),
                        watermark: partition.watermark(),
                        outcomes: sums.map(|sums| sums.outcomes).unwrap_or_default(),
                        reasons: sums.map(|sums| sums.reasons.clone()).unwrap_or_default(),
                        tripped: partition.tripped(),
                        halted: partition.halted().map(|halt| halt.why),
                        paused: view.map_or_else(|| partition.is_paused(), |view| view.paused),
                        rewinds: partition.rewinds(),
                    }
                })
                .collect();
            // Those that are not found yet (a broker that is down) have a past nevertheless.
            let id = inner.catalog.source_id(source.settings.name.as_str());
            for sums in outcomes.iter().filter(|sums| Some(sums.source) == id) {
                if partitions.iter().all(|known| known.partition != sums.partition) {
                    partitions.push(PartitionStatus {
                        partition: sums.partition,
                        committed: inner.store.committed(LaneId { source: sums.source, partition: sums.partition }),
                        fetched: None,
                        end: None,
                        lag: None,
                        watermark: None,
                        outcomes: sums.outcomes,
                        reasons: sums.reasons.clone(),
                        tripped: None,
                        halted: None,
                        paused: false,
                        rewinds: 0,
                    });
                }
            }
            partitions.sort_by_key(|partition| partition.partition);
            SourceStatus {
                name: source.settings.name.to_string(),
                kind: source.kind,
                partitions,
                resolvers: source.resolvers(),
            }
        });
        let sources = sources.collect();
        let shard = |reader: &ShardReader| {
            let (hot_entities, hot_bytes) = reader.hot();
            ShardStatus {
                shard: reader.id().0,
                commit: reader.newest().seq,
                hot_entities,
                hot_bytes: ByteSize(hot_bytes as u64),
            }
        };
        let dead_letters = inner.store.source_reader().dead_letter_counts().ok();
        Status { sources, shards: inner.store.reader().shards().iter().map(shard).collect(), dead_letters }
    }

    /// What is not well, by name, and why.
    pub fn health(&self) -> Health {
        let inner = &self.0;
        let now = inner.clock.elapsed();
        let stages = inner.wiring.board.snapshot(now);
        let looked_at = stages.len() + inner.sources.len() + usize::from(inner.settings.store.shards) + 1;
        let mut problems: Vec<Problem> = stages.into_iter().filter_map(|stage| StageView::new(stage, now).problem()).collect();
        inner.problems_of_partitions(&mut problems);
        inner.sources.iter().for_each(|source| source.problems(&mut problems));
        inner.problems_of_records(&mut problems);
        for (shard, why) in inner.store.stopped() {
            let hint = "free space or mend the disk; the shard opens itself again and replays".to_owned();
            problems.push(Problem { what: shard.to_string(), why, since: None, hint });
        }
        Health { healthy: problems.is_empty(), problems, looked_at }
    }

    /// The stages as they run.
    pub fn topology(&self) -> Topology {
        let now = self.0.clock.elapsed();
        let stages = self.0.wiring.board.snapshot(now).into_iter().map(|stage| StageView::new(stage, now)).collect();
        Topology { diagram: diagram(&self.0.settings), stages }
    }
}

impl Inner {
    /// Partitions that stand still, and the verb that lets them go on.
    fn problems_of_partitions(&self, problems: &mut Vec<Problem>) {
        let mut add = |label: &str, why, hint: String| {
            problems.push(Problem { what: format!("partition {label}"), why, since: None, hint });
        };
        for partition in self.wiring.origins.lanes().iter().filter(|partition| partition.is_stalled()) {
            let why = format!("records are read, and none has been committed for {} s", self.settings.stuck_after_s);
            let hint = "look at the shards: a disk that is full or hangs, or a resolver that never returns";
            add(&partition.label, why, hint.to_owned());
        }
        for partition in self.wiring.origins.partitions() {
            if let Some(why) = partition.tripped() {
                let hint =
                    "nothing is lost: it goes on from there. Mend the cause, or raise max_failing_percent, and restart karst";
                add(&partition.label, why, hint.to_owned());
            }
            if let Some(halt) = partition.halted() {
                let hint = match halt.gap {
                    Some(_) => format!(
                        "bring the log back and restart karst, or accept the loss: karst source accept-gap {} --partition {}",
                        partition.settings.name, partition.id
                    ),
                    None => "the other partitions go on. Bring the log back and restart karst, or give the source another name"
                        .into(),
                };
                add(&partition.label, halt.why, hint);
            }
        }
    }

    /// Partitions some of whose records have no outcome.
    fn problems_of_records(&self, problems: &mut Vec<Problem>) {
        for sums in self.store.source_reader().outcomes().iter().filter(|sums| !sums.outcomes.conserved()) {
            let view = self.sources.iter().find(|view| view.id == sums.source);
            let source = view.map_or("(not read any more)", |view| view.settings.name.as_str());
            let why = format!("{} records have no outcome: {:?}", sums.outcomes.missing(), sums.outcomes);
            let hint = "this is a fault of Karst: please report it with the log".to_owned();
            problems.push(Problem { what: format!("partition {source}[{}]", sums.partition), why, since: None, hint });
        }
    }
}

impl SourceView {
    /// What keeps it from being read, or its dead letters from being sent on.
    fn problems(&self, problems: &mut Vec<Problem>) {
        let what = format!("source {}", self.settings.name);
        if let Some((forwarding, (why, since))) = self.forwarding.as_ref().and_then(|of| Some((of, of.trouble()?))) {
            let what = format!("dead letters of {} to {}", forwarding.source, forwarding.sink.name());
            let hint = "the source goes on, and its letters are kept; they are sent once the cause is gone".to_owned();
            problems.push(Problem { what, why, since: Some(since), hint });
        }
        let health = self.running.health();
        match health.state {
            HealthState::Ok => {}
            HealthState::Waiting { why, since } => {
                let hint = "nothing is lost; it goes on by itself once the cause is gone".to_owned();
                problems.push(Problem { what: what.clone(), why, since: Some(since), hint });
            }
            HealthState::Failed { why } => {
                let hint = "correct the cause and restart karst".to_owned();
                problems.push(Problem { what: what.clone(), why, since: None, hint });
            }
        }
        for partition in health.partitions {
            if let Some(why) = partition.fault {
                let hint = "the other partitions go on; see the log".to_owned();
                problems.push(Problem { what: format!("{what}[{}]", partition.partition), why, since: None, hint });
            }
        }
    }
}
