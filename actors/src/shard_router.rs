//! Hop 4: cuts the updates of a batch by shard, and numbers what goes into each lane.
//!
//! Invariants:
//! - a batch becomes exactly one message for every shard and one for the source shard, also where there is nothing in it: so
//!   each batch end is a frontier everywhere (`karst_state::lane`);
//! - a batch is passed on only right after its predecessor of the same epoch; otherwise the partition is told to rewind.

use std::sync::Arc;

use karst_runtime::{Stage, StageError};
use karst_state::{LaneHead, Replayed, ShardBatch, SourceBatch};
use karst_types::{Clock, KillPoint, Offset, Outcomes, ShardCount, Updates, kill_point, shard_of};

use crate::{
    breaker::Breaker,
    partition::{Partition, PartitionMailbox},
    protocol::{Link, NoControl, PartitionControl, Resolved, ShardMessage, SourceMessage, reached},
    source_partition::Shards,
};

pub(crate) struct ShardRouter {
    pub(crate) partition: Arc<Partition>,
    pub(crate) count: ShardCount,
    pub(crate) shards: Shards,
    pub(crate) origin: PartitionMailbox,
    pub(crate) clock: Arc<dyn Clock>,
    /// Of the epoch that is passing: the number of the next message, and the last record of the batch before. Unknown after a
    /// rebuild.
    pub(crate) lane: Option<Lane>,
}

pub(crate) struct Lane {
    epoch: u64,
    next: u64,
    last: Offset,
    breaker: Option<Breaker>,
}

/// What is to be said if too many of these records failed. None of the batch is passed on then.
fn too_many(breaker: &mut Breaker, batch: &Resolved) -> Option<String> {
    let mut dead: Vec<_> = batch.dead_letters.iter().filter(|letter| letter.reason.is_fault()).collect();
    dead.sort_unstable_by_key(|letter| letter.offset);
    let letter = dead.into_iter().find(|letter| breaker.trips(letter.offset))?;
    Some(format!(
        "too many records fail (max_failing_percent): it stopped before @{}; the one that was too many is @{}: {}, {}",
        batch.first, letter.offset, letter.reason, letter.error
    ))
}

impl ShardRouter {
    /// The number of this batch in its lanes; `None` if it must not pass.
    fn number(&mut self, batch: &Resolved) -> Option<u64> {
        let epoch = batch.passage.epoch;
        if epoch < self.partition.epoch() || self.partition.tripped().is_some() {
            return None; // of an incarnation that is gone: the shards would drop it
        }
        let number = match (&self.lane, batch.passage.link) {
            (lane, Link::Start) if lane.as_ref().is_none_or(|lane| lane.epoch < epoch) => 1,
            (Some(lane), Link::After(before)) if lane.epoch == epoch && lane.last == before => lane.next,
            _ => {
                // A full control lane already holds such a message.
                let _ = self.origin.try_control(PartitionControl::Rewind { epoch, why: "a batch was lost before the router" });
                return None;
            }
        };
        let mut breaker = match batch.passage.link {
            Link::Start => batch.passage.breaker,
            Link::After(_) => self.lane.as_ref().and_then(|lane| lane.breaker),
        };
        if let Some(breaker) = &mut breaker
            && let Some(why) = too_many(breaker, batch)
        {
            tracing::error!(partition = %self.partition.label, why, "the partition stops");
            self.partition.trip(why);
            self.lane = None;
            // A full control lane holds a rewind: then it finds out by itself that it has tripped.
            let _ = self.origin.try_control(PartitionControl::Stop);
            return None;
        }
        self.lane = Some(Lane { epoch, next: number + 1, last: batch.through, breaker });
        Some(number)
    }
}

impl Stage for ShardRouter {
    type Message = Resolved;
    type Control = NoControl;

    async fn handle(&mut self, batch: &mut Resolved) -> Result<(), StageError> {
        if std::mem::replace(&mut batch.tried, true) {
            return self.poison(batch, "it failed on it before").await;
        }
        let count = self.count;
        let parts =
            (count.get() > 1).then(|| batch.updates.cut(count.get().into(), |hash| usize::from(shard_of(hash, count).0)));
        let Some(lane_seq) = self.number(batch) else { return Ok(()) };
        reached("shard_router", &self.partition.label, batch.updates.len());
        let head = LaneHead {
            source: self.partition.source,
            partition: self.partition.id,
            epoch: batch.passage.epoch,
            lane_seq,
            through: batch.through,
        };
        let replayed = batch.passage.replay.and_then(|replay| {
            let outcome = *batch.outcomes.first()?;
            Some(Replayed { partition: batch.updates.partition(), offset: batch.record, was: replay.was, outcome })
        });
        let stored_at = self.clock.now();
        let disorder = self.partition.settings.disorder;
        let seen = batch.watermark.max_event_time.filter(|_| batch.passage.replay.is_none());
        let watermark = seen.map(|newest| newest.minus(disorder));
        let empty = Updates::new(self.partition.source, self.partition.id);
        let parts = parts.unwrap_or_else(|| vec![std::mem::replace(&mut batch.updates, empty)]);
        let closed = |_| StageError::broken("a shard has been stopped");
        for (shard, updates) in self.shards.shards.iter().zip(parts) {
            let credit = Some(Box::new(batch.passage.credit.clone()) as _);
            shard.send(ShardMessage::new(ShardBatch { head, updates, stored_at, watermark, credit })).await.map_err(closed)?;
            kill_point::here(KillPoint::RoutedOne);
        }
        kill_point::here(KillPoint::RoutedAll);
        let facts = SourceBatch {
            head,
            first: batch.first,
            // Counted at the first hop and here, independently: a record that lost its outcome on the way shows.
            outcomes: Outcomes { records: batch.passage.records as u64, ..batch.outcomes.iter().copied().collect() },
            dead_letters: std::mem::take(&mut batch.dead_letters),
            watermark: batch.watermark,
            fingerprint: batch.fingerprint,
            lateness: batch.lateness,
            replayed,
            credit: Some(Box::new(batch.passage.credit.clone())),
        };
        self.shards.source.send(SourceMessage::new(facts)).await.map_err(closed)
    }

    async fn control(&mut self, control: NoControl) -> Result<(), StageError> {
        match control {}
    }

    /// Routing looks at no record, so none is to blame: the batch is left out, and the partition rewinds.
    async fn poison(&mut self, batch: &mut Resolved, cause: &str) -> Result<(), StageError> {
        tracing::error!(partition = %self.partition.label, cause, "the router failed on a batch; the partition rewinds");
        self.lane = None;
        let epoch = batch.passage.epoch;
        self.origin
            .control(PartitionControl::Rewind { epoch, why: "the router failed" })
            .await
            .map_err(|_| StageError::broken("the source partition has been stopped"))
    }
}
