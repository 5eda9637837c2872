//! Forwards the dead letters of one source to where the source wants them, beside the path: it reads what is committed, and
//! however slow the other side is, the source goes on.
//!
//! Invariants:
//! - a letter is sent only once it is committed, in the order in which letters were stored;
//! - the cursor, which is durable, moves behind letters that were acknowledged: at least once. A letter is sent twice only if
//!   the engine ends between the two;
//! - what is under way is bounded: one batch. What waits is what the source shard keeps, and bounded there.

use std::{sync::Arc, time::Duration};

use karst_connectors::{BoxFuture, LetterSink, OutgoingLetter};
use karst_runtime::{Stage, StageError};
use karst_state::Store;
use karst_types::{Clock, ProcessingTime, SourceId, SourceName};
use metrics::{Counter, counter};
use parking_lot::Mutex;

use crate::protocol::{NoControl, NoData};

/// Letters, and bytes of them, under way at once.
const BATCH: usize = 100;
const BATCH_BYTES: usize = 4 << 20;
/// How often it looks for new letters.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Waiting for an acknowledgement for longer than this is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// What others may know about the forwarding of one source.
pub(crate) struct Forwarding {
    pub(crate) source: SourceName,
    pub(crate) sink: Arc<dyn LetterSink>,
    clock: Arc<dyn Clock>,
    /// Since when a batch is under way.
    since: Mutex<Option<(Duration, ProcessingTime)>>,
}

impl Forwarding {
    pub(crate) fn new(source: SourceName, sink: Arc<dyn LetterSink>, clock: Arc<dyn Clock>) -> Self {
        Self { source, sink, clock, since: Mutex::default() }
    }
    /// Why letters do not arrive, and since when; `None` if they do.
    pub(crate) fn trouble(&self) -> Option<(String, ProcessingTime)> {
        let (began, since) = (*self.since.lock())?;
        let waiting = self.clock.elapsed().saturating_sub(began);
        let why = || self.sink.trouble().unwrap_or_else(|| format!("no acknowledgement for {} s", waiting.as_secs()));
        (waiting > PATIENCE).then(|| (why(), since))
    }
}

pub(crate) struct LetterForwarder {
    pub(crate) id: SourceId,
    pub(crate) store: Store,
    pub(crate) shared: Arc<Forwarding>,
    sent: Counter,
    /// Where to go on, once it is known.
    next: Option<u64>,
    /// Where to go on when this batch is acknowledged, and how many letters it has. It outlives a pull that is cut short.
    under_way: Option<(u64, usize, BoxFuture<'static, ()>)>,
}

impl LetterForwarder {
    pub(crate) fn new(id: SourceId, store: Store, shared: Arc<Forwarding>) -> Self {
        let sent = counter!("karst_actors_dead_letters_forwarded_total", "source" => shared.source.to_string());
        Self { id, store, shared, sent, next: None, under_way: None }
    }
}

fn later(error: karst_state::Error) -> StageError {
    StageError::unavailable(error.to_string())
}

impl Stage for LetterForwarder {
    type Message = NoData;
    type Control = NoControl;

    async fn handle(&mut self, message: &mut NoData) -> Result<(), StageError> {
        match *message {}
    }
    async fn poison(&mut self, message: &mut NoData, _: &str) -> Result<(), StageError> {
        match *message {}
    }
    async fn control(&mut self, control: NoControl) -> Result<(), StageError> {
        match control {}
    }

    async fn pull(&mut self) -> Result<(), StageError> {
        let reader = self.store.source_reader();
        if let Some((next, count, sending)) = &mut self.under_way {
            sending.await;
            // Acknowledged: from here on nothing waits, so that it cannot be forgotten.
            let (next, count) = (*next, *count);
            self.under_way = None;
            *self.shared.since.lock() = None;
            reader.set_letter_cursor(self.id, next).map_err(later)?;
            self.next = Some(next);
            self.sent.increment(count as u64);
            return Ok(());
        }
        let from = match self.next.or_else(|| reader.letter_cursor(self.id)) {
            Some(next) => next,
            None => {
                reader.set_letter_cursor(self.id, 0).map_err(later)?; // from now on letters that go unsent are counted
                0
            }
        };
        let (letters, next) = reader.letters_from(self.id, from, BATCH, BATCH_BYTES).map_err(later)?;
        self.next = Some(next);
        if letters.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
            return Ok(());
        }
        let letters: Vec<_> = letters
            .into_iter()
            .map(|stored| OutgoingLetter {
                source: self.shared.source.clone(),
                partition: stored.partition,
                letter: stored.letter,
            })
            .collect();
        *self.shared.since.lock() = Some((self.shared.clock.elapsed(), self.shared.clock.now()));
        self.under_way = Some((next, letters.len(), self.shared.sink.send(letters)));
        Ok(())
    }
}
