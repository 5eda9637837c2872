//! How each stage is doing, judged by progress and not by whether its thread lives.
//!
//! A stage is *stuck* when there is work (a message in its lane or in its hands), no sign of progress for `stuck_after`, and it is
//! not waiting for somebody else (room downstream, a credit, a backoff): those have states of their own.
//!
//! The board samples: [`HealthBoard::check`] or [`HealthBoard::snapshot`] is to be called every second or so, with the time of
//! the clock that the stages were given. Nothing here reads a clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use karst_types::Clock;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{ExitStatus, StageSpec, mailbox::Lane, orders::Orders};

/// What a stage is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StageState {
    /// Being built for the first time.
    Starting,
    /// Handling messages, or waiting for one.
    Running,
    /// Waiting for room in another stage's mailbox, or for a credit. That one is to be looked at, not this.
    Blocked {
        /// The mailbox or the purse.
        on: String,
    },
    /// A dependency is not there; the message under work is tried again after a backoff.
    Waiting {
        /// What the stage said.
        cause: String,
    },
    /// Failed, and about to be rebuilt.
    Restarting {
        /// Failures in a row.
        attempt: u32,
        /// Why.
        cause: String,
    },
    /// There is work, and no progress.
    Stuck {
        /// The last progress, as the clock's `elapsed()`.
        since: Duration,
    },
    /// Given up past the restart intensity. Its mailbox is kept; [`StageHandle::revive`](crate::StageHandle::revive) tries again.
    Failed {
        /// Why it failed the last time.
        cause: String,
    },
    /// Ended.
    Stopped(ExitStatus),
}

impl StageState {
    /// Whether nobody needs to look at it: running, blocked on another, starting, or drained as asked.
    pub fn is_healthy(&self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Blocked { .. } | Self::Stopped(ExitStatus::Drained))
    }
}

/// One stage, as seen by the board.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StageHealth {
    /// The one stage: `parse_stage flights[0]`.
    pub id: String,
    /// Its kind: `parse_stage`.
    pub name: &'static str,
    /// The host that it runs on.
    pub host: String,
    /// What it is doing.
    pub state: StageState,
    /// Messages in its data lane.
    pub depth: usize,
    /// Messages that its data lane holds.
    pub capacity: usize,
    /// Messages handled since it was spawned; those put aside are included.
    pub handled: u64,
    /// Records put aside as poison.
    pub poisoned: u64,
    /// Times it was rebuilt.
    pub restarts: u64,
    /// Why it failed the last time, if ever.
    pub last_cause: Option<String>,
}

/// The signs of life of one stage; written by its supervisor, read by anyone.
pub(crate) struct Vitals {
    pub(crate) id: Arc<str>,
    name: &'static str,
    host: Arc<str>,
    lane: Arc<Lane>,
    stuck_after: Duration,
    abort_stuck: bool,
    progress: AtomicU64,
    busy: AtomicBool,
    handled: AtomicU64,
    poisoned: AtomicU64,
    restarts: AtomicU64,
    state: Mutex<StageState>,
    last_cause: Mutex<Option<String>>,
    blocked: Mutex<Blocked>,
    pulse: Mutex<Pulse>,
    pub(crate) orders: watch::Sender<Orders>,
    pub(crate) exit: watch::Sender<Option<ExitStatus>>,
}

#[derive(Default)]
struct Blocked {
    /// Waits at the same time: a handler may send to several.
    waits: u32,
    on: Option<Arc<str>>,
}

/// What the board saw last.
struct Pulse {
    progress: u64,
    at: Duration,
    aborted: bool,
}

impl Vitals {
    pub(crate) fn new(spec: &StageSpec, host: &Arc<str>, lane: &Arc<Lane>) -> Self {
        Self {
            id: spec.id.as_str().into(),
            name: spec.name,
            host: Arc::clone(host),
            lane: Arc::clone(lane),
            stuck_after: spec.stuck_after,
            abort_stuck: spec.abort_stuck,
            progress: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            handled: AtomicU64::new(0),
            poisoned: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            state: Mutex::new(StageState::Starting),
            last_cause: Mutex::new(None),
            blocked: Mutex::default(),
            pulse: Mutex::new(Pulse { progress: 0, at: spec.clock.elapsed(), aborted: false }),
            orders: watch::Sender::new(Orders::default()),
            exit: watch::Sender::new(None),
        }
    }

    /// A sign of progress. Also given when work begins, so that an idle stage that gets work starts with a full `stuck_after`.
    pub(crate) fn beat(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn busy(&self, busy: bool) {
        self.beat();
        self.busy.store(busy, Ordering::Release);
    }
    pub(crate) fn handled(&self) {
        self.handled.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn poisoned(&self) {
        self.poisoned.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn failed(&self, cause: &str) {
        *self.last_cause.lock() = Some(cause.to_owned());
    }
    pub(crate) fn last_cause(&self) -> Option<String> {
        self.last_cause.lock().clone()
    }
    pub(crate) fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }
    pub(crate) fn set(&self, state: StageState) {
        self.beat();
        *self.state.lock() = state;
    }
    pub(crate) fn block(&self, on: &Arc<str>) {
        let mut blocked = self.blocked.lock();
        blocked.waits += 1;
        blocked.on = Some(Arc::clone(on));
    }
    pub(crate) fn unblock(&self) {
        let mut blocked = self.blocked.lock();
        blocked.waits -= 1;
        if blocked.waits == 0 {
            blocked.on = None;
        }
        drop(blocked);
        self.beat();
    }
    /// The stage has ended: nothing of it is left on its thread.
    pub(crate) fn ended(&self, status: ExitStatus) {
        self.busy.store(false, Ordering::Release);
        self.set(StageState::Stopped(status.clone()));
        self.exit.send_replace(Some(status));
    }

    /// Samples the pulse at `now` and says how the stage is.
    pub(crate) fn observe(&self, now: Duration) -> StageHealth {
        let state = self.state.lock().clone();
        let depth = self.lane.depth();
        let blocked = self.blocked.lock().on.clone();
        // While a dependency is awaited, messages rest; a retry that never returns is stuck all the same.
        let busy = self.busy.load(Ordering::Acquire);
        let has_work = match state {
            StageState::Starting => true,
            StageState::Running => busy || depth > 0,
            StageState::Waiting { .. } => busy,
            _ => false,
        };
        let progress = self.progress.load(Ordering::Relaxed);

        let mut pulse = self.pulse.lock();
        if progress != pulse.progress || blocked.is_some() || !has_work {
            *pulse = Pulse { progress, at: now, aborted: false };
        }
        let stuck = now.saturating_sub(pulse.at) >= self.stuck_after && has_work;
        let since = pulse.at;
        drop(pulse);

        let state = match blocked {
            _ if stuck => StageState::Stuck { since },
            Some(on) if state == StageState::Running => StageState::Blocked { on: on.as_ref().to_owned() },
            _ => state,
        };
        StageHealth {
            id: self.id.as_ref().to_owned(),
            name: self.name,
            host: self.host.as_ref().to_owned(),
            state,
            depth,
            capacity: self.lane.capacity,
            handled: self.handled.load(Ordering::Relaxed),
            poisoned: self.poisoned.load(Ordering::Relaxed),
            restarts: self.restarts(),
            last_cause: self.last_cause.lock().clone(),
        }
    }

    /// Orders the abort of a stuck stage, once for each time it gets stuck.
    fn abort_if_stuck(&self, health: &StageHealth) {
        if !self.abort_stuck || !matches!(health.state, StageState::Stuck { .. }) {
            return;
        }
        if !std::mem::replace(&mut self.pulse.lock().aborted, true) {
            self.orders.send_modify(|orders| orders.aborts += 1);
        }
    }
}

/// All stages of an engine, in the order in which they were spawned. Clones share it.
#[derive(Clone, Default)]
pub struct HealthBoard(Arc<Mutex<Vec<Arc<Vitals>>>>);

impl HealthBoard {
    /// An empty board.
    pub fn new() -> Self {
        Self::default()
    }

    /// A stage with the same id takes the place of the one before it.
    pub(crate) fn register(&self, vitals: Arc<Vitals>) {
        let mut stages = self.0.lock();
        match stages.iter_mut().find(|stage| stage.id == vitals.id) {
            Some(stage) => *stage = vitals,
            None => stages.push(vitals),
        }
    }

    /// How every stage is. `now` is the `elapsed()` of the clock that the stages were given.
    pub fn snapshot(&self, now: Duration) -> Vec<StageHealth> {
        self.0.lock().iter().map(|vitals| vitals.observe(now)).collect()
    }

    /// The watchdog: finds the stuck stages, orders the abort of those that allow it (`abort_stuck`), and returns them. A handler
    /// that never returns to the scheduler cannot be aborted; it stays stuck until it does.
    pub fn check(&self, now: Duration) -> Vec<StageHealth> {
        let stages = self.0.lock().clone();
        let seen = stages.iter().map(|vitals| (vitals, vitals.observe(now)));
        let stuck = seen.filter(|(_, health)| matches!(health.state, StageState::Stuck { .. }));
        stuck
            .map(|(vitals, health)| {
                vitals.abort_if_stuck(&health);
                health
            })
            .collect()
    }

    /// Calls [`HealthBoard::check`] every `interval` for ever, on the timer of the runtime that it is spawned on, which should not
    /// be a stage's host: a blocked host would block its own watchdog.
    pub async fn watch(self, clock: Arc<dyn Clock>, interval: Duration) {
        let mut stuck_before = Vec::new();
        loop {
            tokio::time::sleep(interval).await;
            let stuck = self.check(clock.elapsed());
            for stage in stuck.iter().filter(|stage| !stuck_before.contains(&stage.id)) {
                tracing::warn!(stage = %stage.id, host = %stage.host, depth = stage.depth, "stage makes no progress");
            }
            stuck_before = stuck.into_iter().map(|stage| stage.id).collect();
        }
    }
}
