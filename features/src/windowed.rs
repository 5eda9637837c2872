//! Windowed features, as data: one aggregate over the updates of a class, over several windows.
//!
//! An aggregate sees an update iff the update writes every feature that its expressions mention. Resolvers never write a windowed
//! feature. The page `docs/windows.md` is for users; semantics of windows and aggregations are those of `karst_types::window`.
//!
//! Two windowed features with the same [`aggregate`](WindowedFeature::aggregate) share one state, whatever their windows.

use std::fmt;

use karst_types::{Aggregation, Expr, FeatureValue, TimeSpan, Value, ValueType, WindowKind, WindowLength, window::default_hop};

use crate::{FeatureClass, Location};

/// Most groups of a grouped aggregate, unless it says otherwise.
pub const GROUPS_DEFAULT: u32 = 100;
/// As many groups as there are: [`WindowedFeature::groups_max`] without a bound.
pub const GROUPS_UNBOUNDED: u32 = u32::MAX;

/// A windowed feature: one aggregate over several windows. For each window there is a feature `class.name__600__`.
#[derive(Clone, PartialEq, Debug)]
pub struct WindowedFeature {
    /// The name inside its class, which stands for all of its windows.
    pub name: String,
    /// How far each of its windows reaches back. For sessions: `all` alone.
    pub windows: Vec<WindowLength>,
    /// Which events belong together.
    pub kind: WindowKind,
    /// What is made of the values.
    pub aggregation: Aggregation,
    /// The values, over features that one update writes. `None`: the update itself, to be counted.
    pub input: Option<Expr>,
    /// What `min_by_n` and `max_by_n` order by.
    pub by: Option<Expr>,
    /// Which updates count: those for which it is true.
    pub filter: Option<Expr>,
    /// Makes one result for each value of this.
    pub group_by: Option<Expr>,
    /// Groups beyond this many in one tile are dropped, and counted. [`GROUPS_UNBOUNDED`]: none is.
    pub groups_max: u32,
    /// Stands in where the result would be null.
    pub default: Option<Value>,
    /// By which steps the tails of its windows move. `None`: each by [`default_hop`], made finer where that does not divide it.
    pub hop: Option<TimeSpan>,
    /// Whether tails are exact to the event, at the cost of keeping raw events.
    pub exact: bool,
    /// How far before the watermark it can still be asked for; 0: at the watermark and after it.
    pub retention: TimeSpan,
    /// Whether state without bound is meant: `freeze` refuses it otherwise.
    pub unbounded: bool,
    /// The type of its results that the declaration promises; `None`: whatever the aggregate gives.
    pub result: Option<ResultType>,
    /// For people.
    pub description: Option<String>,
    /// Who answers for it. `None`: the owner of the class.
    pub owner: Option<String>,
    /// For search.
    pub tags: Vec<String>,
    /// Where it was declared.
    pub declared_at: Location,
    /// What was wrong with the arguments; told with all other mistakes by [`RegistryBuilder::freeze`](crate::RegistryBuilder::freeze).
    pub(crate) wrong: Vec<String>,
}

/// An expression, or its text.
pub trait IntoExpr {
    /// The expression.
    ///
    /// # Errors
    /// Says why the text is none.
    fn into_expr(self) -> Result<Expr, String>;
}
impl IntoExpr for Expr {
    fn into_expr(self) -> Result<Expr, String> {
        Ok(self)
    }
}
impl IntoExpr for &str {
    fn into_expr(self) -> Result<Expr, String> {
        self.parse()
    }
}

impl WindowedFeature {
    /// A windowed feature, declared where this is called. Its windows come by [`windows`](Self::windows).
    ///
    /// ```
    /// use karst_features::{Feature, FeatureClass, Registry, WindowedFeature};
    /// use karst_types::Aggregation;
    ///
    /// let failed = WindowedFeature::new("failed_logins", Aggregation::Count).windows(["10m", "1d"]).filter("status == \"failed\"");
    /// let user = FeatureClass::new("user", Feature::new::<String>("id")).feature(Feature::new::<String>("status")).windowed(failed);
    /// let mut declared = Registry::builder();
    /// declared.add_class(user);
    /// let names: Vec<_> = declared.freeze()?.windowed("user.failed_logins").unwrap()?.fqns().collect();
    /// assert_eq!(names, ["user.failed_logins__600__", "user.failed_logins__86400__"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn new(name: impl Into<String>, aggregation: Aggregation) -> Self {
        Self {
            name: name.into(),
            windows: Vec::new(),
            kind: WindowKind::Sliding,
            aggregation,
            input: None,
            by: None,
            filter: None,
            group_by: None,
            groups_max: GROUPS_DEFAULT,
            default: None,
            hop: None,
            exact: false,
            retention: TimeSpan::ZERO,
            unbounded: false,
            result: None,
            description: None,
            owner: None,
            tags: Vec::new(),
            declared_at: Location::here(),
            wrong: Vec::new(),
        }
    }

    /// The same with the aggregation, its input and its `by` as text: `count`, `mean(delay)`, `max_by_n(merchant, by = amount, n = 3)`.
    /// Text that is none is reported by `freeze`, with all other mistakes.
    #[track_caller]
    pub fn of_text(name: impl Into<String>, aggregate: &str) -> Self {
        let feature = Self::new(name, Aggregation::Count);
        crate::aggregation::read(feature.clone(), aggregate)
            .unwrap_or_else(|wrong| Self { wrong: vec![format!("aggregate: {wrong}")], ..feature })
    }

    /// Sets the windows, such as `["10m", "1d", "all"]`.
    #[must_use]
    pub fn windows<'a>(mut self, windows: impl IntoIterator<Item = &'a str>) -> Self {
        let read: Vec<_> = windows.into_iter().map(|text| self.read("windows", text)).collect();
        self.windows = read.into_iter().flatten().collect();
        self
    }
    /// Windows one after the other, counted from the epoch, instead of sliding ones.
    #[must_use]
    pub fn tumbling(mut self) -> Self {
        self.kind = WindowKind::Tumbling;
        self
    }
    /// Sessions that this gap ends, such as `"30m"`, instead of windows.
    #[must_use]
    pub fn session(mut self, gap: &str) -> Self {
        if let Some(gap) = self.read("session", gap) {
            self.kind = WindowKind::Session { gap };
        }
        if self.windows.is_empty() {
            self.windows = vec![WindowLength::All];
        }
        self
    }
    /// Sets what is aggregated, such as `"amount"` or `"price * count"`.
    #[must_use]
    pub fn input(mut self, input: impl IntoExpr) -> Self {
        self.input = self.expr("input", input);
        self
    }
    /// Sets what `min_by_n` and `max_by_n` order by.
    #[must_use]
    pub fn by(mut self, by: impl IntoExpr) -> Self {
        self.by = self.expr("by", by);
        self
    }
    /// Sets which updates count, such as `"status == \"failed\""`.
    #[must_use]
    pub fn filter(mut self, filter: impl IntoExpr) -> Self {
        self.filter = self.expr("filter", filter);
        self
    }
    /// Makes one result for each value of this, such as `"category"`.
    #[must_use]
    pub fn group_by(mut self, group: impl IntoExpr) -> Self {
        self.group_by = self.expr("group_by", group);
        self
    }
    /// Sets how many groups one tile keeps.
    #[must_use]
    pub fn groups_max(mut self, groups: u32) -> Self {
        self.groups_max = groups;
        self
    }
    /// Sets what stands in where the result would be null.
    #[must_use]
    pub fn default<V: FeatureValue>(mut self, value: V) -> Self {
        let mut cell = Vec::new();
        value.encode(&mut cell);
        self.default = Value::decode(&cell).map(|(value, _)| value);
        self
    }
    /// Sets by which steps the tails of its windows move, such as `"1m"`.
    #[must_use]
    pub fn hop(mut self, hop: &str) -> Self {
        self.hop = self.read("hop", hop);
        self
    }
    /// Keeps raw events, so that tails are exact to the event.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }
    /// Sets how far before the watermark it can be asked for, such as `"400d"`.
    #[must_use]
    pub fn retention(mut self, span: &str) -> Self {
        self.retention = self.read("retention", span).unwrap_or(self.retention);
        self
    }
    /// Says that state without bound is meant.
    #[must_use]
    pub fn unbounded(mut self) -> Self {
        self.unbounded = true;
        self
    }
    /// Promises the type of the results; `freeze` tells if the aggregate gives another.
    #[must_use]
    pub fn result(mut self, result: ResultType) -> Self {
        self.result = Some(result);
        self
    }
    /// Sets the text for people.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }
    /// Sets who answers for it.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }
    /// Sets the tags.
    #[must_use]
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }
    /// Sets where it was declared, if that is not where the constructor was called.
    #[must_use]
    pub fn declared_at(mut self, at: Location) -> Self {
        self.declared_at = at;
        self
    }

    fn read<T: std::str::FromStr<Err = String>>(&mut self, what: &str, text: &str) -> Option<T> {
        text.parse().map_err(|wrong| self.wrong.push(format!("{what}: {wrong}"))).ok()
    }
    fn expr(&mut self, what: &str, expr: impl IntoExpr) -> Option<Expr> {
        expr.into_expr().map_err(|wrong| self.wrong.push(format!("{what}: {wrong}"))).ok()
    }

    /// The steps by which the tail of one of its windows moves.
    pub fn hop_of(&self, window: WindowLength) -> TimeSpan {
        let default = default_hop(window);
        match (self.hop, window) {
            (Some(hop), _) => hop,
            (None, WindowLength::Span(span)) => TimeSpan::from_micros(common_divisor(default.micros(), span.micros())),
            (None, WindowLength::All) => default,
        }
    }

    /// The hops of its windows; none for sessions, which are not made of tiles of one length.
    pub fn hops(&self) -> Vec<TimeSpan> {
        let session = matches!(self.kind, WindowKind::Session { .. });
        self.windows.iter().filter(|_| !session).map(|window| self.hop_of(*window)).collect()
    }

    /// The names of its features inside their class, one for each window.
    pub fn feature_names(&self) -> impl Iterator<Item = String> {
        self.windows.iter().map(|window| window.feature_name(&self.name))
    }

    /// All of its expressions, with what each is for.
    pub fn expressions(&self) -> impl Iterator<Item = (&'static str, &Expr)> {
        let all = [("input", &self.input), ("by", &self.by), ("filter", &self.filter), ("group_by", &self.group_by)];
        all.into_iter().filter_map(|(what, expr)| Some((what, expr.as_ref()?)))
    }

    /// What it aggregates, as canonical text, without its windows: the identity of its state.
    ///
    /// `count where (status == "failed")`, `max_by_n(merchant, by = amount, n = 3) per category`, `mean(delay) session 30m`
    pub fn aggregate(&self) -> String {
        let mut text = self.call();
        if let Some(filter) = &self.filter {
            text += &format!(" where {filter}");
        }
        if let Some(group) = &self.group_by {
            text += &format!(" per {group}");
        }
        match self.kind {
            WindowKind::Sliding => {}
            WindowKind::Tumbling => text += " tumbling",
            WindowKind::Session { gap } => text += &format!(" session {gap}"),
        }
        text
    }

    /// `last_n(destination, 3)`, as in a declaration.
    pub(crate) fn call(&self) -> String {
        let name = self.aggregation.to_string();
        let (name, parameter) = name.split_once('(').map_or((&*name, ""), |(name, rest)| (name, rest.trim_end_matches(')')));
        let mut arguments: Vec<String> = self.input.iter().map(ToString::to_string).collect();
        arguments.extend(self.by.iter().map(|by| format!("by = {by}")));
        if !parameter.is_empty() {
            arguments.push(if self.by.is_some() { format!("n = {parameter}") } else { parameter.to_owned() });
        }
        if arguments.is_empty() { name.to_owned() } else { format!("{name}({})", arguments.join(", ")) }
    }

    /// The type of one of its expressions, over the features of `class`. `None` for the constant null, and where it is wrong.
    pub fn type_of(class: &FeatureClass, expr: &Expr) -> Option<ValueType> {
        let known = expr.features().into_iter().all(|name| class.get(name).is_some());
        known.then(|| expr.ty(&|name| class.get(name).map_or(ValueType::Bytes, |feature| feature.ty)).ok()).flatten().flatten()
    }

    /// The type of what is aggregated. `None` if it has no input, or a wrong one.
    pub fn input_type(&self, class: &FeatureClass) -> Option<ValueType> {
        self.input.as_ref().and_then(|input| Self::type_of(class, input))
    }

    /// The type of its results. `None` if no such aggregate can be made, which `freeze` has told.
    pub fn result_type(&self, class: &FeatureClass) -> Option<ResultType> {
        let ty = self.aggregation.result(self.input_type(class))?;
        let shape = match &self.group_by {
            Some(group) => Shape::Groups { by: Self::type_of(class, group)? },
            None if self.aggregation.is_list() => Shape::List,
            None => Shape::One,
        };
        Some(ResultType { ty, shape })
    }

    /// What stands in where the result would be null, as a value of the results' type; null if nothing does.
    pub fn default_value(&self, class: &FeatureClass) -> Value {
        match (&self.default, self.result_type(class)) {
            (Some(Value::Int(number)), Some(ResultType { ty: ValueType::Float, .. })) => Value::Float(*number as f64),
            (default, _) => default.clone().unwrap_or_default(),
        }
    }

    /// Whether the result can be null, in spite of a default.
    pub fn nullable(&self) -> bool {
        use Aggregation::{All, Any, ApproxCountDistinct, Count, Sum};
        let has_empty = matches!(self.aggregation, Count | Sum | Any | All | ApproxCountDistinct);
        self.default.is_none() && self.group_by.is_none() && !has_empty
    }
}

fn common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// How many values a result has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// One.
    One,
    /// Any number of them, in order.
    List,
    /// One for each group.
    Groups {
        /// The type of the groups.
        by: ValueType,
    },
}

/// The type of a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResultType {
    /// Of its values.
    pub ty: ValueType,
    /// How many there are.
    pub shape: Shape,
}

impl fmt::Display for ResultType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape {
            Shape::One => self.ty.fmt(f),
            Shape::List => write!(f, "list of {}", self.ty),
            Shape::Groups { by } => write!(f, "{} per {by}", self.ty),
        }
    }
}
