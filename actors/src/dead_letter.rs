//! How a record becomes a dead letter.

use karst_types::{DeadLetter, Reason, RecordRef};

/// Bytes of a value that a dead letter keeps: enough to send any record of the default limit again. A longer one is cut, and
/// says how long it was.
pub(crate) const KEPT_BYTES_MAX: usize = 1 << 20;

/// A longer explanation is cut: errors of resolvers may quote their input.
const ERROR_BYTES_MAX: usize = 2048;

pub(crate) fn dead_letter(record: RecordRef<'_>, stage: &str, reason: Reason, error: &str) -> DeadLetter {
    let cut = |bytes: &[u8]| bytes[..bytes.len().min(KEPT_BYTES_MAX)].to_vec();
    DeadLetter {
        offset: record.offset(),
        broker_time: record.broker_time(),
        stage: stage.to_owned(),
        reason,
        error: error[..error.floor_char_boundary(ERROR_BYTES_MAX)].to_owned(),
        key: record.key().map(cut),
        value: record.value().map(cut),
        value_len: record.value().map_or(0, |value| value.len() as u64),
        headers: record.headers().map(|(name, value)| (name.to_owned(), value.map(cut))).collect(),
    }
}
