//! The circuit breaker of a partition: when too many of its records fail, it stops, instead of draining the topic into the dead
//! letters. Pure.
//!
//! Judged in blocks of `failing_window` consecutive offsets, so that the verdict is a function of the log alone: whatever the
//! batches and restarts, the same record trips it. What failed before a restart within the block is known from the dead letters.

use karst_connectors::SourceSettings;
use karst_types::Offset;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Breaker {
    window: i64,
    /// Dead records that a block may have.
    allowed: u64,
    block: i64,
    dead: u64,
}

impl Breaker {
    /// `None`: this source has none.
    pub(crate) fn of(settings: &SourceSettings) -> Option<Self> {
        let percent = u64::from(settings.max_failing_percent?);
        let window = i64::from(settings.failing_window);
        Some(Self { window, allowed: window as u64 * percent / 100, block: i64::MIN, dead: 0 })
    }
    /// The first offset of the block that `offset` is in.
    pub(crate) fn block_start(&self, offset: Offset) -> Offset {
        Offset(offset.0.div_euclid(self.window) * self.window)
    }
    /// Reading begins at `offset`; so many of the records before it in its block are dead.
    pub(crate) fn start(&mut self, offset: Offset, dead: u64) {
        (self.block, self.dead) = (offset.0.div_euclid(self.window), dead);
    }
    /// A record is dead; offsets rise. Whether that is one too many.
    pub(crate) fn trips(&mut self, offset: Offset) -> bool {
        let block = offset.0.div_euclid(self.window);
        if block != self.block {
            (self.block, self.dead) = (block, 0);
        }
        self.dead += 1;
        self.dead > self.allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        let mut settings = SourceSettings::new("clicks");
        (settings.max_failing_percent, settings.failing_window) = (Some(25), 10);
        Breaker::of(&settings).unwrap()
    }
    fn tripped(dead: &[i64], restart_at: Option<i64>) -> Option<i64> {
        let mut breaker = breaker();
        dead.iter().copied().find(|offset| {
            if restart_at.is_some_and(|at| at <= *offset) {
                let at = Offset(restart_at.unwrap());
                let before = dead.iter().filter(|dead| (breaker.block_start(at).0..at.0).contains(*dead)).count();
                let mut again = self::breaker();
                again.start(at, before as u64);
                let since = dead.iter().filter(|dead| (at.0..=*offset).contains(*dead));
                return since.map(|dead| again.trips(Offset(*dead))).last() == Some(true);
            }
            breaker.trips(Offset(*offset))
        })
    }

    #[test]
    fn the_same_record_trips_it_wherever_a_restart_falls() {
        let dead = [1, 8, 9, 10, 11, 24, 25, 26, 27];
        assert_eq!(tripped(&dead[..2], None), None, "a quarter of ten, rounded down, is allowed");
        assert_eq!(tripped(&dead, None), Some(9));
        let spread = [8, 9, 10, 11, 24, 25, 26, 27];
        assert_eq!(tripped(&spread, None), Some(26), "blocks begin anew");
        for restart in 0..30 {
            let expected = if restart > 26 { Some(26) } else { tripped(&spread, None) };
            assert_eq!(tripped(&spread, Some(restart)), expected, "restart at {restart}");
        }
    }

    #[test]
    fn it_is_off_unless_it_is_asked_for() {
        assert_eq!(Breaker::of(&SourceSettings::new("clicks")), None);
    }
}
