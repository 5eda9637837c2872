//! How many bytes the windows of a class take: from the declarations, the expected number of keys, and how many events each has.
//!
//! An estimate of what is stored, before compression, and from above: every tile that can be there is counted as full as its events
//! can make it. Texts count as [`TEXT`] bytes. What is not known, and has no bound by itself, is `None`.
//!
//! Tiles are kept in levels, one for each hop of the class (and the finest, of a minute at most); all aggregates of a class are in the
//! same tiles. How long a level is kept: its own windows' length, or until the next level has taken over.

use std::ops::Add;

use karst_types::{Aggregation, TimeSpan, ValueType, WindowKind, WindowLength, window::session_hops};

use crate::{FeatureClass, Shape, WindowedFeature};

/// Bytes that a text is taken to have.
pub const TEXT: u64 = 16;

/// The finest tile, unless a hop is finer.
const HEAD: i64 = 60_000_000;
/// How much longer than at the watermark the finer tiles are kept: "now" may be behind it.
const SLACK: i64 = 600_000_000;
/// Expired tiles may stay so many hops.
const LAZY: u64 = 8;
const DAY: f64 = 86_400e6;
/// What a version takes in the states that are ordered.
const VERSION: u64 = 26;
/// The end of a tile.
const TILE: u64 = 8;
/// What the row of an entity takes besides its tiles: head, and for each level.
const ROW: u64 = 5;
const LEVEL: u64 = 28;
/// Tiles of a row of the archive, and its head.
const CHUNK: i64 = 64;
const CHUNK_HEAD: u64 = 5;
/// The length of a state of variable size, and of a tile that has one.
const LENGTH: u64 = 4;
/// The times of a segment of a session, and its length; what is said of all segments of an aggregate.
const SEGMENT: u64 = 20;
const SECTION: f64 = 22.0;
/// An event that is kept as it is, besides its values: time, version, lengths.
const RAW: u64 = 64;

/// What is expected of one class.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Expected {
    /// How many entities it has.
    pub keys: f64,
    /// How many events each has in a day, on average over those that have any. `None`: as many as there can be.
    pub events_per_day: Option<f64>,
}

/// What the windows of one class take.
#[derive(Clone, PartialEq, Debug)]
pub struct ClassBudget {
    /// The class.
    pub class: String,
    /// What was expected of it.
    pub expected: Expected,
    /// Its tiles, the finest first.
    pub levels: Vec<LevelBudget>,
    /// What it aggregates.
    pub aggregates: Vec<AggregateBudget>,
    /// Bytes of an entity that belong to no aggregate.
    pub overhead: Option<f64>,
}

/// The tiles of one length, of one entity.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LevelBudget {
    /// Their length.
    pub hop: TimeSpan,
    /// How many are in the entity's row.
    pub tiles: f64,
    /// How many more are archived for `retention`.
    pub archived: Option<f64>,
    /// In how many rows.
    pub archive_rows: Option<f64>,
}

/// What one aggregate takes in all tiles of one entity.
#[derive(Clone, PartialEq, Debug)]
pub struct AggregateBudget {
    /// What it is: [`WindowedFeature::aggregate`].
    pub aggregate: String,
    /// The features that share it.
    pub features: Vec<String>,
    /// Bytes of an entity.
    pub bytes: Option<f64>,
}

impl ClassBudget {
    /// Bytes of one entity; `None` if they have no bound.
    pub fn bytes_per_entity(&self) -> Option<f64> {
        self.aggregates.iter().map(|aggregate| aggregate.bytes).fold(self.overhead, sum)
    }
    /// Bytes of all entities; `None` if they have no bound.
    pub fn bytes(&self) -> Option<f64> {
        Some(self.bytes_per_entity()? * self.expected.keys)
    }
}

/// Adds what is known.
fn sum<T: Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
    Some(a? + b?)
}

/// What the windows of a class take; `None` if it has none.
pub fn of_class(class: &FeatureClass, expected: Expected) -> Option<ClassBudget> {
    if class.windowed_features().is_empty() {
        return None;
    }
    let levels = levels(class, expected);
    let mut aggregates: Vec<(&WindowedFeature, AggregateBudget)> = Vec::new();
    for feature in class.windowed_features() {
        let (text, fqn, own) = (feature.aggregate(), class.fqn(&feature.name), of_feature(class, feature, expected));
        match aggregates.iter_mut().find(|(_, known)| known.aggregate == text) {
            Some((_, known)) => {
                known.features.push(fqn);
                known.bytes = sum(known.bytes, own);
            }
            None => aggregates.push((feature, AggregateBudget { aggregate: text, features: vec![fqn], bytes: own })),
        }
    }
    // Raw events are one more state of variable size in each tile, empty where it is archived.
    let exact: Vec<String> = exact_features(class).map(WindowedFeature::aggregate).collect();
    let variable = aggregates.iter().any(|(feature, _)| state_bytes(class, feature, f64::INFINITY).is_variable);
    let variable = variable || !exact.is_empty();
    let mut overhead = Some((ROW + LEVEL * levels.len() as u64) as f64);
    for level in &levels {
        let all = level.archived.map(|archived| archived + level.tiles);
        let per_tile = TILE + if variable { LENGTH } else { 0 };
        overhead = sum(overhead, all.map(|tiles| tiles * per_tile as f64));
        overhead = sum(overhead, level.archive_rows.map(|rows| rows * CHUNK_HEAD as f64));
        for (feature, budget) in aggregates.iter_mut().filter(|(feature, _)| !is_session(feature)) {
            let events = expected.events_per_day.map_or(f64::INFINITY, |events| events * level.hop.micros() as f64 / DAY);
            let state = state_bytes(class, feature, events.max(1.0));
            let raw = if exact.contains(&budget.aggregate) { LENGTH } else { 0 };
            budget.bytes = sum(budget.bytes, all.map(|tiles| tiles * (state.bytes + raw) as f64));
        }
    }
    let bottom =
        class.windowed_features().iter().any(|feature| feature.windows.contains(&WindowLength::All) && !is_session(feature));
    if bottom {
        overhead = sum(overhead, Some(TILE as f64));
        for (feature, budget) in aggregates.iter_mut().filter(|(feature, _)| !is_session(feature)) {
            budget.bytes = sum(budget.bytes, Some(state_bytes(class, feature, f64::INFINITY).bytes as f64));
        }
    }
    let aggregates = aggregates.into_iter().map(|(_, budget)| budget).collect();
    Some(ClassBudget { class: class.name.clone(), expected, levels, aggregates, overhead })
}

fn is_session(feature: &WindowedFeature) -> bool {
    matches!(feature.kind, WindowKind::Session { .. })
}

fn exact_features(class: &FeatureClass) -> impl Iterator<Item = &WindowedFeature> {
    class.windowed_features().iter().filter(|feature| feature.exact && !is_session(feature))
}

/// What a feature takes besides tiles: raw events if it is exact, states of sessions.
fn of_feature(class: &FeatureClass, feature: &WindowedFeature, expected: Expected) -> Option<f64> {
    if let WindowKind::Session { gap } = feature.kind {
        let (fine, coarse) = session_hops(gap);
        let (slack, retention) = (gap.micros().max(SLACK) as f64, feature.retention.micros() as f64);
        // One may be the past of a session that goes on.
        let segments = 1.0 + (2 * SLACK) as f64 / fine.micros() as f64 + (slack + retention) / coarse.micros() as f64;
        let segments =
            expected.events_per_day.map_or(segments, |events| segments.min(2.0 + events * (slack + retention) / DAY));
        let state = state_bytes(class, feature, f64::INFINITY).bytes + SEGMENT;
        return (!feature.retention.is_infinite()).then_some(SECTION + segments * state as f64);
    }
    if !feature.exact {
        return Some(0.0);
    }
    let longest = feature.windows.iter().filter_map(|window| match window {
        WindowLength::Span(span) => Some(span.micros()),
        WindowLength::All => None, // it has no tail
    });
    let kept = longest.max().unwrap_or(0) as f64 + feature.retention.micros() as f64;
    expected.events_per_day.filter(|_| !feature.retention.is_infinite()).map(|events| events * kept / DAY * RAW as f64)
}

fn levels(class: &FeatureClass, expected: Expected) -> Vec<LevelBudget> {
    let windows: Vec<(i64, &WindowedFeature, WindowLength)> = class
        .windowed_features()
        .iter()
        .filter(|feature| !is_session(feature))
        .flat_map(|feature| feature.windows.iter().map(move |window| (feature.hop_of(*window).micros(), feature, *window)))
        .collect();
    let mut hops: Vec<i64> = windows.iter().map(|(hop, ..)| *hop).collect();
    let Some(finest) = hops.iter().copied().min() else { return Vec::new() };
    hops.push(if finest % HEAD == 0 { HEAD } else { finest });
    hops.sort_unstable();
    hops.dedup();
    let level = |index: usize| {
        let hop = hops[index];
        let (mut keep, mut archive) = (hop + SLACK, Some(0));
        for (_, feature, window) in windows.iter().filter(|(of, ..)| *of == hop) {
            match window {
                // A tumbling one can be asked for until the next one closes.
                WindowLength::Span(span) if feature.kind == WindowKind::Tumbling => keep = keep.max(2 * span.micros() + hop),
                WindowLength::Span(span) => keep = keep.max(span.micros() + hop),
                // The past of all time can only be told from every tile that there was.
                WindowLength::All if feature.retention > TimeSpan::ZERO => archive = None,
                WindowLength::All => {}
            }
            let retention = (!feature.retention.is_infinite()).then_some(feature.retention.micros());
            archive = archive.zip(retention).map(|(archive, retention)| archive.max(retention));
        }
        if let Some(next) = hops.get(index + 1) {
            keep = keep.max(next + SLACK.max(*next));
        }
        // No more tiles than events.
        let tiles = |span: i64, more: u64| {
            let most = span as f64 / hop as f64 + more as f64;
            expected
                .events_per_day
                .map_or(most, |events| most.min(1.0 + events * (span as f64 + (more as i64 * hop) as f64) / DAY))
        };
        let archived = archive.map(|span| tiles(span, 0));
        let chunks = archive.map(|span| (span as f64 / (hop * CHUNK) as f64).ceil() + if span > 0 { 1.0 } else { 0.0 });
        LevelBudget {
            hop: TimeSpan::from_micros(hop),
            tiles: tiles(keep, LAZY + 2),
            archived,
            archive_rows: archived.zip(chunks).map(|(tiles, chunks)| tiles.min(chunks)),
        }
    };
    (0..hops.len()).map(level).collect()
}

/// The state of an aggregate in one tile.
#[derive(Clone, Copy)]
struct State {
    bytes: u64,
    is_variable: bool,
}

/// At most, in a tile with so many events.
fn state_bytes(class: &FeatureClass, feature: &WindowedFeature, events: f64) -> State {
    let cell = |ty: Option<ValueType>| match ty {
        Some(ValueType::Str | ValueType::Bytes) => 5 + TEXT,
        Some(ValueType::Bool) | None => 1,
        Some(ValueType::Int | ValueType::Float | ValueType::Time) => 9,
    };
    let input = feature.input_type(class);
    let by = feature.by.as_ref().map_or(0, |by| cell(WindowedFeature::type_of(class, by)));
    let of_text = matches!(input, Some(ValueType::Str | ValueType::Bytes));
    let fixed = |bytes| State { bytes, is_variable: false };
    let variable = |bytes| State { bytes: bytes + 4, is_variable: true };
    // No more than events; a float that is too large becomes the largest number.
    let most = |bound: u64| bound.min(events.ceil() as u64);
    let state = match feature.aggregation {
        Aggregation::Count => fixed(8),
        Aggregation::Sum => fixed(16),
        Aggregation::Mean => fixed(24),
        Aggregation::Var | Aggregation::VarPop | Aggregation::Std | Aggregation::StdPop => fixed(40),
        Aggregation::Any | Aggregation::All => fixed(1),
        Aggregation::Min | Aggregation::Max if of_text => variable(cell(input)),
        Aggregation::Min | Aggregation::Max => fixed(cell(input)),
        Aggregation::First | Aggregation::Last if of_text => variable(cell(input) + VERSION),
        Aggregation::First | Aggregation::Last => fixed(9 + VERSION),
        Aggregation::FirstN(n) | Aggregation::LastN(n) | Aggregation::MinByN(n) | Aggregation::MaxByN(n) => {
            variable(most(u64::from(n)) * (by + VERSION + cell(input)))
        }
        // Hashes, until registers are fewer bytes.
        Aggregation::ApproxCountDistinct => variable(1 + (8 * most(512)).max(if events > 512.0 { 4096 } else { 0 })),
        // Values, or the bins of a sketch.
        Aggregation::ApproxPercentile(_) => variable(1 + 8 * most(4096)),
        Aggregation::ApproxTopK(k) => variable(16 + most((16 * u64::from(k)).max(256)) * (8 + 4 + cell(input))),
    };
    let Some(Shape::Groups { by }) = feature.result_type(class).map(|result| result.shape) else { return state };
    variable(16 + most(u64::from(feature.groups_max)).saturating_mul(8 + 4 + cell(Some(by)) + state.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Feature;

    fn class(features: impl IntoIterator<Item = WindowedFeature>) -> FeatureClass {
        let class = FeatureClass::new("user", Feature::new::<String>("id")).feature(Feature::new::<i64>("n"));
        features.into_iter().fold(class, FeatureClass::windowed)
    }
    fn count(name: &str, windows: &[&'static str]) -> WindowedFeature {
        WindowedFeature::new(name, Aggregation::Count).windows(windows.iter().copied())
    }
    fn budget(features: impl IntoIterator<Item = WindowedFeature>, events_per_day: Option<f64>) -> ClassBudget {
        of_class(&class(features), Expected { keys: 1e6, events_per_day }).unwrap()
    }

    /// Counted by hand: 1 h in tiles of 1 m is 60 tiles, one more at the edge, ten that may linger; each has an end and a count.
    #[test]
    fn a_single_window_is_its_tiles() {
        let one = budget([count("a", &["1h"])], None);
        let tiles: Vec<_> = one.levels.iter().map(|level| (level.hop.to_string(), level.tiles, level.archived)).collect();
        assert_eq!(tiles, [("1m".to_owned(), 71.0, Some(0.0))]);
        assert_eq!(one.bytes_per_entity(), Some(71.0 * (8.0 + 8.0) + 5.0 + 28.0));
        assert_eq!(one.bytes(), Some(1_169e6));
    }

    #[test]
    fn windows_share_the_tiles_of_their_aggregate_and_coarse_ones_need_few_fine_ones() {
        let both = budget([count("a", &["1h", "30d"]), count("b", &["30d"])], None);
        let tiles: Vec<_> = both.levels.iter().map(|level| (level.hop.to_string(), level.tiles)).collect();
        // 1m: until a day is rolled up, a day and as long again; 1d: 30 and one at the edge.
        assert_eq!(tiles, [("1m".to_owned(), 2880.0 + 10.0), ("1d".to_owned(), 41.0)]);
        assert_eq!(both.aggregates.len(), 1);
        assert_eq!(both.aggregates[0].features, ["user.a", "user.b"]);
        assert_eq!(both.aggregates[0].bytes, Some((2890.0 + 41.0) * 8.0));
    }

    #[test]
    fn few_events_fill_few_tiles() {
        let (most, few) = (budget([count("a", &["1d"])], None), budget([count("a", &["1d"])], Some(2.0)));
        assert!(few.bytes_per_entity().unwrap() < most.bytes_per_entity().unwrap() / 5.0);
        assert!(few.levels.iter().all(|level| level.tiles < 6.0), "{few:?}");
        let distinct = |name: &str| WindowedFeature::new(name, Aggregation::ApproxCountDistinct).windows(["1h"]).input("n");
        // A tile of one event has one hash, one of many events has 4096 registers.
        let bytes = |events| budget([distinct("d")], events).aggregates[0].bytes.unwrap() / 71.0;
        assert_eq!(bytes(None), 4101.0);
        assert_eq!(bytes(Some(1440.0)), 13.0);
    }

    #[test]
    fn what_has_no_bound_says_so() {
        let forever = count("a", &["1h"]).retention("infinity").unbounded();
        assert_eq!(budget([forever], None).bytes(), None);
        assert_eq!(budget([count("a", &["1h"]).exact()], None).bytes_per_entity(), None, "nobody knows how many events");
        let exact = budget([count("a", &["1d"]).exact()], Some(100.0)).aggregates[0].bytes.unwrap();
        assert!(exact > 100.0 * RAW as f64);
        let tiles = |feature| budget([feature], Some(1e9)).overhead.unwrap();
        assert_eq!(
            tiles(count("a", &["1h"]).exact()) - tiles(count("a", &["1h"])),
            71.0 * LENGTH as f64,
            "tiles tell their length"
        );
        let year = budget([count("a", &["1h"]).retention("400d")], None);
        assert_eq!(year.levels[0].archived, Some(400.0 * 1440.0));
        assert_eq!(year.levels[0].archive_rows, Some(400.0 * 1440.0 / 64.0 + 1.0));
        assert!(of_class(&class([]), Expected { keys: 1.0, events_per_day: None }).is_none());
    }

    /// Counted by hand: 20 m in segments of a minute, what has ended in the last gap in segments of 30 m, and the past of one that goes on.
    #[test]
    fn sessions_are_their_segments() {
        let session = |retention| WindowedFeature::new("visit", Aggregation::Count).session("30m").retention(retention);
        let bytes = |retention, events| budget([session(retention)], events).aggregates[0].bytes.unwrap();
        assert_eq!(bytes("0s", None), 22.0 + (1.0 + 20.0 + 1.0) * (8.0 + 20.0));
        assert_eq!(bytes("10d", None), 22.0 + (1.0 + 20.0 + 481.0) * (8.0 + 20.0));
        assert!(bytes("10d", Some(3.0)) < 40.0 * (8.0 + 20.0));
    }

    #[test]
    fn groups_multiply_and_their_bound_bounds() {
        let grouped =
            |groups| budget([count("a", &["1h"]).group_by("n").groups_max(groups)], None).aggregates[0].bytes.unwrap();
        assert_eq!(grouped(10), 71.0 * (16.0 + 4.0 + 10.0 * (12.0 + 9.0 + 8.0)));
        assert!(grouped(100) > 9.0 * grouped(10));
    }
}
