//! The bounded buffer between the thread that fetches a partition and the one reader of it.
//!
//! Invariants:
//! - what the reader wants is a *level*, not a message: `(epoch, target)`. Every seek, new reader and dropped reader is a new
//!   epoch; a batch fetched for an older epoch is refused by [`Handoff::publish`], so nothing prefetched survives a seek;
//! - the buffer passes its limit by what one fetch call had in hand, never by more; who fetches asks [`Handoff::is_full`] first;
//! - a fault is handed over behind the records that were read before it, and stays until the next seek;
//! - taking is atomic: a `next` that is dropped while it waits has taken nothing.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed},
};

use karst_types::{Offset, PartitionId, Position, ProcessingTime, SourceName};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::{Error, Fetched, LogBounds, PartitionHealth, Result};

const UNKNOWN: i64 = -1;

pub(crate) struct Handoff {
    pub(crate) source: SourceName,
    pub(crate) partition: PartitionId,
    limit: AtomicUsize,
    state: Mutex<State>,
    readable: Notify,
    room: Condvar,
    buffered: AtomicUsize,
    next: AtomicI64,
    end: AtomicI64,
    paused: AtomicBool,
    end_confirmed: Mutex<Option<(Offset, ProcessingTime)>>,
}

#[derive(Default)]
struct State {
    reader: u64,
    epoch: u64,
    target: Option<Offset>,
    queue: VecDeque<Fetched>,
    fault: Option<Error>,
    stopped: bool,
}

/// What the fetching thread is to do: nothing (`None`), or to fetch from an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    pub(crate) epoch: u64,
    pub(crate) from: Option<Offset>,
}

impl Handoff {
    pub(crate) fn new(source: SourceName, partition: PartitionId, limit: usize) -> Self {
        Self {
            source,
            partition,
            limit: AtomicUsize::new(limit),
            state: Mutex::default(),
            readable: Notify::new(),
            room: Condvar::new(),
            buffered: AtomicUsize::new(0),
            next: AtomicI64::new(UNKNOWN),
            end: AtomicI64::new(UNKNOWN),
            paused: AtomicBool::new(false),
            end_confirmed: Mutex::default(),
        }
    }

    // ---- the fetching side ----

    pub(crate) fn target(&self) -> Target {
        let state = self.state.lock();
        Target { epoch: state.epoch, from: if state.stopped || state.fault.is_some() { None } else { state.target } }
    }

    /// Whether `item` was taken; `false` if the reader has moved on since `epoch`.
    pub(crate) fn publish(&self, epoch: u64, item: Fetched) -> bool {
        let mut state = self.state.lock();
        if state.epoch != epoch || state.stopped {
            return false;
        }
        if let Fetched::Records(records) = &item {
            self.buffered.fetch_add(records.cost(), Relaxed);
        } else if matches!(state.queue.back(), Some(Fetched::EndOfLog { .. })) {
            state.queue.pop_back(); // the newer end replaces one that nobody has looked at
        }
        state.queue.push_back(item);
        drop(state);
        self.readable.notify_one();
        true
    }

    /// Stops the partition until the next seek; the reader is told behind the records it already has.
    pub(crate) fn fail(&self, epoch: u64, error: Error) {
        let mut state = self.state.lock();
        if state.epoch == epoch && !state.stopped && state.fault.is_none() {
            state.fault = Some(error);
            drop(state);
            self.readable.notify_one();
        }
    }

    /// Bytes above which nothing more is fetched.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }
    pub(crate) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Relaxed);
    }
    pub(crate) fn is_full(&self) -> bool {
        self.buffered.load(Relaxed) >= self.limit()
    }
    /// Half empty: the point at which fetching starts again. The gap keeps pausing rare.
    pub(crate) fn has_room(&self) -> bool {
        self.buffered.load(Relaxed) <= self.limit() / 2
    }
    /// Nearly empty: its reader may soon have nothing to do.
    pub(crate) fn is_hungry(&self) -> bool {
        self.buffered.load(Relaxed) <= self.limit() / 8
    }

    /// Blocks the calling thread while full; `false` when the reader has moved on. Only for threads of their own.
    pub(crate) fn wait_for_room(&self, epoch: u64) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.epoch != epoch || state.stopped {
                return false;
            }
            if !self.is_full() {
                self.paused.store(false, Relaxed);
                return true;
            }
            self.paused.store(true, Relaxed);
            self.room.wait(&mut state);
        }
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
    }
    /// The end of the log as the broker last told it.
    pub(crate) fn set_end(&self, end: i64) {
        self.end.store(end, Relaxed);
    }
    /// The log held nothing at or behind `end` at the moment `as_of`: take the time before asking.
    pub(crate) fn confirm_end(&self, end: i64, as_of: ProcessingTime) {
        self.set_end(end);
        *self.end_confirmed.lock() = Some((Offset(end), as_of));
    }
    pub(crate) fn end(&self) -> Option<i64> {
        known(self.end.load(Relaxed))
    }

    // ---- the reading side ----

    /// A new reader: the older one is done, and nothing is fetched until it seeks.
    pub(crate) fn attach(&self) -> u64 {
        let mut state = self.state.lock();
        state.reader += 1;
        let reader = state.reader;
        self.restart(&mut state, None);
        drop(state);
        self.readable.notify_waiters();
        reader
    }

    pub(crate) fn detach(&self, reader: u64) {
        let mut state = self.state.lock();
        if state.reader == reader {
            self.restart(&mut state, None);
        }
    }

    pub(crate) fn seek(&self, reader: u64, from: Offset) -> Result<u64> {
        let mut state = self.state.lock();
        self.alive(&state, reader)?;
        self.restart(&mut state, Some(from));
        self.next.store(from.0, Relaxed);
        Ok(state.epoch)
    }

    fn restart(&self, state: &mut State, target: Option<Offset>) {
        state.epoch += 1;
        state.target = target;
        state.queue.clear();
        state.fault = None;
        self.buffered.store(0, Relaxed);
        self.paused.store(false, Relaxed);
        self.room.notify_all();
    }

    fn alive(&self, state: &State, reader: u64) -> Result<()> {
        if state.stopped {
            Err(Error::Stopped { name: self.source.clone() })
        } else if state.reader != reader {
            Err(Error::ReaderReplaced { name: self.source.clone(), partition: self.partition })
        } else {
            Ok(())
        }
    }

    pub(crate) fn check_alive(&self, reader: u64) -> Result<()> {
        self.alive(&self.state.lock(), reader)
    }

    fn take(&self, reader: u64) -> Result<Option<Fetched>> {
        let mut state = self.state.lock();
        self.alive(&state, reader)?;
        if let Some(item) = state.queue.pop_front() {
            match &item {
                Fetched::Records(records) => {
                    self.buffered.fetch_sub(records.cost(), Relaxed);
                    if let Some(last) = records.last_offset() {
                        self.next.store(last.next().0, Relaxed);
                    }
                    self.room.notify_all();
                }
                Fetched::EndOfLog { end, .. } => self.next.store(end.0, Relaxed),
            }
            return Ok(Some(item));
        }
        if let Some(fault) = &state.fault {
            return Err(fault.clone());
        }
        if state.target.is_none() {
            return Err(Error::NotStarted { name: self.source.clone(), partition: self.partition });
        }
        Ok(None)
    }

    pub(crate) async fn next(&self, reader: u64) -> Result<Fetched> {
        loop {
            let readable = self.readable.notified(); // before looking, so that nothing published in between is missed
            if let Some(item) = self.take(reader)? {
                return Ok(item);
            }
            readable.await;
        }
    }

    /// Whether `from` lies inside the log.
    pub(crate) fn check_bounds(&self, from: Offset, bounds: LogBounds) -> Result<()> {
        let position = || Position { source: self.source.clone(), partition: self.partition, offset: from };
        if from < bounds.low {
            Err(Error::SourceGap { position: position(), low: bounds.low })
        } else if from > bounds.high {
            Err(Error::SourceRegressed { position: position(), high: bounds.high })
        } else {
            Ok(())
        }
    }

    // ---- both ----

    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.queue.clear();
        self.buffered.store(0, Relaxed);
        self.room.notify_all();
        drop(state);
        self.readable.notify_waiters();
        self.readable.notify_one();
    }

    pub(crate) fn next_offset(&self) -> Option<i64> {
        known(self.next.load(Relaxed))
    }
    pub(crate) fn lag(&self) -> Option<u64> {
        Some(self.end()?.saturating_sub(self.next_offset()?).max(0) as u64)
    }
    pub(crate) fn paused(&self) -> bool {
        self.paused.load(Relaxed)
    }
    pub(crate) fn buffered(&self) -> usize {
        self.buffered.load(Relaxed)
    }
    pub(crate) fn health(&self) -> PartitionHealth {
        PartitionHealth {
            partition: self.partition,
            paused: self.paused(),
            lag: self.lag(),
            next: self.next_offset().map(Offset),
            end: self.end().map(Offset),
            end_confirmed: *self.end_confirmed.lock(),
            buffered_bytes: self.buffered() as u64,
            fault: self.state.lock().fault.as_ref().map(ToString::to_string),
        }
    }
}

fn known(offset: i64) -> Option<i64> {
    (offset != UNKNOWN).then_some(offset)
}

#[cfg(test)]
mod tests {
    use karst_types::{BrokerTime, Records};

    use super::*;

    fn handoff() -> Handoff {
        Handoff::new("clicks".into(), PartitionId(0), 100)
    }
    fn batch(offset: i64, bytes: usize) -> Fetched {
        let mut records = Records::new("clicks".into(), PartitionId(0));
        records.push(Offset(offset), BrokerTime(0), None, Some(&vec![b'x'; bytes]));
        Fetched::Records(records)
    }
    fn first(item: Result<Option<Fetched>>) -> Option<i64> {
        match item.unwrap()? {
            Fetched::Records(records) => records.first_offset().map(|offset| offset.0),
            Fetched::EndOfLog { .. } => None,
        }
    }

    #[test]
    fn what_was_fetched_for_an_older_seek_is_refused() {
        let handoff = handoff();
        let reader = handoff.attach();
        let old = handoff.seek(reader, Offset(5)).unwrap();
        assert!(handoff.publish(old, batch(5, 10)));
        let new = handoff.seek(reader, Offset(2)).unwrap();
        assert!(!handoff.publish(old, batch(6, 10)), "stale");
        assert!(handoff.publish(new, batch(2, 10)));
        assert_eq!(first(handoff.take(reader)), Some(2), "the batch before the seek is gone");
        assert_eq!(handoff.buffered(), 0);
    }

    #[test]
    fn room_comes_back_at_half() {
        let handoff = handoff();
        let reader = handoff.attach();
        let epoch = handoff.seek(reader, Offset(0)).unwrap();
        for offset in 0..3 {
            handoff.publish(epoch, batch(offset, 0));
        }
        assert!(handoff.is_full() && !handoff.has_room());
        handoff.take(reader).unwrap();
        assert!(!handoff.is_full() && !handoff.has_room(), "between the two marks nothing changes");
        handoff.take(reader).unwrap();
        assert!(handoff.has_room());
    }

    #[test]
    fn a_fault_comes_behind_the_records_and_stays_until_a_seek() {
        let handoff = handoff();
        let reader = handoff.attach();
        let epoch = handoff.seek(reader, Offset(0)).unwrap();
        handoff.publish(epoch, batch(0, 1));
        handoff.fail(epoch, Error::Stopped { name: "x".into() });
        assert_eq!(handoff.target().from, None, "a faulty partition is not fetched");
        assert_eq!(first(handoff.take(reader)), Some(0));
        assert!(handoff.take(reader).is_err());
        assert!(handoff.take(reader).is_err());
        handoff.seek(reader, Offset(0)).unwrap();
        assert!(handoff.take(reader).unwrap().is_none());
    }

    #[test]
    fn an_older_reader_is_told_that_it_was_replaced() {
        let handoff = handoff();
        let old = handoff.attach();
        handoff.seek(old, Offset(0)).unwrap();
        let new = handoff.attach();
        assert!(matches!(handoff.take(old), Err(Error::ReaderReplaced { .. })));
        assert!(matches!(handoff.take(new), Err(Error::NotStarted { .. })));
        handoff.detach(old);
        handoff.seek(new, Offset(0)).unwrap();
        assert!(handoff.take(new).unwrap().is_none(), "a late drop of the old reader changes nothing");
    }
}
