//! The time of a run: that of tokio, which is paused and leaps to the next timer whenever nothing is ready.

use std::time::Duration;

use karst::{Clock, ProcessingTime, TimeSpan};
use tokio::time::Instant;

/// To be made, and asked, inside of a runtime whose time is paused.
pub struct SimulatedClock {
    start: Instant,
    /// At the start.
    now: ProcessingTime,
    elapsed: Duration,
}

impl SimulatedClock {
    pub fn new(now: ProcessingTime, elapsed: Duration) -> Self {
        Self { start: Instant::now(), now, elapsed }
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> ProcessingTime {
        self.now.plus(TimeSpan::from_micros(self.start.elapsed().as_micros() as i64))
    }
    fn elapsed(&self) -> Duration {
        self.elapsed + self.start.elapsed()
    }
}
