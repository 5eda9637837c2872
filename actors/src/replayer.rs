//! The first hop of a replay: reads the replay log of one source, an entry and a credit for each batch, and hands it to a
//! `parse_stage` of its own. Why replays have one effect each: `karst_state::replay`.
//!
//! Invariants, as of a source partition:
//! - every start and every rewind is a new epoch, announced to every shard before the first entry of it is read;
//! - reading starts at a barrier that no shard has passed unsaved.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use karst_runtime::{Credit, Credits, Mailbox, Stage, StageError};
use karst_state::{LaneId, ReplayEntry, Store, WatermarkState};
use karst_types::{Offset, Records};
use tokio::sync::Notify;

use crate::{
    partition::{EndSeen, Partition},
    protocol::{Fetch, Link, NoControl, NoData, PartitionControl, Passage, Replay, reached},
    source_partition::{Shards, announce},
};

const STAGE: &str = "replayer";
/// Entries read at once; letters may be large.
const READ_MAX: usize = 16;
/// It is told when there is something new. This is how often it looks nevertheless.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Replayer {
    /// Not a partition of the source: its number is that of replay logs.
    pub(crate) partition: Arc<Partition>,
    pub(crate) store: Store,
    pub(crate) shards: Shards,
    pub(crate) credits: Credits,
    pub(crate) next: Mailbox<Fetch, NoControl>,
    pub(crate) queued: Arc<Notify>,
    pub(crate) reading: Option<Reading>,
}

/// One epoch.
pub(crate) struct Reading {
    epoch: u64,
    link: Link,
    after: Option<Offset>,
    credit: Option<Credit>,
    ready: VecDeque<ReplayEntry>,
}

impl Replayer {
    async fn begin(&mut self) -> Result<(), StageError> {
        let lane = self.partition.lane();
        let epoch = self.partition.next_epoch();
        announce(&self.shards, lane, epoch).await?;
        let after = self.store.restart_point(lane).after;
        tracing::info!(replays = %self.partition.label, epoch, ?after, "replays start");
        self.reading = Some(Reading { epoch, link: Link::Start, after, credit: None, ready: VecDeque::new() });
        Ok(())
    }
}

/// The record, as its partition had it.
fn record_of(entry: &ReplayEntry, partition: &Partition) -> Records {
    let letter = &entry.letter;
    let mut records = Records::new(partition.settings.name.clone(), entry.partition);
    let headers = letter.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
    records.push_with_headers(letter.offset, letter.broker_time, letter.key.as_deref(), letter.value.as_deref(), headers);
    records
}

impl Stage for Replayer {
    type Message = NoData;
    type Control = PartitionControl;

    async fn handle(&mut self, message: &mut NoData) -> Result<(), StageError> {
        match *message {}
    }
    async fn poison(&mut self, message: &mut NoData, _: &str) -> Result<(), StageError> {
        match *message {}
    }

    async fn control(&mut self, control: PartitionControl) -> Result<(), StageError> {
        match control {
            PartitionControl::Rewind { epoch, .. } if epoch != self.partition.epoch() => {}
            PartitionControl::Rewind { .. } | PartitionControl::ShardRestarted { .. } | PartitionControl::Stop => {
                self.reading = None
            }
            PartitionControl::Resume => {} // this log has no gaps
        }
        Ok(())
    }

    async fn pull(&mut self) -> Result<(), StageError> {
        if self.reading.is_none() {
            self.begin().await?;
        }
        let Some(reading) = &mut self.reading else { return Ok(()) };
        if reading.ready.is_empty() {
            let LaneId { source, .. } = self.partition.lane();
            let entries = self
                .store
                .source_reader()
                .replay_log(source, reading.after, READ_MAX)
                .map_err(|error| StageError::unavailable(error.to_string()))?;
            let Some(last) = entries.last() else {
                let end = reading.after.map_or(Offset(0), Offset::next);
                self.partition.set_caught_up(EndSeen { offset: end, finished: false });
                let _ = tokio::time::timeout(LOOK_EVERY, self.queued.notified()).await;
                return Ok(());
            };
            reading.after = Some(last.seq);
            self.partition.fetched(last.seq, None, false);
            reading.ready.extend(entries);
        }
        // Room and credit first, then the entry: this future may be dropped while it waits, and nothing may be lost by that.
        self.next.room().await.map_err(|_| StageError::broken("the parse stage of replays has been stopped"))?;
        if reading.credit.is_none() {
            reading.credit = Some(self.credits.acquire().await);
        }
        let (Some(entry), Some(credit)) = (reading.ready.pop_front(), reading.credit.take()) else { return Ok(()) };
        let letter = &entry.letter;
        let replay = Replay {
            seq: entry.seq,
            was: letter.reason,
            watermark: letter.watermark,
            attempt: letter.attempt.saturating_add(1),
        };
        let passage = Passage {
            epoch: reading.epoch,
            link: reading.link,
            start: WatermarkState::default(),
            breaker: None,
            records: 1,
            replay: Some(replay),
            credit,
        };
        reading.link = Link::After(entry.seq);
        reached(STAGE, &self.partition.label, 1);
        if self.next.try_send(Fetch { passage, records: record_of(&entry, &self.partition) }).is_err() {
            self.reading = None; // the stage is stopping; what is not sent is read again
        }
        Ok(())
    }
}
