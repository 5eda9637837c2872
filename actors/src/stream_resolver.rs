//! Hop 3: runs the stream resolvers of a source over the events of one partition.
//!
//! Invariants:
//! - a record's updates stand together and in the order of its offset, whatever the number of resolvers;
//! - a record on which one resolver fails writes nothing, and is a dead letter: the unit is the record;
//! - a panic leaves no trace: updates are gathered in a batch of their own that is thrown away with the failed attempt.

use std::{mem, sync::Arc};

use karst_connectors::BatchDecoder;
use karst_features::{BatchResolver, Ran};
use karst_runtime::{Mailbox, Stage, StageError};
use karst_state::Lateness;
use karst_types::{Outcome, Reason, Updates, update::Cause};

use crate::{
    dead_letter::{Fault, dead_letter},
    metrics::ResolverMetrics,
    partition::Partition,
    protocol::{Events, NoControl, Resolved, reached},
};

const STAGE: &str = "stream_resolver";

/// Bytes that an update takes, roughly; only the first guess of a batch's size.
const UPDATE_BYTES: usize = 96;

pub(crate) struct StreamResolver {
    pub(crate) partition: Arc<Partition>,
    pub(crate) resolvers: Vec<Box<dyn BatchResolver>>,
    /// For a record whose message is gone: taken by a resolver, or by an attempt that failed.
    pub(crate) decoder: Box<dyn BatchDecoder>,
    pub(crate) next: Mailbox<Resolved, NoControl>,
    pub(crate) metrics: ResolverMetrics,
}

impl StreamResolver {
    fn run(&mut self, events: &mut Events) -> (Updates, Vec<Ran>) {
        let count = events.causes.len();
        let mut updates = Updates::with_capacity(self.partition.source, self.partition.id, count, count * UPDATE_BYTES);
        let mut results = Vec::with_capacity(count);
        let whole = !events.messages.as_any_mut().is::<crate::protocol::NoMessages>();
        if let [only] = &mut self.resolvers[..]
            && whole
        {
            only.run(&mut *events.messages, &events.causes, &mut updates, &mut results);
            if !results.contains(&Ran::NeedsMessage) {
                return (updates, results);
            }
            // A second attempt after a failure: messages were taken. Start over, record by record.
            updates = Updates::with_capacity(self.partition.source, self.partition.id, count, count * UPDATE_BYTES);
            results.clear();
        }
        for index in 0..count {
            let ran = match events.causes[index] {
                None => Ran::NotRun,
                Some(cause) => self.run_record(events, index, cause, &mut updates, whole),
            };
            results.push(ran);
        }
        (updates, results)
    }

    /// All resolvers on one record.
    fn run_record(&mut self, events: &mut Events, index: usize, cause: Cause, updates: &mut Updates, whole: bool) -> Ran {
        let mut wrote = false;
        for resolver in &mut self.resolvers {
            let mut ran =
                if whole { resolver.run_record(&mut *events.messages, index, cause, updates) } else { Ran::NeedsMessage };
            if ran == Ran::NeedsMessage {
                let at = events.first + index;
                let mut again = self.decoder.decode(&events.records.slice(at..at + 1));
                ran = resolver.run_record(&mut *again.messages, 0, cause, updates);
            }
            match ran {
                Ran::Wrote => wrote = true,
                Ran::Failed { .. } => {
                    updates.retract(cause.offset);
                    return ran;
                }
                Ran::NotRun | Ran::Nothing | Ran::NeedsMessage => {}
            }
        }
        if wrote { Ran::Wrote } else { Ran::Nothing }
    }

    fn settle(&self, events: &mut Events, updates: Updates, results: Vec<Ran>) -> Resolved {
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
                    let fault = Fault { stage: STAGE, reason, error: &error, watermark: None, attempt: 1 };
                    events.dead_letters.push(dead_letter(record, &self.partition.settings, fault));
                }
                Ran::NotRun | Ran::Nothing | Ran::NeedsMessage => {}
            }
        }
        let lateness = Lateness { events: events.buckets.iter().copied().collect(), corrected };
        self.metrics.resolved(&events.outcomes, &updates, &failed);
        self.metrics.judged(&events.outcomes, &lateness);
        let last = events.first + events.causes.len() - 1;
        Resolved {
            passage: events.passage.clone(),
            first: events.records.get(events.first).offset(),
            through: events.records.get(last).offset(),
            updates,
            outcomes: mem::take(&mut events.outcomes),
            dead_letters: mem::take(&mut events.dead_letters),
            watermark: events.watermarks.last().copied().unwrap_or(events.passage.start),
            lateness,
        }
    }

    async fn send(&self, resolved: Resolved) -> Result<(), StageError> {
        self.next.send(resolved).await.map_err(|_| StageError::broken("the shard router has been stopped"))
    }
}

impl Stage for StreamResolver {
    type Message = Events;
    type Control = NoControl;

    async fn handle(&mut self, events: &mut Events) -> Result<(), StageError> {
        if events.outcomes.is_empty() {
            return Ok(()); // taken apart by an attempt that was cut off; the router misses it and asks again
        }
        reached(STAGE, &self.partition.label, events.outcomes.len());
        let (updates, results) = self.run(events);
        let resolved = self.settle(events, updates, results);
        self.send(resolved).await
    }

    async fn control(&mut self, control: NoControl) -> Result<(), StageError> {
        match control {}
    }

    async fn poison(&mut self, events: &mut Events, cause: &str) -> Result<(), StageError> {
        let updates = Updates::new(self.partition.source, self.partition.id);
        let failed = Ran::Failed { reason: Reason::Panicked, error: format!("a resolver panicked: {cause}") };
        let results = events.causes.iter().map(|cause| if cause.is_some() { failed.clone() } else { Ran::NotRun }).collect();
        let resolved = self.settle(events, updates, results);
        self.send(resolved).await
    }
}
