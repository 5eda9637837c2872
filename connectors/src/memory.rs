//! A source that keeps its whole log in memory: for tests and small demos.
//!
//! [`MemorySource`] is its own handle: clone it, give one to the engine, send through the other. Offsets are 0, 1, 2, …
//! Because the log is kept, a seek can rewind as far as with a real broker; so memory is bounded by [`MemorySource::log_bytes`],
//! and a send past it fails. A send waits while [`MemorySource::capacity`] records lie ahead of the reader.

use std::sync::Arc;

use karst_types::{BrokerTime, ByteSize, Clock, Offset, PartitionId, ProcessingTime, Records, Retry};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    BoxFuture, Error, Fetched, HealthState, LogBounds, PartitionHealth, PartitionReader, Result, RunningSource, Source,
    SourceHealth, SourceSettings, StartAt, settings::source_setters,
};

/// A source whose records are sent by the program itself.
///
/// ```
/// # use karst_connectors::MemorySource;
/// let clicks = MemorySource::json("clicks").late_arrival_deadline("30m");
/// let sender = clicks.clone();
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// sender.send(r#"{"user_id": "ada"}"#).await.unwrap();
/// sender.finish();
/// # });
/// ```
#[derive(Clone)]
pub struct MemorySource {
    settings: SourceSettings,
    capacity: usize,
    log: Arc<Log>,
}

struct Log {
    state: Mutex<LogState>,
    changed: Notify,
}

struct LogState {
    partitions: Vec<Partition>,
    clock: Option<Arc<dyn Clock>>,
    finished: bool,
    runs: u64,
    running: Option<u64>, // of several starts, the one whose readers are served
    bytes: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Partition {
    low: usize,
    entries: Vec<Entry>,
    reader: u64,
    next: usize,
    started: bool,
}

struct Entry {
    broker_time: Option<BrokerTime>, // None: sent before there was a clock; stamped at start
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

impl MemorySource {
    /// A source of JSON records with one partition.
    pub fn json(name: &str) -> Self {
        Self::new(name)
    }

    /// A source with one partition; of JSON records, unless told otherwise.
    pub fn new(name: &str) -> Self {
        let state = LogState {
            partitions: vec![Partition::default()],
            clock: None,
            finished: false,
            runs: 0,
            running: None,
            bytes: 0,
            bytes_max: 256 << 20,
        };
        let log = Arc::new(Log { state: Mutex::new(state), changed: Notify::new() });
        Self { settings: SourceSettings::new(name), capacity: 16_384, log }
    }

    /// Number of partitions; before the first record is sent.
    #[must_use]
    pub fn partitions(mut self, count: usize) -> Self {
        if count == 0 {
            self.settings.problem("a memory source needs at least one partition".into());
        }
        self.log.state.lock().partitions.resize_with(count.max(1), Partition::default);
        self
    }
    /// A send waits while this many records of its partition lie ahead of the reader. Default 16,384.
    #[must_use]
    pub fn capacity(mut self, records: usize) -> Self {
        self.capacity = records.max(1);
        self
    }
    /// The most that the log may hold in all. Default 256 MiB.
    #[must_use]
    pub fn log_bytes(self, bytes: ByteSize) -> Self {
        self.log.state.lock().bytes_max = bytes.bytes();
        self
    }
    source_setters!(settings);

    /// Sends a value without a key to partition 0, stamped with the time of the engine's clock (before the start: of the
    /// start). Waits for room; cancel safe.
    ///
    /// # Errors
    /// As [`MemorySource::send_to`].
    pub async fn send(&self, value: impl AsRef<[u8]>) -> Result<Offset> {
        self.append(PartitionId(0), None, None, Some(value.as_ref())).await
    }

    /// Sends a record; `value` is `None` for a tombstone. Returns its offset. Waits for room; cancel safe.
    ///
    /// # Errors
    /// [`Error::Send`] if the log is full or finished, [`Error::UnknownPartition`].
    pub async fn send_to(
        &self,
        partition: PartitionId,
        broker_time: BrokerTime,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Offset> {
        self.append(partition, Some(broker_time), key, value).await
    }

    /// No more will come: readers get `EndOfLog { finished: true }` behind the last record.
    pub fn finish(&self) {
        self.log.state.lock().finished = true;
        self.log.changed.notify_waiters();
    }

    /// Adds partitions, also while the source is read: they are found within `discover_interval`, and read from their beginning.
    pub fn add_partitions(&self, count: usize) {
        let mut state = self.log.state.lock();
        let known = state.partitions.len();
        state.partitions.resize_with(known + count, Partition::default);
    }

    /// Forgets the records before `low`, as retention does.
    pub fn truncate_front(&self, partition: PartitionId, low: Offset) {
        let mut state = self.log.state.lock();
        if let Some(partition) = state.partitions.get_mut(partition.0 as usize) {
            partition.low = (low.0.max(0) as usize).clamp(partition.low, partition.entries.len());
        }
    }

    async fn append(
        &self,
        partition: PartitionId,
        broker_time: Option<BrokerTime>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Offset> {
        let refuse = |why: &str| {
            let to = format!("memory source \"{}\"", self.settings.name);
            Error::Send { to, why: why.to_owned(), retry: Retry::Never }
        };
        loop {
            let changed = self.log.changed.notified();
            {
                let mut state = self.log.state.lock();
                if state.finished {
                    return Err(refuse("it is finished"));
                }
                let bytes = karst_types::record::OVERHEAD + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
                if state.bytes + bytes > state.bytes_max {
                    return Err(refuse("its log is full (log_bytes)"));
                }
                let broker_time = broker_time.or_else(|| now(&state));
                let slot = state.slot(&self.settings, partition)?;
                if slot.entries.len() - slot.next < self.capacity {
                    let entry = Entry { broker_time, key: key.map(<[u8]>::to_vec), value: value.map(<[u8]>::to_vec) };
                    slot.entries.push(entry);
                    let offset = Offset(slot.entries.len() as i64 - 1);
                    state.bytes += bytes;
                    drop(state);
                    self.log.changed.notify_waiters();
                    return Ok(offset);
                }
            }
            changed.await;
        }
    }
}

fn now(state: &LogState) -> Option<BrokerTime> {
    state.clock.as_ref().map(|clock| BrokerTime(clock.now().micros()))
}

impl LogState {
    fn slot(&mut self, settings: &SourceSettings, partition: PartitionId) -> Result<&mut Partition> {
        let known = self.partitions.len();
        usize::try_from(partition.0)
            .ok()
            .and_then(|index| self.partitions.get_mut(index))
            .ok_or_else(|| Error::UnknownPartition { name: settings.name.clone(), partition, known })
    }
}

impl Source for MemorySource {
    fn settings(&self) -> &SourceSettings {
        &self.settings
    }
    fn kind(&self) -> &'static str {
        "memory"
    }
    fn start(&self, clock: Arc<dyn Clock>) -> Result<Box<dyn RunningSource>> {
        self.settings.check()?;
        let mut state = self.log.state.lock();
        let stamp = BrokerTime(clock.now().micros());
        for partition in &mut state.partitions {
            partition.entries.iter_mut().for_each(|entry| _ = entry.broker_time.get_or_insert(stamp));
        }
        state.clock = Some(clock);
        state.runs += 1; // a stopped source may be started again, as after a restart of the engine
        let run = state.runs;
        state.running = Some(run);
        drop(state);
        Ok(Box::new(Running { source: self.clone(), run }))
    }
}

struct Running {
    source: MemorySource,
    run: u64,
}

impl Running {
    fn stop_now(&self) {
        let mut state = self.source.log.state.lock();
        if state.running == Some(self.run) {
            state.running = None;
        }
        drop(state);
        self.source.log.changed.notify_waiters();
    }
}

impl RunningSource for Running {
    fn partitions(&self) -> BoxFuture<'_, Result<Vec<PartitionId>>> {
        let count = self.source.log.state.lock().partitions.len();
        Box::pin(async move { Ok((0..count as i32).map(PartitionId).collect()) })
    }
    fn reader(&self, partition: PartitionId) -> Result<Box<dyn PartitionReader>> {
        let mut state = self.source.log.state.lock();
        if state.running != Some(self.run) {
            return Err(Error::Stopped { name: self.source.settings.name.clone() });
        }
        let slot = state.slot(&self.source.settings, partition)?;
        slot.reader += 1;
        slot.started = false;
        let id = slot.reader;
        drop(state);
        self.source.log.changed.notify_waiters();
        Ok(Box::new(Reader { source: self.source.clone(), run: self.run, partition, id, end_told: None }))
    }
    fn health(&self) -> SourceHealth {
        let state = self.source.log.state.lock();
        let partitions = state.partitions.iter().enumerate().filter(|(_, partition)| partition.reader > 0);
        let partitions = partitions.map(|(index, partition)| PartitionHealth {
            partition: PartitionId(index as i32),
            paused: partition.entries.len() - partition.next >= self.source.capacity,
            lag: Some((partition.entries.len() - partition.next) as u64),
            next: Some(Offset(partition.next as i64)),
            end: Some(Offset(partition.entries.len() as i64)),
            end_confirmed: now(&state).map(|now| (Offset(partition.entries.len() as i64), ProcessingTime(now.0))),
            buffered_bytes: 0,
            fault: None,
        });
        SourceHealth { state: HealthState::Ok, partitions: partitions.collect() }
    }
    fn stop(&self) -> BoxFuture<'_, ()> {
        self.stop_now();
        Box::pin(async {})
    }
}

struct Reader {
    source: MemorySource,
    run: u64,
    partition: PartitionId,
    id: u64,
    end_told: Option<(usize, bool)>, // the end that was last told, so that it is told once
}

impl Reader {
    fn with<T>(&self, work: impl FnOnce(&mut Partition, bool) -> T) -> Result<T> {
        let mut state = self.source.log.state.lock();
        let name = &self.source.settings.name;
        if state.running != Some(self.run) {
            return Err(Error::Stopped { name: name.clone() });
        }
        let finished = state.finished;
        let slot = state.slot(&self.source.settings, self.partition)?;
        if slot.reader != self.id {
            return Err(Error::ReaderReplaced { name: name.clone(), partition: self.partition });
        }
        Ok(work(slot, finished))
    }

    fn bounds_now(&self) -> Result<LogBounds> {
        self.with(|slot, _| LogBounds { low: Offset(slot.low as i64), high: Offset(slot.entries.len() as i64) })
    }

    fn seek_now(&mut self, from: Option<Offset>) -> Result<Offset> {
        let bounds = self.bounds_now()?;
        let settings = &self.source.settings;
        let from = from.unwrap_or(if settings.start == StartAt::Latest { bounds.high } else { bounds.low });
        let position = || karst_types::Position { source: settings.name.clone(), partition: self.partition, offset: from };
        if from < bounds.low {
            return Err(Error::SourceGap { position: position(), low: bounds.low });
        }
        if from > bounds.high {
            return Err(Error::SourceRegressed { position: position(), high: bounds.high });
        }
        self.with(|slot, _| {
            slot.next = from.0 as usize;
            slot.started = true;
        })?;
        self.end_told = None;
        self.source.log.changed.notify_waiters();
        Ok(from)
    }

    fn take(&mut self) -> Result<Option<Fetched>> {
        let settings = &self.source.settings;
        let mut records = Records::new(settings.name.clone(), self.partition);
        let end_told = self.end_told;
        let fetched = self.with(|slot, finished| {
            if !slot.started {
                return Err(Error::NotStarted { name: settings.name.clone(), partition: self.partition });
            }
            while let Some(entry) = slot.entries.get(slot.next) {
                if records.len() >= settings.batch_records || records.bytes() >= settings.batch_bytes.bytes() {
                    break;
                }
                let broker_time = entry.broker_time.expect("start() has stamped every record");
                records.push(Offset(slot.next as i64), broker_time, entry.key.as_deref(), entry.value.as_deref());
                slot.next += 1;
            }
            let end = (slot.next, finished);
            Ok(if !records.is_empty() {
                Some((Fetched::Records(records), None))
            } else if end_told != Some(end) {
                Some((Fetched::EndOfLog { end: Offset(slot.next as i64), finished }, Some(end)))
            } else {
                None
            })
        })??;
        let Some((fetched, end)) = fetched else { return Ok(None) };
        self.end_told = end;
        if matches!(fetched, Fetched::Records(_)) {
            self.source.log.changed.notify_waiters(); // senders wait for room
        }
        Ok(Some(fetched))
    }
}

impl PartitionReader for Reader {
    fn bounds(&mut self) -> BoxFuture<'_, Result<LogBounds>> {
        Box::pin(async { self.bounds_now() })
    }
    fn seek(&mut self, from: Option<Offset>) -> BoxFuture<'_, Result<Offset>> {
        Box::pin(async move { self.seek_now(from) })
    }
    fn next(&mut self) -> BoxFuture<'_, Result<Fetched>> {
        Box::pin(async {
            let log = self.source.log.clone();
            loop {
                let changed = log.changed.notified();
                if let Some(fetched) = self.take()? {
                    return Ok(fetched);
                }
                changed.await;
            }
        })
    }
    fn commit(&mut self, _: Offset) {}
    fn lag(&self) -> Option<u64> {
        self.with(|slot, _| (slot.entries.len() - slot.next) as u64).ok()
    }
    fn paused(&self) -> bool {
        self.with(|slot, _| slot.entries.len() - slot.next >= self.source.capacity).unwrap_or(false)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop_now();
    }
}
