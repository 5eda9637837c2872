//! The total order of updates that decides which value of a feature is kept (`docs/semantics.md`, Which value is kept).

use crate::{EventTime, Offset, PartitionId, SourceId};

/// (event time, source, partition, offset, index within the record): a total order that no schedule can change. Of two
/// updates of one feature the later in this order is the value, whichever came first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version {
    /// When it happened.
    pub event_time: EventTime,
    /// The source of the record.
    pub source: SourceId,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Which of the record's updates it is.
    pub index: u32,
}

impl Version {
    /// Length in bytes of [`Version::encode`].
    pub const ENCODED_LEN: usize = 26;

    /// Fixed-length bytes, for rows; not meant to sort.
    #[inline]
    pub fn bytes(&self) -> [u8; Self::ENCODED_LEN] {
        let mut bytes = [0; Self::ENCODED_LEN];
        bytes[..8].copy_from_slice(&self.event_time.0.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.source.0.to_le_bytes());
        bytes[10..14].copy_from_slice(&self.partition.0.to_le_bytes());
        bytes[14..22].copy_from_slice(&self.offset.0.to_le_bytes());
        bytes[22..].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    /// Appends [`Version::bytes`].
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }

    /// Reads what [`Version::encode`] wrote, and what follows.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (event_time, rest) = bytes.split_first_chunk::<8>()?;
        let (source, rest) = rest.split_first_chunk::<2>()?;
        let (partition, rest) = rest.split_first_chunk::<4>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (index, rest) = rest.split_first_chunk::<4>()?;
        let version = Self {
            event_time: EventTime(i64::from_le_bytes(*event_time)),
            source: SourceId(u16::from_le_bytes(*source)),
            partition: PartitionId(i32::from_le_bytes(*partition)),
            offset: Offset(i64::from_le_bytes(*offset)),
            index: u32::from_le_bytes(*index),
        };
        Some((version, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_time_comes_before_everything_else_in_the_order() {
        let version = |event_time, partition, offset| Version {
            event_time: EventTime(event_time),
            source: SourceId(0),
            partition: PartitionId(partition),
            offset: Offset(offset),
            index: 0,
        };
        assert!(version(2, 0, 1) > version(1, 9, 9));
        assert!(version(1, 1, 0) > version(1, 0, 9));
        assert!(version(1, 1, 2) > version(1, 1, 1));
    }

    #[test]
    fn a_version_reads_back() {
        let version = Version {
            event_time: EventTime(-3),
            source: SourceId(2),
            partition: PartitionId(7),
            offset: Offset(1842),
            index: 1,
        };
        let mut bytes = Vec::new();
        version.encode(&mut bytes);
        assert_eq!(bytes.len(), Version::ENCODED_LEN);
        assert_eq!(Version::decode(&bytes), Some((version, &[][..])));
    }
}
