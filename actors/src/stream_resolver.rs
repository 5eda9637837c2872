//! Hop 3: runs the stream resolvers of a source over the events of one partition.
//!
//! Invariants:
//! - a record's updates stand together and in the order of its offset, whatever the number of resolvers;
//! - a record on which one resolver fails writes nothing, and is a dead letter: the unit is the record;
//! - a message is decoded once for all resolvers, whatever their number and their parse functions: those that take it by value
//!   run last, and all but the last of them take copies. Only an attempt that failed leaves records to be decoded again;
//! - a panic leaves no trace: updates are gathered in a batch of their own that is thrown away with the failed attempt.

use std::{mem, sync::Arc};

use karst_connectors::{BatchDecoder, Decoded, LateLane};
use karst_features::{BatchResolver, EventBatch, Ran};
use karst_runtime::{Mailbox, Stage, StageError};
use karst_state::Lateness;
use karst_types::{KillPoint, Outcome, Reason, Records, SourceId, Updates, kill_point, update::Cause};

use crate::{
    dead_letter::{Fault, dead_letter},
    hands::Hand,
    metrics::ResolverMetrics,
    partition::Partition,
    protocol::{Events, NoControl, Resolved, reached},
};

const STAGE: &str = "stream_resolver";

/// Bytes that an update takes, roughly; only the first guess of a batch's size.
const UPDATE_BYTES: usize = 96;

/// Has every resolver that takes messages by value leave them to those after it. Those that
/// only look at them stand before.
pub(crate) fn share_messages(resolvers: &mut [Box<dyn BatchResolver>]) {
    if let [before @ .., _] = resolvers {
        before.iter_mut().for_each(|resolver| resolver.take_copies());
    }
}

pub(crate) struct StreamResolver {
    pub(crate) partition: Arc<Partition>,
    pub(crate) resolvers: Vec<Box<dyn BatchResolver>>,
    /// For a record whose message is gone: taken by an attempt that failed.
    pub(crate) decoder: Box<dyn BatchDecoder>,
    pub(crate) next: Mailbox<Resolved, NoControl>,
    pub(crate) metrics: ResolverMetrics,
    pub(crate) hand: Arc<Hand>,
}

/// What a resolver did with the events of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) wrote: u64,
    pub(crate) nothing: u64,
    pub(crate) skipped: u64,
    pub(crate) failed: u64,
    needs_message: u64,
}

impl Tally {
    /// Events that came to some end with it.
    pub(crate) fn ended(&self) -> u64 {
        self.wrote + self.nothing + self.skipped + self.failed
    }

    fn count(&mut self, ran: &Ran) {
        match ran {
            Ran::NotRun => {}
            Ran::Wrote => self.wrote += 1,
            Ran::Nothing => self.nothing += 1,
            Ran::Skipped => self.skipped += 1,
            Ran::Failed { .. } => self.failed += 1,
            Ran::NeedsMessage => self.needs_message += 1,
        }
    }
}

/// What the resolvers made of a batch: one result per record, one tally per resolver.
struct Run {
    updates: Updates,
    results: Vec<Ran>,
    tallies: Vec<Tally>,
    /// The same over late events alone: in the lane `correct`, the one where resolvers see them; else empty.
    late: Vec<Tally>,
}

impl StreamResolver {
    fn run(&mut self, events: &mut Events) -> Run {
        let count = events.causes.len();
        let (source, partition) = (self.partition.source, events.records.partition());
        let fresh = || Updates::with_capacity(source, partition, count, count * UPDATE_BYTES);
        let resolvers = self.resolvers.len();
        let corrects = self.partition.settings.late_lane == LateLane::Correct && events.outcomes.contains(&Outcome::Late);
        let mut run = Run {
            updates: fresh(),
            results: Vec::with_capacity(count),
            tallies: vec![Tally::default(); resolvers],
            late: vec![Tally::default(); if corrects { resolvers } else { 0 }],
        };
        let whole = !events.messages.as_any_mut().is::<crate::protocol::NoMessages>();
        if let ([only], [tally]) = (&mut self.resolvers[..], &mut run.tallies[..])
            && whole
        {
            only.run(&mut batch(events), &mut run.updates, &mut run.results);
            run.results.iter().for_each(|ran| tally.count(ran));
            if tally.needs_message == 0 {
                if let [late] = &mut run.late[..] {
                    let judged = run.results.iter().zip(&events.outcomes);
                    judged.filter(|(_, outcome)| **outcome == Outcome::Late).for_each(|(ran, _)| late.count(ran));
                }
                return run;
            }
            // A second attempt after a failure: messages were taken. Start over, record by record.
            *tally = Tally::default();
            run.updates = fresh();
            run.results.clear();
        }
        for index in 0..count {
            let ran = match events.causes[index] {
                None => Ran::NotRun,
                Some(cause) => self.run_record(events, index, cause, &mut run, whole),
            };
            run.results.push(ran);
        }
        run
    }

    /// All resolvers on one record. Its message is the one that was decoded for all of them; only where it is gone, since an attempt
    /// that failed has taken it, it is decoded again.
    fn run_record(&mut self, events: &mut Events, index: usize, cause: Cause, run: &mut Run, whole: bool) -> Ran {
        let Run { updates, tallies, late, .. } = run;
        let late = if events.outcomes[index] == Outcome::Late { &mut late[..] } else { &mut [] };
        let at = events.first + index;
        let records = Arc::clone(&events.records);
        let mut again: Option<Decoded> = None;
        let mut wrote = false;
        for (nth, (resolver, tally)) in self.resolvers.iter_mut().zip(tallies).enumerate() {
            let mut ran = match &mut again {
                None if whole => resolver.run_record(&mut batch(events), index, updates),
                None => Ran::NeedsMessage,
                Some(decoded) => resolver.run_record(&mut one(decoded, &records, at, &[Some(cause)]), 0, updates),
            };
            if ran == Ran::NeedsMessage {
                let decoded = again.insert(self.decoder.decode(&records.slice(at..at + 1)));
                ran = resolver.run_record(&mut one(decoded, &records, at, &[Some(cause)]), 0, updates);
            }
            tally.count(&ran);
            late.get_mut(nth).into_iter().for_each(|late| late.count(&ran));
            match ran {
                Ran::Wrote => wrote = true,
                Ran::Failed { .. } => {
                    updates.retract(cause.offset);
                    return ran;
                }
                Ran::NotRun | Ran::Nothing | Ran::Skipped | Ran::NeedsMessage => {}
            }
        }
        if wrote { Ran::Wrote } else { Ran::Nothing }
    }

    fn settle(&self, events: &mut Events, run: Run) -> Resolved {
        let Run { updates, results, tallies, late } = run;
        let mut failed = Vec::new();
        let mut corrected = 0;
        for (index, ran) in results.into_iter().enumerate() {
            let late = events.outcomes[index] == Outcome::Late; // and stays it, whatever its resolvers do
            match ran {
                Ran::Wrote if late => corrected += 1,
                Ran::Wrote => events.outcomes[index] = Outcome::Applied,
                // What a late event leaves behind counts as late, and so does its letter.
                Ran::Failed { reason, error } if late => {
                    let record = events.records.get(events.first + index);
                    let error = format!("late, and not corrected ({reason}): {error}");
                    let fault = Fault { stage: STAGE, reason: Reason::Late, error: &error, watermark: None, attempt: 1 };
                    events.dead_letters.push(dead_letter(record, &self.partition.settings, fault));
                }
                Ran::Failed { reason, error } => {
                    let record = events.records.get(events.first + index);
                    events.outcomes[index] = Outcome::Dead(reason);
                    failed.push(Outcome::Dead(reason));
                    // It was in time: a replay does not ask again.
                    let fault =
                        Fault { stage: STAGE, reason, error: &error, watermark: None, attempt: events.passage.attempt() };
                    events.dead_letters.push(dead_letter(record, &self.partition.settings, fault));
                }
                Ran::NotRun | Ran::Nothing | Ran::Skipped | Ran::NeedsMessage => {}
            }
        }
        let lateness = Lateness { events: events.buckets.iter().copied().collect(), corrected };
        self.metrics.resolved(&events.outcomes, &updates, &failed, &tallies);
        self.metrics.judged(&events.outcomes, &lateness, self.partition.settings.late_lane, &late);
        let last = events.first + events.causes.len() - 1;
        let record = events.records.get(events.first).offset();
        let (first, through) = match events.passage.replay {
            None => (record, events.records.get(last).offset()),
            Some(replay) => (replay.seq, replay.seq),
        };
        let fingerprint = if events.passage.replay.is_none() { events.records.fingerprint(last) } else { None };
        Resolved {
            passage: events.passage.clone(),
            record,
            fingerprint,
            first,
            through,
            updates,
            outcomes: mem::take(&mut events.outcomes),
            dead_letters: mem::take(&mut events.dead_letters),
            watermark: events.watermarks.last().copied().unwrap_or(events.passage.start),
            lateness,
            tried: false,
        }
    }

    async fn send(&self, resolved: Resolved) -> Result<(), StageError> {
        self.next.send(resolved).await.map_err(|_| StageError::broken("the shard router has been stopped"))
    }
}

/// No resolver runs on these events, and that is why.
fn refuse(source: SourceId, events: &Events, failed: &Ran) -> Run {
    let updates = Updates::new(source, events.records.partition());
    let results = events.causes.iter().map(|cause| if cause.is_some() { failed.clone() } else { Ran::NotRun }).collect();
    Run { updates, results, tallies: Vec::new(), late: Vec::new() }
}

/// The events, as resolvers take them.
fn batch(events: &mut Events) -> EventBatch<'_> {
    EventBatch { messages: &mut *events.messages, records: &events.records, first: events.first, causes: &events.causes }
}

/// The same for one record that was decoded again.
fn one<'a>(decoded: &'a mut Decoded, records: &'a Records, at: usize, causes: &'a [Option<Cause>]) -> EventBatch<'a> {
    EventBatch { messages: &mut *decoded.messages, records, first: at, causes }
}

impl Stage for StreamResolver {
    type Message = Events;
    type Control = NoControl;

    async fn handle(&mut self, events: &mut Events) -> Result<(), StageError> {
        if events.outcomes.is_empty() {
            return Ok(()); // taken apart by an attempt that was cut off; the router misses it and asks again
        }
        reached(STAGE, &self.partition.label, events.outcomes.len());
        let last = events.records.get(events.first + events.causes.len() - 1).offset();
        let place = events.passage.place(events.records.get(events.first).offset(), last);
        let refused = if events.causes.len() == 1 { self.hand.refuses(place.0) } else { None };
        let run = match refused {
            Some(error) => refuse(self.partition.source, events, &Ran::Failed { reason: Reason::EndsProcess, error }),
            None => {
                let hand = Arc::clone(&self.hand);
                let _turn = hand.take(place.0, place.1).await;
                self.run(events)
            }
        };
        let resolved = self.settle(events, run);
        kill_point::here(KillPoint::ResolvedBatch);
        self.send(resolved).await
    }

    async fn control(&mut self, control: NoControl) -> Result<(), StageError> {
        match control {}
    }

    async fn poison(&mut self, events: &mut Events, cause: &str) -> Result<(), StageError> {
        if events.outcomes.is_empty() {
            return Ok(()); // as above: what failed twice came after its resolvers, and no record is to blame
        }
        let failed = Ran::Failed { reason: Reason::Panicked, error: format!("a resolver panicked: {cause}") };
        let run = refuse(self.partition.source, events, &failed);
        let resolved = self.settle(events, run);
        self.send(resolved).await
    }
}
