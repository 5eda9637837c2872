//! From (inputs, outputs, staleness) to what has to be read: the plan of an online query, as data.
//!
//! A plan depends on names only, never on values or time, so it can be cached by a hash of the request. What is wrong with
//! one output does not spoil the others: it is an error of that output. Nothing here reads state or waits.
//!
//! ```text
//! user by input user.id
//!   user.last_page str: stored (user@1), max staleness 1d (feature), written by on_click
//!   user.clicks__600__ int: windowed (user#0), count over 10m in hops of 1m
//! ```

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use karst_types::{AggregateSlot, ClassId, EntityKey, FeatureId, TimeSpan, Value, ValueType, WindowKind, WindowLength};

use crate::{Catalog, Feature, FeatureClass, NamedWindows, Registry, ResultType, Shape, StalenessLimit, name, staleness};

/// What is asked for, without values.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlanRequest<'a> {
    /// Fully qualified names of the features whose values are given, among them the keys.
    pub inputs: &'a [String],
    /// Fully qualified names of the features that are wanted; the name of a class stands for all of its features, that of a
    /// windowed feature for all of its windows. One window is `user.clicks__600__`, or `user.clicks["10m"]`.
    pub outputs: &'a [String],
    /// Limits that override the declared ones, by feature or by class; the feature's own comes first.
    pub staleness: &'a [(String, TimeSpan)],
}

/// What has to be done for a query.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// The entities to look up, one for each class that an output needs.
    pub entities: Vec<PlannedEntity>,
    /// The outputs that can be answered, in the order asked for, each once.
    pub outputs: Vec<PlannedOutput>,
    /// What cannot be answered, and other mistakes in the request. With `outputs`, every output asked for is accounted for.
    pub errors: Vec<PlanError>,
}

/// An entity to look up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedEntity {
    /// Its class.
    pub class: ClassId,
    /// The class's name.
    pub class_name: String,
    /// Index in [`PlanRequest::inputs`] of its key.
    pub input: usize,
    /// The key's fully qualified name.
    pub key_fqn: String,
    /// The key's type.
    pub key_type: ValueType,
}

/// One output, and where its value comes from.
#[derive(Clone, PartialEq, Debug)]
pub struct PlannedOutput {
    /// The fully qualified name: `user.clicks__600__` for a window.
    pub fqn: String,
    /// The type of its values; of a list or of groups, that of each.
    pub ty: ValueType,
    /// How many values it has.
    pub shape: Shape,
    /// Whether they may be null.
    pub nullable: bool,
    /// Where the value comes from.
    pub read: Read,
}

/// Where the value of an output comes from.
#[derive(Clone, PartialEq, Debug)]
pub enum Read {
    /// From the query itself: the index in [`PlanRequest::inputs`]. A key is always answered so.
    Input(usize),
    /// From the store.
    Stored {
        /// Index in [`Plan::entities`].
        entity: usize,
        /// The feature.
        feature: FeatureId,
        /// How old the value may be.
        limit: StalenessLimit,
        /// The stream resolvers that write it.
        writers: Vec<String>,
    },
    /// Computed from the tiles of a window.
    Windowed {
        /// Index in [`Plan::entities`].
        entity: usize,
        /// The class.
        class: ClassId,
        /// Index in [`FeatureClass::windowed_features`].
        feature: usize,
        /// The window.
        window: WindowLength,
        /// Where its aggregate's state is kept.
        aggregate: AggregateSlot,
        /// Stands in where the result is null; of the output's type, or null.
        default: Value,
        /// What is computed, in words.
        about: String,
    },
}

/// What kind of mistake a query makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PlanErrorKind {
    /// No such feature or class.
    UnknownFeature,
    /// The key of an output's class is not among the inputs.
    KeyMissing,
    /// An input is not of the feature's type.
    WrongType,
    /// An input is given twice.
    DuplicateInput,
    /// No output is asked for.
    NoOutputs,
    /// The registry has the feature, the catalog has not: they were not reconciled. A fault of Karst, not of the query.
    NotInCatalog,
}

/// A mistake in a query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanError {
    /// What kind.
    pub kind: PlanErrorKind,
    /// The feature (or class) that it is about, as the query wrote it; `None` if it is about the whole query.
    pub feature: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What would help, if that is known.
    pub hint: Option<String>,
}

impl PlanError {
    fn new(kind: PlanErrorKind, feature: &str, message: String, hint: Option<String>) -> Self {
        Self { kind, feature: Some(feature.to_owned()), message, hint }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}
impl std::error::Error for PlanError {}

impl Plan {
    /// Plans a query. Mistakes are in [`Plan::errors`]; what does not depend on them is planned all the same.
    pub fn new(registry: &Registry, catalog: &Catalog, request: &PlanRequest<'_>) -> Self {
        let mut planner = Planner {
            registry,
            catalog,
            staleness: HashMap::new(),
            inputs: HashMap::new(),
            planned: HashSet::new(),
            entities: HashMap::new(),
            plan: Self::default(),
        };
        planner.read_inputs(request.inputs);
        planner.read_staleness(request.staleness);
        if request.outputs.is_empty() {
            planner.plan.errors.push(PlanError {
                kind: PlanErrorKind::NoOutputs,
                feature: None,
                message: "the query asks for no outputs".to_owned(),
                hint: Some("name features such as \"user.last_page\", or a whole class such as \"user\"".to_owned()),
            });
        }
        for output in request.outputs {
            planner.plan_output(output);
        }
        planner.plan
    }

    /// The key of a planned entity, from the values of the inputs (in the order of [`PlanRequest::inputs`]).
    ///
    /// # Errors
    /// The value is null, of another type than the key, or too long.
    ///
    /// # Panics
    /// If there are fewer values than the plan had inputs.
    pub fn key(&self, entity: &PlannedEntity, values: &[Value]) -> Result<EntityKey, PlanError> {
        EntityKey::from_value(entity.class, entity.key_type, &values[entity.input]).map_err(|wrong| {
            PlanError::new(PlanErrorKind::WrongType, &entity.key_fqn, format!("input \"{}\": {wrong}", entity.key_fqn), None)
        })
    }

    /// The plan as text, for people.
    pub fn explain(&self) -> String {
        let mut lines = Vec::new();
        for output in &self.outputs {
            if let Read::Input(_) = output.read {
                lines.push(format!("{} {}: from the query", output.fqn, output.ty));
            }
        }
        for (index, planned) in self.entities.iter().enumerate() {
            lines.push(format!("{} by input {}", planned.class_name, planned.key_fqn));
            for output in &self.outputs {
                let from = match &output.read {
                    Read::Stored { entity, feature, limit, writers } if *entity == index => {
                        let writers = if writers.is_empty() { "no resolver".to_owned() } else { writers.join(", ") };
                        format!("stored ({}@{}), {limit}, written by {writers}", planned.class_name, feature.slot.0)
                    }
                    Read::Windowed { entity, aggregate, about, .. } if *entity == index => {
                        format!("windowed ({}#{}), {about}", planned.class_name, aggregate.0)
                    }
                    _ => continue,
                };
                let ty = ResultType { ty: output.ty, shape: output.shape };
                lines.push(format!("  {} {ty}: {from}", output.fqn));
            }
        }
        lines.extend(self.errors.iter().map(|error| format!("error: {error}")));
        lines.join("\n")
    }
}

struct Planner<'a> {
    registry: &'a Registry,
    catalog: &'a Catalog,
    /// Overrides by feature or class.
    staleness: HashMap<&'a str, TimeSpan>,
    /// Index of each input, by fully qualified name.
    inputs: HashMap<String, usize>,
    /// Outputs that are planned, or failed, already.
    planned: HashSet<String>,
    /// Index in the plan of each class's entity.
    entities: HashMap<&'a str, usize>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn read_inputs(&mut self, inputs: &'a [String]) {
        for (index, input) in inputs.iter().enumerate() {
            let Some(fqn) = self.input_fqn(input) else { continue };
            if self.inputs.insert(fqn, index).is_some() {
                let message = format!("input \"{input}\" is given twice");
                self.plan.errors.push(PlanError::new(PlanErrorKind::DuplicateInput, input, message, None));
            }
        }
    }

    /// The one feature that an input names; else a mistake.
    fn input_fqn(&mut self, input: &str) -> Option<String> {
        if self.registry.feature(input).is_some() {
            return Some(input.to_owned());
        }
        match self.registry.windowed(input) {
            Some(Ok(named)) if named.windows.len() == 1 => return named.fqns().next(),
            Some(Ok(named)) => {
                let message = format!("input \"{input}\" has several windows, and one value");
                let hint = named.fqns().next().map(|first| format!("name one of them, such as \"{first}\""));
                self.plan.errors.push(PlanError::new(PlanErrorKind::UnknownFeature, input, message, hint));
            }
            Some(Err(windows)) => self.no_such_window("input", input, windows),
            None => self.unknown("input", input),
        }
        None
    }

    fn read_staleness(&mut self, overrides: &'a [(String, TimeSpan)]) {
        for (name, span) in overrides {
            if self.registry.feature(name).is_some() || self.registry.class(name).is_some() {
                self.staleness.insert(name, *span);
            } else if self.registry.windowed(name).is_some() {
                let message =
                    format!("staleness \"{name}\" is of a windowed feature: it is computed when asked for, and never stale");
                self.plan.errors.push(PlanError::new(PlanErrorKind::UnknownFeature, name, message, None));
            } else {
                self.unknown("staleness", name);
            }
        }
    }

    fn plan_output(&mut self, output: &str) {
        if let Some(class) = self.registry.class(output) {
            for feature in class.features() {
                self.plan_feature(class, feature);
            }
            for (index, feature) in class.windowed_features().iter().enumerate() {
                self.plan_windows(&NamedWindows { class, index, windows: feature.windows.clone() });
            }
        } else if let Some((class, feature)) = self.registry.feature(output) {
            self.plan_feature(class, feature);
        } else if let Some(named) = self.registry.windowed(output) {
            match named {
                Ok(named) => self.plan_windows(&named),
                Err(windows) if self.planned.insert(output.to_owned()) => self.no_such_window("output", output, windows),
                Err(_) => {}
            }
        } else if self.planned.insert(output.to_owned()) {
            self.unknown("output", output);
        }
    }

    fn plan_windows(&mut self, named: &NamedWindows<'a>) {
        let (class, feature) = (named.class, named.feature());
        for (fqn, window) in named.fqns().zip(&named.windows) {
            if !self.planned.insert(fqn.clone()) {
                continue;
            }
            let read = match self.inputs.get(&fqn) {
                Some(input) => Ok(Read::Input(*input)),
                None => self.windowed(named, *window, &fqn),
            };
            match (read, feature.result_type(class)) {
                (Ok(read), Some(ResultType { ty, shape })) => {
                    self.plan.outputs.push(PlannedOutput { fqn, ty, shape, nullable: feature.nullable(), read });
                }
                (Err(error), _) => self.plan.errors.push(error),
                (Ok(_), None) => self.plan.errors.push(not_in_catalog(&fqn)), // a registry was frozen with it: it has a type
            }
        }
    }

    fn windowed(&mut self, named: &NamedWindows<'a>, window: WindowLength, fqn: &str) -> Result<Read, PlanError> {
        let (class, feature) = (named.class, named.feature());
        let entity = self.entity(class, fqn)?;
        let text = feature.aggregate();
        let class_id = self.plan.entities[entity].class;
        let aggregate = self.catalog.aggregate_slot(class_id, &text).ok_or_else(|| not_in_catalog(fqn))?;
        let over = match (feature.kind, window) {
            (WindowKind::Session { .. }, _) => String::new(), // the text says it
            (_, WindowLength::All) => " over all time".to_owned(),
            (_, window) if feature.exact => format!(" over {window}, exact"),
            (_, window) => format!(" over {window} in hops of {}", feature.hop_of(window)),
        };
        let default = feature.default_value(class);
        Ok(Read::Windowed { entity, class: class_id, feature: named.index, window, aggregate, default, about: text + &over })
    }

    fn plan_feature(&mut self, class: &'a FeatureClass, feature: &'a Feature) {
        let fqn = class.fqn(&feature.name);
        if !self.planned.insert(fqn.clone()) {
            return;
        }
        let read = match self.inputs.get(fqn.as_str()) {
            Some(input) => Ok(Read::Input(*input)),
            None => self.stored(class, feature, &fqn),
        };
        match read {
            Ok(read) => {
                let (ty, shape) = (feature.ty, Shape::One);
                self.plan.outputs.push(PlannedOutput { fqn, ty, shape, nullable: feature.nullable, read });
            }
            Err(error) => self.plan.errors.push(error),
        }
    }

    fn stored(&mut self, class: &'a FeatureClass, feature: &Feature, fqn: &str) -> Result<Read, PlanError> {
        let entity = self.entity(class, fqn)?;
        let id = self.catalog.feature_id(fqn).ok_or_else(|| not_in_catalog(fqn))?;
        let writers: Vec<String> = self.registry.writers(fqn).map(|resolver| resolver.name.clone()).collect();
        let asked = self.staleness.get(fqn).or_else(|| self.staleness.get(class.name.as_str())).copied();
        // What is stored can only have come from a stream: also if its resolver is no longer declared.
        let limit = staleness::limit(asked, feature.max_staleness, class.max_staleness, true);
        Ok(Read::Stored { entity, feature: id, limit, writers })
    }

    /// The entity of a class, planned when first needed.
    fn entity(&mut self, class: &'a FeatureClass, wanted: &str) -> Result<usize, PlanError> {
        if let Some(entity) = self.entities.get(class.name.as_str()) {
            return Ok(*entity);
        }
        let key_fqn = class.fqn(&class.key().name);
        let Some(input) = self.inputs.get(&key_fqn).copied() else {
            let message = format!("output \"{wanted}\" needs input \"{key_fqn}\", the key of \"{}\"", class.name);
            let near = name::nearest(&key_fqn, self.inputs.keys().map(String::as_str));
            let hint = near.map(|near| format!("the inputs have \"{near}\""));
            return Err(PlanError::new(PlanErrorKind::KeyMissing, wanted, message, hint));
        };
        let id = self.catalog.class_id(&class.name).ok_or_else(|| not_in_catalog(wanted))?;
        let entity = self.plan.entities.len();
        let class_name = class.name.clone();
        self.plan.entities.push(PlannedEntity { class: id, class_name, input, key_fqn, key_type: class.key().ty });
        self.entities.insert(&class.name, entity);
        Ok(entity)
    }

    fn no_such_window(&mut self, role: &str, name: &str, windows: String) {
        let message = format!("{role} \"{name}\" is not a window of its feature");
        self.plan.errors.push(PlanError::new(PlanErrorKind::UnknownFeature, name, message, Some(windows)));
    }

    fn unknown(&mut self, role: &str, name: &str) {
        let message = format!("{role} \"{name}\" is not a feature");
        self.plan.errors.push(PlanError::new(PlanErrorKind::UnknownFeature, name, message, self.registry.suggest(name)));
    }
}

fn not_in_catalog(fqn: &str) -> PlanError {
    PlanError::new(PlanErrorKind::NotInCatalog, fqn, format!("feature \"{fqn}\" is declared, but not in the catalog"), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Feature;

    fn declared() -> (Registry, Catalog) {
        let mut builder = Registry::builder();
        let user = FeatureClass::new("user", Feature::new::<String>("id"))
            .feature(Feature::new::<String>("last_page").max_staleness_text("1d"))
            .feature(Feature::new::<Option<i64>>("clicks"));
        let route = FeatureClass::new("route", Feature::new::<i64>("number"))
            .feature(Feature::new::<f64>("delay"))
            .max_staleness(TimeSpan::from_secs(3600));
        builder.add_class(user).add_class(route);
        let registry = builder.freeze().unwrap();
        let mut catalog = Catalog::new();
        catalog.reconcile(&registry).unwrap();
        (registry, catalog)
    }

    fn plan(inputs: &[&str], outputs: &[&str], staleness: &[(&str, TimeSpan)]) -> Plan {
        let (registry, catalog) = declared();
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let staleness: Vec<_> = staleness.iter().map(|(name, span)| ((*name).to_owned(), *span)).collect();
        let request = PlanRequest { inputs: &owned(inputs), outputs: &owned(outputs), staleness: &staleness };
        Plan::new(&registry, &catalog, &request)
    }

    #[track_caller]
    fn check(inputs: &[&str], outputs: &[&str], staleness: &[(&str, TimeSpan)], expected: &str) {
        assert_eq!(plan(inputs, outputs, staleness).explain(), expected);
    }

    #[test]
    fn a_whole_class_is_every_feature_of_it_and_the_key_answers_from_the_query() {
        check(
            &["user.id"],
            &["user", "user.clicks"],
            &[],
            "user.id str: from the query\n\
             user by input user.id\n  \
               user.last_page str: stored (user@1), max staleness 1d (feature), written by no resolver\n  \
               user.clicks int: stored (user@2), max staleness infinity (default), written by no resolver",
        );
    }

    #[test]
    fn a_query_may_name_several_classes_and_override_staleness_by_feature_and_by_class() {
        check(
            &["route.number", "user.id"],
            &["user.clicks", "route.delay", "user.last_page"],
            &[("user.clicks", TimeSpan::from_secs(1)), ("user", TimeSpan::from_secs(60))],
            "user by input user.id\n  \
               user.clicks int: stored (user@2), max staleness 1s (query), written by no resolver\n  \
               user.last_page str: stored (user@1), max staleness 1m (query), written by no resolver\n\
             route by input route.number\n  \
               route.delay float: stored (route@1), max staleness 1h (class), written by no resolver",
        );
    }

    #[test]
    fn a_given_value_answers_before_the_stored_one() {
        check(&["user.clicks"], &["user.clicks"], &[], "user.clicks int: from the query");
    }

    #[test]
    fn each_mistake_is_told_and_spoils_only_its_own_output() {
        check(
            &["user.id", "user.id", "usr.name"],
            &["user.lastpage", "route.delay", "user.clicks", "weather"],
            &[("user.clickz", TimeSpan::ZERO)],
            "user by input user.id\n  \
               user.clicks int: stored (user@2), max staleness infinity (default), written by no resolver\n\
             error: input \"user.id\" is given twice\n\
             error: input \"usr.name\" is not a feature; there is \"user.id\", \"user.last_page\", \"user.clicks\", \"route.number\", \"route.delay\", \"user\", \"route\"\n\
             error: staleness \"user.clickz\" is not a feature; did you mean \"user.clicks\"?\n\
             error: output \"user.lastpage\" is not a feature; did you mean \"user.last_page\"?\n\
             error: output \"route.delay\" needs input \"route.number\", the key of \"route\"\n\
             error: output \"weather\" is not a feature; there is \"user.id\", \"user.last_page\", \"user.clicks\", \"route.number\", \"route.delay\", \"user\", \"route\"",
        );
        assert_eq!(plan(&[], &[], &[]).errors[0].kind, PlanErrorKind::NoOutputs);
        assert_eq!(plan(&["user.id"], &["route.delay"], &[]).errors[0].kind, PlanErrorKind::KeyMissing);
    }

    #[test]
    fn a_key_of_the_wrong_type_is_an_error_of_that_key() {
        let plan = plan(&["route.number"], &["route.delay"], &[]);
        let entity = &plan.entities[0];
        assert_eq!(plan.key(entity, &[Value::Int(3)]).unwrap().class, ClassId(1));
        let error = plan.key(entity, &[Value::Str("3".into())]).unwrap_err();
        assert_eq!(error.to_string(), "input \"route.number\": expected a key of type int, got str");
        assert_eq!((error.kind, error.feature.as_deref()), (PlanErrorKind::WrongType, Some("route.number")));
    }
    fn windows() -> (Registry, Catalog) {
        use karst_types::Aggregation;

        use crate::WindowedFeature;

        let failed = WindowedFeature::new("failed", Aggregation::Count).windows(["10m", "all"]).filter("status == \"failed\"");
        let recent = WindowedFeature::new("recent", Aggregation::LastN(3)).windows(["1d"]).input("status").exact();
        let user = FeatureClass::new("user", Feature::new::<String>("id"))
            .feature(Feature::new::<String>("status"))
            .windowed(failed.clone())
            .windowed(WindowedFeature { name: "failed_day".to_owned(), ..failed.windows(["1d"]) })
            .windowed(recent)
            .windowed(WindowedFeature::new("visit", Aggregation::Count).session("30m").default(7i64));
        let mut builder = Registry::builder();
        builder.add_class(user);
        let registry = builder.freeze().unwrap();
        let mut catalog = Catalog::new();
        catalog.reconcile(&registry).unwrap();
        (registry, catalog)
    }

    #[track_caller]
    fn check_windows(inputs: &[&str], outputs: &[&str], expected: &str) -> Plan {
        let (registry, catalog) = windows();
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let request = PlanRequest { inputs: &owned(inputs), outputs: &owned(outputs), staleness: &[] };
        let plan = Plan::new(&registry, &catalog, &request);
        assert_eq!(plan.explain(), expected);
        plan
    }

    #[test]
    fn a_class_has_its_windows_among_its_features_and_equal_aggregates_share_their_state() {
        let plan = check_windows(
            &["user.id"],
            &["user"],
            "user.id str: from the query\n\
             user by input user.id\n  \
               user.status str: stored (user@1), max staleness infinity (default), written by no resolver\n  \
               user.failed__600__ int: windowed (user#0), count where (status == \"failed\") over 10m in hops of 1m\n  \
               user.failed__all__ int: windowed (user#0), count where (status == \"failed\") over all time\n  \
               user.failed_day__86400__ int: windowed (user#0), count where (status == \"failed\") over 1d in hops of 1h\n  \
               user.recent__86400__ list of str: windowed (user#1), last_n(status, 3) over 1d, exact\n  \
               user.visit__all__ int: windowed (user#2), count session 30m",
        );
        let Read::Windowed { feature, window, aggregate, default, .. } = &plan.outputs[6].read else { panic!("a window") };
        assert_eq!((*feature, *window, *aggregate), (3, WindowLength::All, AggregateSlot(2)));
        assert_eq!(*default, Value::Int(7));
    }

    #[test]
    fn a_window_is_asked_for_by_any_of_its_names_and_answered_once_by_its_own() {
        check_windows(
            &["user.id", "user.failed(\"all\")"],
            &["user.failed[\"10m\"]", "user.failed__600__", "user.failed"],
            "user.failed__all__ int: from the query\n\
             user by input user.id\n  \
               user.failed__600__ int: windowed (user#0), count where (status == \"failed\") over 10m in hops of 1m",
        );
    }

    #[test]
    fn a_window_that_is_not_there_is_told_with_those_that_are() {
        check_windows(
            &["user.id", "user.failed", "user.failed[\"2m\"]"],
            &["user.failed[\"11m\"]", "user.failed[\"11m\"]", "user.faild[\"10m\"]", "user.visit"],
            "user by input user.id\n  \
               user.visit__all__ int: windowed (user#2), count session 30m\n\
             error: input \"user.failed\" has several windows, and one value; name one of them, such as \"user.failed__600__\"\n\
             error: input \"user.failed[\"2m\"]\" is not a window of its feature; \"user.failed\" has the windows \"10m\", \"all\"\n\
             error: output \"user.failed[\"11m\"]\" is not a window of its feature; \"user.failed\" has the windows \"10m\", \"all\"\n\
             error: output \"user.faild[\"10m\"]\" is not a feature; did you mean \"user.failed[\"10m\"]\"?",
        );
    }
}
