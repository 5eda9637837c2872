//! What a stage is: a plain value with an async handler. It never names actix, and it never supervises itself.
//!
//! A stage is made by its factory on the thread that it runs on, and again after each failure. So its futures need not be
//! `Send`, and whatever it opens belongs to that thread.

use std::{sync::Arc, time::Duration};

use karst_types::Clock;

use crate::{Escalated, HealthBoard, RestartPolicy, StageError};

/// A batch that travels between stages.
pub trait Payload: Send + 'static {
    /// Number of records in it. May be 0 (a batch that only carries a watermark or a position).
    fn len(&self) -> usize;

    /// Whether it carries no record.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One payload per record, in order; `self` is left empty. Called only after a failure, and only if `len() > 1`. Whatever the
    /// batch carries besides records (a watermark, a position, a credit) belongs to the last of them. Must not panic.
    fn singles(&mut self) -> Vec<Self>
    where
        Self: Sized;
}

/// One hop of the path. Implemented with plain `async fn`s.
pub trait Stage: Sized + 'static {
    /// What the data lane carries, in order.
    type Message: Payload;
    /// What the control lane carries; it overtakes data. Whatever describes the data before it (watermarks, positions,
    /// barriers) is data, and must not go here.
    type Control: Send + 'static;

    /// Called once after each build, before the first message. An error counts as a failed build.
    fn started(&mut self) -> impl Future<Output = Result<(), StageError>> {
        std::future::ready(Ok(()))
    }

    /// Handles one batch. Nothing else of this stage runs until it returns.
    ///
    /// The message is handed to the rebuilt stage if this panics, fails or is aborted: do not take it apart before the output
    /// has been sent. Await room downstream with [`Mailbox::send`](crate::Mailbox::send): that is the backpressure. A step that
    /// takes longer than `stuck_after` calls [`progress`](crate::progress) now and then.
    fn handle(&mut self, message: &mut Self::Message) -> impl Future<Output = Result<(), StageError>>;

    /// Handles one control message, between batches, also while a retry waits. At most once: if it fails, the stage is
    /// rebuilt (or, for [`Retry::Backoff`](karst_types::Retry), kept) and the control message is gone.
    fn control(&mut self, control: Self::Control) -> impl Future<Output = Result<(), StageError>>;

    /// Puts aside a payload of at most one record that made [`Stage::handle`] panic, or hang, twice. Called on a rebuilt stage,
    /// at the record's place in the order; what the payload carries besides the record must still be passed on. If this panics
    /// as well, the stage is rebuilt and asked again.
    fn poison(&mut self, message: &mut Self::Message, cause: &str) -> impl Future<Output = Result<(), StageError>>;

    /// Work that the stage finds by itself: called when both lanes are empty and nothing waits for a retry; called again when
    /// it returns. **Dropped at any await** as soon as a message, a tick or an order comes, so it must be cancel safe: keep in
    /// `self` what has been fetched but not yet sent. Not called while draining. Default: never returns.
    fn pull(&mut self) -> impl Future<Output = Result<(), StageError>> {
        std::future::pending()
    }

    /// Called every [`Stage::tick_interval`], between messages, also under load.
    fn tick(&mut self) -> impl Future<Output = Result<(), StageError>> {
        std::future::ready(Ok(()))
    }

    /// Time from one tick to the next (resolution 1 ms). Read again between messages: a new value starts a new wait, `None`
    /// ends it.
    fn tick_interval(&self) -> Option<Duration> {
        None
    }

    /// The last call after a graceful stop, both lanes being empty. Never called after a panic, a kill or a missed deadline.
    fn stopped(&mut self) -> impl Future<Output = Result<(), StageError>> {
        std::future::ready(Ok(()))
    }
}

/// What to do when a stage fails more often than its policy allows. Called on the stage's thread; must not block.
pub type Escalate = Arc<dyn Fn(Escalated) + Send + Sync>;

/// How a stage is run. Cloneable, so that a topology can keep one as its pattern.
#[derive(Clone)]
pub struct StageSpec {
    /// The kind of stage, as in the path table: `parse_stage`.
    pub name: &'static str,
    /// The one stage: `parse_stage flights[0]`. Label of its metrics and of its health.
    pub id: String,
    /// Messages that its data lane holds, at least 1. The message under work is not among them.
    pub capacity: usize,
    /// Restart intensity and backoff.
    pub restart: RestartPolicy,
    /// Work without progress for longer than this is stuck. Waiting for room downstream or for a credit is not.
    pub stuck_after: Duration,
    /// Whether [`HealthBoard::check`] aborts the handler of a stuck stage. Off: it only reports.
    pub abort_stuck: bool,
    /// Whether a stop leaves a message whose dependency is away, and what is behind it, instead of trying until its deadline. For
    /// stages whose messages come again from a log. Off: a stop waits.
    pub leave_at_stop: bool,
    /// Messages handled in a row before other stages of the host get their turn.
    pub yield_after: u32,
    /// Seed of the jitter; the id is mixed in, so one seed serves all stages.
    pub seed: u64,
    /// For durations. Timers are the host's.
    pub clock: Arc<dyn Clock>,
    /// Where the stage registers.
    pub board: Option<HealthBoard>,
    /// Called past the restart intensity.
    pub escalate: Option<Escalate>,
}

impl StageSpec {
    /// Capacity 8, default restart policy, stuck after 30 s and then aborted, a stop waits for dependencies, yields after 8 messages, no board, escalation
    /// only logged.
    pub fn new(name: &'static str, id: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        Self {
            name,
            id: id.into(),
            capacity: 8, // batches of about a thousand events in flight: larger gains nothing
            restart: RestartPolicy::default(),
            stuck_after: Duration::from_secs(30), // Quickwit's heartbeat
            abort_stuck: true,
            leave_at_stop: false,
            yield_after: 8, // keeps timers of the arbiter a few batches late at most
            seed: 0,
            clock,
            board: None,
            escalate: None,
        }
    }
    /// Sets the capacity of the data lane; used by [`spawn`](crate::spawn).
    #[must_use]
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }
    /// Sets the restart policy.
    #[must_use]
    pub fn restart(mut self, restart: RestartPolicy) -> Self {
        self.restart = restart;
        self
    }
    /// Sets when work without progress counts as stuck.
    #[must_use]
    pub fn stuck_after(mut self, stuck_after: Duration) -> Self {
        self.stuck_after = stuck_after;
        self
    }
    /// Sets whether a stuck handler is aborted.
    #[must_use]
    pub fn abort_stuck(mut self, abort_stuck: bool) -> Self {
        self.abort_stuck = abort_stuck;
        self
    }
    /// Sets whether a stop leaves what waits for a dependency.
    #[must_use]
    pub fn leave_at_stop(mut self, leave_at_stop: bool) -> Self {
        self.leave_at_stop = leave_at_stop;
        self
    }
    /// Sets the seed of the jitter.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
    /// Registers the stage on a board.
    #[must_use]
    pub fn board(mut self, board: &HealthBoard) -> Self {
        self.board = Some(board.clone());
        self
    }
    /// Sets what to do past the restart intensity.
    #[must_use]
    pub fn escalate(mut self, escalate: impl Fn(Escalated) + Send + Sync + 'static) -> Self {
        self.escalate = Some(Arc::new(escalate));
        self
    }
}
