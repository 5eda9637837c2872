//! Where a stage begins: it is registered, and its supervisor is put on its host's thread.
//!
//! The actix actor is only where the supervisor's loop runs: actix's own mailbox, which ignores its capacity and dies with its
//! actor (tests/plain_actix.rs), carries nothing.

use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, fut::wrap_future};
use futures::future::LocalBoxFuture;

use crate::{
    ExitStatus, Host, Inbox, Mailbox, Stage, StageError, StageHandle, StageSpec,
    health::Vitals,
    mailbox::{self, Open},
    metrics::StageMetrics,
    orders::Desk,
    pace::paced,
    shell::Shell,
    supervisor::Supervised,
};

/// Makes a mailbox of the spec's capacity, named by the spec's id, and a stage behind it. See [`spawn_on`].
pub fn spawn<S: Stage>(
    host: &Host,
    spec: StageSpec,
    factory: impl FnMut() -> Result<S, StageError> + Send + 'static,
) -> (Mailbox<S::Message, S::Control>, StageHandle) {
    let (mailbox, inbox) = mailbox::mailbox(spec.id.as_str(), spec.capacity);
    (mailbox, spawn_on(host, inbox, spec, factory))
}

/// Starts a stage behind an inbox, on the thread of `host`, and supervises it until its handle stops or kills it, or its host
/// ends. It does not end because its senders are gone.
///
/// `factory` runs on the host's thread, now and after every failure; it may fail and it may panic, which counts as a restart. It
/// must not block for long if the host has other stages. The capacity is the inbox's.
pub fn spawn_on<S: Stage>(
    host: &Host,
    inbox: Inbox<S::Message, S::Control>,
    mut spec: StageSpec,
    factory: impl FnMut() -> Result<S, StageError> + Send + 'static,
) -> StageHandle {
    inbox.set_clock(&spec.clock);
    let vitals = Arc::new(Vitals::new(&spec, host.shared_name(), inbox.lane()));
    if let Some(board) = &spec.board {
        board.register(Arc::clone(&vitals));
    }
    let metrics = StageMetrics::new(&spec.id);
    let obituary = Obituary(Arc::clone(&vitals));
    let handle = StageHandle::new(Arc::clone(&vitals), host.clone());
    let pace = host.pace().cloned();
    if pace.is_some() {
        spec.yield_after = 0; // each message is a turn
    }
    host.run(move || {
        let desk = Desk::new(vitals.orders.subscribe());
        let open = Open { data: true, control: true };
        let shell = Shell { inbox, open, desk, vitals, metrics, clock: Arc::clone(&spec.clock) };
        let id = spec.id.as_str().into();
        let supervised = Supervised::new(shell, spec, factory);
        let life = async move {
            // `run` consumes all there is of the stage, so whoever sees the exit status finds nothing open any more.
            let status = supervised.run().await;
            obituary.0.ended(status);
        };
        Runner { life: Some(paced(pace, id, life)) }.start();
    });
    handle
}

/// Tells the end of a stage also if its host drops it, or if the shell itself panics.
struct Obituary(Arc<Vitals>);

impl Drop for Obituary {
    fn drop(&mut self) {
        if self.0.exit.borrow().is_none() {
            tracing::error!(stage = %self.0.id, "stage was lost with its host");
            self.0.ended(ExitStatus::Lost);
        }
    }
}

/// The actix actor of a stage. It ends when its one future does.
struct Runner {
    life: Option<LocalBoxFuture<'static, ()>>,
}

impl Actor for Runner {
    type Context = Context<Self>;
    fn started(&mut self, context: &mut Self::Context) {
        if let Some(life) = self.life.take() {
            context.spawn(wrap_future(life));
        }
    }
}
