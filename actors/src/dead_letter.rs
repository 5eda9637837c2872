//! How a record becomes a dead letter.

use karst_connectors::SourceSettings;
use karst_types::{DeadLetter, EventTime, Reason, RecordRef};

/// A longer explanation is cut: errors of resolvers may quote their input.
const ERROR_BYTES_MAX: usize = 2048;

/// What a stage knows about a record that it puts aside.
pub(crate) struct Fault<'a> {
    pub(crate) stage: &'static str,
    pub(crate) reason: Reason,
    pub(crate) error: &'a str,
    /// By what a replay is to judge it; see [`DeadLetter::watermark`].
    pub(crate) watermark: Option<EventTime>,
    pub(crate) attempt: u32,
}

/// The letter keeps the record whole. Only what is longer than the source takes is cut, in value, key and headers alike, and
/// says how long it was: `max_record_bytes` bounds it.
pub(crate) fn dead_letter(record: RecordRef<'_>, settings: &SourceSettings, fault: Fault<'_>) -> DeadLetter {
    let cut = |bytes: &[u8]| bytes[..bytes.len().min(settings.max_record_bytes.bytes())].to_vec();
    let Fault { stage, reason, error, watermark, attempt } = fault;
    DeadLetter {
        offset: record.offset(),
        broker_time: record.broker_time(),
        stage: stage.to_owned(),
        reason,
        error: error[..error.floor_char_boundary(ERROR_BYTES_MAX)].to_owned(),
        attempt,
        watermark,
        key: record.key().map(cut),
        value: record.value().map(cut),
        value_len: record.value().map_or(0, |value| value.len() as u64),
        headers: record.headers().map(|(name, value)| (name.to_owned(), value.map(cut))).collect(),
    }
}
