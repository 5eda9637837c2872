//! The sums of one partition, and how they and its watermark are stored.

use karst_types::{EventTime, Outcome, Outcomes, Reason};

use crate::{bytes, lateness::Lateness, restart::WatermarkState};

const FORMAT: u8 = 1;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) outcomes: Outcomes,
    pub(super) reasons: [u64; Reason::ALL.len()],
    /// Under a key of its own: directories of older versions have none.
    pub(super) lateness: Lateness,
}

impl Tally {
    /// I8: every record has one outcome, and every dead one a reason.
    pub(super) fn is_exact(&self) -> bool {
        self.outcomes.conserved() && self.reasons.iter().sum::<u64>() == self.outcomes.dead_letters
    }

    /// A record that was counted as dead or late has another outcome now.
    pub(super) fn resettle(&mut self, was: Reason, outcome: Outcome) {
        let sums = &mut self.outcomes;
        let before = if was.is_fault() { &mut sums.dead_letters } else { &mut sums.late };
        debug_assert!(*before > 0, "what is replayed was counted");
        *before = before.saturating_sub(1);
        sums.count(outcome);
        sums.records -= 1; // it is not a new one
        if was.is_fault() {
            self.reasons[place(was)] = self.reasons[place(was)].saturating_sub(1);
        }
        if let Outcome::Dead(reason) = outcome {
            self.reasons[place(reason)] += 1;
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let Outcomes { records, applied, skipped, late, tombstones, dead_letters } = self.outcomes;
        let mut out = vec![FORMAT];
        [records, applied, skipped, late, tombstones, dead_letters].iter().for_each(|sum| bytes::put_varint(&mut out, *sum));
        for (reason, count) in Reason::ALL.iter().zip(self.reasons).filter(|(_, count)| *count > 0) {
            bytes::put_sized(&mut out, reason.as_str().as_bytes());
            bytes::put_varint(&mut out, count);
        }
        out
    }

    pub(super) fn decode(mut value: &[u8]) -> Option<Self> {
        let rest = &mut value;
        (bytes::u8(rest)? == FORMAT).then_some(())?;
        let mut sums = [0; 6];
        for sum in &mut sums {
            *sum = bytes::varint(rest)?;
        }
        let [records, applied, skipped, late, tombstones, dead_letters] = sums;
        let outcomes = Outcomes { records, applied, skipped, late, tombstones, dead_letters };
        let mut tally = Self { outcomes, ..Self::default() };
        while !rest.is_empty() {
            let reason = Reason::parse(std::str::from_utf8(bytes::sized(rest)?).ok()?)?;
            tally.reasons[place(reason)] = bytes::varint(rest)?;
        }
        Some(tally)
    }
}

pub(super) fn place(reason: Reason) -> usize {
    Reason::ALL.iter().position(|known| *known == reason).expect("ALL has every reason")
}

/// What is known of a partition as of the end of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Barrier {
    pub(super) watermark: WatermarkState,
    pub(super) fingerprint: Option<u64>,
}

impl Barrier {
    /// The fingerprint stands behind what programs before it wrote, and they read past it. Without an event time there is no place
    /// for it; such a partition has had no message yet.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        if let Some(at) = self.watermark.max_event_time {
            out.extend_from_slice(&at.0.to_le_bytes());
            self.fingerprint.iter().for_each(|print| out.extend_from_slice(&print.to_le_bytes()));
        }
        out
    }

    pub(super) fn decode(mut value: &[u8]) -> Option<Self> {
        (bytes::u8(&mut value)? == FORMAT).then_some(())?;
        let max_event_time = if value.is_empty() { None } else { Some(EventTime(bytes::i64(&mut value)?)) };
        let fingerprint = if value.is_empty() { None } else { Some(bytes::u64(&mut value)?) };
        Some(Self { watermark: WatermarkState { max_event_time }, fingerprint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_watermarks_read_back() {
        let outcomes = Outcomes { records: 300, applied: 298, dead_letters: 2, ..Outcomes::default() };
        let mut tally = Tally { outcomes, ..Tally::default() };
        tally.reasons[place(Reason::Malformed)] = 2;
        assert_eq!(Tally::decode(&tally.encode()), Some(tally));
        assert_eq!(Tally::decode(&tally.encode()[..8]), None);
        for max_event_time in [None, Some(EventTime(-7)), Some(EventTime::MAX)] {
            let watermark = WatermarkState { max_event_time };
            let barrier = Barrier { watermark, fingerprint: max_event_time.map(|_| 9) };
            assert_eq!(Barrier::decode(&barrier.encode()), Some(barrier));
            let before = Barrier { fingerprint: None, ..barrier }; // as programs before the fingerprints wrote it
            assert_eq!(Barrier::decode(&before.encode()), Some(before));
            assert!(barrier.encode().starts_with(&before.encode()), "and they read what is written now");
        }
    }
}
