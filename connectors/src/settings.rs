//! What every source has in common: names, times, limits. A wrong text is remembered and reported by
//! [`Source::start`](crate::Source::start), together with everything else that is wrong: builders do not panic.

use std::{fmt, str::FromStr};

use karst_types::{ByteSize, SourceName, TimeField, TimeSpan};

use crate::{Error, Format, Result};

/// Where a source without a stored position starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StartAt {
    /// At the oldest record that is still there.
    #[default]
    Earliest,
    /// Behind the newest record: only what comes from now on.
    Latest,
}

/// What becomes of late events (`docs/semantics.md`, Watermark and lateness). They are counted in every lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum LateLane {
    /// Nothing more: their resolvers do not run.
    #[default]
    Drop,
    /// Their resolvers do not run; the record is kept as a dead letter with reason `late`.
    DeadLetter,
    /// Their resolvers run, and what they write is applied: it goes to the history, and replaces only values that are older
    /// still.
    Correct,
}

impl LateLane {
    /// As it is written in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::DeadLetter => "dead_letter",
            Self::Correct => "correct",
        }
    }
}

impl FromStr for LateLane {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Drop, Self::DeadLetter, Self::Correct]
            .into_iter()
            .find(|lane| lane.as_str() == text)
            .ok_or_else(|| format!("expected \"drop\", \"dead_letter\" or \"correct\", got \"{text}\""))
    }
}

impl fmt::Display for LateLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What becomes of events that are further ahead of their record's broker time than `max_future_skew` (`docs/semantics.md`,
/// Event time). They are counted either way, and move the watermark no further than that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum FutureEvents {
    /// They are events like any other: a booked flight.
    #[default]
    Keep,
    /// The record is a dead letter with reason `future`.
    DeadLetter,
}

impl FutureEvents {
    /// As it is written in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::DeadLetter => "dead_letter",
        }
    }
}

impl FromStr for FutureEvents {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Keep, Self::DeadLetter]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| format!("expected \"keep\" or \"dead_letter\", got \"{text}\""))
    }
}

/// Largest value that is ever copied out of a broker or a file. [`SourceSettings::max_record_bytes`] stays at or below it;
/// a longer value is cut here, and is a dead letter anyway.
pub const RECORD_BYTES_CAP: usize = 16 << 20;

/// The settings that every source has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceSettings {
    /// The name of the source; stream resolvers refer to it.
    pub name: SourceName,
    /// How its records are encoded.
    pub format: Format,
    /// The field that holds the event time, for messages whose fields are known only at run time; others name theirs.
    pub event_time: Option<TimeField>,
    /// An event that is further than this behind its partition's log watermark is late, and [`late_lane`](Self::late_lane) says
    /// what becomes of it (`docs/semantics.md`, Watermark and lateness). Default: infinity.
    pub late_arrival_deadline: TimeSpan,
    /// What becomes of events that are later (`docs/semantics.md`, Watermark and lateness). Default: drop.
    pub late_lane: LateLane,
    /// How far the log watermark stays behind the largest event time (`docs/semantics.md`, Watermark and lateness). Default: 0.
    pub disorder: TimeSpan,
    /// How far ahead of its record's broker time an event may move the watermark; one that is further ahead moves it by this
    /// much (`docs/semantics.md`, Event time). Default: 5 m.
    pub max_future_skew: TimeSpan,
    /// What becomes of such an event (`docs/semantics.md`, Event time). Default: it is kept.
    pub future_events: FutureEvents,
    /// A partition that is ahead of the slowest of its source by more than this, in event time, waits for it
    /// (`docs/semantics.md`, Progress of a source). Default: infinity.
    pub max_drift: TimeSpan,
    /// How often the source is asked for partitions that were added. Default 30 s.
    pub discover_interval: TimeSpan,
    /// A longer value is a dead letter with reason `too_large`. At most 16 MiB, default 1 MiB.
    pub max_record_bytes: ByteSize,
    /// A partition of which more than this percentage of `failing_window` consecutive offsets fails stops, and says so.
    /// Default: none, so that any number may fail.
    pub max_failing_percent: Option<u8>,
    /// Offsets over which that is counted. Default 1000.
    pub failing_window: u32,
    /// A batch closes at this many records. Default 1024: larger ones gain nothing and hold a mailbox slot for longer.
    pub batch_records: usize,
    /// A batch closes at this many bytes (it may pass it by one record). Default 1 MiB.
    pub batch_bytes: ByteSize,
    /// A batch that is not full closes after this time (Kafka: up to four times as long while the reader is busy with earlier
    /// ones). Default 5 ms.
    pub batch_linger: TimeSpan,
    /// What is read ahead of the reader, per partition; fetching stops above it and starts again at half. Default 8 MiB.
    pub buffer_bytes: ByteSize,
    /// What records may take from being read ahead until they are applied, of all partitions together: half of it for what is read ahead
    /// (each partition has its share, if that is less than `buffer_bytes`), half for what is on the way to the shards. A partition
    /// always has room for one record, however large. Default 128 MiB.
    pub memory: ByteSize,
    /// Where to start when no position is stored.
    pub start: StartAt,
    problems: Vec<String>,
}

impl SourceSettings {
    /// The defaults, for a source of this name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            format: Format::default(),
            event_time: None,
            late_arrival_deadline: TimeSpan::INFINITY,
            late_lane: LateLane::Drop,
            disorder: TimeSpan::ZERO,
            max_future_skew: TimeSpan::from_secs(300),
            future_events: FutureEvents::Keep,
            max_drift: TimeSpan::INFINITY,
            discover_interval: TimeSpan::from_secs(30),
            max_record_bytes: ByteSize::mib(1),
            max_failing_percent: None,
            failing_window: 1000,
            batch_records: 1024,
            batch_bytes: ByteSize::mib(1),
            batch_linger: TimeSpan::from_millis(5),
            buffer_bytes: ByteSize::mib(8),
            memory: ByteSize::mib(128),
            start: StartAt::Earliest,
            problems: Vec::new(),
        }
    }

    /// The same settings with another format.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Remembers a problem for [`SourceSettings::check`].
    pub fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Sets a span from a value or a text; a text that is none is remembered.
    pub fn span(&mut self, setting: &str, value: impl IntoTimeSpan, set: impl FnOnce(&mut Self, TimeSpan)) {
        match value.into_time_span() {
            Ok(span) => set(self, span),
            Err(why) => self.problem(format!("{setting}: {why}")),
        }
    }

    /// Sets a size from a value or a text; a text that is none is remembered.
    pub fn size(&mut self, setting: &str, value: impl IntoByteSize, set: impl FnOnce(&mut Self, ByteSize)) {
        match value.into_byte_size() {
            Ok(size) => set(self, size),
            Err(why) => self.problem(format!("{setting}: {why}")),
        }
    }

    /// Everything that is wrong, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        let mut require = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        require(!self.name.as_str().is_empty(), "its name is empty");
        require(
            self.late_arrival_deadline >= TimeSpan::ZERO,
            "late_arrival_deadline must not be negative; \"0s\" allows no lateness, \"infinity\" any",
        );
        require(self.disorder >= TimeSpan::ZERO && !self.disorder.is_infinite(), "disorder must be finite and not negative");
        require(self.max_future_skew >= TimeSpan::ZERO, "max_future_skew must not be negative");
        require(
            self.max_drift > TimeSpan::ZERO,
            "max_drift must be longer than zero: partitions would wait for each other at every record; \"infinity\" turns it off",
        );
        require(
            self.discover_interval >= TimeSpan::from_millis(10) && !self.discover_interval.is_infinite(),
            "discover_interval must be finite and at least 10ms",
        );
        require(
            (1..=RECORD_BYTES_CAP as u64).contains(&self.max_record_bytes.0),
            "max_record_bytes must lie between 1B and 16MiB",
        );
        require(
            self.max_failing_percent.is_none_or(|percent| percent <= 100),
            "max_failing_percent must lie between 0 and 100",
        );
        require((1..=1 << 20).contains(&self.failing_window), "failing_window must lie between 1 and 1048576");
        require((1..=1 << 20).contains(&self.batch_records), "batch_records must lie between 1 and 1048576");
        require((1..=1 << 30).contains(&self.batch_bytes.0), "batch_bytes must lie between 1B and 1GiB");
        require(
            self.batch_linger >= TimeSpan::ZERO && self.batch_linger <= TimeSpan::from_secs(10),
            "batch_linger must lie between 0 and 10s",
        );
        require((1..=1 << 32).contains(&self.buffer_bytes.0), "buffer_bytes must lie between 1B and 4GiB");
        require((1..=1 << 40).contains(&self.memory.0), "memory must lie between 1B and 1TiB");
        problems.extend(self.format.problems());
        problems
    }

    /// What may be read ahead of each of so many partitions, in bytes.
    pub(crate) fn read_ahead(&self, partitions: usize) -> usize {
        let share = self.memory.bytes() / 2 / partitions.max(1);
        self.buffer_bytes.bytes().min(share).max(1)
    }

    /// Whether the settings hold.
    ///
    /// # Errors
    /// [`Error::Config`] with all problems.
    pub fn check(&self) -> Result<()> {
        match self.problems() {
            problems if problems.is_empty() => Ok(()),
            problems => Err(Error::Config { name: self.name.clone(), problems }),
        }
    }
}

/// A length of time, or its text such as `"30m"`.
pub trait IntoTimeSpan {
    /// The span.
    ///
    /// # Errors
    /// What is wrong with the text.
    fn into_time_span(self) -> Result<TimeSpan, String>;
}
impl IntoTimeSpan for TimeSpan {
    fn into_time_span(self) -> Result<TimeSpan, String> {
        Ok(self)
    }
}
impl IntoTimeSpan for &str {
    fn into_time_span(self) -> Result<TimeSpan, String> {
        self.parse()
    }
}
impl IntoTimeSpan for String {
    fn into_time_span(self) -> Result<TimeSpan, String> {
        self.parse()
    }
}

/// A number of bytes, or its text such as `"8MiB"`.
pub trait IntoByteSize {
    /// The size.
    ///
    /// # Errors
    /// What is wrong with the text.
    fn into_byte_size(self) -> Result<ByteSize, String>;
}
impl IntoByteSize for ByteSize {
    fn into_byte_size(self) -> Result<ByteSize, String> {
        Ok(self)
    }
}
impl IntoByteSize for &str {
    fn into_byte_size(self) -> Result<ByteSize, String> {
        self.parse()
    }
}
impl IntoByteSize for String {
    fn into_byte_size(self) -> Result<ByteSize, String> {
        self.parse()
    }
}

/// The setters that every source's builder has. `$settings` is the field that holds the [`SourceSettings`].
macro_rules! source_setters {
    ($settings:ident) => {
        /// How its records are encoded, for example `Format::text()`. Default: JSON.
        #[must_use]
        pub fn format(mut self, format: impl Into<$crate::Format>) -> Self {
            self.$settings.format = format.into();
            self
        }
        /// The field that holds the event time, for messages whose fields are known only at run time.
        #[must_use]
        pub fn event_time(mut self, field: karst_types::TimeField) -> Self {
            self.$settings.event_time = Some(field);
            self
        }
        /// Events later than this behind their partition's watermark do not run their resolver: `"30m"`, `"infinity"`.
        #[must_use]
        pub fn late_arrival_deadline(mut self, deadline: impl $crate::settings::IntoTimeSpan) -> Self {
            self.$settings.span("late_arrival_deadline", deadline, |settings, span| settings.late_arrival_deadline = span);
            self
        }
        /// What becomes of late events; default: they are dropped, and counted.
        #[must_use]
        pub fn late_lane(mut self, lane: $crate::LateLane) -> Self {
            self.$settings.late_lane = lane;
            self
        }
        /// How far the watermark stays behind the largest event time.
        #[must_use]
        pub fn disorder(mut self, disorder: impl $crate::settings::IntoTimeSpan) -> Self {
            self.$settings.span("disorder", disorder, |settings, span| settings.disorder = span);
            self
        }
        /// How far ahead of its record's broker time an event may move the watermark.
        #[must_use]
        pub fn max_future_skew(mut self, skew: impl $crate::settings::IntoTimeSpan) -> Self {
            self.$settings.span("max_future_skew", skew, |settings, span| settings.max_future_skew = span);
            self
        }
        /// What becomes of events that are further ahead; default: they are kept, and counted.
        #[must_use]
        pub fn future_events(mut self, policy: $crate::FutureEvents) -> Self {
            self.$settings.future_events = policy;
            self
        }
        /// How far, in event time, a partition may run ahead of the slowest one of its source.
        #[must_use]
        pub fn max_drift(mut self, drift: impl $crate::settings::IntoTimeSpan) -> Self {
            self.$settings.span("max_drift", drift, |settings, span| settings.max_drift = span);
            self
        }
        /// How often the source is asked for partitions that were added.
        #[must_use]
        pub fn discover_interval(mut self, interval: impl $crate::settings::IntoTimeSpan) -> Self {
            self.$settings.span("discover_interval", interval, |settings, span| settings.discover_interval = span);
            self
        }
        /// A longer value is a dead letter: `"1MiB"`.
        #[must_use]
        pub fn max_record_bytes(mut self, bytes: impl $crate::settings::IntoByteSize) -> Self {
            self.$settings.size("max_record_bytes", bytes, |settings, size| settings.max_record_bytes = size);
            self
        }
        /// A partition of which more than this percentage of `failing_window` consecutive offsets fails stops, and says so.
        #[must_use]
        pub fn max_failing_percent(mut self, percent: u8) -> Self {
            self.$settings.max_failing_percent = Some(percent);
            self
        }
        /// Offsets over which failures are counted.
        #[must_use]
        pub fn failing_window(mut self, offsets: u32) -> Self {
            self.$settings.failing_window = offsets;
            self
        }
        /// A batch closes at this many records.
        #[must_use]
        pub fn batch_records(mut self, records: usize) -> Self {
            self.$settings.batch_records = records;
            self
        }
        /// A batch closes at this many bytes.
        #[must_use]
        pub fn batch_bytes(mut self, bytes: impl $crate::settings::IntoByteSize) -> Self {
            self.$settings.size("batch_bytes", bytes, |settings, size| settings.batch_bytes = size);
            self
        }
        /// A batch that is not full closes after this time.
        #[must_use]
        pub fn batch_linger(mut self, linger: impl $crate::settings::IntoTimeSpan) -> Self {
            self.$settings.span("batch_linger", linger, |settings, span| settings.batch_linger = span);
            self
        }
        /// What may be read ahead of the reader, per partition.
        #[must_use]
        pub fn buffer_bytes(mut self, bytes: impl $crate::settings::IntoByteSize) -> Self {
            self.$settings.size("buffer_bytes", bytes, |settings, size| settings.buffer_bytes = size);
            self
        }
        /// What records may take from being read ahead until they are applied, of all partitions together.
        #[must_use]
        pub fn memory(mut self, bytes: impl $crate::settings::IntoByteSize) -> Self {
            self.$settings.size("memory", bytes, |settings, size| settings.memory = size);
            self
        }
        /// Where to start when no position is stored.
        #[must_use]
        pub fn start_at(mut self, start: $crate::StartAt) -> Self {
            self.$settings.start = start;
            self
        }
    };
}
pub(crate) use source_setters;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_partitions_share_what_few_have_to_themselves() {
        let mut settings = SourceSettings::new("clicks");
        let of = |settings: &SourceSettings, partitions: usize| settings.read_ahead(partitions) as u64;
        assert_eq!([1, 8, 16, 100].map(|partitions| of(&settings, partitions)), [8 << 20, 8 << 20, 4 << 20, (64 << 20) / 100]);
        settings.memory = ByteSize(10);
        assert_eq!(of(&settings, 100), 1, "something, so that a record comes through");
    }
}
