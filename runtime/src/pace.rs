//! Who may go on when: nobody waits, unless a simulation says so.
//!
//! What runs on a host is a handful of futures. A [`Pace`] is asked before each turn of one of them and may hold it back, as a busy
//! machine would: for a while, or behind all others that are ready. On one thread with paused time nothing else decides the order
//! of events, so a pace that draws from a seed draws a schedule, and the same seed draws the same one.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{FutureExt, future::LocalBoxFuture};
use tokio::time::Sleep;

/// Asked before each turn of a stage or task, by its id: how long it is to wait first. `None`: not at all; zero: until all others
/// that are ready have had a turn. Panics of it are panics of the host.
pub type Pace = Arc<dyn Fn(&str) -> Option<Duration> + Send + Sync>;

/// Starts tasks beside the stages of a host, on its thread. Does not keep that thread alive.
#[derive(Clone)]
pub struct Tasks(pub(crate) Option<Pace>);

impl Tasks {
    /// Starts one, to be known as `id`. To be called on the host's thread.
    ///
    /// # Panics
    /// On any thread that is no host.
    pub fn spawn(&self, id: &str, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(paced(self.0.clone(), id.into(), task));
    }
}

/// `life` at this pace.
pub(crate) fn paced(pace: Option<Pace>, id: Arc<str>, life: impl Future<Output = ()> + 'static) -> LocalBoxFuture<'static, ()> {
    let life = life.boxed_local();
    match pace {
        None => life,
        Some(pace) => Paced { pace, id, life, pause: Pause::No }.boxed_local(),
    }
}

struct Paced {
    pace: Pace,
    id: Arc<str>,
    life: LocalBoxFuture<'static, ()>,
    pause: Pause,
}

enum Pause {
    No,
    /// The others come first; then it is this one's turn.
    Behind,
    For(Pin<Box<Sleep>>),
}

impl Future for Paced {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if matches!(self.pause, Pause::No) {
            match (self.pace)(&self.id) {
                None => return self.life.as_mut().poll(context),
                Some(Duration::ZERO) => {
                    self.pause = Pause::Behind;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(wait) => self.pause = Pause::For(Box::pin(tokio::time::sleep(wait))),
            }
        }
        if let Pause::For(sleep) = &mut self.pause {
            ready!(sleep.as_mut().poll(context));
        }
        self.pause = Pause::No;
        self.life.as_mut().poll(context)
    }
}
