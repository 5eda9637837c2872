//! Lengths of time and sizes of memory, as people write them: the only parsers of `"30m"` and `"64MiB"`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time in microseconds; may be negative, may be infinite.
///
/// Written as whole numbers with the units `w d h m s ms us`, each at most once: `"30m"`, `"1h30m"`, `"1w 2d"`, `"-10m"`,
/// `"infinity"` or `"all"`. The same grammar as the durations of Chalk's public documentation.
///
/// ```
/// use karst_types::TimeSpan;
/// assert_eq!("1h30m".parse::<TimeSpan>(), Ok(TimeSpan::from_secs(5400)));
/// assert_eq!(TimeSpan::from_secs(5400).to_string(), "1h30m");
/// assert!("1.5h".parse::<TimeSpan>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TimeSpan(i64);

const UNITS: [(&str, i64); 7] = [
    ("w", 604_800_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1), // beyond Chalk's grammar: so that every span reads back as it prints
];

impl TimeSpan {
    /// Longer than every other span.
    pub const INFINITY: Self = Self(i64::MAX);
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From microseconds.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }
    /// From milliseconds; saturates.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }
    /// From seconds; saturates.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }
    /// In microseconds.
    pub const fn micros(self) -> i64 {
        self.0
    }
    /// In seconds, with a fraction.
    pub fn secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
    /// Whether it has no end.
    pub const fn is_infinite(self) -> bool {
        self.0 == i64::MAX
    }
    /// As a standard duration; negative spans become zero, infinite ones `Duration::MAX`.
    pub const fn to_duration(self) -> Duration {
        if self.is_infinite() {
            Duration::MAX
        } else if self.0 < 0 {
            Duration::ZERO
        } else {
            Duration::from_micros(self.0 as u64)
        }
    }
}

impl FromStr for TimeSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const GRAMMAR: &str =
            "expected whole numbers with the units w, d, h, m, s, ms, us, such as \"30m\", \"1h30m\" or \"infinity\"";
        let wrong = |why: &str| Err(format!("\"{text}\" is not a duration: {why}; {GRAMMAR}"));
        if text == "infinity" || text == "all" {
            return Ok(Self::INFINITY);
        }
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if negative && rest.is_empty() {
            return wrong("a number is missing");
        }
        let mut seen = [false; UNITS.len()];
        let mut micros: i64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            if digits == 0 {
                return wrong("a number is missing");
            }
            let Ok(number) = rest[..digits].parse::<i64>() else { return wrong("a number is too large") };
            rest = &rest[digits..];
            let letters = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len());
            let Some(unit) = UNITS.iter().position(|(name, _)| *name == &rest[..letters]) else {
                return wrong(if letters == 0 { "a unit is missing" } else { "a unit is unknown" });
            };
            if std::mem::replace(&mut seen[unit], true) {
                return wrong("a unit stands twice");
            }
            let Some(sum) = number.checked_mul(UNITS[unit].1).and_then(|part| micros.checked_add(part)) else {
                return wrong("it is too long");
            };
            micros = sum;
            rest = rest[letters..].trim_start_matches(' ');
        }
        Ok(Self(if negative { -micros } else { micros }))
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_infinite() {
            return f.write_str("infinity");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let mut rest = self.0.unsigned_abs();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, micros) in UNITS {
            let count = rest / micros as u64;
            rest %= micros as u64;
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeSpan({self})")
    }
}

/// A number of bytes, written `"64MiB"`, `"1GiB"`, `"512KiB"`, or a bare number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteSize {
    /// From mebibytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }
    /// In bytes.
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = match text[digits..].trim_start() {
            "" => Some(1),
            name => SIZES.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes),
        };
        text[..digits].parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit)).map(Self).ok_or_else(
            || format!("\"{text}\" is not a size: expected a whole number with B, KiB, MiB or GiB, such as \"64MiB\""),
        )
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes) =
            SIZES.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes)).unwrap_or(&SIZES[3]);
        write!(f, "{}{name}", self.0 / bytes)
    }
}
impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByteSize({self})")
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}
as_text!(TimeSpan);
as_text!(ByteSize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_follow_the_grammar() {
        for (text, secs) in [("30m", 1800), ("1h30m", 5400), ("1w 2m", 604_920), ("", 0), ("-10m", -600), ("2d", 172_800)] {
            assert_eq!(text.parse(), Ok(TimeSpan::from_secs(secs)), "{text}");
        }
        assert_eq!("infinity".parse(), Ok(TimeSpan::INFINITY));
        for wrong in
            ["10 m", "1.5h", "30", "1y", "1mo", "1D", "1h1h", "m", "-", "99999999999999999999s", "9223372036854775807w"]
        {
            assert!(wrong.parse::<TimeSpan>().is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn durations_print_as_they_are_read() {
        for text in ["1h30m", "1w2d", "5ms", "-10m", "infinity", "0s", "1ms500us"] {
            assert_eq!(text.parse::<TimeSpan>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn sizes_follow_the_grammar() {
        assert_eq!("64MiB".parse(), Ok(ByteSize::mib(64)));
        assert_eq!("1536".parse::<ByteSize>().unwrap().to_string(), "1536B");
        assert_eq!(ByteSize(1 << 30).to_string(), "1GiB");
        for wrong in ["64MB", "-1", "1.5GiB", "", "99999999999GiB"] {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong} was taken");
        }
    }
}
