//! How a stage ended, and the drain of a whole path.

use std::time::Duration;

use karst_types::Clock;

use crate::StageHandle;

/// What was not handled when a stage ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Left {
    /// Messages, the one under work included.
    pub messages: usize,
    /// Records in them.
    pub records: usize,
}

/// How a stage ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ExitStatus {
    /// Everything that had been sent was handled, and `stopped()` ran.
    Drained,
    /// The time given to `stop` was over first.
    Deadline {
        /// What was not handled.
        left: Left,
    },
    /// It was stopped while a dependency was away, and does not wait for one ([`StageSpec::leave_at_stop`](crate::StageSpec)).
    Waiting {
        /// What it waited for.
        cause: String,
        /// What was not handled.
        left: Left,
    },
    /// `kill` was called.
    Killed {
        /// What was not handled.
        left: Left,
    },
    /// It was stopped while it was given up, or its `stopped()` failed.
    Failed {
        /// Why.
        cause: String,
        /// What was not handled.
        left: Left,
    },
    /// Its host ended under it, or the shell itself has a bug. What was queued is gone.
    Lost,
    /// It did not answer `stop` in time: its thread is blocked. It may still be running.
    Unresponsive,
}

/// Stops stages one after the other, in the order given, which should be the path's: each drains into the next. All of them
/// together get `within`; when it is over, the rest get no time. The answer is in the same order.
pub async fn drain(stages: &[StageHandle], within: Duration, clock: &dyn Clock) -> Vec<(String, ExitStatus)> {
    let end = clock.elapsed().saturating_add(within);
    let mut report = Vec::with_capacity(stages.len());
    for stage in stages {
        let status = stage.stop(end.saturating_sub(clock.elapsed())).await;
        match &status {
            ExitStatus::Drained => {}
            ExitStatus::Waiting { cause, left } => {
                tracing::warn!(
                    stage = stage.id(),
                    cause,
                    ?left,
                    "stopped while a dependency is away; what is left comes again"
                );
            }
            _ => tracing::warn!(stage = stage.id(), ?status, "stage did not drain"),
        }
        report.push((stage.id().to_owned(), status));
    }
    report
}
