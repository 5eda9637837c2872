//! One call into a stage, with nothing that can come out of it but an answer: panics in the synchronous part, after an await or
//! in a destructor are caught, and an order can cut it short.
//!
//! What is unwind-unsafe about a caught panic is settled by rule: a stage that panicked is dropped, never called again.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use karst_types::Clock;
use tokio::time::Sleep;

use crate::{
    StageError,
    current::CURRENT,
    error::panic_text,
    health::Vitals,
    mailbox::{Arrival, Inbox, Open, Taken},
    metrics::StageMetrics,
    orders::{Desk, Order},
};

/// What came of a call into a stage.
pub(crate) enum Done {
    Fine,
    Refused(StageError),
    Panicked(String),
    /// Dropped by order, because it made no progress.
    Aborted,
    /// Dropped by order, because the stage is to end.
    Ended(Ending),
}

/// Why a stage ends.
pub(crate) enum Ending {
    Drained,
    Deadline,
    Killed,
    Waiting { cause: String },
    Failed { cause: String },
}

/// What ended a wait.
pub(crate) enum Woke<M, C> {
    Control(C),
    Data(Taken<M>),
    /// A lane has ended, a timer is due or an order came: look again.
    Look,
    Ended(Ending),
    Pulled(Done),
}

/// All of a supervised stage that outlives the stage.
pub(crate) struct Shell<M, C> {
    pub(crate) inbox: Inbox<M, C>,
    pub(crate) open: Open,
    pub(crate) desk: Desk,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) metrics: StageMetrics,
    pub(crate) clock: Arc<dyn Clock>,
}

impl<M, C> Shell<M, C> {
    /// Runs one call to its end. `make` is the call itself, so that a handler that panics before it returns its future is
    /// caught as well.
    pub(crate) async fn call<F>(&mut self, make: impl FnOnce() -> F) -> Done
    where
        F: Future<Output = Result<(), StageError>>,
    {
        self.vitals.busy(true);
        // Boxed, so that it can be dropped under `catch_unwind`: some 50 ns per batch.
        let mut future = Box::pin(guarded(&self.vitals, make));
        let done = loop {
            tokio::select! {
                biased;
                done = &mut future => break done,
                order = self.desk.next() => match order {
                    Order::Kill => break Done::Ended(Ending::Killed),
                    Order::Deadline => break Done::Ended(Ending::Deadline),
                    Order::Abort => break Done::Aborted,
                    Order::Stop => self.inbox.close_data(),
                    Order::Revive => {}
                },
            }
        };
        drop_quietly(future);
        self.vitals.busy(false);
        done
    }

    /// Waits for something to do while the stage looks for work by itself (`pull`). The pull is dropped when anything else
    /// comes first.
    pub(crate) async fn wait<F>(&mut self, tick: &mut Timer, hold: &mut Timer, pull: impl FnOnce() -> F) -> Woke<M, C>
    where
        F: Future<Output = Result<(), StageError>>,
    {
        let want_data = !hold.is_set();
        let may_pull = want_data && !self.desk.draining();
        let mut pull = Box::pin(guarded(&self.vitals, pull));
        let woke = tokio::select! {
            biased;
            order = self.desk.next() => match order {
                Order::Kill => Woke::Ended(Ending::Killed),
                Order::Deadline => Woke::Ended(Ending::Deadline),
                Order::Stop => {
                    self.inbox.close_data();
                    Woke::Look
                }
                Order::Revive => {
                    hold.clear(); // "try now"
                    Woke::Look
                }
                // Nothing is under work but a pull; a source that hangs in one is rebuilt all the same.
                Order::Abort => Woke::Pulled(Done::Aborted),
            },
            arrival = self.inbox.next(want_data, self.open) => match arrival {
                Arrival::Control(Some(control)) => Woke::Control(control),
                Arrival::Control(None) => {
                    self.open.control = false;
                    Woke::Look
                }
                Arrival::Data(Some(taken)) => Woke::Data(taken),
                Arrival::Data(None) => {
                    self.open.data = false;
                    Woke::Look
                }
            },
            () = tick.fires() => Woke::Look,
            () = hold.fires() => Woke::Look,
            done = &mut pull, if may_pull => Woke::Pulled(done),
        };
        drop_quietly(pull);
        woke
    }

    /// Rests for `wait`. An ending cuts it short, and so does `revive` (`true`).
    pub(crate) async fn rest(&mut self, wait: Option<Duration>) -> Result<bool, Ending> {
        let mut timer = Timer::default();
        timer.set(wait);
        loop {
            tokio::select! {
                biased;
                order = self.desk.next() => match order {
                    Order::Kill => return Err(Ending::Killed),
                    Order::Deadline => return Err(Ending::Deadline),
                    Order::Revive => return Ok(true),
                    Order::Abort => {}
                    Order::Stop => {
                        self.inbox.close_data();
                        if wait.is_none() {
                            return Ok(false);
                        }
                    }
                },
                () = timer.fires() => return Ok(false),
            }
        }
    }
}

async fn guarded<F>(vitals: &Arc<Vitals>, make: impl FnOnce() -> F) -> Done
where
    F: Future<Output = Result<(), StageError>>,
{
    let call = AssertUnwindSafe(async move { make().await }).catch_unwind();
    match CURRENT.scope(Arc::clone(vitals), call).await {
        Ok(Ok(())) => Done::Fine,
        Ok(Err(error)) => Done::Refused(error),
        Err(panic) => Done::Panicked(panic_text(panic.as_ref())),
    }
}

/// Runs a synchronous call into user code.
pub(crate) fn quietly<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| panic_text(panic.as_ref()))
}

/// Drops what user code made; its destructor may panic too.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(cause) = quietly(move || drop(value)) {
        tracing::error!(cause, "a destructor panicked");
    }
}

/// A timer that may be unset.
#[derive(Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    pub(crate) fn set(&mut self, after: Option<Duration>) {
        self.0 = after.map(|after| Box::pin(tokio::time::sleep(after)));
    }
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }
    /// Whether it is set and over.
    pub(crate) fn due(&mut self) -> bool {
        self.0.as_mut().is_some_and(|sleep| sleep.as_mut().now_or_never().is_some() || sleep.is_elapsed())
    }
    /// Waits until it is over; for ever if it is not set. It stays set.
    async fn fires(&mut self) {
        match &mut self.0 {
            Some(sleep) if !sleep.is_elapsed() => sleep.await,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}
