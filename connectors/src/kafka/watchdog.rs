//! Notices a partition that silently stops: there is more to read, nothing holds it back, and nothing comes.
//!
//! It happens (rust-rdkafka#840, librdkafka#1582): for hours, while the siblings flow. First the partition is assigned anew from
//! where it stands; if that does not help, the client is made anew. Nothing is lost by either, so the limit can be short.

use std::time::Duration;

pub(super) const STALLED_AFTER: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Watchdog {
    at: i64,
    since: Option<Duration>,
    strikes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Fine,
    /// Assign the partition anew.
    Reassign,
    /// Make the client anew.
    Recreate,
}

impl Watchdog {
    /// `next` is the offset that is expected next; `behind` says that the log goes on there and nothing holds the fetch back.
    pub(super) fn look(&mut self, now: Duration, next: i64, behind: bool) -> Verdict {
        if next != self.at {
            *self = Self { at: next, since: None, strikes: 0 };
        }
        if !behind {
            self.since = None;
            return Verdict::Fine;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_sub(since) < STALLED_AFTER {
            return Verdict::Fine;
        }
        self.since = Some(now);
        self.strikes += 1;
        if self.strikes == 1 { Verdict::Reassign } else { Verdict::Recreate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_partition_that_stands_still_is_assigned_anew_then_the_client() {
        let mut watchdog = Watchdog::default();
        assert_eq!(watchdog.look(secs(0), 5, true), Verdict::Fine);
        assert_eq!(watchdog.look(secs(59), 5, true), Verdict::Fine);
        assert_eq!(watchdog.look(secs(60), 5, true), Verdict::Reassign);
        assert_eq!(watchdog.look(secs(61), 5, true), Verdict::Fine, "it is given time");
        assert_eq!(watchdog.look(secs(120), 5, true), Verdict::Recreate);
        assert_eq!(watchdog.look(secs(180), 6, true), Verdict::Fine, "progress forgives");
        assert_eq!(watchdog.look(secs(240), 6, true), Verdict::Reassign);
    }

    #[test]
    fn idle_and_held_back_partitions_are_left_alone() {
        let mut watchdog = Watchdog::default();
        assert_eq!(watchdog.look(secs(0), 5, false), Verdict::Fine);
        assert_eq!(watchdog.look(secs(1000), 5, true), Verdict::Fine, "the time counts from when it fell behind");
        assert_eq!(watchdog.look(secs(1059), 5, false), Verdict::Fine);
        assert_eq!(watchdog.look(secs(1070), 5, true), Verdict::Fine);
    }
}
