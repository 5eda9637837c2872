//! Hop 5: one shard. Applies what its lanes bring, and commits in groups behind that, on another thread.
//!
//! Invariants:
//! - the shard's turn never waits for the disk, except when as much again has gathered as the commit on its way holds;
//! - a commit starts when the lanes have been empty for [`IDLE`] (for [`IDLE_LOADED`], if much has gathered), under load every
//!   `commit_interval` (up to [`PATIENCE`] of them, if a flood comes), or when enough has gathered (`docs/semantics.md`, Delivery);
//! - after any failure the writer is built anew from the last commit, and every partition is told to rewind.

use std::{sync::Arc, time::Duration};

use karst_runtime::{Mailbox, Payload, Stage, StageError, Tasks, waiting_for};
use karst_state::{
    Applied, CommitWriter, Committed, FrozenCommit, LaneHead, LaneId, LanePosition, ReplayRequest, ShardWriter, SourceWriter,
    Store,
};
use karst_types::{Clock, KillPoint, TimeSpan, kill_point};
use parking_lot::RwLock;

use crate::{
    committer::Committer,
    error::state_error,
    metrics::ShardMetrics,
    partition::{Partition, PartitionMailbox},
    protocol::{PartitionControl, ShardControl, ShardMessage, SourceMessage, reached},
};

/// Lanes that were empty for this long are idle: what has gathered is committed at once.
const IDLE: Duration = Duration::from_millis(4);
/// From so many updates on, a pause of [`IDLE`] means that the processors are busy, not that there is nothing to do: a commit for each such
/// pause would write every row again and again, and make the processors busier.
const LOADED: usize = 256;
/// How long the lanes are empty then before a commit.
const IDLE_LOADED: Duration = Duration::from_millis(25);
/// Commit intervals that a flooded shard may wait.
const PATIENCE: u32 = 5;

/// The mailbox of a shard of feature values.
pub(crate) type ShardMailbox = Mailbox<ShardMessage, ShardControl>;
/// The mailbox of the source shard.
pub(crate) type SourceShardMailbox = Mailbox<SourceMessage, ShardControl>;

/// Every partition of the engine: whom a shard tells to rewind.
#[derive(Clone, Default)]
pub(crate) struct Origins(Arc<RwLock<Vec<Origin>>>);

type Origin = (Arc<Partition>, PartitionMailbox);

impl Origins {
    pub(crate) fn add(&self, partition: Arc<Partition>, mailbox: PartitionMailbox) {
        self.0.write().push((partition, mailbox));
    }
    pub(crate) fn find(&self, lane: LaneId) -> Option<(Arc<Partition>, PartitionMailbox)> {
        self.0.read().iter().find(|(partition, _)| partition.lane() == lane).cloned()
    }
    /// The partitions of the sources.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.0.read().iter().map(|(partition, _)| Arc::clone(partition)).filter(|one| !one.lane().is_replay()).collect()
    }
    /// Those, and the replay logs.
    pub(crate) fn lanes(&self) -> Vec<Arc<Partition>> {
        self.0.read().iter().map(|(partition, _)| Arc::clone(partition)).collect()
    }
    pub(crate) fn rewind(&self, lane: LaneId, epoch: u64, why: &'static str) {
        for (partition, mailbox) in self.0.read().iter().filter(|(partition, _)| partition.lane() == lane) {
            tracing::debug!(partition = %partition.label, epoch, why, "asking for a rewind");
            // A full control lane already holds such a message.
            let _ = mailbox.try_control(PartitionControl::Rewind { epoch, why });
        }
    }
    fn shard_restarted(&self, shard: &str) {
        for (partition, mailbox) in self.0.read().iter() {
            let told = mailbox.try_control(PartitionControl::ShardRestarted { shard: shard.to_owned() });
            if told.is_err() {
                tracing::debug!(partition = %partition.label, shard, "a partition with a full control lane rewinds anyway");
            }
        }
    }
}

/// What the two kinds of shard have in common.
pub(crate) trait Writer: Sized + 'static {
    type Message: Payload;
    fn head(message: &Self::Message) -> LaneHead;
    fn apply(&mut self, message: &mut Self::Message) -> karst_state::Result<Applied>;
    fn is_first_try(message: &mut Self::Message) -> bool;
    fn reset_lane(&mut self, lane: LaneId, epoch: u64) -> LanePosition;
    fn freeze(&mut self) -> Option<FrozenCommit>;
    fn committed(&mut self, done: &Committed);
    fn has_uncommitted(&self) -> bool;
    fn must_commit(&self) -> bool;
    fn uncommitted_events(&self) -> usize;
    /// Whether so much comes that commits are better made for more at once.
    fn is_flooded(&self) -> bool {
        false
    }
    /// Whether there is enough for one, though it might wait.
    fn may_commit(&self) -> bool {
        false
    }
    fn is_full(&self) -> bool;
    fn commit_in_flight(&self) -> bool;
    /// Only the source shard has letters; elsewhere the request is dropped, and whoever asks is told by that.
    fn request_replay(&mut self, _: ReplayRequest) -> karst_state::Result<()> {
        Ok(())
    }
}

macro_rules! writer {
    ($writer:ty, $message:ident $(, $more:item)*) => {
        impl Writer for $writer {
            type Message = $message;
            fn head(message: &$message) -> LaneHead {
                message.batch.head
            }
            fn apply(&mut self, message: &mut $message) -> karst_state::Result<Applied> {
                <$writer>::apply(self, &mut message.batch)
            }
            fn is_first_try(message: &mut $message) -> bool {
                message.is_first_try()
            }
            fn reset_lane(&mut self, lane: LaneId, epoch: u64) -> LanePosition {
                <$writer>::reset_lane(self, lane, epoch)
            }
            fn freeze(&mut self) -> Option<FrozenCommit> {
                <$writer>::freeze(self)
            }
            fn committed(&mut self, done: &Committed) {
                <$writer>::committed(self, done);
            }
            fn has_uncommitted(&self) -> bool {
                <$writer>::has_uncommitted(self)
            }
            fn must_commit(&self) -> bool {
                <$writer>::must_commit(self)
            }
            fn uncommitted_events(&self) -> usize {
                <$writer>::uncommitted_events(self)
            }
            fn is_full(&self) -> bool {
                <$writer>::is_full(self)
            }
            fn commit_in_flight(&self) -> bool {
                <$writer>::commit_in_flight(self)
            }
            $($more)*
        }
    };
}
writer!(
    ShardWriter,
    ShardMessage,
    fn is_flooded(&self) -> bool {
        ShardWriter::is_flooded(self)
    },
    fn may_commit(&self) -> bool {
        ShardWriter::may_commit(self)
    }
);
writer!(
    SourceWriter,
    SourceMessage,
    fn request_replay(&mut self, request: ReplayRequest) -> karst_state::Result<()> {
        SourceWriter::request_replay(self, request)
    }
);

/// How a shard is built, again and again.
pub(crate) struct ShardPlan<W> {
    pub(crate) name: String,
    pub(crate) store: Store,
    pub(crate) open: fn(&Store, usize) -> karst_state::Result<W>,
    pub(crate) commits: fn(&Store, usize) -> CommitWriter,
    pub(crate) index: usize,
    pub(crate) origins: Origins,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) commit_interval: TimeSpan,
    pub(crate) metrics: ShardMetrics,
    /// Where commits are written; `None`: on a thread of their own.
    pub(crate) tasks: Option<Tasks>,
    /// Whether one was built before.
    pub(crate) built: bool,
}

impl<W: Writer> ShardPlan<W> {
    pub(crate) fn build(&mut self) -> Result<StoreShard<W>, StageError> {
        let again = std::mem::replace(&mut self.built, true);
        let writer = (self.open)(&self.store, self.index).map_err(state_error)?;
        let commits = (self.commits)(&self.store, self.index);
        let committer = Committer::start(&self.name, commits, self.tasks.as_ref()).map_err(|error| {
            StageError::broken(format!("could not start the commit thread of {}", self.name)).because(error)
        })?;
        Ok(StoreShard {
            name: self.name.clone(),
            writer,
            committer,
            origins: self.origins.clone(),
            last_freeze: self.clock.elapsed(),
            clock: Arc::clone(&self.clock),
            commit_interval: self.commit_interval.to_duration(),
            metrics: self.metrics.clone(),
            again,
        })
    }
}

pub(crate) struct StoreShard<W> {
    name: String,
    writer: W,
    committer: Committer,
    origins: Origins,
    clock: Arc<dyn Clock>,
    commit_interval: Duration,
    last_freeze: Duration,
    metrics: ShardMetrics,
    again: bool,
}

impl<W: Writer> StoreShard<W> {
    fn commit(&mut self) -> Result<(), StageError> {
        if let Some(frozen) = self.writer.freeze() {
            self.last_freeze = self.clock.elapsed();
            kill_point::here(KillPoint::Frozen);
            self.committer.send(frozen)?;
        }
        Ok(())
    }

    fn done(&mut self, done: karst_state::Result<Committed>) -> Result<(), StageError> {
        let done = done.map_err(state_error)?;
        self.metrics.committed(self.clock.elapsed().saturating_sub(self.last_freeze));
        reached("changelog", &self.name, done.rows);
        self.writer.committed(&done);
        kill_point::here(KillPoint::CommitTold);
        Ok(())
    }

    async fn finish_commit(&mut self) -> Result<(), StageError> {
        let done = waiting_for("its commit", self.committer.done()).await?;
        self.done(done)
    }

    fn commit_due(&self) -> bool {
        let patience = if self.writer.is_flooded() { PATIENCE } else { 1 };
        self.writer.has_uncommitted()
            && !self.writer.commit_in_flight()
            && (self.writer.must_commit()
                || self.writer.may_commit()
                || self.clock.elapsed().saturating_sub(self.last_freeze) >= self.commit_interval * patience)
    }
}

impl<W: Writer> Stage for StoreShard<W> {
    type Message = W::Message;
    type Control = ShardControl;

    /// What was applied and not committed is gone, and with it whatever the partitions had sent: they send it again.
    async fn started(&mut self) -> Result<(), StageError> {
        if self.again {
            self.origins.shard_restarted(&self.name);
        }
        Ok(())
    }

    async fn handle(&mut self, message: &mut W::Message) -> Result<(), StageError> {
        while let Some(done) = self.committer.try_done() {
            self.done(done)?;
        }
        while self.writer.is_full() {
            self.finish_commit().await?;
        }
        let head = W::head(message);
        if !W::is_first_try(message) {
            self.origins.rewind(head.lane(), head.epoch, "a shard failed on a message");
            return Ok(());
        }
        match self.writer.apply(message).map_err(state_error)? {
            Applied::Applied { new, .. } => {
                reached("store_shard", &self.name, new);
                self.metrics.applied(new);
                kill_point::here(KillPoint::Applied);
            }
            Applied::Duplicate | Applied::OldEpoch => {}
            Applied::Gap => self.origins.rewind(head.lane(), head.epoch, "a shard misses a message"),
        }
        if self.commit_due() { self.commit() } else { Ok(()) }
    }

    async fn control(&mut self, control: ShardControl) -> Result<(), StageError> {
        match control {
            ShardControl::Reset { lane, epoch, answer } => {
                // Whoever asked and went away begins another epoch.
                let _ = answer.send(self.writer.reset_lane(lane, epoch));
                Ok(())
            }
            ShardControl::Replay(request) => self.writer.request_replay(request).map_err(state_error),
        }
    }

    /// No record is to blame: the writer is new, and the partitions rewind.
    async fn poison(&mut self, message: &mut W::Message, cause: &str) -> Result<(), StageError> {
        let head = W::head(message);
        tracing::error!(shard = self.name, cause, "the shard failed on a batch twice; its partition rewinds");
        self.origins.rewind(head.lane(), head.epoch, "a shard failed");
        Ok(())
    }

    async fn pull(&mut self) -> Result<(), StageError> {
        if self.writer.commit_in_flight() {
            return self.finish_commit().await;
        }
        if !self.writer.has_uncommitted() {
            return std::future::pending().await;
        }
        let idle = if self.writer.uncommitted_events() < LOADED { IDLE } else { IDLE_LOADED };
        tokio::time::sleep(idle.min(self.commit_interval.max(IDLE))).await;
        self.commit()
    }

    async fn stopped(&mut self) -> Result<(), StageError> {
        kill_point::here(KillPoint::StopDrained);
        while self.writer.has_uncommitted() || self.writer.commit_in_flight() {
            self.commit()?;
            self.finish_commit().await?;
        }
        kill_point::here(KillPoint::StopCommitted);
        Ok(())
    }
}
