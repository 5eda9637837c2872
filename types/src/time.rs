//! Three times that must never be mixed up, each in microseconds since the Unix epoch, UTC.
//!
//! - [`EventTime`]: when it happened, as the message says.
//! - [`BrokerTime`]: when the broker (or the file) says that the record was written.
//! - [`ProcessingTime`]: when this process saw it; read from a [`Clock`] that is always handed in.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::TimeSpan;

macro_rules! instant {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub i64);

        impl $name {
            /// The earliest instant that can be written.
            pub const MIN: Self = Self(i64::MIN);
            /// The latest instant that can be written.
            pub const MAX: Self = Self(i64::MAX);

            /// Microseconds since the epoch.
            pub const fn micros(self) -> i64 { self.0 }
            /// From whole seconds since the epoch; saturates.
            pub const fn from_secs(secs: i64) -> Self { Self(secs.saturating_mul(1_000_000)) }
            /// From milliseconds since the epoch; saturates.
            pub const fn from_millis(millis: i64) -> Self { Self(millis.saturating_mul(1_000)) }
            /// Milliseconds since the epoch, rounded down.
            pub const fn millis(self) -> i64 { self.0.div_euclid(1_000) }
            /// This instant, later by `span`; saturates.
            pub const fn plus(self, span: TimeSpan) -> Self { Self(self.0.saturating_add(span.micros())) }
            /// This instant, earlier by `span`; saturates.
            pub const fn minus(self, span: TimeSpan) -> Self { Self(self.0.saturating_sub(span.micros())) }
            /// How much later this is than `earlier` (negative if it is earlier); saturates.
            pub const fn since(self, earlier: Self) -> TimeSpan { TimeSpan::from_micros(self.0.saturating_sub(earlier.0)) }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&iso(self.0)) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{}({})", stringify!($name), iso(self.0)) }
        }
    };
}

instant!(
    /// When it happened. All resolvers of a source share it (`docs/semantics.md`, Event time).
    EventTime
);
instant!(
    /// The timestamp that the broker, or the file, keeps for a record.
    BrokerTime
);
instant!(
    /// When this process saw something.
    ProcessingTime
);

/// RFC 3339 in UTC with microseconds only where there are any; the bare number where the calendar ends (year ±9999).
pub fn iso(micros: i64) -> String {
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(at) => at.to_string(),
        Err(_) => format!("{micros}us"),
    }
}

/// Reads RFC 3339 (`2013-01-01T10:00:00Z`, any offset, `T` or a space).
///
/// # Errors
/// The text itself is not quoted in the error: it may be personal data.
pub fn parse_iso(text: &str) -> Result<EventTime, String> {
    text.parse::<jiff::Timestamp>()
        .map(|at| EventTime(at.as_microsecond()))
        .map_err(|_| "expected an RFC 3339 time with an offset, such as 2013-01-01T10:00:00Z".to_owned())
}

/// A number of a stated unit, as a count of microseconds; `None` where it does not fit.
fn scaled(number: i64, unit: Unit) -> Option<i64> {
    match unit {
        Unit::Secs => number.checked_mul(1_000_000),
        Unit::Millis => number.checked_mul(1_000),
        Unit::Micros => Some(number),
        Unit::Nanos => Some(number.div_euclid(1_000)),
    }
}

/// The unit of a time that is written as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Secs,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

/// The name under which an [`EventTime`] asks a deserializer for its value. A format that knows what moment a value is, whatever the
/// unit it is written in, answers this name with `visit_i128`, in microseconds since the epoch; others need not know it.
pub const EVENT_TIME: &str = "karst::EventTime";

struct TimeVisitor(Unit);

impl<'de> de::Visitor<'de> for TimeVisitor {
    type Value = EventTime;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.0 {
            Unit::Secs => "seconds",
            Unit::Millis => "milliseconds",
            Unit::Micros => "microseconds",
            Unit::Nanos => "nanoseconds",
        };
        write!(f, "an RFC 3339 time or a whole number of {unit} since the epoch")
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<EventTime, D::Error> {
        d.deserialize_any(self)
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<EventTime, E> {
        // A number that overflows is kept as the extreme: the judge then names it as out of range, with its position.
        Ok(EventTime(scaled(number, self.0).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })))
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<EventTime, E> {
        self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<EventTime, E> {
        parse_iso(text).map_err(E::custom)
    }
    /// Of whoever knows [`EVENT_TIME`]: microseconds, whatever the unit of numbers.
    fn visit_i128<E: de::Error>(self, micros: i128) -> Result<EventTime, E> {
        Ok(EventTime(i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX })))
    }
}

impl TimeVisitor {
    fn read<'de, D: Deserializer<'de>>(self, d: D) -> Result<EventTime, D::Error> {
        d.deserialize_newtype_struct(EVENT_TIME, self)
    }
}

/// RFC 3339 text, or a whole number of **microseconds**. Other units: [`de_unit`].
impl<'de> Deserialize<'de> for EventTime {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        TimeVisitor(Unit::Micros).read(d)
    }
}

impl Unit {
    /// The unit that is called `s`, `ms`, `us` or `ns`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "s" => Self::Secs,
            "ms" => Self::Millis,
            "us" => Self::Micros,
            "ns" => Self::Nanos,
            _ => return None,
        })
    }

    /// Reads an event time, numbers being of this unit; null is `None`.
    ///
    /// # Errors
    /// What the deserializer says.
    pub fn read<'de, D: Deserializer<'de>>(self, d: D) -> Result<Option<EventTime>, D::Error> {
        de_unit::TimeField::read(d, self)
    }
}

impl Serialize for EventTime {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&iso(self.0))
    }
}

/// `deserialize_with` functions for event times written as numbers of another unit; used by `#[message(event_time = "ms")]`.
pub mod de_unit {
    use super::{Deserializer, EventTime, TimeVisitor, Unit, de, fmt};

    /// A field that is either the time itself or `Option` of it.
    pub trait TimeField: Sized {
        /// Reads the field, numbers being of `unit`.
        ///
        /// # Errors
        /// What the deserializer says.
        fn read<'de, D: Deserializer<'de>>(d: D, unit: Unit) -> Result<Self, D::Error>;
    }
    impl TimeField for EventTime {
        #[inline]
        fn read<'de, D: Deserializer<'de>>(d: D, unit: Unit) -> Result<Self, D::Error> {
            TimeVisitor(unit).read(d)
        }
    }
    struct Optional(Unit);
    impl<'de> de::Visitor<'de> for Optional {
        type Value = Option<EventTime>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            de::Visitor::expecting(&TimeVisitor(self.0), f)
        }
        fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
            TimeVisitor(self.0).read(d).map(Some)
        }
    }
    impl TimeField for Option<EventTime> {
        #[inline]
        fn read<'de, D: Deserializer<'de>>(d: D, unit: Unit) -> Result<Self, D::Error> {
            d.deserialize_option(Optional(unit))
        }
    }

    macro_rules! unit {
        ($name:ident, $unit:expr) => {
            /// `#[serde(deserialize_with = …)]` for numbers of this unit.
            ///
            /// # Errors
            /// What the deserializer says.
            pub fn $name<'de, D: Deserializer<'de>, T: TimeField>(d: D) -> Result<T, D::Error> {
                T::read(d, $unit)
            }
        };
    }
    unit!(secs, Unit::Secs);
    unit!(millis, Unit::Millis);
    unit!(micros, Unit::Micros);
    unit!(nanos, Unit::Nanos);
}

/// The only way to learn the time. `karst-runtime` has the system clock and a virtual one for tests.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time; may step backwards when the machine's clock is set.
    fn now(&self) -> ProcessingTime;
    /// Time since some fixed start; never steps backwards. For durations and timeouts.
    fn elapsed(&self) -> Duration;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_rfc_3339_and_read_back() {
        for micros in [0, 1_357_034_400_000_000, 1_357_034_400_000_001, -1] {
            assert_eq!(parse_iso(&iso(micros)), Ok(EventTime(micros)));
        }
        assert_eq!(iso(i64::MAX), format!("{}us", i64::MAX));
    }

    #[test]
    fn arithmetic_saturates_at_the_ends_of_time() {
        assert_eq!(EventTime::MAX.plus(TimeSpan::from_secs(1)), EventTime::MAX);
        assert_eq!(EventTime::MIN.minus(TimeSpan::INFINITY), EventTime::MIN);
        assert_eq!(EventTime::from_millis(-1).millis(), -1);
    }
}
