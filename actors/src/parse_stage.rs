//! Hop 2: decodes records into messages and judges each of them: event time, watermark, lateness.
//!
//! Invariants:
//! - every record gets exactly one outcome, or a cause to resolve it;
//! - the verdict depends on the log up to the record alone, never on a clock or on how batches were cut;
//! - the judge's state moves only when a batch is done: a batch that fails half-way is judged again from the same state.

use std::sync::Arc;

use karst_connectors::{BatchDecoder, Decoded, DecodedRecord, FutureEvents, LateLane, Unavailable};
use karst_runtime::{LogWatermark, Mailbox, Stage, StageError, Verdict, lateness::lateness, progress, told_to_stop, verdict};
use karst_state::WatermarkState;
use karst_types::{
    Clock, DeadLetter, EventTime, KillPoint, LatenessBucket, Outcome, Reason, RecordRef, Records, TimeSpan, kill_point,
    update::Cause,
};

use crate::{
    dead_letter::{Fault, dead_letter},
    hands::Hand,
    metrics::ParseMetrics,
    partition::Partition,
    protocol::{Events, Fetch, NoControl, NoMessages, Passage, reached},
};

const STAGE: &str = "parse_stage";

/// Beyond the skew an event is from the future, but may be true (a booked flight). A year ahead of its own record, it is a
/// mistake of a unit or a corrupt field.
const FUTURE_MAX: TimeSpan = TimeSpan::from_secs(366 * 86_400);

pub(crate) struct ParseStage {
    pub(crate) partition: Arc<Partition>,
    pub(crate) decoder: Box<dyn BatchDecoder>,
    pub(crate) next: Mailbox<Events, NoControl>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hand: Arc<Hand>,
    pub(crate) metrics: ParseMetrics,
}

impl ParseStage {
    fn judge(&self, passage: Passage, records: Records, decoded: Decoded) -> Events {
        let settings = &self.partition.settings;
        // A replayed record is judged by the watermark before it in its own partition, and moves none.
        let replay = passage.replay;
        let mut log = match replay {
            None => self.partition.judged(passage.epoch, passage.start),
            Some(_) => LogWatermark::default(),
        };
        let before = |log: LogWatermark| match replay {
            None => log.watermark(settings.disorder),
            Some(replay) => replay.watermark,
        };
        let attempt = passage.attempt();
        let count = records.len();
        let mut causes = Vec::with_capacity(count);
        let mut outcomes = Vec::with_capacity(count);
        let mut watermarks = Vec::with_capacity(count);
        let mut buckets = Vec::with_capacity(count);
        let mut dead_letters: Vec<DeadLetter> = Vec::new();
        let mut future = 0;
        let put_aside = |record, reason, error: &str, watermark| {
            dead_letter(record, settings, Fault { stage: STAGE, reason, error, watermark, attempt })
        };
        for (record, decoded) in records.iter().zip(decoded.events) {
            let mut bucket = LatenessBucket::NONE;
            let (outcome, cause) = match decoded {
                DecodedRecord::Tombstone => (Outcome::Tombstone, None),
                DecodedRecord::Fault { reason, error } => {
                    dead_letters.push(put_aside(record, reason, &error, before(log)));
                    (Outcome::Dead(reason), None)
                }
                DecodedRecord::Message { event_time } => {
                    let event_time = event_time.unwrap_or(EventTime(record.broker_time().0));
                    let before = before(log);
                    let ahead = log.observe(event_time, record.broker_time(), settings.max_future_skew);
                    future += u64::from(ahead);
                    if let Err(error) = in_range(event_time, record) {
                        dead_letters.push(put_aside(record, Reason::EventTimeOutOfRange, &error, before));
                        (Outcome::Dead(Reason::EventTimeOutOfRange), None)
                    } else if ahead && settings.future_events == FutureEvents::DeadLetter {
                        let error = too_far_ahead(event_time, record, settings.max_future_skew);
                        dead_letters.push(put_aside(record, Reason::Future, &error, before));
                        (Outcome::Dead(Reason::Future), None)
                    } else {
                        bucket = LatenessBucket::of(lateness(event_time, before));
                        let cause = Some(Cause { offset: record.offset(), event_time });
                        match verdict(event_time, before, settings.late_arrival_deadline) {
                            Verdict::OnTime => (Outcome::Skipped, cause),
                            Verdict::Late { by } => {
                                let cause = match settings.late_lane {
                                    LateLane::Correct => cause,
                                    LateLane::DeadLetter => {
                                        let error = too_late(event_time, before, by);
                                        dead_letters.push(put_aside(record, Reason::Late, &error, None));
                                        None
                                    }
                                    _ => None,
                                };
                                (Outcome::Late, cause)
                            }
                        }
                    }
                }
            };
            outcomes.push(outcome);
            causes.push(cause);
            buckets.push(bucket);
            watermarks.push(WatermarkState { max_event_time: log.stored() }); // of a replay log: means nothing
        }
        self.metrics.judged(&outcomes, future);
        if replay.is_none() {
            self.partition.set_judged(passage.epoch, log);
        }
        let records = Arc::new(records);
        let messages = decoded.messages;
        Events { passage, records, first: 0, messages, causes, outcomes, dead_letters, watermarks, buckets }
    }

    /// Fetches what the batch needs before it can be decoded. What is not there is a dependency fault: the supervisor keeps the
    /// batch and tries again, for as long as it takes; the partition is thereby paused, and no record is blamed.
    async fn prepare(&mut self, records: &Records) -> Result<(), StageError> {
        let now = self.clock.elapsed();
        loop {
            let answer = match self.decoder.prepare(records, now) {
                None => return Ok(()),
                Some(step) => tokio::select! {
                    biased;
                    answer = step => Some(answer),
                    // It may never come, and the records will: they are read again at the next start.
                    () = told_to_stop() => None,
                },
            };
            let silent = || Err(Unavailable(format!("{} had not answered when the engine stopped", self.decoder.awaits())));
            let done = answer.unwrap_or_else(silent);
            self.partition.set_waiting(done.is_err());
            done.map_err(|unavailable| StageError::unavailable(unavailable.to_string()))?;
            progress();
        }
    }

    async fn decode(&mut self, fetch: &Fetch) -> Decoded {
        let records = &fetch.records;
        let place = fetch.passage.place(records.get(0).offset(), records.get(records.len() - 1).offset());
        let refused = if records.len() == 1 { self.hand.refuses(place.0) } else { None };
        match refused {
            Some(error) => faults(records, Reason::EndsProcess, &error),
            None => {
                let _turn = self.hand.take(place.0, place.1).await;
                self.decoder.decode(records)
            }
        }
    }

    async fn send(&self, events: Events) -> Result<(), StageError> {
        self.next.send(events).await.map_err(|_| StageError::broken("the stream resolver has been stopped"))
    }
}

/// None of these is a message.
fn faults(records: &Records, reason: Reason, error: &str) -> Decoded {
    let events = records.iter().map(|_| DecodedRecord::Fault { reason, error: error.to_owned() });
    Decoded { messages: Box::new(NoMessages(records.len())), events: events.collect() }
}

fn too_late(event_time: EventTime, watermark: Option<EventTime>, by: TimeSpan) -> String {
    let watermark = watermark.map_or_else(|| "none".to_owned(), |at| at.to_string());
    format!("event time {event_time}, watermark {watermark}: {by} later than late_arrival_deadline allows")
}

fn too_far_ahead(event_time: EventTime, record: RecordRef<'_>, skew: TimeSpan) -> String {
    let at = record.broker_time();
    format!("event time {event_time}: more than max_future_skew ({skew}) ahead of its record, which is of {at}")
}

fn in_range(event_time: EventTime, record: RecordRef<'_>) -> Result<(), String> {
    let latest = EventTime(record.broker_time().0).plus(FUTURE_MAX);
    if event_time < EventTime(0) || event_time > latest {
        let got = event_time.0;
        return Err(format!(
            "event time: expected one from 1970-01-01T00:00:00Z to {latest} (a year after the record), got {got}us"
        ));
    }
    Ok(())
}

impl Stage for ParseStage {
    type Message = Fetch;
    type Control = NoControl;

    async fn handle(&mut self, fetch: &mut Fetch) -> Result<(), StageError> {
        if fetch.records.is_empty() {
            return Ok(()); // its records went with an attempt that was cut off; the router misses them and asks again
        }
        reached(STAGE, &self.partition.label, fetch.records.len());
        self.prepare(&fetch.records).await?;
        let decoded = self.decode(fetch).await;
        // Nothing panics from here on but for a fault of our own; then the router sees the missing batch, and the partition
        // rewinds.
        let empty = Records::new(fetch.records.source().clone(), fetch.records.partition());
        let records = std::mem::replace(&mut fetch.records, empty);
        let events = self.judge(fetch.passage.clone(), records, decoded);
        kill_point::here(KillPoint::Judged);
        self.send(events).await
    }

    async fn control(&mut self, control: NoControl) -> Result<(), StageError> {
        match control {}
    }

    async fn poison(&mut self, fetch: &mut Fetch, cause: &str) -> Result<(), StageError> {
        let decoded = faults(&fetch.records, Reason::Panicked, &format!("decoding panicked: {cause}"));
        let events = self.judge(fetch.passage.clone(), fetch.records.clone(), decoded);
        self.send(events).await
    }
}
