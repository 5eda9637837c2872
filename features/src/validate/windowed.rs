//! Checks windowed features: names, windows and hops, then types, then whether the state they ask for has a bound.

use std::collections::{HashMap, HashSet};

use karst_types::{Aggregation, Expr, TimeSpan, Value, ValueType, WindowKind, WindowLength, window::session_hops};

use crate::{
    FeatureClass, ResultType, Shape, StreamDeclaration, WindowedFeature,
    mistake::Found,
    name::{suggest, wrong_name},
    windowed::GROUPS_UNBOUNDED,
};

/// Most windows of one feature.
const WINDOWS_MAX: usize = 64;
/// Most tiles between the tail and the head of one window: a read may merge them all.
const TILES_MAX: i64 = 50_000;
/// Most segments that the retained sessions of an entity may have (`types/src/window.rs`, `session_hops`).
const SEGMENTS_MAX: i64 = 10_000;
/// Longest list, for the `n` and `k` of aggregations.
const LIST_MAX: u16 = 1000;
/// A retention above this asks for an opt-in if the groups have no bound.
const LONG: TimeSpan = TimeSpan::from_secs(30 * 86_400);

/// One windowed feature, and where its mistakes go.
struct Checked<'a> {
    class: &'a FeatureClass,
    feature: &'a WindowedFeature,
    fqn: String,
}

pub(super) fn check(class: &FeatureClass, found: &mut Found) {
    let mut named = HashSet::new();
    for feature in class.windowed_features() {
        let checked = Checked { class, feature, fqn: class.fqn(&feature.name) };
        checked.name(&mut named, found);
        for wrong in &feature.wrong {
            checked.add(wrong, None, found);
        }
        checked.windows(found);
        checked.hops(found);
        checked.kind(found);
        checked.parameters(found);
        checked.types(found);
        checked.bounds(found);
    }
    check_levels(class, found);
    check_groups(class, found);
}

impl Checked<'_> {
    /// `what` follows the feature's name.
    fn add(&self, what: impl std::fmt::Display, hint: Option<&str>, found: &mut Found) {
        let at = Some(&self.feature.declared_at);
        found.add_with(at, format!("windowed feature \"{}\": {what}", self.fqn), hint.map(str::to_owned));
    }

    fn name(&self, named: &mut HashSet<String>, found: &mut Found) {
        let (at, name) = (&self.feature.declared_at, &self.feature.name);
        if let Some(why) = wrong_name(name) {
            found.add_with(Some(at), format!("\"{}\" cannot be the name of a windowed feature", self.fqn), Some(why));
        }
        if let Some(first) = self.class.get(name) {
            self.add(format!("another feature has this name; it is declared at {}", first.declared_at), None, found);
        } else if !named.insert(name.clone()) {
            self.add("another windowed feature has this name", None, found);
        }
    }

    fn windows(&self, found: &mut Found) {
        let windows = &self.feature.windows;
        if windows.is_empty() && self.feature.wrong.is_empty() {
            self.add("it has no windows", Some("name at least one, such as \"10m\", \"1d\" or \"all\""), found);
        }
        if windows.len() > WINDOWS_MAX {
            self.add(format!("it has {} windows; {WINDOWS_MAX} are allowed", windows.len()), None, found);
        }
        let mut seen = HashSet::new();
        for window in windows {
            if !seen.insert(*window) {
                self.add(format!("the window \"{window}\" stands twice"), None, found);
            }
            if let WindowLength::Span(span) = window
                && !whole_seconds(*span)
            {
                self.add(format!("\"{span}\" is no window: expected a whole number of seconds, at least one"), None, found);
            }
        }
    }

    fn hops(&self, found: &mut Found) {
        if let Some(hop) = self.feature.hop
            && !whole_seconds(hop)
        {
            self.add(format!("hop: expected a whole number of seconds, at least one, got {hop}"), None, found);
            return;
        }
        for window in &self.feature.windows {
            let (WindowLength::Span(span), hop) = (window, self.feature.hop_of(*window)) else { continue };
            if hop <= TimeSpan::ZERO {
                continue; // the window itself is wrong
            }
            if span.micros() % hop.micros() != 0 {
                self.add(
                    format!("hop {hop} does not divide the window \"{window}\""),
                    Some("a window is a whole number of hops: its tail moves by them"),
                    found,
                );
            } else if span.micros() / hop.micros() > TILES_MAX {
                let tiles = span.micros() / hop.micros();
                self.add(
                    format!("the window \"{window}\" is {tiles} hops of {hop} long; {TILES_MAX} are allowed"),
                    Some("a greater hop keeps and merges fewer tiles"),
                    found,
                );
            }
        }
    }

    fn kind(&self, found: &mut Found) {
        let WindowedFeature { kind, exact, hop, windows, group_by, .. } = self.feature;
        match kind {
            WindowKind::Sliding => {}
            WindowKind::Tumbling => {
                if *exact {
                    self.add("exact is for sliding windows: tumbling ones are exact already", None, found);
                }
                if windows.contains(&WindowLength::All) {
                    self.add("\"all\" does not tumble: it has no length", None, found);
                }
            }
            WindowKind::Session { gap } => {
                if *gap <= TimeSpan::ZERO || gap.is_infinite() {
                    self.add(format!("session: expected a gap above zero that ends, got {gap}"), None, found);
                }
                if windows.iter().any(|window| *window != WindowLength::All) {
                    self.add("sessions have no windows: the gap ends them", Some("leave the windows out"), found);
                }
                if *exact || hop.is_some() {
                    let what = if *exact { "exact" } else { "hop" };
                    self.add(format!("{what} is for windows: sessions are exact, and have no hops"), None, found);
                }
                let (retention, coarse) = (self.feature.retention, session_hops(*gap).1);
                if retention.is_infinite() || retention.micros() / coarse.micros() > SEGMENTS_MAX {
                    let most = TimeSpan::from_micros(coarse.micros().saturating_mul(SEGMENTS_MAX));
                    self.add(
                        format!("retention: expected at most {most} for sessions with a gap of {gap}, got {retention}"),
                        Some("the sessions of an entity are one row, which is written whole"),
                        found,
                    );
                }
                if group_by.is_some() {
                    self.add("sessions cannot be grouped", Some("make the group a part of the entity's key"), found);
                }
            }
        }
        if self.feature.retention < TimeSpan::ZERO {
            self.add(format!("retention: expected no negative span, got {}", self.feature.retention), None, found);
        }
    }

    /// What stands in the aggregation's parentheses, but for expressions' types.
    fn parameters(&self, found: &mut Found) {
        let WindowedFeature { aggregation, input, by, .. } = self.feature;
        let call = self.feature.call();
        match aggregation {
            Aggregation::FirstN(n) | Aggregation::LastN(n) | Aggregation::MinByN(n) | Aggregation::MaxByN(n)
                if !(1..=LIST_MAX).contains(n) =>
            {
                self.add(format!("{call}: expected an n from 1 to {LIST_MAX}, got {n}"), None, found);
            }
            Aggregation::ApproxTopK(k) if !(1..=LIST_MAX).contains(k) => {
                self.add(format!("{call}: expected a k from 1 to {LIST_MAX}, got {k}"), None, found);
            }
            Aggregation::ApproxPercentile(share) if !(0.0..=1.0).contains(share) => {
                self.add(format!("{call}: expected a share from 0 to 1, got {share}"), Some("the median is 0.5"), found);
            }
            _ => {}
        }
        if input.is_none() && *aggregation != Aggregation::Count {
            self.add(format!("{call} needs an input: the values to aggregate"), None, found);
        }
        if by.is_none() && aggregation.needs_by() {
            self.add(format!("{call} needs a `by`: the values to order by"), None, found);
        }
        if by.is_some() && !aggregation.needs_by() {
            self.add("`by` is for min_by_n and max_by_n", None, found);
        }
    }

    fn types(&self, found: &mut Found) {
        let mut sound = true;
        for (what, expr) in self.feature.expressions() {
            sound &= self.names(what, expr, found) && self.expression(what, expr, found);
        }
        if !sound || self.feature.aggregation != Aggregation::Count && self.feature.input.is_none() {
            return;
        }
        let Some(result) = self.feature.result_type(self.class) else {
            let (call, input) = (self.feature.call(), self.feature.input_type(self.class));
            let input = input.map_or_else(|| "null".to_owned(), |input| input.to_string());
            self.add(format!("{call} cannot be made of {input} values"), Some(takes(self.feature.aggregation)), found);
            return;
        };
        if let Some(promised) = self.feature.result.filter(|promised| *promised != result) {
            self.add(
                format!("it is declared as {promised}, but {} makes {result}", self.feature.call()),
                Some(&format!("declare it as {}", rust_type(result))),
                found,
            );
        }
        if result.shape != Shape::One && self.feature.aggregation.is_list() && self.feature.group_by.is_some() {
            self.add(
                "a list for each group cannot be kept",
                Some("take min, max, first or last, or leave group_by out"),
                found,
            );
        }
        self.default(result, found);
    }

    /// Whether every name in an expression is a feature that updates write.
    fn names(&self, what: &str, expr: &Expr, found: &mut Found) -> bool {
        let mut told = HashSet::new();
        for name in expr.features() {
            if !told.insert(name) {
                continue;
            }
            let writable = || self.class.features().iter().skip(1).map(|feature| feature.name.as_str());
            let hint = if self.class.is_key(name) {
                Some("the key is the same in all updates of an entity".to_owned())
            } else if self.class.windowed_features().iter().any(|feature| feature.name == *name) {
                Some("it is a windowed feature itself; a window is made of what resolvers write".to_owned())
            } else if writable().any(|known| known == name) {
                continue;
            } else {
                suggest(name, writable()).or_else(|| Some("the class has no feature but the key".to_owned()))
            };
            let what = format!("{what} `{expr}`: \"{name}\" is not a feature of \"{}\" that updates write", self.class.name);
            self.add(what, hint.as_deref(), found);
            told.insert(name);
        }
        expr.features().into_iter().all(|name| self.class.get(name).is_some() && !self.class.is_key(name))
    }

    fn expression(&self, what: &str, expr: &Expr, found: &mut Found) -> bool {
        let ty = |name: &String| self.class.get(name).map_or(ValueType::Bytes, |feature| feature.ty);
        let expected = match (what, expr.ty(&ty)) {
            (_, Err(wrong)) => {
                self.add(format!("{what} `{expr}`: {wrong} cannot be computed"), None, found);
                return false;
            }
            ("filter", Ok(Some(ValueType::Bool))) | ("input", Ok(_)) => return true,
            ("by", Ok(Some(ty))) if ty != ValueType::Bytes => return true,
            ("group_by", Ok(Some(ValueType::Str | ValueType::Int | ValueType::Bool))) => return true,
            ("filter", Ok(got)) => ("a condition, which is true or false", got),
            ("group_by", Ok(got)) => ("str, int or bool", got),
            (_, Ok(got)) => ("values that have an order", got),
        };
        let (expected, got) = expected;
        let got = got.map_or_else(|| "null".to_owned(), |got| got.to_string());
        self.add(format!("{what} `{expr}`: expected {expected}, got {got}"), None, found);
        false
    }

    fn default(&self, result: ResultType, found: &mut Found) {
        let Some(default) = &self.feature.default else { return };
        if result.shape != Shape::One {
            self.add(format!("default: a {result} takes none"), None, found);
            return;
        }
        let fits = match default {
            Value::Int(_) if result.ty == ValueType::Float => true,
            default => default.value_type() == Some(result.ty),
        };
        if !fits {
            let got = default.value_type().map_or_else(|| "null".to_owned(), |got| got.to_string());
            self.add(format!("default: expected a value of type {}, got {got}", result.ty), None, found);
        }
    }

    fn bounds(&self, found: &mut Found) {
        let WindowedFeature { groups_max, group_by, retention, unbounded, windows, .. } = self.feature;
        if *groups_max == 0 {
            self.add("groups_max: expected at least 1", None, found);
        }
        if *unbounded {
            return;
        }
        let without_bound = group_by.is_some() && *groups_max == GROUPS_UNBOUNDED;
        let why = if retention.is_infinite() {
            "an infinite retention keeps every tile for ever"
        } else if without_bound && windows.contains(&WindowLength::All) {
            "the window \"all\" keeps every group that ever was, and their number has no bound"
        } else if without_bound && *retention > LONG {
            "a long retention keeps the groups of every tile, and their number has no bound"
        } else {
            return;
        };
        let hint = "bound it (groups_max, retention), or say that it is meant: `unbounded`";
        self.add(format!("its state grows without bound: {why}"), Some(hint), found);
    }
}

fn divides(hop: TimeSpan, window: WindowLength) -> bool {
    match window {
        WindowLength::Span(span) => span.micros() % hop.micros() == 0,
        WindowLength::All => true,
    }
}

fn whole_seconds(span: TimeSpan) -> bool {
    span > TimeSpan::ZERO && !span.is_infinite() && span.micros() % 1_000_000 == 0
}

/// What an aggregation can be made of.
fn takes(aggregation: Aggregation) -> &'static str {
    match aggregation {
        Aggregation::Any | Aggregation::All => "it takes bool: give it a condition",
        Aggregation::Min | Aggregation::Max => "it takes values that have an order: all but bytes",
        Aggregation::Sum
        | Aggregation::Mean
        | Aggregation::Var
        | Aggregation::VarPop
        | Aggregation::Std
        | Aggregation::StdPop
        | Aggregation::ApproxPercentile(_) => "it takes int or float",
        _ => "it takes any values but the constant null",
    }
}

/// As `Windowed<…>` is written in Rust.
fn rust_type(result: ResultType) -> String {
    let of = |ty| match ty {
        ValueType::Bool => "bool",
        ValueType::Int => "i64",
        ValueType::Float => "f64",
        ValueType::Time => "EventTime",
        ValueType::Str => "String",
        ValueType::Bytes => "Vec<u8>",
    };
    match result.shape {
        Shape::One => format!("Windowed<{}>", of(result.ty)),
        Shape::List => format!("Windowed<Vec<{}>>", of(result.ty)),
        Shape::Groups { by } => format!("Windowed<Groups<{}, {}>>", of(by), of(result.ty)),
    }
}

/// Tiles are rolled up into those of the next greater hop, so each hop divides the next.
fn check_levels(class: &FeatureClass, found: &mut Found) {
    let mut levels: Vec<(TimeSpan, &WindowedFeature)> = class
        .windowed_features()
        .iter()
        .flat_map(|feature| feature.hops().into_iter().map(move |hop| (hop, feature)))
        .filter(|(hop, feature)| whole_seconds(*hop) && feature.windows.iter().all(|window| divides(*hop, *window)))
        .collect();
    levels.sort_by_key(|(hop, _)| *hop);
    levels.dedup_by_key(|(hop, _)| *hop);
    for pair in levels.windows(2) {
        let [(fine, of_fine), (coarse, of_coarse)] = pair else { continue };
        if coarse.micros() % fine.micros() != 0 {
            let (of_fine, of_coarse) = (class.fqn(&of_fine.name), class.fqn(&of_coarse.name));
            found.add_with(
                Some(&pair[1].1.declared_at),
                format!(
                    "windowed feature \"{of_coarse}\": its hop {coarse} is no multiple of the hop {fine} of \"{of_fine}\" in the same class"
                ),
                Some("tiles are rolled up into greater ones: set `hop` so that each divides the next, such as 1m, 5m, 1h".to_owned()),
            );
        }
    }
}

/// Features of one aggregate share its groups, so they agree on how many.
fn check_groups(class: &FeatureClass, found: &mut Found) {
    let mut first: HashMap<String, &WindowedFeature> = HashMap::new();
    for feature in class.windowed_features().iter().filter(|feature| feature.group_by.is_some()) {
        let known = first.entry(feature.aggregate()).or_insert(feature);
        if known.groups_max != feature.groups_max {
            found.add(
                &feature.declared_at,
                format!(
                    "windowed feature \"{}\" has groups_max {}, but \"{}\", which aggregates the same and so shares its groups, has {}",
                    class.fqn(&feature.name),
                    feature.groups_max,
                    class.fqn(&known.name),
                    known.groups_max
                ),
            );
        }
    }
}

/// An aggregate whose features no resolver writes together would never see anything.
pub(super) fn check_written(class: &FeatureClass, resolvers: &[StreamDeclaration], found: &mut Found) {
    let written: Vec<HashSet<&str>> = resolvers
        .iter()
        .map(|resolver| {
            let of_class = |output: &'_ String| output.split_once('.').is_some_and(|(name, _)| name == class.name);
            let outputs = resolver.outputs.iter().filter(|output| of_class(output));
            outputs.filter_map(|output| Some(output.split_once('.')?.1)).collect()
        })
        .filter(|written: &HashSet<&str>| !written.is_empty())
        .collect();
    for feature in class.windowed_features().iter().filter(|_| !written.is_empty()) {
        let mut needs: Vec<&str> = feature.expressions().flat_map(|(_, expr)| expr.features()).map(String::as_str).collect();
        needs.sort_unstable();
        needs.dedup();
        let known = needs.iter().all(|name| class.get(name).is_some() && !class.is_key(name));
        if known && !written.iter().any(|written| needs.iter().all(|name| written.contains(name))) {
            let list: Vec<String> = needs.iter().map(|name| format!("\"{}\"", class.fqn(name))).collect();
            found.add_with(
                Some(&feature.declared_at),
                format!(
                    "windowed feature \"{}\" needs updates that write {}, and no resolver writes {}",
                    class.fqn(&feature.name),
                    list.join(" and "),
                    if list.len() > 1 { "them together" } else { "it" }
                ),
                Some("an update counts if it writes every feature that the expressions mention".to_owned()),
            );
        }
    }
}

/// Whether a name is that of a windowed feature, or of one of its windows.
pub(super) fn is_one(fqn: &str, classes: &HashMap<&str, &FeatureClass>) -> bool {
    let Some((class, name)) = fqn.split_once('.') else { return false };
    let features = classes.get(class).map_or(&[][..], |class| class.windowed_features());
    features.iter().any(|feature| feature.name == name || feature.feature_names().any(|window| window == name))
}
