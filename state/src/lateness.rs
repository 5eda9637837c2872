//! How late the events of a partition were: sums that move with its position, so that each event counts once.

use karst_types::{LatenessHistogram, lateness::BUCKETS};

use crate::bytes;

/// Names the borders of [`karst_types::lateness::BORDERS`], too: other borders are another format.
const FORMAT: u8 = 1;

/// Of a batch, or of a partition up to a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lateness {
    /// The events by their lateness, late or not.
    pub events: LatenessHistogram,
    /// Late events whose resolvers wrote something (late lane `correct`).
    pub corrected: u64,
}

impl Lateness {
    /// Adds another part of the log.
    pub fn add(&mut self, other: &Self) {
        self.events.add(&other.events);
        self.corrected += other.corrected;
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        bytes::put_varint(&mut out, self.corrected);
        self.events.counts().iter().for_each(|count| bytes::put_varint(&mut out, *count));
        out
    }

    pub(crate) fn decode(mut value: &[u8]) -> Option<Self> {
        let rest = &mut value;
        (bytes::u8(rest)? == FORMAT).then_some(())?;
        let corrected = bytes::varint(rest)?;
        let mut counts = [0; BUCKETS];
        for count in &mut counts {
            *count = bytes::varint(rest)?;
        }
        rest.is_empty().then_some(Self { events: LatenessHistogram::from_counts(counts), corrected })
    }
}

#[cfg(test)]
mod tests {
    use karst_types::TimeSpan;

    use super::*;

    #[test]
    fn lateness_reads_back_and_a_cut_text_is_refused() {
        let mut lateness = Lateness { corrected: 300, ..Lateness::default() };
        lateness.events.record(TimeSpan::from_secs(90));
        let stored = lateness.encode();
        assert_eq!(Lateness::decode(&stored), Some(lateness));
        assert_eq!(Lateness::decode(&stored[..stored.len() - 1]), None);
        assert_eq!(Lateness::decode(&[stored.as_slice(), &[0]].concat()), None);
    }
}
