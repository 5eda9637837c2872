//! The catalog: names to dense ids, kept in the state directory. Stored rows know only the ids.
//!
//! Invariants:
//! - An id, once given, keeps its name and its type for ever; nothing is removed, so that no id is used twice. A feature
//!   that is no longer declared keeps its slot, and finds its values again when it is declared again.
//! - Ids are given in the order of the declarations, and do not depend on the order of later ones.
//! - [`Catalog::to_text`] and [`Catalog::from_text`] are inverse; the text is for the store, and for people to look at.
//!
//! ```text
//! karst-catalog 1
//! source 0 clicks
//! class 0 user id
//! feature 0 0 str id
//! feature 0 1 int? clicks
//! aggregate 0 0 int - - sum(clicks) where (clicks > 0)
//! ```
//!
//! An aggregate stands for the tiles of all windowed features that compute it: its class, its slot, the types of its input, its
//! `by` and its group, and [`WindowedFeature::aggregate`], which is its name.

use std::{collections::HashMap, fmt, fmt::Write as _};

use karst_types::{AggregateSlot, ClassId, Domain, FeatureId, FeatureSlot, Retry, SourceId, ValueType};

use crate::{FeatureClass, Mistakes, Registry, WindowedFeature, mistake::Found, validate::FEATURES_MAX};

const HEADER: &str = "karst-catalog 1";

/// Names to dense ids. See the module's page.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Catalog {
    sources: Vec<String>,
    classes: Vec<CatalogClass>,
    /// Positions in `classes`.
    class_named: HashMap<String, u16>,
}

/// A class that the catalog knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CatalogClass {
    /// Its name.
    pub name: String,
    /// The name of its key.
    pub key: String,
    features: Vec<CatalogFeature>,
    /// Positions in `features`.
    named: HashMap<String, u16>,
    aggregates: Vec<CatalogAggregate>,
    /// Positions in `aggregates`.
    aggregate_named: HashMap<String, u16>,
}

/// An aggregate that the catalog knows. Its tiles are stored under its slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CatalogAggregate {
    /// What it aggregates: [`WindowedFeature::aggregate`].
    pub text: String,
    /// The types of its input, its `by` and its group; `None` where it has none.
    pub types: [Option<ValueType>; 3],
}

impl CatalogAggregate {
    /// That of a windowed feature of `class`.
    fn of(class: &FeatureClass, feature: &WindowedFeature) -> Self {
        let types = [&feature.input, &feature.by, &feature.group_by]
            .map(|expr| expr.as_ref().and_then(|expr| WindowedFeature::type_of(class, expr)));
        Self { text: feature.aggregate(), types }
    }
    fn type_names(&self) -> String {
        self.types.map(|ty| ty.map_or_else(|| "-".to_owned(), |ty| ty.to_string())).join(" ")
    }
}

/// A feature that the catalog knows. The key has a slot like every feature, but no stored values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CatalogFeature {
    /// Its name inside its class.
    pub name: String,
    /// The type of its values.
    pub ty: ValueType,
    /// Whether they may be null: as declared last. Rows may hold nulls from before.
    pub nullable: bool,
}

/// What a reconciliation added: names with their new ids, in words. Empty when nothing changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CatalogChanges {
    /// One line for each change, such as `feature user.clicks: slot 2 of class 0`.
    pub lines: Vec<String>,
}

impl CatalogChanges {
    /// Whether nothing changed, so that the text need not be stored again.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}
impl fmt::Display for CatalogChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("; "))
    }
}

/// A stored catalog that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("catalog line {line}: {what}")]
pub struct CatalogError {
    /// Counted from 1.
    pub line: usize,
    /// What was expected and what was found.
    pub what: String,
}

impl CatalogError {
    /// What is stored is damaged, or of a newer Karst.
    pub const fn domain(&self) -> Domain {
        Domain::External
    }
    /// Trying again does not help.
    pub const fn retry(&self) -> Retry {
        Retry::Never
    }
}

impl CatalogClass {
    /// All features ever declared; the position is the slot.
    pub fn features(&self) -> &[CatalogFeature] {
        &self.features
    }
    /// The slot of a feature.
    pub fn slot(&self, feature: &str) -> Option<FeatureSlot> {
        self.named.get(feature).copied().map(FeatureSlot)
    }
    /// All aggregates ever declared; the position is the slot.
    pub fn aggregates(&self) -> &[CatalogAggregate] {
        &self.aggregates
    }
    /// The slot of an aggregate, by its text ([`WindowedFeature::aggregate`]).
    pub fn aggregate_slot(&self, text: &str) -> Option<AggregateSlot> {
        self.aggregate_named.get(text).copied().map(AggregateSlot)
    }
    /// The type of the key.
    pub fn key_type(&self) -> Option<ValueType> {
        self.slot(&self.key).map(|slot| self.features[usize::from(slot.0)].ty)
    }
    fn push(&mut self, feature: CatalogFeature) -> usize {
        let slot = self.features.len();
        self.named.insert(feature.name.clone(), slot as u16);
        self.features.push(feature);
        slot
    }
    fn push_aggregate(&mut self, aggregate: CatalogAggregate) -> usize {
        let slot = self.aggregates.len();
        self.aggregate_named.insert(aggregate.text.clone(), slot as u16);
        self.aggregates.push(aggregate);
        slot
    }
}

impl Catalog {
    /// A catalog that knows nothing: that of a new state directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of a class.
    pub fn class_id(&self, name: &str) -> Option<ClassId> {
        self.class_named.get(name).copied().map(ClassId)
    }
    /// The class with this id.
    pub fn class(&self, id: ClassId) -> Option<&CatalogClass> {
        self.classes.get(usize::from(id.0))
    }
    /// All classes ever declared; the position is the id.
    pub fn classes(&self) -> &[CatalogClass] {
        &self.classes
    }
    /// The slot of a feature in its class.
    pub fn slot(&self, class: ClassId, feature: &str) -> Option<FeatureSlot> {
        self.class(class)?.slot(feature)
    }
    /// The slot of an aggregate in its class, by its text ([`WindowedFeature::aggregate`]).
    pub fn aggregate_slot(&self, class: ClassId, text: &str) -> Option<AggregateSlot> {
        self.class(class)?.aggregate_slot(text)
    }
    /// The id of a feature by its fully qualified name.
    pub fn feature_id(&self, fqn: &str) -> Option<FeatureId> {
        let (class, feature) = fqn.split_once('.')?;
        let class = self.class_id(class)?;
        Some(FeatureId { class, slot: self.slot(class, feature)? })
    }
    /// The feature with this id.
    pub fn feature(&self, id: FeatureId) -> Option<&CatalogFeature> {
        self.class(id.class)?.features.get(usize::from(id.slot.0))
    }
    /// The fully qualified name of a feature.
    pub fn fqn(&self, id: FeatureId) -> Option<String> {
        Some(format!("{}.{}", self.class(id.class)?.name, self.feature(id)?.name))
    }
    /// The id of a source.
    pub fn source_id(&self, name: &str) -> Option<SourceId> {
        self.sources.iter().position(|known| known == name).map(|index| SourceId(index as u16))
    }
    /// The name of a source.
    pub fn source(&self, id: SourceId) -> Option<&str> {
        self.sources.get(usize::from(id.0)).map(String::as_str)
    }
    /// The names of all sources ever declared; the position is the id.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// Gives ids to what is new in the registry. Store the text before the first write under a new id.
    ///
    /// # Errors
    /// Every declaration that contradicts what is stored: another type for a known feature, another key, or too many
    /// names. The catalog is then unchanged.
    pub fn reconcile(&mut self, registry: &Registry) -> Result<CatalogChanges, Mistakes> {
        let mut next = self.clone();
        let mut changes = CatalogChanges::default();
        let mut found = Found::default();
        for source in registry.sources() {
            if next.source_id(source).is_some() {
                continue;
            }
            if next.sources.len() > usize::from(u16::MAX) {
                found.add_with(
                    None,
                    format!("source \"{source}\": {} sources have been used, no id is left", next.sources.len()),
                    None,
                );
                continue;
            }
            changes.lines.push(format!("source {source}: id {}", next.sources.len()));
            next.sources.push(source.to_owned());
        }
        for class in registry.classes() {
            let Some(id) = next.class_or_new(class, &mut changes, &mut found) else { continue };
            let known = &mut next.classes[id];
            if known.key != class.key().name {
                found.add_with(
                    Some(&class.declared_at),
                    format!(
                        "the key of feature class \"{}\" was \"{}\" and is now \"{}\"",
                        class.name,
                        known.key,
                        class.key().name
                    ),
                    Some("stored values are kept under the old key: declare a class with another name".to_owned()),
                );
            }
            for feature in class.features() {
                known.reconcile_feature(id, feature, &mut changes, &mut found);
            }
            for feature in class.windowed_features() {
                known.reconcile_aggregate(id, class, feature, &mut changes, &mut found);
            }
        }
        found.into_result()?;
        *self = next;
        Ok(changes)
    }

    fn class_or_new(&mut self, class: &FeatureClass, changes: &mut CatalogChanges, found: &mut Found) -> Option<usize> {
        if let Some(id) = self.class_id(&class.name) {
            return Some(usize::from(id.0));
        }
        let id = self.classes.len();
        if id > usize::from(u16::MAX) {
            found.add(
                &class.declared_at,
                format!("feature class \"{}\": {id} classes have been used, no id is left", class.name),
            );
            return None;
        }
        changes.lines.push(format!("class {}: id {id}", class.name));
        self.push_class(class.name.clone(), class.key().name.clone());
        Some(id)
    }

    fn push_class(&mut self, name: String, key: String) {
        self.class_named.insert(name.clone(), self.classes.len() as u16);
        self.classes.push(CatalogClass {
            name,
            key,
            features: Vec::new(),
            named: HashMap::new(),
            aggregates: Vec::new(),
            aggregate_named: HashMap::new(),
        });
    }

    /// As text, for the store.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        // Writing to a String cannot fail.
        for (id, source) in self.sources.iter().enumerate() {
            let _ = writeln!(text, "source {id} {source}");
        }
        for (id, class) in self.classes.iter().enumerate() {
            let _ = writeln!(text, "class {id} {} {}", class.name, class.key);
            for (slot, feature) in class.features.iter().enumerate() {
                let null = if feature.nullable { "?" } else { "" };
                let _ = writeln!(text, "feature {id} {slot} {}{null} {}", feature.ty, feature.name);
            }
            for (slot, aggregate) in class.aggregates.iter().enumerate() {
                let _ = writeln!(text, "aggregate {id} {slot} {} {}", aggregate.type_names(), aggregate.text);
            }
        }
        text
    }

    /// Reads what [`Catalog::to_text`] wrote.
    ///
    /// # Errors
    /// The line that cannot be read; a catalog of a newer version is one.
    pub fn from_text(text: &str) -> Result<Self, CatalogError> {
        let mut catalog = Self::new();
        let mut lines = text.lines().enumerate();
        let header = lines.next().map_or("", |(_, line)| line);
        if header != HEADER {
            return Err(CatalogError { line: 1, what: format!("expected \"{HEADER}\", got \"{header}\"") });
        }
        for (index, line) in lines {
            catalog.read_line(line).map_err(|what| CatalogError { line: index + 1, what })?;
        }
        for (index, class) in catalog.classes.iter().enumerate() {
            if class.slot(&class.key).is_none() {
                let what = format!("class {index} \"{}\" has no feature \"{}\", its key", class.name, class.key);
                return Err(CatalogError { line: text.lines().count(), what });
            }
        }
        Ok(catalog)
    }

    fn read_line(&mut self, line: &str) -> Result<(), String> {
        let in_order = |id: &str, expected: usize| match id.parse::<u16>() {
            Ok(id) if usize::from(id) == expected => Ok(()),
            _ => Err(format!("expected id {expected}, got \"{id}\"")),
        };
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["source", id, name] if self.source_id(name).is_none() => {
                in_order(id, self.sources.len())?;
                self.sources.push(name.to_owned());
            }
            ["class", id, name, key] if self.class_id(name).is_none() => {
                in_order(id, self.classes.len())?;
                self.push_class(name.to_owned(), key.to_owned());
            }
            ["feature", class, slot, ty, name] => {
                let last = self.classes.len().checked_sub(1).ok_or("a feature stands before the first class")?;
                in_order(class, last)?;
                let known = &mut self.classes[last];
                in_order(slot, known.features.len())?;
                if known.slot(name).is_some() {
                    return Err(format!("feature \"{name}\" stands twice"));
                }
                let (ty, nullable) = ty.strip_suffix('?').map_or((ty, false), |ty| (ty, true));
                let ty = type_named(ty).ok_or_else(|| format!("\"{ty}\" is not a type"))?;
                known.push(CatalogFeature { name: name.to_owned(), ty, nullable });
            }
            ["aggregate", class, slot, input, by, group, ..] => {
                let last = self.classes.len().checked_sub(1).ok_or("an aggregate stands before the first class")?;
                in_order(class, last)?;
                let known = &mut self.classes[last];
                in_order(slot, known.aggregates.len())?;
                let text = line.splitn(7, ' ').nth(6).unwrap_or_default(); // it has blanks of its own
                if text.is_empty() || known.aggregate_slot(text).is_some() {
                    return Err(format!("aggregate \"{text}\" has no text, or stands twice"));
                }
                let [input, by, group] = [input, by, group].map(|ty| match ty {
                    "-" => Ok(None),
                    ty => type_named(ty).map(Some).ok_or_else(|| format!("\"{ty}\" is not a type")),
                });
                known.push_aggregate(CatalogAggregate { text: text.to_owned(), types: [input?, by?, group?] });
            }
            _ => return Err(format!("expected a new source, class, feature or aggregate, got \"{line}\"")),
        }
        Ok(())
    }
}

impl CatalogClass {
    fn reconcile_feature(&mut self, id: usize, feature: &crate::Feature, changes: &mut CatalogChanges, found: &mut Found) {
        let fqn = format!("{}.{}", self.name, feature.name);
        let Some(slot) = self.slot(&feature.name) else {
            if self.features.len() >= FEATURES_MAX {
                found.add(
                    &feature.declared_at,
                    format!("feature \"{fqn}\": {FEATURES_MAX} slots of the class have been used, none is left"),
                );
                return;
            }
            let slot = self.push(CatalogFeature { name: feature.name.clone(), ty: feature.ty, nullable: feature.nullable });
            changes.lines.push(format!("feature {fqn}: slot {slot} of class {id}"));
            return;
        };
        let known = &mut self.features[usize::from(slot.0)];
        if known.ty != feature.ty {
            let hint = if self.key == feature.name {
                "stored values are kept under keys of the old type: declare a class with another name"
            } else {
                "values of the old type are stored: declare a feature with another name, such as with \"_v2\" at its end"
            };
            found.add_with(
                Some(&feature.declared_at),
                format!("the type of feature \"{fqn}\" was {} and is now {}", known.ty, feature.ty),
                Some(hint.to_owned()),
            );
        } else if known.nullable != feature.nullable {
            known.nullable = feature.nullable;
            changes
                .lines
                .push(format!("feature {fqn}: {}", if feature.nullable { "may be null" } else { "may no longer be null" }));
        }
    }

    fn reconcile_aggregate(
        &mut self,
        id: usize,
        class: &FeatureClass,
        feature: &WindowedFeature,
        changes: &mut CatalogChanges,
        found: &mut Found,
    ) {
        let (fqn, at) = (class.fqn(&feature.name), &feature.declared_at);
        let aggregate = CatalogAggregate::of(class, feature);
        let Some(slot) = self.aggregate_slot(&aggregate.text) else {
            if self.aggregates.len() >= FEATURES_MAX {
                let what =
                    format!("windowed feature \"{fqn}\": {FEATURES_MAX} aggregates of the class have been used, none is left");
                found.add(at, what);
                return;
            }
            let line = format!("aggregate {} of {}", aggregate.text, self.name);
            let slot = self.push_aggregate(aggregate);
            changes.lines.push(format!("{line}: slot {slot} of class {id}"));
            return;
        };
        let known = &self.aggregates[usize::from(slot.0)];
        if known.types != aggregate.types {
            // Features keep their types, so it is a function's.
            found.add_with(
                Some(at),
                format!(
                    "windowed feature \"{fqn}\": the types of input, by and group of {} were {} and are now {}",
                    known.text,
                    known.type_names(),
                    aggregate.type_names()
                ),
                Some("tiles of the old types are stored: give the function that changed another name".to_owned()),
            );
        }
    }
}

fn type_named(name: &str) -> Option<ValueType> {
    [ValueType::Bool, ValueType::Int, ValueType::Float, ValueType::Time, ValueType::Str, ValueType::Bytes]
        .into_iter()
        .find(|ty| ty.to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Feature, FeatureClass};

    fn user(features: &[(&str, ValueType)]) -> FeatureClass {
        features.iter().fold(FeatureClass::new("user", Feature::new::<String>("id")), |class, (name, ty)| {
            class.feature(Feature::of_type(*name, *ty, true))
        })
    }
    fn registry(classes: &[FeatureClass], sources: &[&str]) -> Registry {
        let mut builder = Registry::builder();
        classes.iter().for_each(|class| _ = builder.add_class(class.clone()));
        sources.iter().for_each(|source| _ = builder.add_source(*source));
        builder.freeze().unwrap()
    }

    #[test]
    fn ids_are_given_once_and_survive_a_change_of_order_and_a_removal() {
        let mut catalog = Catalog::new();
        let one = registry(&[user(&[("a", ValueType::Int), ("b", ValueType::Str)])], &["clicks", "views"]);
        assert_eq!(catalog.reconcile(&one).unwrap().lines.len(), 6);
        assert!(catalog.reconcile(&one).unwrap().is_empty());
        let b = catalog.feature_id("user.b").unwrap();

        let route = FeatureClass::new("route", Feature::new::<i64>("id"));
        let two = registry(&[route, user(&[("c", ValueType::Bool), ("b", ValueType::Str)])], &["views", "other"]);
        let changes = catalog.reconcile(&two).unwrap();
        assert_eq!(
            changes.to_string(),
            "source other: id 2; class route: id 1; feature route.id: slot 0 of class 1; feature user.c: slot 3 of class 0"
        );
        assert_eq!(catalog.feature_id("user.b"), Some(b));
        assert_eq!(catalog.feature_id("user.a").unwrap().slot, FeatureSlot(1));
        assert_eq!((catalog.source_id("clicks"), catalog.source_id("views")), (Some(SourceId(0)), Some(SourceId(1))));
        assert_eq!(catalog.fqn(b).as_deref(), Some("user.b"));
    }

    #[test]
    fn a_catalog_reads_back_from_its_text() {
        let mut catalog = Catalog::new();
        let all = [
            ("a", ValueType::Int),
            ("b", ValueType::Bytes),
            ("c", ValueType::Time),
            ("d", ValueType::Float),
            ("e", ValueType::Bool),
        ];
        catalog.reconcile(&registry(&[user(&all)], &["clicks"])).unwrap();
        assert_eq!(Catalog::from_text(&catalog.to_text()), Ok(catalog));
        let text = "karst-catalog 1\nsource 0 clicks\nclass 0 user id\nfeature 0 0 str id\nfeature 0 1 int? clicks\n";
        assert_eq!(Catalog::from_text(text).unwrap().to_text(), text);
    }

    #[test]
    fn a_damaged_catalog_is_refused_with_its_line() {
        let check = |lines: &str, expected: &str| {
            let error = Catalog::from_text(&format!("karst-catalog 1\n{lines}")).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check("source 1 clicks", "catalog line 2: expected id 0, got \"1\"");
        check("feature 0 0 str id", "catalog line 2: a feature stands before the first class");
        check("class 0 user id\nfeature 0 0 text id", "catalog line 3: \"text\" is not a type");
        check("class 0 user id\nfeature 0 0 str name", "catalog line 3: class 0 \"user\" has no feature \"id\", its key");
        check("class 0 user id\nfeature 0 0 str id\nfeature 0 1 str id", "catalog line 4: feature \"id\" stands twice");
        check("nonsense", "catalog line 2: expected a new source, class, feature or aggregate, got \"nonsense\"");
        assert_eq!(
            Catalog::from_text("karst-catalog 2\n").unwrap_err().to_string(),
            "catalog line 1: expected \"karst-catalog 1\", got \"karst-catalog 2\""
        );
        assert!(Catalog::from_text("").is_err());
    }

    #[test]
    fn a_change_of_type_or_key_is_refused_and_changes_nothing() {
        let mut catalog = Catalog::new();
        catalog.reconcile(&registry(&[user(&[("a", ValueType::Int), ("b", ValueType::Int)])], &[])).unwrap();
        let before = catalog.clone();
        let other_types = registry(&[user(&[("new", ValueType::Int), ("a", ValueType::Str), ("b", ValueType::Time)])], &[]);
        let mistakes = catalog.reconcile(&other_types).unwrap_err();
        let whats: Vec<_> = mistakes.iter().map(|mistake| mistake.what.as_str()).collect();
        assert_eq!(
            whats,
            ["the type of feature \"user.a\" was int and is now str", "the type of feature \"user.b\" was int and is now time"]
        );
        assert!(mistakes.iter().all(|mistake| mistake.at.is_some() && mistake.hint.is_some()));
        assert_eq!(catalog, before);

        let other_key = registry(&[FeatureClass::new("user", Feature::new::<i64>("a"))], &[]);
        let mistakes = catalog.reconcile(&other_key).unwrap_err();
        assert_eq!(mistakes.iter().next().unwrap().what, "the key of feature class \"user\" was \"id\" and is now \"a\"");
        let other_key_type = registry(&[FeatureClass::new("user", Feature::new::<i64>("id"))], &[]);
        let mistakes = catalog.reconcile(&other_key_type).unwrap_err();
        assert_eq!(mistakes.iter().next().unwrap().what, "the type of feature \"user.id\" was str and is now int");
        assert_eq!(catalog, before);
    }
    #[test]
    fn an_aggregate_keeps_its_slot_whatever_its_windows_and_features_are_called() {
        use karst_types::Aggregation::{Count, Max, Sum};
        let class = |features: Vec<WindowedFeature>| {
            let class = user(&[("a", ValueType::Int), ("b", ValueType::Str)]);
            registry(&[features.into_iter().fold(class, FeatureClass::windowed)], &[])
        };
        let feature = |name: &str, aggregation| WindowedFeature::new(name, aggregation).windows(["1h"]);
        let mut catalog = Catalog::new();
        let sum = || feature("total", Sum).input("a").filter("b == \"x  y\\n\"");
        catalog.reconcile(&class(vec![feature("n", Count), sum()])).unwrap();
        let changes = catalog
            .reconcile(&class(vec![feature("most", Max).input("b").group_by("a"), sum().windows(["1d"]), feature("m", Count)]))
            .unwrap();
        assert_eq!(changes.to_string(), "aggregate max(b) per a of user: slot 2 of class 0");
        let slot = |text: &str| catalog.aggregate_slot(ClassId(0), text);
        assert_eq!(slot("count"), Some(AggregateSlot(0)));
        assert_eq!(slot("sum(a) where (b == \"x  y\\n\")"), Some(AggregateSlot(1)));
        assert_eq!(slot("max(b)"), None);
        let text = catalog.to_text();
        assert!(text.ends_with(
            "feature 0 2 str? b\n\
             aggregate 0 0 - - - count\n\
             aggregate 0 1 int - - sum(a) where (b == \"x  y\\n\")\n\
             aggregate 0 2 str - int max(b) per a\n"
        ));
        assert_eq!(Catalog::from_text(&text), Ok(catalog));
        let refused = |line: &str| Catalog::from_text(&format!("{text}{line}")).unwrap_err().what;
        assert_eq!(refused("aggregate 0 3 - - - count"), "aggregate \"count\" has no text, or stands twice");
        assert_eq!(refused("aggregate 0 3 - - -"), "aggregate \"\" has no text, or stands twice");
        assert_eq!(refused("aggregate 0 9 - - - mean(a)"), "expected id 3, got \"9\"");
        assert_eq!(refused("aggregate 0 3 text - - mean(a)"), "\"text\" is not a type");
    }

    #[test]
    fn an_aggregate_whose_function_gives_another_type_is_refused() {
        use karst_types::{Aggregation, Expr, Value, expr::Function};
        let class = |ty| {
            let f = Expr::Call(Function::new("f", ty, |_| Value::Null), vec![Expr::Feature("a".to_owned())]);
            let feature = WindowedFeature::new("most", Aggregation::Max).windows(["1h"]).input(f);
            registry(&[user(&[("a", ValueType::Int)]).windowed(feature)], &[])
        };
        let mut catalog = Catalog::new();
        catalog.reconcile(&class(ValueType::Int)).unwrap();
        let mistakes = catalog.reconcile(&class(ValueType::Str)).unwrap_err();
        assert_eq!(
            mistakes.iter().next().unwrap().what,
            "windowed feature \"user.most\": the types of input, by and group of max(f(a)) were int - - and are now str - -"
        );
    }
}
