//! The shell of `docs/runtime-semantics.md`, Failure and restart: catch, rebuild from the factory, retry record by record, put
//! the poison record aside, go on.
//!
//! Invariants:
//! - the queue, the batch under work and the record of failures belong to the supervisor; a stage that fails takes nothing with it;
//! - one call into the stage at a time: handlers never interleave;
//! - a stage that panicked, hung or failed is dropped before anything else happens, and no hook of it is called;
//! - a message leaves the slot only when it was handled or put aside: over a restart nothing is lost and nothing changes places;
//! - past the restart intensity the stage is parked with all its messages; the process lives on.
use std::{sync::Arc, time::Duration};

use karst_types::Retry;

use crate::{
    Escalated, ExitStatus, Payload, Stage, StageError, StageSpec, StageState,
    mailbox::{Look, Taken},
    metrics::Cause,
    orders::Order,
    restart::{Decision, Dice, Ledger},
    shell::{Done, Ending, Shell, Timer, Woke, drop_quietly, quietly},
    slot::{Attempt, Slot},
};

pub(crate) struct Supervised<S: Stage, F> {
    factory: F,
    slot: Slot<S::Message>,
    ledger: Ledger,
    dice: Dice,
    spec: StageSpec,
    shell: Shell<S::Message, S::Control>,
}

/// Why a stage value came to its end.
enum End {
    Failed { kind: Cause, cause: String },
    Over(Ending),
}

impl<S: Stage, F: FnMut() -> Result<S, StageError>> Supervised<S, F> {
    pub(crate) fn new(shell: Shell<S::Message, S::Control>, spec: StageSpec, factory: F) -> Self {
        let (ledger, dice) = (Ledger::new(spec.restart), Dice::new(spec.seed, &spec.id));
        Self { factory, slot: Slot::new(), ledger, dice, spec, shell }
    }

    /// Runs stage after stage until one ends; consumes everything, so that nothing of it is open when this returns.
    pub(crate) async fn run(mut self) -> ExitStatus {
        loop {
            let end = match quietly(&mut self.factory) {
                Ok(Ok(stage)) => self.live(stage).await,
                Ok(Err(error)) => End::Failed { kind: Cause::Build, cause: error.chain() },
                Err(cause) => End::Failed { kind: Cause::Build, cause },
            };
            let recovered = match end {
                End::Failed { kind, cause } => self.recover(kind, cause).await,
                End::Over(ending) => Err(ending),
            };
            if let Err(ending) = recovered {
                return self.exit(ending);
            }
        }
    }

    /// One life of one stage value, which is dropped at the end of it, whatever the end.
    async fn live(&mut self, mut stage: S) -> End {
        let end = match self.serve(&mut stage).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        drop_quietly(stage);
        end
    }

    async fn serve(&mut self, stage: &mut S) -> Result<std::convert::Infallible, End> {
        match self.shell.call(|| stage.started()).await {
            Done::Refused(error) => return Err(End::Failed { kind: Cause::Build, cause: error.chain() }),
            done => settle(done)?,
        }
        self.shell.vitals.set(StageState::Running);
        let mut tick = Ticker::default();
        // Set while a dependency is awaited: the message under work, and all data behind it, rests until then.
        let mut hold = Timer::default();
        let mut retries = 0;
        let mut turns = 0;
        loop {
            self.obey()?;
            turns += 1;
            if turns > self.spec.yield_after {
                turns = 0;
                tokio::task::yield_now().await;
            }
            if let Some(control) = self.shell.inbox.try_control() {
                self.control(stage, control, &mut hold, &mut retries).await?;
                continue;
            }
            if tick.due(stage)? {
                let done = self.shell.call(|| stage.tick()).await;
                tick.restart();
                self.settle_or_hold(done, &mut hold, &mut retries)?;
                continue;
            }
            if hold.due() {
                hold.clear();
                if self.slot.is_empty() {
                    // Nothing is left to try again: whether the dependency is back, the next call will tell.
                    self.shell.vitals.set(StageState::Running);
                }
            }
            if self.slot.is_empty() && self.shell.desk.draining() {
                hold.clear(); // only data rests until a dependency is back: a stop must not wait for it
            }
            if hold.is_set() && self.shell.desk.draining() && self.spec.leave_at_stop {
                let cause = self.shell.vitals.last_cause().unwrap_or_default();
                return Err(End::Over(Ending::Waiting { cause }));
            }
            if !hold.is_set() {
                if self.slot.is_empty() && !self.fill() && self.shell.desk.draining() && !self.shell.open.data {
                    return Err(End::Over(self.finish(stage).await?));
                }
                if !self.slot.is_empty() {
                    self.work(stage, &mut hold, &mut retries).await?;
                    continue;
                }
            }
            match self.shell.wait(tick.timer(), &mut hold, || stage.pull()).await {
                Woke::Look => {}
                Woke::Ended(ending) => return Err(End::Over(ending)),
                Woke::Control(control) => self.control(stage, control, &mut hold, &mut retries).await?,
                Woke::Data(taken) => self.take(taken),
                Woke::Pulled(done) => {
                    self.shell.vitals.beat();
                    self.settle_or_hold(done, &mut hold, &mut retries)?;
                }
            }
        }
    }

    /// Works on the front of the slot.
    async fn work(&mut self, stage: &mut S, hold: &mut Timer, retries: &mut u32) -> Result<(), End> {
        let Some(item) = self.slot.front() else { return Ok(()) };
        let started = self.shell.clock.elapsed();
        let poison = match &item.attempt {
            Attempt::Poison { cause } => Some(cause.clone()),
            Attempt::Whole | Attempt::Alone => None,
        };
        let message = &mut item.message;
        let done = match &poison {
            Some(cause) => self.shell.call(|| stage.poison(message, cause)).await,
            None => self.shell.call(|| stage.handle(message)).await,
        };
        match &done {
            Done::Fine => {
                drop_quietly(self.slot.pass());
                self.ledger.handled();
                self.shell.vitals.handled();
                self.shell.metrics.handled(self.shell.clock.elapsed().saturating_sub(started));
                if let Some(cause) = poison {
                    self.shell.vitals.poisoned();
                    self.shell.metrics.poisoned();
                    tracing::error!(stage = %self.spec.id, cause, "record was put aside: the stage failed on it twice");
                }
            }
            Done::Panicked(cause) => self.slot.blame(cause),
            Done::Aborted => self.slot.blame(STUCK),
            // Neither an error of the stage nor an ending is the record's fault.
            Done::Refused(_) | Done::Ended(_) => {}
        }
        self.settle_or_hold(done, hold, retries)
    }

    async fn control(&mut self, stage: &mut S, control: S::Control, hold: &mut Timer, retries: &mut u32) -> Result<(), End> {
        let holding = hold.is_set();
        let done = self.shell.call(|| stage.control(control)).await;
        if holding && matches!(done, Done::Fine) {
            return Ok(()); // the message under work still waits for its dependency
        }
        self.settle_or_hold(done, hold, retries)
    }

    /// A dependency fault keeps the stage and lets data rest; every other failure ends this life of it.
    fn settle_or_hold(&mut self, done: Done, hold: &mut Timer, retries: &mut u32) -> Result<(), End> {
        match done {
            Done::Fine => {
                if *retries > 0 && !hold.is_set() {
                    *retries = 0;
                    self.shell.vitals.set(StageState::Running);
                }
                Ok(())
            }
            Done::Refused(error) if error.retry() == Retry::Backoff => {
                *retries = retries.saturating_add(1);
                let wait = self.spec.restart.backoff.wait(*retries, &mut self.dice);
                hold.set(Some(wait));
                let cause = error.chain();
                if *retries == 1 {
                    tracing::warn!(stage = %self.spec.id, cause, "a dependency is not available; trying again");
                }
                self.shell.vitals.failed(&cause);
                self.shell.vitals.set(StageState::Waiting { cause });
                Ok(())
            }
            done => settle(done),
        }
    }

    fn obey(&mut self) -> Result<(), End> {
        while let Some(order) = self.shell.desk.take() {
            match order {
                Order::Kill => return Err(End::Over(Ending::Killed)),
                Order::Deadline => return Err(End::Over(Ending::Deadline)),
                Order::Stop => self.shell.inbox.close_data(),
                // Between two calls there is nothing to abort, and nothing to revive.
                Order::Abort | Order::Revive => {}
            }
        }
        Ok(())
    }

    /// Takes the next message into the slot, if there is one.
    fn fill(&mut self) -> bool {
        match self.shell.inbox.try_data() {
            Look::Message(taken) => {
                self.take(taken);
                true
            }
            Look::Empty => false,
            Look::Ended => {
                self.shell.open.data = false;
                false
            }
        }
    }

    fn take(&mut self, taken: Taken<S::Message>) {
        let waited = taken.sent.map(|sent| self.shell.clock.elapsed().saturating_sub(sent));
        self.shell.metrics.received(self.shell.inbox.lane().depth(), waited);
        self.slot.put(taken.message);
    }

    /// The data lane is drained: what is left in the control lane, then the farewell.
    async fn finish(&mut self, stage: &mut S) -> Result<Ending, End> {
        self.shell.inbox.close_control();
        while let Some(control) = self.shell.inbox.last_control().await {
            match self.shell.call(|| stage.control(control)).await {
                Done::Refused(error) => {
                    tracing::warn!(stage = %self.spec.id, cause = error.chain(), "control failed at the end")
                }
                done => settle(done)?,
            }
        }
        Ok(match self.shell.call(|| stage.stopped()).await {
            Done::Fine => Ending::Drained,
            Done::Refused(error) => Ending::Failed { cause: error.chain() },
            Done::Panicked(cause) => Ending::Failed { cause },
            Done::Aborted => Ending::Failed { cause: STUCK.to_owned() },
            Done::Ended(ending) => ending,
        })
    }

    /// Rests before the rebuild, or parks the stage past its restart intensity. `Err` if it is to end instead.
    async fn recover(&mut self, kind: Cause, cause: String) -> Result<(), Ending> {
        let vitals = Arc::clone(&self.shell.vitals);
        vitals.failed(&cause);
        let revived = match self.ledger.failed(self.shell.clock.elapsed()) {
            Decision::Restart { in_a_row } => {
                let wait = self.spec.restart.backoff.wait(in_a_row, &mut self.dice);
                tracing::error!(stage = %self.spec.id, kind = ?kind, cause, attempt = in_a_row, ?wait, "stage failed; rebuilding it");
                vitals.set(StageState::Restarting { attempt: in_a_row, cause });
                self.shell.rest(Some(wait)).await?
            }
            Decision::Escalate { restarts } => {
                tracing::error!(stage = %self.spec.id, kind = ?kind, cause, restarts, "stage failed too often; it is parked");
                vitals.set(StageState::Failed { cause: cause.clone() });
                self.escalate(cause.clone(), restarts);
                if self.shell.desk.draining() || !self.shell.rest(None).await? {
                    return Err(Ending::Failed { cause });
                }
                true
            }
        };
        if revived {
            self.ledger.forget();
        }
        vitals.restarted();
        self.shell.metrics.restarted(kind);
        Ok(())
    }

    fn escalate(&self, cause: String, restarts: u32) {
        let Some(escalate) = &self.spec.escalate else { return };
        let escalated = Escalated { id: self.spec.id.clone(), cause, restarts };
        if let Err(cause) = quietly(|| escalate(escalated)) {
            tracing::error!(stage = %self.spec.id, cause, "the escalation handler panicked");
        }
    }

    fn exit(&mut self, ending: Ending) -> ExitStatus {
        self.shell.inbox.close_data();
        self.shell.inbox.close_control();
        let mut left = self.slot.left();
        while let Look::Message(taken) = self.shell.inbox.try_data() {
            left.messages += 1;
            left.records += quietly(|| taken.message.len()).unwrap_or(0);
            drop_quietly(taken.message);
        }
        match ending {
            Ending::Drained => ExitStatus::Drained,
            Ending::Deadline => ExitStatus::Deadline { left },
            Ending::Killed => ExitStatus::Killed { left },
            Ending::Waiting { cause } => ExitStatus::Waiting { cause, left },
            Ending::Failed { cause } => ExitStatus::Failed { cause, left },
        }
    }
}

const STUCK: &str = "aborted: no progress";

fn settle(done: Done) -> Result<(), End> {
    match done {
        Done::Fine => Ok(()),
        Done::Refused(error) => Err(End::Failed { kind: Cause::Error, cause: error.chain() }),
        Done::Panicked(cause) => Err(End::Failed { kind: Cause::Panic, cause }),
        Done::Aborted => Err(End::Failed { kind: Cause::Stuck, cause: STUCK.to_owned() }),
        Done::Ended(ending) => Err(End::Over(ending)),
    }
}

/// The stage's own timer.
#[derive(Default)]
struct Ticker {
    interval: Option<Duration>,
    timer: Timer,
}

impl Ticker {
    /// Asks the stage for its interval, and whether the time is over.
    fn due<S: Stage>(&mut self, stage: &S) -> Result<bool, End> {
        let wanted = quietly(|| stage.tick_interval()).map_err(|cause| End::Failed { kind: Cause::Panic, cause })?;
        if wanted != self.interval {
            self.interval = wanted;
            self.restart();
        }
        Ok(self.timer.due())
    }
    fn restart(&mut self) {
        self.timer.set(self.interval);
    }
    fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }
}
