//! Whether a stored value may be served (`docs/semantics.md`, Queries): pure functions of times and declarations.

use std::fmt;

use karst_types::{EventTime, TimeSpan};

/// What a stored value is worth to a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// Serve it.
    Fresh,
    /// Too old.
    Stale {
        /// How old it is; more than the limit.
        age: TimeSpan,
    },
    /// There is none.
    Missing,
}

/// Who set a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LimitFrom {
    /// The query, for this feature or its class.
    Query,
    /// The feature's declaration.
    Feature,
    /// The class's declaration.
    Class,
    /// Nobody: infinite for what streams write, since they are the source of it; 0 for what is computed.
    Default,
}

/// How old a stored value may be when it is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StalenessLimit {
    /// The limit; [`TimeSpan::INFINITY`] serves whatever is stored.
    pub span: TimeSpan,
    /// Who set it.
    pub from: LimitFrom,
}

impl fmt::Display for StalenessLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self.from {
            LimitFrom::Query => "query",
            LimitFrom::Feature => "feature",
            LimitFrom::Class => "class",
            LimitFrom::Default => "default",
        };
        write!(f, "max staleness {} ({from})", self.span)
    }
}

/// The limit that holds: query, else feature, else class, else none for stream-written features and 0 for others.
///
/// ```
/// use karst_features::staleness::{limit, LimitFrom};
/// use karst_types::TimeSpan;
/// let day = TimeSpan::from_secs(86_400);
/// assert_eq!(limit(None, Some(day), None, true).from, LimitFrom::Feature);
/// assert_eq!(limit(None, None, None, true).span, TimeSpan::INFINITY);
/// assert_eq!(limit(None, None, None, false).span, TimeSpan::ZERO);
/// ```
pub fn limit(
    query: Option<TimeSpan>,
    feature: Option<TimeSpan>,
    class: Option<TimeSpan>,
    stream_written: bool,
) -> StalenessLimit {
    let set = [(query, LimitFrom::Query), (feature, LimitFrom::Feature), (class, LimitFrom::Class)];
    set.into_iter().find_map(|(span, from)| span.map(|span| StalenessLimit { span, from })).unwrap_or(StalenessLimit {
        span: if stream_written { TimeSpan::INFINITY } else { TimeSpan::ZERO },
        from: LimitFrom::Default,
    })
}

/// Judges a stored value at the time of a query.
///
/// Its age is `now − at`, `at` being the event time of the value; a value from the future has age 0. It is fresh iff its age
/// is at most `limit`.
///
/// ```
/// use karst_features::staleness::{freshness, Freshness};
/// use karst_types::{EventTime, TimeSpan};
/// let (now, minute) = (EventTime::from_secs(100), TimeSpan::from_secs(60));
/// assert_eq!(freshness(Some(EventTime::from_secs(40)), now, minute), Freshness::Fresh);
/// assert_eq!(freshness(Some(EventTime::from_secs(39)), now, minute), Freshness::Stale { age: TimeSpan::from_secs(61) });
/// assert_eq!(freshness(None, now, minute), Freshness::Missing);
/// ```
pub fn freshness(at: Option<EventTime>, now: EventTime, limit: TimeSpan) -> Freshness {
    let Some(at) = at else { return Freshness::Missing };
    let age = now.since(at).max(TimeSpan::ZERO);
    if age <= limit { Freshness::Fresh } else { Freshness::Stale { age } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_limit_holds() {
        let span = |secs| Some(TimeSpan::from_secs(secs));
        let check = |query, feature, class, expected| {
            assert_eq!(limit(query, feature, class, true).to_string(), expected);
        };
        check(span(1), span(2), span(3), "max staleness 1s (query)");
        check(None, span(2), span(3), "max staleness 2s (feature)");
        check(None, None, span(3), "max staleness 3s (class)");
        check(None, None, None, "max staleness infinity (default)");
    }

    #[test]
    fn an_infinite_limit_serves_even_the_oldest_value_and_a_value_from_the_future_has_no_age() {
        let now = EventTime::from_secs(0);
        assert_eq!(freshness(Some(EventTime::MIN), EventTime::MAX, TimeSpan::INFINITY), Freshness::Fresh);
        assert_eq!(freshness(Some(EventTime::MAX), now, TimeSpan::ZERO), Freshness::Fresh);
        assert_eq!(freshness(Some(now), now, TimeSpan::ZERO), Freshness::Fresh);
    }
}
