//! What became of each record: every record of a batch ends in exactly one [`Outcome`], and the sums are conserved.

use std::fmt;

use crate::{BrokerTime, EventTime, Offset};

/// What became of one record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// At least one resolver wrote something.
    Applied,
    /// Every resolver wrote nothing, or parse returned `None`.
    Skipped,
    /// Later than the deadline, whatever the late lane then did with it: its resolvers ran only in the lane `correct`.
    Late,
    /// A null value.
    Tombstone,
    /// Put aside with a reason.
    Dead(Reason),
}

/// Why a record is a dead letter. The names are metric labels and are stored: never rename one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// No bytes where a message was expected.
    Empty,
    /// Larger than the source's limit.
    TooLarge,
    /// Not UTF-8.
    NotUtf8,
    /// Not of the format at all (truncated, trailing garbage, nested too deeply).
    Malformed,
    /// Of the format, but not of the message's schema.
    SchemaMismatch,
    /// Of the schema, but its own check says no.
    Invalid,
    /// Before 1970, or further in the future than the source allows.
    EventTimeOutOfRange,
    /// The update has no usable key.
    MissingKey,
    /// The resolver returned an error.
    ResolverError,
    /// A stage panicked on this record, twice.
    Panicked,
    /// The schema registry has no schema with the id in the record, or has none any more.
    SchemaUnknown,
    /// The schema that the record was written with cannot be read as the message.
    SchemaIncompatible,
    /// Later than the deadline of a source that keeps such records. Counted as late, not as dead: see [`Reason::is_fault`].
    Late,
    /// The parse function of a resolver returned an error.
    ParseFailed,
    /// Further ahead of its record than `max_future_skew`, of a source that does not keep such events.
    Future,
    /// The process ended again and again while this record alone was in hand.
    EndsProcess,
}

impl Reason {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 16] = [
        Self::Empty,
        Self::TooLarge,
        Self::NotUtf8,
        Self::Malformed,
        Self::SchemaMismatch,
        Self::Invalid,
        Self::EventTimeOutOfRange,
        Self::MissingKey,
        Self::ResolverError,
        Self::Panicked,
        Self::SchemaUnknown,
        Self::SchemaIncompatible,
        Self::Late,
        Self::ParseFailed,
        Self::Future,
        Self::EndsProcess,
    ];

    /// Whether a letter with this reason is among the dead records. A late record is kept only for someone to look at: it was
    /// counted as late.
    pub const fn is_fault(self) -> bool {
        !matches!(self, Self::Late)
    }

    /// The stable name, for labels, logs and storage.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::NotUtf8 => "not_utf8",
            Self::Malformed => "malformed",
            Self::SchemaMismatch => "schema_mismatch",
            Self::Invalid => "invalid",
            Self::EventTimeOutOfRange => "event_time_out_of_range",
            Self::MissingKey => "missing_key",
            Self::ResolverError => "resolver_error",
            Self::Panicked => "panicked",
            Self::SchemaUnknown => "schema_unknown",
            Self::SchemaIncompatible => "schema_incompatible",
            Self::Late => "late",
            Self::ParseFailed => "parse_failed",
            Self::Future => "future",
            Self::EndsProcess => "ends_process",
        }
    }

    /// The reason with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A record that could not pass, with all that is needed to look at it and to send it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    /// Where it stands in its partition.
    pub offset: Offset,
    /// The broker's timestamp.
    pub broker_time: BrokerTime,
    /// The stage that put it aside, such as `parse_stage`.
    pub stage: String,
    /// Why, as a class.
    pub reason: Reason,
    /// Why, in words.
    pub error: String,
    /// How often it has been tried: 1, and one more for each replay that failed.
    pub attempt: u32,
    /// By what a replay judges whether it is late: the log watermark before it. `None`: it is not judged (again), because it was
    /// found in time before it failed, or nothing was before it, or it is kept as late and replayed nevertheless.
    pub watermark: Option<EventTime>,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The raw value. Cut at the source's `max_record_bytes`; [`DeadLetter::value_len`] is the whole length.
    pub value: Option<Vec<u8>>,
    /// Length of the whole value.
    pub value_len: u64,
    /// The record's headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl DeadLetter {
    /// Whether the end of its value is missing: such a letter cannot be replayed.
    pub fn is_cut(&self) -> bool {
        self.value.as_ref().is_some_and(|value| (value.len() as u64) < self.value_len)
    }
}

/// Sums over records. `applied + skipped + late + tombstones + dead letters = records`, always.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcomes {
    /// All records, counted where they were read; what the other sums must add up to.
    pub records: u64,
    /// See [`Outcome::Applied`].
    pub applied: u64,
    /// See [`Outcome::Skipped`].
    pub skipped: u64,
    /// See [`Outcome::Late`].
    pub late: u64,
    /// See [`Outcome::Tombstone`].
    pub tombstones: u64,
    /// See [`Outcome::Dead`].
    pub dead_letters: u64,
}

impl Outcomes {
    /// Counts one record.
    pub fn count(&mut self, outcome: Outcome) {
        self.records += 1;
        *match outcome {
            Outcome::Applied => &mut self.applied,
            Outcome::Skipped => &mut self.skipped,
            Outcome::Late => &mut self.late,
            Outcome::Tombstone => &mut self.tombstones,
            Outcome::Dead(_) => &mut self.dead_letters,
        } += 1;
    }
    /// Adds the sums of another part of the log.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.applied += other.applied;
        self.skipped += other.skipped;
        self.late += other.late;
        self.tombstones += other.tombstones;
        self.dead_letters += other.dead_letters;
    }
    /// Whether every record is accounted for exactly once.
    pub const fn conserved(&self) -> bool {
        self.missing() == 0
    }
    /// Records that were read and have no outcome; below 0 if there are more outcomes than records. Either is a fault of Karst.
    pub const fn missing(&self) -> i64 {
        let accounted = self.applied + self.skipped + self.late + self.tombstones + self.dead_letters;
        self.records.wrapping_sub(accounted) as i64
    }
}

impl FromIterator<Outcome> for Outcomes {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut sums = Self::default();
        outcomes.into_iter().for_each(|outcome| sums.count(outcome));
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
    }

    #[test]
    fn sums_conserve_records() {
        let sums: Outcomes =
            [Outcome::Applied, Outcome::Late, Outcome::Dead(Reason::Empty), Outcome::Tombstone, Outcome::Skipped]
                .into_iter()
                .collect();
        assert!(sums.conserved() && sums.records == 5);
        assert_eq!(Outcomes { records: 1, ..Outcomes::default() }.missing(), 1);
        assert_eq!(Outcomes { late: 2, ..Outcomes::default() }.missing(), -2);
    }
}
