//! The only file that reads the time (`docs/runtime-semantics.md`, Threads and time). Everything else is handed a [`Clock`].
//!
//! Timers (backoff, ticks, deadlines) are tokio's and follow the runtime that the stage is hosted on; a test pauses it.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use karst_types::{Clock, ProcessingTime, TimeSpan};
use parking_lot::Mutex;

/// The machine's clocks. All values count [`Clock::elapsed`] from one start: the first reading in this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

static START: OnceLock<Instant> = OnceLock::new();

#[allow(clippy::disallowed_methods)] // the one place
impl Clock for SystemClock {
    fn now(&self) -> ProcessingTime {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        ProcessingTime(micros)
    }

    fn elapsed(&self) -> Duration {
        let start = *START.get_or_init(Instant::now);
        Instant::now().saturating_duration_since(start)
    }
}

/// A clock that moves only when it is told to. For tests and simulations.
///
/// ```
/// use std::time::Duration;
/// use karst_runtime::VirtualClock;
/// use karst_types::{Clock, ProcessingTime};
///
/// let clock = VirtualClock::at(ProcessingTime::from_secs(100));
/// clock.advance(Duration::from_secs(5));
/// assert_eq!((clock.now(), clock.elapsed()), (ProcessingTime::from_secs(105), Duration::from_secs(5)));
/// ```
#[derive(Debug, Default)]
pub struct VirtualClock(Mutex<Reading>);

#[derive(Debug, Default)]
struct Reading {
    now: ProcessingTime,
    elapsed: Duration,
}

impl VirtualClock {
    /// Starts at `now`; nothing has elapsed.
    pub fn at(now: ProcessingTime) -> Self {
        Self(Mutex::new(Reading { now, elapsed: Duration::ZERO }))
    }

    /// Time passes: wall clock and elapsed time move together.
    pub fn advance(&self, by: Duration) {
        let mut reading = self.0.lock();
        reading.elapsed = reading.elapsed.saturating_add(by);
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        reading.now = reading.now.plus(TimeSpan::from_micros(micros));
    }

    /// Somebody sets the wall clock, perhaps backwards; elapsed time goes on as if nothing had happened.
    pub fn set(&self, now: ProcessingTime) {
        self.0.lock().now = now;
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> ProcessingTime {
        self.0.lock().now
    }
    fn elapsed(&self) -> Duration {
        self.0.lock().elapsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_set_back_does_not_turn_elapsed_time_back() {
        let clock = VirtualClock::at(ProcessingTime::from_secs(1_000));
        clock.advance(Duration::from_secs(7));
        clock.set(ProcessingTime::from_secs(3));
        assert_eq!((clock.now(), clock.elapsed()), (ProcessingTime::from_secs(3), Duration::from_secs(7)));
    }

    #[test]
    fn two_system_clocks_count_from_one_start() {
        let first = SystemClock.elapsed();
        let second = SystemClock.elapsed();
        assert!(first <= second);
        assert!(SystemClock.now() > ProcessingTime::from_secs(1_600_000_000), "the machine's clock is before 2020");
    }
}
