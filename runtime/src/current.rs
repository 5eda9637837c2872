//! Which stage the running future belongs to, so that waiting for room can be told from being stuck.

use std::sync::Arc;

use crate::health::Vitals;

tokio::task_local! {
    /// Set around every call into a stage; unset elsewhere.
    pub(crate) static CURRENT: Arc<Vitals>;
}

/// A sign of life in the middle of a long step of a handler. Does nothing outside of a stage.
pub fn progress() {
    let _ = CURRENT.try_with(|vitals| vitals.beat());
}

/// Awaits an answer that another part of the engine owes. Until it comes, the current stage counts as blocked on `what`, not as
/// stuck; the watchdog will not abort it. [`Mailbox::send`](crate::Mailbox::send) and
/// [`Credits::acquire`](crate::Credits::acquire) do this by themselves.
pub async fn waiting_for<F: Future>(what: &str, answer: F) -> F::Output {
    let _blocked = blocked_on(&what.into());
    answer.await
}

/// Resolves when the current stage has been told to stop; outside of a stage never. A handler that awaits a dependency looks at
/// both, so that a stop need not wait for an answer that may not come.
pub async fn told_to_stop() {
    if let Ok(mut orders) = CURRENT.try_with(|vitals| vitals.orders.subscribe())
        && orders.wait_for(|orders| orders.stop.is_some()).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// While it lives, the current stage counts as blocked on `what` rather than stuck.
pub(crate) fn blocked_on(what: &Arc<str>) -> Option<Blocked> {
    CURRENT
        .try_with(|vitals| {
            vitals.block(what);
            Blocked(Arc::clone(vitals))
        })
        .ok()
}

pub(crate) struct Blocked(Arc<Vitals>);

impl Drop for Blocked {
    fn drop(&mut self) {
        self.0.unblock();
    }
}
