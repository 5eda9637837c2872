//! Every message that crosses a mailbox, in path order. Only batches travel.
//!
//! One batch of a partition keeps its identity from hop 1 to hop 5: `epoch` (which incarnation of the partition sent it) and
//! `link` (the record just before it). The router checks that each batch follows its predecessor, so that a batch lost on the
//! way is seen; from there on the numbers of the lane do the same (`karst_state::lane`).

use std::sync::Arc;

use karst_connectors::BatchDecoder;
use karst_runtime::{Credit, Payload};
use karst_state::{LaneId, LanePosition, Lateness, ReplayRequest, ShardBatch, SourceBatch, WatermarkState};
use karst_types::{
    DeadLetter, EventTime, LatenessBucket, Offset, Outcome, Reason, Records, Updates, message::AnyMessages, update::Cause,
};
use tokio::sync::oneshot;

use crate::breaker::Breaker;

/// Tells, once per batch, that it has come to a hop: for whoever follows events with a subscriber of `tracing`, such as the test
/// that compares the hops with ARCHITECTURE.md. `count` are records, from the router on updates.
pub(crate) fn reached(hop: &'static str, place: &str, count: usize) {
    tracing::trace!(target: "karst::hop", hop, place, count);
}

/// What a batch follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// It is the first of its epoch.
    Start,
    /// The record with this offset.
    After(Offset),
}

/// What every batch of a partition carries through all hops.
#[derive(Clone, Debug)]
pub(crate) struct Passage {
    pub(crate) epoch: u64,
    pub(crate) link: Link,
    /// The watermark as of the start of the epoch: whoever has not seen the epoch yet starts from it.
    pub(crate) start: WatermarkState,
    /// Where the epoch's circuit breaker starts, if the source has one.
    pub(crate) breaker: Option<Breaker>,
    /// Records as they were read: what the outcomes are checked against at the end of the path (I8).
    pub(crate) records: usize,
    /// Set where the one record is the replay of a dead letter.
    pub(crate) replay: Option<Replay>,
    /// Comes back to the source partition once every shard has applied the batch.
    pub(crate) credit: Credit,
}

impl Passage {
    /// How often the records of this batch have been tried, this time included.
    pub(crate) fn attempt(&self) -> u32 {
        self.replay.map_or(1, |replay| replay.attempt)
    }

    /// Where records of these offsets stand in their lane.
    pub(crate) fn place(&self, first: Offset, last: Offset) -> (Offset, Offset) {
        self.replay.map_or((first, last), |replay| (replay.seq, replay.seq))
    }
}

/// What a batch of a replay log carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Replay {
    /// Its number in the replay log: the offset of its lane.
    pub(crate) seq: Offset,
    /// As what the record has been counted so far.
    pub(crate) was: Reason,
    /// By what it is judged; see `DeadLetter::watermark`.
    pub(crate) watermark: Option<EventTime>,
    pub(crate) attempt: u32,
}

/// Hop 1 → 2.
pub(crate) struct Fetch {
    pub(crate) passage: Passage,
    pub(crate) records: Records,
}

impl Payload for Fetch {
    fn len(&self) -> usize {
        self.records.len()
    }
    fn singles(&mut self) -> Vec<Self> {
        let mut link = self.passage.link;
        (0..self.records.len())
            .map(|index| {
                let records = self.records.slice(index..index + 1);
                let passage = Passage { link, records: 1, ..self.passage.clone() };
                link = Link::After(self.records.get(index).offset());
                Self { passage, records }
            })
            .collect()
    }
}

/// Hop 2 → 3: judged events; slot `i` of everything belongs to record `i`.
pub(crate) struct Events {
    pub(crate) passage: Passage,
    pub(crate) records: Arc<Records>,
    /// Which records of `records` are meant: all of them, but for a batch that was cut after a failure.
    pub(crate) first: usize,
    pub(crate) messages: Box<dyn AnyMessages>,
    /// `None`: no resolver runs.
    pub(crate) causes: Vec<Option<Cause>>,
    /// What is decided already; [`Outcome::Skipped`] until a resolver writes something.
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) dead_letters: Vec<DeadLetter>,
    /// As of each record, so that a cut batch still has the right one at its end.
    pub(crate) watermarks: Vec<WatermarkState>,
    /// How late each event was.
    pub(crate) buckets: Vec<LatenessBucket>,
}

/// The message of a record that has none any more: it is decoded again when it is needed.
pub(crate) struct NoMessages(pub(crate) usize);

impl AnyMessages for NoMessages {
    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }
    fn len(&self) -> usize {
        self.0
    }
}

impl Payload for Events {
    fn len(&self) -> usize {
        self.outcomes.len() // none, once it was taken apart to be sent on
    }
    fn singles(&mut self) -> Vec<Self> {
        let mut link = self.passage.link;
        let mut letters = std::mem::take(&mut self.dead_letters);
        (0..self.causes.len())
            .map(|index| {
                let offset = self.records.get(self.first + index).offset();
                let passage = Passage { link, records: 1, ..self.passage.clone() };
                link = Link::After(offset);
                Self {
                    passage,
                    records: Arc::clone(&self.records),
                    first: self.first + index,
                    messages: Box::new(NoMessages(1)),
                    causes: vec![self.causes[index]],
                    outcomes: vec![self.outcomes[index]],
                    dead_letters: letters.extract_if(.., |letter| letter.offset == offset).collect(),
                    watermarks: vec![self.watermarks[index]],
                    buckets: vec![self.buckets[index]],
                }
            })
            .collect()
    }
}

/// Hop 3 → 4.
pub(crate) struct Resolved {
    pub(crate) passage: Passage,
    /// Offset of the first record.
    pub(crate) record: Offset,
    /// The batch's place in its lane: offsets of its partition, or a number of the replay log.
    pub(crate) first: Offset,
    pub(crate) through: Offset,
    pub(crate) updates: Updates,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) dead_letters: Vec<DeadLetter>,
    pub(crate) watermark: WatermarkState,
    /// Of the last record; none of a replay log.
    pub(crate) fingerprint: Option<u64>,
    pub(crate) lateness: Lateness,
    /// It has been taken apart to be routed, and is not to be routed again.
    pub(crate) tried: bool,
}

impl Payload for Resolved {
    fn len(&self) -> usize {
        1 // routing looks at no record: there is none to be blamed
    }
    fn singles(&mut self) -> Vec<Self> {
        Vec::new()
    }
}

/// Hop 4 → 5, for a shard of feature values.
pub(crate) type ShardMessage = LaneMessage<ShardBatch>;
/// Hop 4 → 5, for the source shard.
pub(crate) type SourceMessage = LaneMessage<SourceBatch>;

/// A batch that is taken apart when it is applied.
pub(crate) struct LaneMessage<B> {
    pub(crate) batch: B,
    tried: bool,
}

impl<B> LaneMessage<B> {
    pub(crate) fn new(batch: B) -> Self {
        Self { batch, tried: false }
    }
    /// Once. After an attempt that failed behind it, nobody knows what of the batch is left: a shard that was rebuilt takes the first
    /// message of an epoch, and would take an empty one for all of its records.
    pub(crate) fn is_first_try(&mut self) -> bool {
        !std::mem::replace(&mut self.tried, true)
    }
}

impl<B: Send + 'static> Payload for LaneMessage<B> {
    fn len(&self) -> usize {
        1 // a lane message is applied whole or not at all; a failure rewinds the partition
    }
    fn singles(&mut self) -> Vec<Self> {
        Vec::new()
    }
}

/// A source partition has no data lane: it fetches.
pub(crate) enum NoData {}

impl Payload for NoData {
    fn len(&self) -> usize {
        match *self {}
    }
    fn singles(&mut self) -> Vec<Self> {
        Vec::new()
    }
}

/// To a source partition, overtaking data.
#[derive(Debug)]
pub(crate) enum PartitionControl {
    /// A message of this epoch is missing somewhere: start a new epoch. Older epochs are answered by nothing.
    Rewind { epoch: u64, why: &'static str },
    /// A shard went back to its last commit: whatever the epoch, start a new one.
    ShardRestarted { shard: String },
    /// Too much fails: read nothing more.
    Stop,
    /// What a gap has taken is accepted as lost; see [`Partition::accept_gap`](crate::partition::Partition::accept_gap).
    Resume,
}

/// To a shard, overtaking data.
pub(crate) enum ShardControl {
    /// The handshake of an epoch that begins.
    Reset { lane: LaneId, epoch: u64, answer: oneshot::Sender<LanePosition> },
    /// To the source shard: dead letters are to be replayed.
    Replay(ReplayRequest),
}

/// To stages that need no orders.
pub(crate) enum NoControl {}

/// Makes a decoder; each stage has its own.
pub(crate) type MakeDecoder = Arc<dyn Fn() -> Box<dyn BatchDecoder> + Send + Sync>;
