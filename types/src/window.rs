//! Windowed aggregates: their vocabulary.
//!
//! A window of length `W` at the instant `T` holds the events with `floor(T − W, hop) < event time ≤ T`: its head slides with
//! every event, its tail moves by whole hops. At an instant that is a whole number of hops it is exact: an event counts from its own
//! instant on until exactly `W` later.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{EventTime, TimeSpan, ValueType};

/// The dense number of an aggregate inside its feature class (assigned once by what it aggregates, and stored): all windowed
/// features of the same aggregate share its tiles.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct AggregateSlot(pub u16);

/// What is made of the values in a window. Nulls are passed over, but by `Count`, which counts rows.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// Rows. 0 where there are none.
    Count,
    /// Of whole numbers or floats. 0 where there are none.
    Sum,
    /// Arithmetic mean; null where there are none.
    Mean,
    /// The least value of any ordered type; null where there are none.
    Min,
    /// The greatest.
    Max,
    /// Variance of a sample (divided by n − 1); null below two values.
    Var,
    /// Variance of a population (divided by n); null where there are none.
    VarPop,
    /// Square root of [`Var`](Self::Var).
    Std,
    /// Square root of [`VarPop`](Self::VarPop).
    StdPop,
    /// Whether any value is true; false where there are none.
    Any,
    /// Whether all values are true; true where there are none.
    All,
    /// The value that is earliest by event time, source, partition, offset and index (`docs/semantics.md`, Which value is
    /// kept), never by arrival.
    First,
    /// The latest by the same order.
    Last,
    /// A list of the `n` earliest, the earliest first.
    FirstN(u16),
    /// A list of the `n` latest, the latest first.
    LastN(u16),
    /// A list of the values whose `by` is least, the least first; of equal ones the earlier stands first.
    MinByN(u16),
    /// A list of the values whose `by` is greatest, the greatest first; of equal ones the earlier stands first.
    MaxByN(u16),
    /// About how many different values there are. 0 where there are none.
    ApproxCountDistinct,
    /// The value below which about this share (0 to 1) of the values lie; null where there are none.
    ApproxPercentile(f64),
    /// A list of about the `k` most frequent values, the most frequent first.
    ApproxTopK(u16),
}

impl Aggregation {
    /// The type of the result, given that of the input; lists have the type of their elements. `None` if it cannot be made of
    /// such values. `input` is `None` for a count of rows.
    pub fn result(self, input: Option<ValueType>) -> Option<ValueType> {
        use ValueType::{Bool, Bytes, Float, Int};
        let number = matches!(input, Some(Int | Float));
        match self {
            Self::Count | Self::ApproxCountDistinct if self == Self::Count || input.is_some() => Some(Int),
            Self::Sum if number => input,
            Self::Mean | Self::Var | Self::VarPop | Self::Std | Self::StdPop | Self::ApproxPercentile(_) => {
                number.then_some(Float)
            }
            Self::Min | Self::Max => input.filter(|ty| *ty != Bytes),
            Self::Any | Self::All => input.filter(|ty| *ty == Bool),
            Self::Count | Self::ApproxCountDistinct | Self::Sum => None,
            _ => input,
        }
    }

    /// Whether the result is a list.
    pub fn is_list(self) -> bool {
        matches!(self, Self::FirstN(_) | Self::LastN(_) | Self::MinByN(_) | Self::MaxByN(_) | Self::ApproxTopK(_))
    }

    /// Whether it needs a second value to order by.
    pub fn needs_by(self) -> bool {
        matches!(self, Self::MinByN(_) | Self::MaxByN(_))
    }
}

impl fmt::Display for Aggregation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("count"),
            Self::Sum => f.write_str("sum"),
            Self::Mean => f.write_str("mean"),
            Self::Min => f.write_str("min"),
            Self::Max => f.write_str("max"),
            Self::Var => f.write_str("var"),
            Self::VarPop => f.write_str("var_pop"),
            Self::Std => f.write_str("std"),
            Self::StdPop => f.write_str("std_pop"),
            Self::Any => f.write_str("any"),
            Self::All => f.write_str("all"),
            Self::First => f.write_str("first"),
            Self::Last => f.write_str("last"),
            Self::FirstN(n) => write!(f, "first_n({n})"),
            Self::LastN(n) => write!(f, "last_n({n})"),
            Self::MinByN(n) => write!(f, "min_by_n({n})"),
            Self::MaxByN(n) => write!(f, "max_by_n({n})"),
            Self::ApproxCountDistinct => f.write_str("approx_count_distinct"),
            Self::ApproxPercentile(share) => write!(f, "approx_percentile({share})"),
            Self::ApproxTopK(k) => write!(f, "approx_top_k({k})"),
        }
    }
}

/// How far a window reaches back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WindowLength {
    /// So long.
    Span(TimeSpan),
    /// To the first event.
    All,
}

impl WindowLength {
    /// The name of the feature `base` over this window: `failed_logins__600__`, `failed_logins__all__`.
    pub fn feature_name(self, base: &str) -> String {
        match self {
            Self::Span(span) => format!("{base}__{}__", span.micros() / 1_000_000),
            Self::All => format!("{base}__all__"),
        }
    }
}

impl fmt::Display for WindowLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Span(span) => span.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}

impl FromStr for WindowLength {
    type Err = String;
    /// `10m`, `1d12h`, `all`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let span: TimeSpan = text.parse()?;
        let micros = span.micros();
        if span.is_infinite() {
            return Err(format!("\"{text}\" is no window: for one without end write \"all\""));
        }
        if micros <= 0 || micros % 1_000_000 != 0 {
            return Err(format!("\"{text}\" is no window: expected a whole number of seconds, at least one"));
        }
        Ok(Self::Span(span))
    }
}

/// Which events belong together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum WindowKind {
    /// The last `W`, at any instant: the module's page.
    #[default]
    Sliding,
    /// `W` long, one after the other, counted from the epoch: at `T` the one that holds `T`, so far.
    Tumbling,
    /// The events up to `T` with less than this gap between each and the next; null (or the empty value) once `T` is that far from
    /// the last.
    Session {
        /// The gap that ends a session.
        gap: TimeSpan,
    },
}

/// The hop of a window for which none is given: 1 minute up to an hour, 5 minutes up to 12 hours, an hour up to 12 days,
/// else a day (Chronon's table).
pub fn default_hop(length: WindowLength) -> TimeSpan {
    const HOUR: i64 = 3600;
    let seconds = match length {
        WindowLength::Span(span) => span.micros() / 1_000_000,
        WindowLength::All => i64::MAX,
    };
    let steps = [(HOUR, 60), (12 * HOUR, 300), (12 * 24 * HOUR, HOUR)];
    let step = steps.into_iter().find(|(longest, _)| seconds <= *longest);
    TimeSpan::from_secs(step.map_or(24 * HOUR, |(_, hop)| hop))
}

/// The tiles in which the events of sessions with this gap are gathered: those of the newest events, and those of the past. Neither is
/// longer than the gap, so the events of one tile are of one session; the longer is a whole number of the shorter.
pub fn session_hops(gap: TimeSpan) -> (TimeSpan, TimeSpan) {
    const MINUTE: i64 = 60_000_000;
    let fine = gap.micros().clamp(1, MINUTE);
    let coarse = gap.micros().min(60 * MINUTE) / fine * fine;
    (TimeSpan::from_micros(fine), TimeSpan::from_micros(coarse.max(fine)))
}

/// The end of the tile of `hop` that holds `time`. Tiles are `(end − hop, end]`, counted from the epoch.
#[inline]
pub fn tile_end(time: EventTime, hop: TimeSpan) -> EventTime {
    let hop = hop.micros();
    EventTime((time.0 + hop - 1).div_euclid(hop) * hop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_holds_its_end_and_not_its_beginning() {
        let minute = TimeSpan::from_secs(60);
        let end = |micros| tile_end(EventTime(micros), minute).0 / 1_000_000;
        assert_eq!((end(0), end(1), end(60_000_000), end(60_000_001)), (0, 60, 60, 120));
        assert_eq!((end(-1), end(-60_000_000)), (0, -60));
    }

    #[test]
    fn tiles_of_sessions_are_no_longer_than_the_gap_and_nest() {
        let hops = |text: &str| {
            let (fine, coarse) = session_hops(text.parse().unwrap());
            format!("{fine} {coarse}")
        };
        assert_eq!(["30m", "90s", "10s", "1d"].map(hops), ["1m 30m", "1m 1m", "10s 10s", "1m 1h"]);
    }

    #[test]
    fn windows_are_named_by_their_seconds() {
        let name = |text: &str| text.parse::<WindowLength>().map(|length| length.feature_name("failed_logins"));
        assert_eq!(name("10m").unwrap(), "failed_logins__600__");
        assert_eq!(name("all").unwrap(), "failed_logins__all__");
        assert!(name("500ms").is_err() && name("infinity").unwrap_err().contains("\"all\"") && name("0s").is_err());
    }

    #[test]
    fn a_longer_window_hops_in_longer_steps() {
        let hop = |text: &str| default_hop(text.parse().unwrap()).to_string();
        assert_eq!(
            [hop("10m"), hop("1h"), hop("12h"), hop("1d"), hop("12d"), hop("30d"), hop("all")],
            ["1m", "1m", "5m", "1h", "1h", "1d", "1d"]
        );
    }
}
