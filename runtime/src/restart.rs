//! When to rebuild a failed stage, how long to wait before, and when to give up. Pure: time and randomness are handed in.
//!
//! Restart intensity is OTP's (`intensity` restarts within `period`); the defaults are those of a stage that usually recovers at once.

use std::{collections::VecDeque, time::Duration};

/// When a failing stage is given up, and how long it rests before each rebuild.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RestartPolicy {
    /// Restarts allowed within `period`; one more escalates.
    pub intensity: u32,
    /// See `intensity`.
    pub period: Duration,
    /// The wait before each rebuild, and before each retry of a [`Retry::Backoff`](karst_types::Retry) error.
    pub backoff: Backoff,
    /// Messages handled since the last failure after which all is forgotten. 1 makes the intensity one of restarts *without
    /// progress*: then any number of poison records passes, as long as each of them does.
    pub healthy_messages: u64,
    /// Time since the last failure after which all is forgotten.
    pub healthy_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            intensity: 5,
            period: Duration::from_secs(60),
            backoff: Backoff::default(),
            healthy_messages: 1_000,
            healthy_after: Duration::from_secs(600), // Flink's reset threshold
        }
    }
}

/// A wait that doubles from `initial` up to `max`, blurred by `jitter` so that stages which fell together do not come back
/// together.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Backoff {
    /// The wait after the first failure.
    pub initial: Duration,
    /// The longest wait, before jitter.
    pub max: Duration,
    /// Share of the wait by which it may be shorter or longer, 0 to 1.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_millis(200), max: Duration::from_secs(30), jitter: 0.2 }
    }
}

impl Backoff {
    /// The wait after the `failures`-th failure in a row (counted from 1), without jitter.
    pub fn base(&self, failures: u32) -> Duration {
        let doubled = 2u32.checked_pow(failures.saturating_sub(1)).and_then(|factor| self.initial.checked_mul(factor));
        doubled.map_or(self.max, |wait| wait.min(self.max))
    }

    /// [`Backoff::base`] times a random factor between `1 - jitter` and `1 + jitter`.
    pub(crate) fn wait(&self, failures: u32, dice: &mut Dice) -> Duration {
        let jitter = self.jitter.clamp(0.0, 1.0);
        self.base(failures).mul_f64(1.0 - jitter + 2.0 * jitter * dice.unit())
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): spreads jitter, nothing more; a seed replays it.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64, id: &str) -> Self {
        let mixed = id.bytes().fold(seed, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Self(mixed)
    }
    /// In `[0, 1)`.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Told to the handler of [`StageSpec::escalate`](crate::StageSpec::escalate). The stage is parked, its mailbox kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Escalated {
    /// The stage.
    pub id: String,
    /// Why it failed the last time.
    pub cause: String,
    /// Restarts within the period before it was given up.
    pub restarts: u32,
}

/// The failures of one stage that still count.
#[derive(Debug)]
pub(crate) struct Ledger {
    policy: RestartPolicy,
    /// Restarts within the last `period`, oldest first; never more than `intensity`.
    recent: VecDeque<Duration>,
    in_a_row: u32,
    handled: u64,
    last: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// Rebuild it after the backoff of this many failures in a row.
    Restart { in_a_row: u32 },
    /// Give it up; so many restarts were within the period.
    Escalate { restarts: u32 },
}

impl Ledger {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        Self { policy, recent: VecDeque::new(), in_a_row: 0, handled: 0, last: Duration::ZERO }
    }

    /// A message was handled.
    pub(crate) fn handled(&mut self) {
        if self.in_a_row == 0 {
            return;
        }
        self.handled += 1;
        if self.handled >= self.policy.healthy_messages {
            self.forget();
        }
    }

    /// The stage failed at `now`.
    pub(crate) fn failed(&mut self, now: Duration) -> Decision {
        if self.in_a_row > 0 && now.saturating_sub(self.last) >= self.policy.healthy_after {
            self.forget();
        }
        while self.recent.front().is_some_and(|at| now.saturating_sub(*at) >= self.policy.period) {
            self.recent.pop_front();
        }
        self.handled = 0;
        self.last = now;
        if self.recent.len() >= self.policy.intensity as usize {
            return Decision::Escalate { restarts: self.policy.intensity };
        }
        self.recent.push_back(now);
        self.in_a_row = self.in_a_row.saturating_add(1);
        Decision::Restart { in_a_row: self.in_a_row }
    }

    /// As if it had never failed.
    pub(crate) fn forget(&mut self) {
        self.recent.clear();
        self.in_a_row = 0;
        self.handled = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_sixth_failure_within_a_minute_escalates_and_slower_ones_never_do() {
        let mut ledger = Ledger::new(RestartPolicy::default());
        for failure in 1..=5 {
            assert_eq!(ledger.failed(secs(u64::from(failure))), Decision::Restart { in_a_row: failure });
        }
        assert_eq!(ledger.failed(secs(60)), Decision::Escalate { restarts: 5 });
        assert_eq!(ledger.failed(secs(61)), Decision::Restart { in_a_row: 6 }, "the first one has left the minute");

        let mut slow = Ledger::new(RestartPolicy::default());
        assert!((0..100).all(|failure| matches!(slow.failed(secs(failure * 13)), Decision::Restart { .. })));
    }

    #[test]
    fn ten_healthy_minutes_or_enough_messages_forget_all_failures() {
        let mut ledger = Ledger::new(RestartPolicy { healthy_messages: 3, ..RestartPolicy::default() });
        (1..=5).map(secs).for_each(|at| assert!(matches!(ledger.failed(at), Decision::Restart { .. })));
        (0..3).for_each(|_| ledger.handled());
        assert_eq!(ledger.failed(secs(6)), Decision::Restart { in_a_row: 1 });
        assert_eq!(ledger.failed(secs(7)), Decision::Restart { in_a_row: 2 });
        assert_eq!(ledger.failed(secs(607)), Decision::Restart { in_a_row: 1 });
    }

    #[test]
    fn the_wait_doubles_up_to_its_maximum() {
        let backoff = Backoff { initial: secs(1), max: secs(20), jitter: 0.0 };
        let waits: Vec<_> = [1, 2, 3, 4, 5, 6, 40, u32::MAX].map(|failures| backoff.base(failures).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 8, 16, 20, 20, 20]);
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_share_and_the_same_seed_gives_the_same_waits(seed: u64, failures in 1u32..12, jitter in 0.0f64..1.0) {
            let backoff = Backoff { jitter, ..Backoff::default() };
            let (mut dice, mut again) = (Dice::new(seed, "stage"), Dice::new(seed, "stage"));
            for _ in 0..20 {
                let wait = backoff.wait(failures, &mut dice);
                let share = wait.as_secs_f64() / backoff.base(failures).as_secs_f64();
                prop_assert!(share >= 1.0 - jitter - 1e-6 && share <= 1.0 + jitter + 1e-6, "{share}");
                prop_assert_eq!(wait, backoff.wait(failures, &mut again));
            }
        }
    }

    #[test]
    fn stages_with_one_seed_do_not_wait_in_step() {
        let (mut ada, mut bob) = (Dice::new(7, "parse_stage flights[0]"), Dice::new(7, "parse_stage flights[1]"));
        assert_ne!(ada.unit().to_bits(), bob.unit().to_bits());
    }
}
