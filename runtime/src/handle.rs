//! The owner's grip on a running stage: stop, kill, abort, revive, and how it is.

use std::{sync::Arc, time::Duration};

use crate::{
    ExitStatus, Host,
    health::{StageHealth, Vitals},
};

/// How long past its deadline a stage may take to say that it has ended, before its thread counts as blocked.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Controls one stage, from any thread. Clones control the same one; dropping all of them leaves it running for as long as
/// somebody holds its [`Host`].
#[derive(Clone)]
pub struct StageHandle {
    vitals: Arc<Vitals>,
    /// Keeps the thread alive while somebody can still order something.
    _host: Host,
}

impl StageHandle {
    pub(crate) fn new(vitals: Arc<Vitals>, host: Host) -> Self {
        Self { vitals, _host: host }
    }

    /// The id that its spec gave it.
    pub fn id(&self) -> &str {
        &self.vitals.id
    }

    /// Graceful stop: the data lane takes no more, what is in it is handled in order (failures are recovered from as usual), then
    /// control messages that are left, then [`Stage::stopped`](crate::Stage::stopped). When this returns, the stage, its factory
    /// and its inbox have been dropped, except for [`ExitStatus::Unresponsive`].
    ///
    /// A second call with another time replaces the deadline. Dropping the future does not take the order back. Needs a tokio
    /// timer.
    pub async fn stop(&self, within: Duration) -> ExitStatus {
        self.vitals.orders.send_modify(|orders| orders.stop = Some(within));
        let answer = within.saturating_add(ANSWER_WITHIN);
        tokio::time::timeout(answer, self.ended()).await.unwrap_or(ExitStatus::Unresponsive)
    }

    /// Ends it at the next await, without draining and without `stopped()`. Await [`StageHandle::ended`] for what was left.
    pub fn kill(&self) {
        self.vitals.orders.send_modify(|orders| orders.kill = true);
    }

    /// Drops the future under work, if any, and rebuilds the stage. The message is blamed as after a panic: tried record by
    /// record, and a record that has to be aborted again is put aside.
    pub fn abort_current(&self) {
        self.vitals.orders.send_modify(|orders| orders.aborts += 1);
    }

    /// Forgets the failures: a stage that was given up is rebuilt and goes on where it was, one that rests before its rebuild
    /// is rebuilt now.
    pub fn revive(&self) {
        self.vitals.orders.send_modify(|orders| orders.revives += 1);
    }

    /// Waits until it has ended.
    pub async fn ended(&self) -> ExitStatus {
        let mut exit = self.vitals.exit.subscribe();
        match exit.wait_for(Option::is_some).await {
            Ok(status) => status.clone().unwrap_or(ExitStatus::Lost),
            Err(_) => ExitStatus::Lost,
        }
    }

    /// How it is, at this `elapsed()` of its clock. Samples its pulse as the board does.
    pub fn health(&self, now: Duration) -> StageHealth {
        self.vitals.observe(now)
    }

    /// Times it was rebuilt.
    pub fn restarts(&self) -> u64 {
        self.vitals.restarts()
    }
}
