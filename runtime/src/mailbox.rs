//! The bounded mailbox of a stage: an ordered data lane and a control lane that overtakes it.
//!
//! Invariants:
//! - the queue belongs to the [`Inbox`], which the supervisor holds: a stage that fails takes nothing with it;
//! - the data lane holds at most `capacity` messages, the control lane at most [`CONTROL_CAPACITY`]; a sender waits for room,
//!   first come, first served. Nothing is ever dropped to make room;
//! - one sender's messages are received in the order in which its sends completed;
//! - [`Mailbox::depth`] counts a message before it becomes visible to the stage, so work is never overlooked.
//!
//! Not actix's mailbox, which ignores its capacity and dies with its actor (tests/plain_actix.rs).

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use karst_types::Clock;
use tokio::sync::mpsc::{
    self, Permit,
    error::{TryRecvError, TrySendError as TryReserveError},
};

use crate::{
    current,
    error::{Closed, TrySendError},
};

/// Control messages that wait at most: enough for one from each partition and shard of a large engine in a burst, and small
/// enough that a stage that no longer looks at them is noticed by its senders.
pub const CONTROL_CAPACITY: usize = 64;

/// Makes the two ends. Mailboxes first and stages later, so that a topology reads in path order: hand the inbox to
/// [`spawn_on`](crate::spawn_on). `capacity` is that of the data lane, at least 1; `name` is what a sender that waits for room
/// is said to be blocked on.
pub fn mailbox<M, C>(name: impl Into<Arc<str>>, capacity: usize) -> (Mailbox<M, C>, Inbox<M, C>) {
    assert!(capacity > 0, "a mailbox holds at least one message");
    let (data_in, data) = mpsc::channel(capacity);
    let (control_in, control) = mpsc::channel(CONTROL_CAPACITY);
    let lane = Arc::new(Lane { name: name.into(), capacity, depth: AtomicUsize::new(0), clock: OnceLock::new() });
    (Mailbox { data: data_in, control: control_in, lane: Arc::clone(&lane) }, Inbox { data, control, lane })
}

/// What both ends of the data lane know.
pub(crate) struct Lane {
    pub(crate) name: Arc<str>,
    pub(crate) capacity: usize,
    depth: AtomicUsize,
    clock: OnceLock<Arc<dyn Clock>>,
}

impl Lane {
    /// Clamped: a place is free a moment before the message that left it is counted off, and may be taken again by then.
    pub(crate) fn depth(&self) -> usize {
        self.depth.load(Ordering::Acquire).min(self.capacity)
    }
    fn now(&self) -> Option<Duration> {
        self.clock.get().map(|clock| clock.elapsed())
    }
}

pub(crate) struct Envelope<M> {
    message: M,
    /// When it was put in; `None` for what was sent before the stage was spawned.
    sent: Option<Duration>,
}

/// The sending end: clone it freely, use it from any thread or runtime. It outlives its stage's failures.
pub struct Mailbox<M, C> {
    data: mpsc::Sender<Envelope<M>>,
    control: mpsc::Sender<C>,
    lane: Arc<Lane>,
}

impl<M, C> Mailbox<M, C> {
    /// Puts a message into the data lane, waiting for room: this is the backpressure.
    ///
    /// Cancel safe: a send that is dropped while it waits has sent nothing. Once it has returned, the message is queued, and
    /// stays queued over every restart of the stage.
    ///
    /// # Errors
    /// [`Closed`] when the stage is draining or has ended; the message is dropped.
    pub async fn send(&self, message: M) -> Result<(), Closed> {
        let permit = match self.data.try_reserve() {
            Ok(permit) => permit,
            Err(TryReserveError::Closed(())) => return Err(Closed),
            Err(TryReserveError::Full(())) => {
                let _blocked = current::blocked_on(&self.lane.name);
                self.data.reserve().await.map_err(|_| Closed)?
            }
        };
        self.put(permit, message);
        Ok(())
    }

    /// Puts a message into the data lane if there is room now.
    ///
    /// # Errors
    /// Hands the message back when the lane is full or closed.
    pub fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        match self.data.try_reserve() {
            Ok(permit) => {
                self.put(permit, message);
                Ok(())
            }
            Err(TryReserveError::Full(())) => Err(TrySendError::Full(message)),
            Err(TryReserveError::Closed(())) => Err(TrySendError::Closed(message)),
        }
    }

    fn put(&self, permit: Permit<'_, Envelope<M>>, message: M) {
        self.lane.depth.fetch_add(1, Ordering::AcqRel);
        permit.send(Envelope { message, sent: self.lane.now() });
    }

    /// Waits until there is room for a message, and takes nothing. With one sender, the next [`Mailbox::try_send`] finds that
    /// room: a way to send that can be cancelled at its await without losing the message.
    ///
    /// # Errors
    /// [`Closed`] when the stage has stopped for good, or is draining.
    pub async fn room(&self) -> Result<(), Closed> {
        if self.data.capacity() > 0 && !self.data.is_closed() {
            return Ok(());
        }
        let _blocked = current::blocked_on(&self.lane.name);
        self.data.reserve().await.map(drop).map_err(|_| Closed)
    }

    /// Puts a message into the control lane, waiting for room. Cancel safe.
    ///
    /// Do not await this inside a stage that the receiver may be waiting for: two stages that wait for each other's room wait
    /// forever. Upstream notices use [`Mailbox::try_control`].
    ///
    /// # Errors
    /// [`Closed`] when the stage has ended; the message is dropped.
    pub async fn control(&self, control: C) -> Result<(), Closed> {
        let permit = match self.control.try_reserve() {
            Ok(permit) => permit,
            Err(TryReserveError::Closed(())) => return Err(Closed),
            Err(TryReserveError::Full(())) => {
                let _blocked = current::blocked_on(&self.lane.name);
                self.control.reserve().await.map_err(|_| Closed)?
            }
        };
        permit.send(control);
        Ok(())
    }

    /// Puts a message into the control lane if there is room now.
    ///
    /// # Errors
    /// Hands the message back when the lane is full or closed.
    pub fn try_control(&self, control: C) -> Result<(), TrySendError<C>> {
        self.control.try_send(control).map_err(|error| match error {
            TryReserveError::Full(control) => TrySendError::Full(control),
            TryReserveError::Closed(control) => TrySendError::Closed(control),
        })
    }

    /// [`Mailbox::send`] for a plain thread (a poll thread, a writer thread). Blocks it: never for use inside async code.
    ///
    /// # Errors
    /// [`Closed`], as for `send`.
    pub fn blocking_send(&self, message: M) -> Result<(), Closed> {
        futures::executor::block_on(self.send(message))
    }

    /// [`Mailbox::control`] for a plain thread. Blocks it: never for use inside async code.
    ///
    /// # Errors
    /// [`Closed`], as for `control`.
    pub fn blocking_control(&self, control: C) -> Result<(), Closed> {
        futures::executor::block_on(self.control(control))
    }

    /// Messages in the data lane now, without the one under work.
    pub fn depth(&self) -> usize {
        self.lane.depth()
    }
    /// Messages that the data lane holds.
    pub fn capacity(&self) -> usize {
        self.lane.capacity
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.lane.name
    }
    /// Whether the data lane takes no more messages: the stage is draining or has ended.
    pub fn is_closed(&self) -> bool {
        self.data.is_closed()
    }
}

impl<M, C> Clone for Mailbox<M, C> {
    fn clone(&self) -> Self {
        Self { data: self.data.clone(), control: self.control.clone(), lane: Arc::clone(&self.lane) }
    }
}

impl<M, C> fmt::Debug for Mailbox<M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({}: {} of {})", self.lane.name, self.depth(), self.lane.capacity)
    }
}

/// The receiving end; the supervisor holds it, never the stage. Dropping it closes the mailbox.
pub struct Inbox<M, C> {
    data: mpsc::Receiver<Envelope<M>>,
    control: mpsc::Receiver<C>,
    lane: Arc<Lane>,
}

/// A message that left its lane.
pub(crate) struct Taken<M> {
    pub(crate) message: M,
    /// When it was put in.
    pub(crate) sent: Option<Duration>,
}

/// The data lane, looked at without waiting.
pub(crate) enum Look<M> {
    Message(Taken<M>),
    Empty,
    /// Empty, and nothing can come any more.
    Ended,
}

impl<M, C> Inbox<M, C> {
    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }
    /// From now on messages carry the time at which they were sent.
    pub(crate) fn set_clock(&self, clock: &Arc<dyn Clock>) {
        let _ = self.lane.clock.set(Arc::clone(clock));
    }
    pub(crate) fn try_data(&mut self) -> Look<M> {
        match self.data.try_recv() {
            Ok(envelope) => Look::Message(self.taken(envelope)),
            Err(TryRecvError::Empty) => Look::Empty,
            Err(TryRecvError::Disconnected) => Look::Ended,
        }
    }
    pub(crate) fn try_control(&mut self) -> Option<C> {
        self.control.try_recv().ok()
    }
    /// After [`Inbox::close_control`]: what is left, then `None`. Waits only for senders that are just putting one in.
    pub(crate) async fn last_control(&mut self) -> Option<C> {
        self.control.recv().await
    }
    /// The next message of either lane, control first; `None` for a lane whose senders are all gone. Cancel safe.
    pub(crate) async fn next(&mut self, want_data: bool, open: Open) -> Arrival<M, C> {
        let arrived = tokio::select! {
            biased;
            control = self.control.recv(), if open.control => return Arrival::Control(control),
            envelope = self.data.recv(), if open.data && want_data => envelope,
            // Both lanes have ended or are not wanted: only an order or a timer wakes the stage.
            () = std::future::pending() => None,
        };
        Arrival::Data(arrived.map(|envelope| self.taken(envelope)))
    }
    fn taken(&self, envelope: Envelope<M>) -> Taken<M> {
        self.lane.depth.fetch_sub(1, Ordering::AcqRel);
        Taken { message: envelope.message, sent: envelope.sent }
    }
    pub(crate) fn close_data(&mut self) {
        self.data.close();
    }
    pub(crate) fn close_control(&mut self) {
        self.control.close();
    }
}

/// Which lanes may still bring something.
#[derive(Clone, Copy)]
pub(crate) struct Open {
    pub(crate) data: bool,
    pub(crate) control: bool,
}

pub(crate) enum Arrival<M, C> {
    Control(Option<C>),
    Data(Option<Taken<M>>),
}
