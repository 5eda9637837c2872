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

mod reconcile;
#[cfg(test)]
mod tests;
mod text;

use std::{collections::HashMap, fmt};

use karst_types::{AggregateSlot, ClassId, Domain, FeatureId, FeatureSlot, Retry, SourceId, ValueType};

use crate::{FeatureClass, WindowedFeature};

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
}
