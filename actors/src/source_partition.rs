//! Hop 1: reads the records of one partition, a credit for each batch.
//!
//! Invariants:
//! - every start and every rewind is a new epoch, announced to every shard before the first record of it is read;
//! - where a partition is first read is noted before anything of it is;
//! - reading starts at a recorded barrier that no shard has passed unsaved (`Store::restart_point`), with the watermark of
//!   that barrier;
//! - at most `credits` batches are on the way to the shards: then nothing more is read, the source's buffer fills, and the
//!   source pauses the partition;
//! - a partition that is more than `max_drift` ahead of the slowest reads nothing more: its buffer fills, and so it is paused;
//! - a batch ends exactly where the source shard stands, if it would pass that place;
//! - where the last record that is applied everywhere is known by its fingerprint, it is read again and compared first: of a log that is
//!   another one, nothing is applied;
//! - a record that was in hand when the process ended is a batch of its own;
//! - what cannot go on without a guess (a gap, another log) stands still, without restarts, until somebody decides.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use karst_connectors::{Error as SourceError, Fetched, PartitionReader, RunningSource};
use karst_runtime::{Budget, Credit, Credits, Mailbox, Stage, StageError, waiting_for};
use karst_state::{LaneId, Store, WatermarkState};
use karst_types::{KillPoint, Offset, Records, Retry, kill_point};
use tokio::sync::oneshot;

use crate::{
    breaker::Breaker,
    error::stage_error,
    hands::{Hands, suspects_alone},
    metrics::PartitionMetrics,
    partition::{EndSeen, Halt, Partition},
    protocol::{Fetch, Link, NoControl, NoData, PartitionControl, Passage, ShardControl, reached},
    source_time::SourceTime,
    store_shard::{ShardMailbox, SourceShardMailbox},
};

/// How often the lag is looked at and the position told to the broker.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a partition that is too far ahead looks whether it may go on.
const DRIFT_LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where the shards are reached.
#[derive(Clone)]
pub(crate) struct Shards {
    pub(crate) shards: Vec<ShardMailbox>,
    pub(crate) source: SourceShardMailbox,
}

pub(crate) struct SourcePartition {
    pub(crate) partition: Arc<Partition>,
    pub(crate) time: Arc<SourceTime>,
    pub(crate) running: Arc<dyn RunningSource>,
    pub(crate) store: Store,
    pub(crate) shards: Shards,
    pub(crate) hands: Arc<Hands>,
    pub(crate) credits: Credits,
    /// What batches of all partitions of the source may take on their way.
    pub(crate) budget: Budget,
    pub(crate) next: Mailbox<Fetch, NoControl>,
    pub(crate) metrics: PartitionMetrics,
    /// `None`: an epoch must begin before anything is read.
    pub(crate) reading: Option<Reading>,
    pub(crate) told: Option<Offset>,
}

/// One epoch.
pub(crate) struct Reading {
    epoch: u64,
    breaker: Option<Breaker>,
    start: WatermarkState,
    reader: Box<dyn PartitionReader>,
    link: Link,
    /// Where the source shard stands: a batch must not straddle it.
    cut: Option<Offset>,
    credit: Option<Credit>,
    ready: VecDeque<Records>,
    /// The record that comes first if the log is still the same, and by what it is known; it is not to be applied again.
    known: Option<(Offset, u64)>,
    /// From the first to the last record of what was in hand when the process ended: each is a batch of its own.
    suspected: Vec<(Offset, Offset)>,
}

impl Reading {
    /// What of a batch is to be applied: without the record that only tells whether the log is the same.
    fn recognise(&mut self, records: Records) -> Result<Option<Records>, SourceError> {
        let Some((offset, fingerprint)) = self.known.take() else { return Ok(Some(records)) };
        if records.first_offset() != Some(offset) {
            return Ok(Some(records)); // it was compacted: nothing can be told
        }
        if records.get(0).fingerprint() != fingerprint {
            return Err(SourceError::SourceDiverged { position: records.position(0) });
        }
        Ok((records.len() > 1).then(|| records.slice(1..records.len())))
    }
}

impl SourcePartition {
    async fn begin(&mut self) -> Result<(), StageError> {
        let lane = self.partition.lane();
        let epoch = self.partition.next_epoch();
        let cut = announce(&self.shards, lane, epoch).await?;
        kill_point::here(KillPoint::Announced);
        let point = self.store.restart_point(lane);
        let mut reader = self.running.reader(self.partition.id).map_err(stage_error)?;
        let mut after = point.after.map(Offset::next).or(point.begun);
        if after.is_none() && self.partition.added {
            after = Some(reader.bounds().await.map_err(stage_error)?.low);
        }
        let known = known_record(&mut *reader, point.after, point.fingerprint).await.map_err(stage_error)?;
        let from = match reader.seek(known.map(|(offset, _)| offset).or(after)).await {
            Err(SourceError::SourceGap { position, low }) if self.partition.accepts_gap_before(low) => {
                tracing::warn!(%position, low = low.0, "records are gone, which was accepted; reading goes on behind them");
                reader.seek(Some(low)).await
            }
            begun => begun,
        };
        let from = match from {
            Err(error) if error.needs_a_decision() => {
                self.halt(&error);
                return Ok(());
            }
            from => from.map_err(stage_error)?,
        };
        if point.after.is_none() && point.begun.is_none() {
            self.store.note_begun(lane, from).map_err(|error| StageError::unavailable(error.to_string()))?;
        }
        self.partition.set_begun(point.watermark);
        let breaker = self.breaker(known.map_or(from, |(offset, _)| offset.next()))?;
        tracing::info!(partition = %self.partition.label, epoch, from = from.0, "partition starts");
        self.reading = Some(Reading {
            epoch,
            breaker,
            start: point.watermark,
            reader,
            link: Link::Start,
            cut,
            credit: None,
            ready: VecDeque::new(),
            known,
            suspected: self.hands.notes().suspected(lane),
        });
        Ok(())
    }

    fn halt(&mut self, error: &SourceError) {
        tracing::error!(partition = %self.partition.label, %error, "partition stands still");
        self.reading = None;
        let gap = match error {
            SourceError::SourceGap { position, low } => Some((position.offset, *low)),
            _ => None,
        };
        self.partition.halt(Halt { why: error.to_string(), gap });
    }

    /// The circuit breaker as of an offset: what is dead in its block is known from the letters.
    fn breaker(&self, from: Offset) -> Result<Option<Breaker>, StageError> {
        let Some(mut breaker) = Breaker::of(&self.partition.settings) else { return Ok(None) };
        let mut dead = 0;
        let counted = self.store.source_reader().each_dead_letter(self.partition.lane(), breaker.block_start(from), |stored| {
            let before = stored.letter.offset < from;
            dead += u64::from(before && stored.letter.reason.is_fault());
            before
        });
        counted.map_err(|error| StageError::unavailable(error.to_string()))?;
        breaker.start(from, dead);
        Ok(Some(breaker))
    }

    fn tell_broker(&mut self) {
        let Some(reading) = &mut self.reading else { return };
        let committed = self.store.committed(self.partition.lane());
        if committed > self.told
            && let Some(through) = committed
        {
            kill_point::here(KillPoint::GroupBefore);
            reading.reader.commit(through);
            kill_point::here(KillPoint::GroupAfter);
            self.told = committed;
        }
        self.partition.look(reading.reader.lag(), reading.reader.paused());
    }
}

/// The record at `after`, if it is still there to be compared.
async fn known_record(
    reader: &mut dyn PartitionReader,
    after: Option<Offset>,
    fingerprint: Option<u64>,
) -> karst_connectors::Result<Option<(Offset, u64)>> {
    let Some(known) = after.zip(fingerprint) else { return Ok(None) };
    let bounds = reader.bounds().await?;
    Ok(Some(known).filter(|(after, _)| (bounds.low..bounds.high).contains(after)))
}

/// Tells every shard that `epoch` begins; from then on it drops what older epochs sent. Returns where the source shard stands.
pub(crate) async fn announce(shards: &Shards, lane: LaneId, epoch: u64) -> Result<Option<Offset>, StageError> {
    let mut answers = Vec::with_capacity(shards.shards.len());
    for shard in &shards.shards {
        let (answer, position) = oneshot::channel();
        shard.control(ShardControl::Reset { lane, epoch, answer }).await.map_err(|_| stopped())?;
        answers.push((shard.name().to_owned(), position));
    }
    let (answer, position) = oneshot::channel();
    shards.source.control(ShardControl::Reset { lane, epoch, answer }).await.map_err(|_| stopped())?;
    for (name, position) in answers {
        // A shard that restarts drops the question; asking again begins another epoch.
        waiting_for(&name, position).await.map_err(|_| StageError::unavailable(format!("{name} is restarting")))?;
    }
    let position = waiting_for(shards.source.name(), position).await;
    Ok(position.map_err(|_| StageError::unavailable("the source shard is restarting"))?.applied)
}

fn stopped() -> StageError {
    StageError::unavailable("a shard has been stopped")
}

impl Stage for SourcePartition {
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
            PartitionControl::Rewind { epoch, why } => {
                let current = self.partition.epoch();
                if self.reading.is_some() && epoch == current {
                    tracing::info!(partition = %self.partition.label, epoch, why, "partition rewinds");
                    self.reading = None;
                }
            }
            PartitionControl::Stop => self.reading = None,
            PartitionControl::Resume => {} // looked at by the next pull
            PartitionControl::ShardRestarted { shard } => {
                if self.reading.take().is_some() {
                    tracing::info!(partition = %self.partition.label, shard, "partition rewinds: a shard is back at its last commit");
                }
            }
        }
        Ok(())
    }

    async fn pull(&mut self) -> Result<(), StageError> {
        if self.partition.tripped().is_some() || self.partition.halted().is_some() {
            return std::future::pending().await;
        }
        if self.reading.is_none() {
            self.begin().await.inspect_err(|error| self.partition.set_failed(error.to_string()))?;
        }
        let Some(reading) = &mut self.reading else { return Ok(()) };
        if reading.ready.is_empty() {
            while let Some(slowest) = self.time.has_to_wait_for(&self.partition) {
                self.partition.set_waits_for(Some(slowest));
                let slowest = format!("{}[{slowest}], which is behind by more than max_drift", self.partition.settings.name);
                waiting_for(&slowest, tokio::time::sleep(DRIFT_LOOK_EVERY)).await;
            }
            self.partition.set_waits_for(None);
            if reading.credit.is_none() {
                self.partition.set_held_up(true); // a pull that is dropped while it waits leaves it so, and the next one waits again
                reading.credit = Some(self.credits.acquire().await);
                self.partition.set_held_up(false);
            }
            match reading.reader.next().await {
                Ok(Fetched::Records(records)) => {
                    kill_point::here(KillPoint::Fetched);
                    let records = match reading.recognise(records) {
                        Ok(Some(records)) => records,
                        Ok(None) => return Ok(()),
                        Err(error) => {
                            self.halt(&error);
                            return Ok(());
                        }
                    };
                    self.metrics.fetched(&records);
                    let last = records.last_offset().unwrap_or_default();
                    self.partition.fetched(last, reading.reader.lag(), reading.reader.paused());
                    let parts = cut_at(records, reading.cut).flat_map(|part| suspects_alone(part, &reading.suspected));
                    reading.ready.extend(parts);
                }
                Ok(Fetched::EndOfLog { end, finished }) => {
                    self.partition.set_caught_up(EndSeen { offset: end, finished });
                    return Ok(());
                }
                Err(error) if error.needs_a_decision() => {
                    self.halt(&error);
                    return Ok(());
                }
                Err(error) => {
                    self.partition.set_failed(error.to_string());
                    self.reading = None; // a reader repeats its fault until it is told where to go on
                    if error.retry() == Retry::Never {
                        tracing::error!(partition = %self.partition.label, %error, "partition stops");
                    }
                    return Err(stage_error(error));
                }
            }
        }
        // Room first, then the batch: this future may be dropped while it waits, and nothing may be lost by that.
        self.partition.set_held_up(true);
        self.next.room().await.map_err(|_| StageError::broken("the parse stage has been stopped"))?;
        let bytes = reading.ready.front().map_or(0, Records::cost);
        let share = self.budget.take(bytes).await;
        let credit = match reading.credit.take() {
            Some(credit) => credit,
            None => self.credits.acquire().await,
        };
        let credit = credit.with(share);
        self.partition.set_held_up(false);
        if let Some(records) = reading.ready.pop_front() {
            let through = records.last_offset().unwrap_or_default();
            let passage = Passage {
                epoch: reading.epoch,
                link: reading.link,
                start: reading.start,
                breaker: reading.breaker,
                records: records.len(),
                replay: None,
                credit,
            };
            reading.link = Link::After(through);
            reached("source_partition", &self.partition.label, records.len());
            if self.next.try_send(Fetch { passage, records }).is_err() {
                // The only sender found no room where there was some: the stage is stopping. What is not sent is replayed.
                self.reading = None;
            }
            kill_point::here(KillPoint::HandedOn);
        }
        Ok(())
    }

    /// Not while an epoch begins: a tick drops the future that waits, and asking a slow broker would start over each time.
    fn tick_interval(&self) -> Option<Duration> {
        self.reading.is_some().then_some(LOOK_EVERY)
    }
    async fn tick(&mut self) -> Result<(), StageError> {
        self.tell_broker();
        Ok(())
    }
    async fn stopped(&mut self) -> Result<(), StageError> {
        self.tell_broker();
        Ok(())
    }
}

/// The batch, in two if it would straddle `cut`.
fn cut_at(records: Records, cut: Option<Offset>) -> impl Iterator<Item = Records> {
    let inside = cut.filter(|cut| records.first_offset() <= Some(*cut) && records.last_offset() > Some(*cut));
    let (first, second) = match inside {
        Some(cut) => {
            let at = records.iter().take_while(|record| record.offset() <= cut).count();
            (records.slice(0..at), Some(records.slice(at..records.len())))
        }
        None => (records, None),
    };
    std::iter::once(first).chain(second)
}

#[cfg(test)]
mod tests {
    use karst_types::{BrokerTime, PartitionId};

    use super::*;

    fn offsets(records: &Records) -> Vec<i64> {
        records.iter().map(|record| record.offset().0).collect()
    }

    #[test]
    fn a_batch_ends_where_the_source_shard_stands() {
        let mut records = Records::new("clicks".into(), PartitionId(0));
        [3, 5, 9].iter().for_each(|offset| records.push(Offset(*offset), BrokerTime(0), None, None));
        let cut = |at: Option<i64>| cut_at(records.clone(), at.map(Offset)).map(|part| offsets(&part)).collect::<Vec<_>>();
        assert_eq!(cut(None), [vec![3, 5, 9]]);
        assert_eq!(cut(Some(2)), [vec![3, 5, 9]]);
        assert_eq!(cut(Some(9)), [vec![3, 5, 9]]);
        assert_eq!(cut(Some(3)), [vec![3], vec![5, 9]]);
        assert_eq!(cut(Some(6)), [vec![3, 5], vec![9]], "an offset inside a gap");
    }
}
