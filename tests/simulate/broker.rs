//! A broker that is simulated: logs that grow, fetches that fail or take long, partitions that are added. The engine reads it as it
//! reads any source.

use std::{sync::Arc, time::Duration};

use karst::{
    Clock, Offset, PartitionId, Position, ProcessingTime, Source, SourceSettings,
    connectors::{
        BoxFuture, Error, Fetched, HealthState, LogBounds, PartitionHealth, PartitionReader, Result, RunningSource,
        SourceHealth,
    },
    types::Records,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{choices::Choices, random::Random, trace::Trace, workload::Made};

/// Each one makes its partition rewind. Where they come faster than a poison record can be put aside, nothing is ever done.
const FETCH_ERRORS_MAX: u64 = 20;

/// Clones are the same broker; it outlives the engines that read it.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    settings: SourceSettings,
    logs: Vec<Vec<Made>>,
    state: Mutex<State>,
    changed: Notify,
    trace: Trace,
    /// One fetch in so many fails.
    fetch_one_in: u64,
    fetch_ms: u64,
}

struct State {
    random: Random,
    partitions: usize,
    /// Records of each log that are there.
    there: Vec<usize>,
    readers: Vec<Option<At>>,
    clock: Option<Arc<dyn Clock>>,
    number: u64,
    errors: u64,
}

/// Where the one reader of a partition is.
#[derive(Clone, Copy)]
struct At {
    reader: u64,
    /// Index of the next record; `None` before the first seek.
    next: Option<usize>,
    end_told: Option<usize>,
}

impl Broker {
    pub fn new(seed: u64, choices: &Choices, logs: Vec<Vec<Made>>, trace: Trace) -> Self {
        let state = State {
            random: Random::new(seed ^ 0xb40_4e4),
            partitions: choices.partitions_at_first,
            there: vec![0; logs.len()],
            readers: vec![None; logs.len()],
            clock: None,
            number: 0,
            errors: 0,
        };
        let (fetch_one_in, fetch_ms) = (choices.harm.fetch_one_in, choices.harm.fetch_ms);
        let (settings, state) = (choices.source.clone(), Mutex::new(state));
        Self(Arc::new(Inner { settings, logs, state, changed: Notify::new(), trace, fetch_one_in, fetch_ms }))
    }

    /// Some more records are there, and perhaps another partition.
    pub fn grow(&self) {
        let mut state = self.0.state.lock();
        for (partition, log) in self.0.logs.iter().enumerate() {
            let more = state.random.below(12) as usize;
            state.there[partition] = log.len().min(state.there[partition] + more);
        }
        if state.partitions < self.0.logs.len() && state.random.chance(10) {
            state.partitions += 1;
        }
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// Whether all is there.
    pub fn is_whole(&self) -> bool {
        let state = self.0.state.lock();
        state.partitions == self.0.logs.len() && self.0.logs.iter().zip(&state.there).all(|(log, there)| log.len() == *there)
    }
    /// Records of a partition that are there.
    pub fn there(&self, partition: usize) -> usize {
        self.0.state.lock().there[partition]
    }
    /// Fetches that failed.
    pub fn errors(&self) -> u64 {
        self.0.state.lock().errors
    }
}

impl Inner {
    /// Behind the last record that is there.
    fn end(&self, state: &State, partition: usize) -> Offset {
        let last = state.there[partition].checked_sub(1).map(|last| self.logs[partition][last].offset);
        last.map_or(Offset(0), |last| Offset(last.0 + 1))
    }
}

impl Source for Broker {
    fn settings(&self) -> &SourceSettings {
        &self.0.settings
    }
    fn kind(&self) -> &'static str {
        "simulated"
    }
    fn start(&self, clock: Arc<dyn Clock>) -> Result<Box<dyn RunningSource>> {
        self.0.settings.check()?;
        let mut state = self.0.state.lock();
        state.clock = Some(clock);
        state.readers.fill(None);
        Ok(Box::new(self.clone()))
    }
}

impl RunningSource for Broker {
    fn partitions(&self) -> BoxFuture<'_, Result<Vec<PartitionId>>> {
        let known = self.0.state.lock().partitions;
        Box::pin(async move { Ok((0..known as i32).map(PartitionId).collect()) })
    }
    fn reader(&self, partition: PartitionId) -> Result<Box<dyn PartitionReader>> {
        let mut state = self.0.state.lock();
        state.number += 1;
        let reader = state.number;
        state.readers[partition.0 as usize] = Some(At { reader, next: None, end_told: None });
        Ok(Box::new(Reader { broker: self.clone(), partition: partition.0 as usize, reader }))
    }
    fn health(&self) -> SourceHealth {
        let state = self.0.state.lock();
        let now = state.clock.as_ref().map_or(ProcessingTime::default(), |clock| clock.now());
        let read = state.readers.iter().enumerate().filter_map(|(partition, at)| Some((partition, at.as_ref()?)));
        let partitions = read.map(|(partition, at)| {
            let end = self.0.end(&state, partition);
            let log = &self.0.logs[partition];
            let next =
                at.next.map(|next| log.get(next).filter(|_| next < state.there[partition]).map_or(end, |made| made.offset));
            PartitionHealth {
                partition: PartitionId(partition as i32),
                paused: false,
                lag: at.next.map(|next| (state.there[partition] - next) as u64),
                next,
                end: Some(end),
                end_confirmed: Some((end, now)),
                buffered_bytes: 0,
                fault: None,
            }
        });
        SourceHealth { state: HealthState::Ok, partitions: partitions.collect() }
    }
    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct Reader {
    broker: Broker,
    partition: usize,
    reader: u64,
}

impl Reader {
    fn id(&self) -> PartitionId {
        PartitionId(self.partition as i32)
    }

    /// Runs `work` if this is still the one reader.
    fn with<T>(&self, work: impl FnOnce(&Inner, &mut State, &mut At) -> Result<T>) -> Result<T> {
        let inner = &*self.broker.0;
        let mut state = inner.state.lock();
        match state.readers[self.partition].filter(|at| at.reader == self.reader) {
            Some(mut at) => {
                let done = work(inner, &mut state, &mut at);
                state.readers[self.partition] = Some(at);
                done
            }
            None => Err(Error::ReaderReplaced { name: inner.settings.name.clone(), partition: self.id() }),
        }
    }

    /// Nothing, if there is nothing new to be told.
    fn fetch(&self) -> Result<Option<Fetched>> {
        self.with(|inner, state, at| {
            let (name, partition) = (inner.settings.name.clone(), self.id());
            let Some(next) = at.next else { return Err(Error::NotStarted { name, partition }) };
            let may_fail = inner.fetch_one_in > 0 && state.errors < FETCH_ERRORS_MAX;
            if may_fail && state.random.below(inner.fetch_one_in) == 0 {
                state.errors += 1;
                at.next = None;
                inner.trace.note("fetch failed", self.partition as u64);
                let (code, why) = ("NOT_LEADER".to_owned(), "it was made to".to_owned());
                return Err(Error::Broker { name, partition, code, why });
            }
            let most = 1 + state.random.below(inner.settings.batch_records as u64) as usize;
            let until = state.there[self.partition].min(next + most);
            if next == until {
                let new = at.end_told != Some(next);
                at.end_told = Some(next);
                return Ok(new.then(|| Fetched::EndOfLog { end: inner.end(state, self.partition), finished: false }));
            }
            let mut records = Records::new(name, partition);
            for made in &inner.logs[self.partition][next..until] {
                let (key, value) = (made.user(), made.value());
                records.push(made.offset, made.broker_time, Some(key.as_bytes()), value.as_deref().map(str::as_bytes));
            }
            at.next = Some(until);
            inner.trace.note("fetched", until as u64);
            Ok(Some(Fetched::Records(records)))
        })
    }
}

impl PartitionReader for Reader {
    fn bounds(&mut self) -> BoxFuture<'_, Result<LogBounds>> {
        Box::pin(async {
            self.with(|inner, state, _| Ok(LogBounds { low: Offset(0), high: inner.end(state, self.partition) }))
        })
    }

    fn seek(&mut self, from: Option<Offset>) -> BoxFuture<'_, Result<Offset>> {
        Box::pin(async move {
            self.with(|inner, state, at| {
                let (log, high) = (&inner.logs[self.partition], inner.end(state, self.partition));
                let from = from.unwrap_or(Offset(0));
                if from > high {
                    let (source, partition) = (inner.settings.name.clone(), self.id());
                    return Err(Error::SourceRegressed { position: Position { source, partition, offset: from }, high });
                }
                at.next = Some(log.partition_point(|made| made.offset < from));
                at.end_told = None;
                inner.trace.note("seek", from.0 as u64);
                Ok(from)
            })
        })
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Fetched>> {
        Box::pin(async {
            let inner = Arc::clone(&self.broker.0);
            if inner.fetch_ms > 0 {
                let wait = inner.state.lock().random.below(inner.fetch_ms);
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
            loop {
                let changed = inner.changed.notified();
                if let Some(fetched) = self.fetch()? {
                    return Ok(fetched);
                }
                changed.await;
            }
        })
    }

    fn commit(&mut self, _: Offset) {}
    fn lag(&self) -> Option<u64> {
        self.with(|_, state, at| Ok(at.next.map(|next| (state.there[self.partition] - next) as u64))).ok().flatten()
    }
    fn paused(&self) -> bool {
        false
    }
}
