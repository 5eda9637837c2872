//! Features and feature classes, as data; and the traits by which typed Rust names them.

use std::{fmt, marker::PhantomData};

use karst_types::{FeatureValue, Str, TimeSpan, ValueType};

use crate::{Location, WindowedFeature};

/// A named property of an entity. Its fully qualified name is `class.feature`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Feature {
    /// The name inside its class.
    pub name: String,
    /// The type of its values. Stored: it cannot change for a name that has been used (see [`Catalog`](crate::Catalog)).
    pub ty: ValueType,
    /// Whether its value may be null.
    pub nullable: bool,
    /// How old a stored value may be when it is served. `None`: as the class says (`docs/semantics.md`, Queries).
    pub max_staleness: Option<TimeSpan>,
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

impl Feature {
    /// A feature with values of type `V`, declared where this is called.
    #[track_caller]
    pub fn new<V: FeatureValue>(name: impl Into<String>) -> Self {
        Self::of_type(name, V::TYPE, V::NULLABLE)
    }

    /// The feature that a field of a feature class stands for; `#[features]` writes this.
    #[track_caller]
    pub fn of_field<C: Field<INDEX>, const INDEX: usize>(name: impl Into<String>) -> Self {
        Self::new::<C::Value>(name)
    }

    /// A feature whose type is known only at run time, declared where this is called.
    #[track_caller]
    pub fn of_type(name: impl Into<String>, ty: ValueType, nullable: bool) -> Self {
        Self {
            name: name.into(),
            ty,
            nullable,
            max_staleness: None,
            description: None,
            owner: None,
            tags: Vec::new(),
            declared_at: Location::here(),
            wrong: Vec::new(),
        }
    }

    /// Sets how old a stored value may be when it is served.
    #[must_use]
    pub fn max_staleness(mut self, span: TimeSpan) -> Self {
        self.max_staleness = Some(span);
        self
    }
    /// The same as text, such as `"1d"`. Text that is no duration is reported by `freeze`, with all other mistakes.
    #[must_use]
    pub fn max_staleness_text(mut self, text: &str) -> Self {
        match text.parse() {
            Ok(span) => self.max_staleness = Some(span),
            Err(wrong) => self.wrong.push(wrong),
        }
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
    /// `str`, or `int?` if it may be null.
    pub fn type_name(&self) -> String {
        format!("{}{}", self.ty, if self.nullable { "?" } else { "" })
    }
}

/// A kind of entity: its key and its other features. The key is a feature too, and the first.
#[derive(Clone, PartialEq, Debug)]
pub struct FeatureClass {
    /// The name, which is also the first part of its features' names.
    pub name: String,
    /// How old stored values may be when they are served, for features that do not say. `None`: no limit for values that
    /// streams write, and 0 for others (`docs/semantics.md`, Queries).
    pub max_staleness: Option<TimeSpan>,
    /// For people.
    pub description: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// For search.
    pub tags: Vec<String>,
    /// Where it was declared.
    pub declared_at: Location,
    /// Never empty; the key stands first.
    features: Vec<Feature>,
    windowed: Vec<WindowedFeature>,
    /// See [`Feature::wrong`].
    pub(crate) wrong: Vec<String>,
}

impl FeatureClass {
    /// A class with its key, declared where this is called.
    #[track_caller]
    pub fn new(name: impl Into<String>, key: Feature) -> Self {
        Self {
            name: name.into(),
            max_staleness: None,
            description: None,
            owner: None,
            tags: Vec::new(),
            declared_at: Location::here(),
            features: vec![key],
            windowed: Vec::new(),
            wrong: Vec::new(),
        }
    }

    /// Adds a feature.
    #[must_use]
    pub fn feature(mut self, feature: Feature) -> Self {
        self.features.push(feature);
        self
    }
    /// Adds a windowed feature.
    #[must_use]
    pub fn windowed(mut self, feature: WindowedFeature) -> Self {
        self.windowed.push(feature);
        self
    }
    /// Sets how old stored values may be, for features that do not say.
    #[must_use]
    pub fn max_staleness(mut self, span: TimeSpan) -> Self {
        self.max_staleness = Some(span);
        self
    }
    /// The same as text, such as `"1d"`. Text that is no duration is reported by `freeze`, with all other mistakes.
    #[must_use]
    pub fn max_staleness_text(mut self, text: &str) -> Self {
        match text.parse() {
            Ok(span) => self.max_staleness = Some(span),
            Err(wrong) => self.wrong.push(wrong),
        }
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

    /// The feature whose value tells one entity from another. Its value is not stored: it *is* the entity's key.
    pub fn key(&self) -> &Feature {
        &self.features[0]
    }
    /// All features, the key first, the others as declared; without the windowed ones, which are not written but computed.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }
    /// The windowed features, as declared.
    pub fn windowed_features(&self) -> &[WindowedFeature] {
        &self.windowed
    }
    /// The hops of all of its windows, the finest first: each divides the next.
    pub fn hops(&self) -> Vec<TimeSpan> {
        let mut hops: Vec<TimeSpan> = self.windowed.iter().flat_map(WindowedFeature::hops).collect();
        hops.sort_unstable();
        hops.dedup();
        hops
    }
    /// The feature with this name.
    pub fn get(&self, name: &str) -> Option<&Feature> {
        self.features.iter().find(|feature| feature.name == name)
    }
    /// Whether `name` is the key's.
    pub fn is_key(&self, name: &str) -> bool {
        self.key().name == name
    }
    /// `class.feature`.
    pub fn fqn(&self, feature: &str) -> String {
        format!("{}.{feature}", self.name)
    }
    /// The fully qualified names of the windowed features; each stands for all of its windows.
    pub fn windowed_fqns(&self) -> impl Iterator<Item = String> {
        self.windowed.iter().map(|feature| self.fqn(&feature.name))
    }
    /// The fully qualified names of all features but the windowed ones, the key first.
    pub fn fqns(&self) -> impl Iterator<Item = String> {
        self.features.iter().map(|feature| self.fqn(&feature.name))
    }
}

/// A Rust type that stands for a feature class: what `#[features]` writes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a feature class",
    note = "put `#[features(key = \"…\")]` on `{Self}`"
)]
pub trait FeatureSet: 'static {
    /// The type of the key.
    type Key: KeyValue;

    /// The declaration.
    fn class() -> &'static FeatureClass;
}

/// The feature at `INDEX` of a class, the key having index 0: the type of its values. It is what `Updates![User::id]`
/// looks up in the type system.
#[diagnostic::on_unimplemented(
    message = "a resolver cannot write a windowed feature of `{Self}`",
    label = "it is computed from the updates of its class",
    note = "write the features that its expressions mention; it follows them by itself"
)]
pub trait Field<const INDEX: usize> {
    /// The type of the feature's values.
    type Value: FeatureValue;
}

/// A type whose values can be entity keys.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a feature class",
    note = "keys are String, karst::Str, or whole numbers; they are never null"
)]
pub trait KeyValue: FeatureValue {}

macro_rules! keys {
    ($($ty:ty)*) => {$( impl KeyValue for $ty {} )*};
}
keys!(String Str i64 i32 i16 i8 u32 u16 u8);

/// Whether values of this type can be keys.
pub const fn makes_key(ty: ValueType) -> bool {
    matches!(ty, ValueType::Str | ValueType::Int)
}

/// A feature of class `C` with values of type `V`: what `User::last_page` is.
pub struct FeatureHandle<C, V> {
    index: usize,
    name: &'static str,
    of: PhantomData<fn() -> (C, V)>,
}

impl<C, V> FeatureHandle<C, V> {
    /// The feature at `index` of the class; `#[features]` writes this.
    pub const fn new(index: usize, name: &'static str) -> Self {
        Self { index, name, of: PhantomData }
    }
    /// Its place in [`FeatureClass::features`]; 0 is the key.
    pub const fn index(self) -> usize {
        self.index
    }
    /// The name inside its class.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl<C: FeatureSet, V> FeatureHandle<C, V> {
    /// `class.feature`.
    pub fn fqn(self) -> String {
        C::class().fqn(self.name)
    }
}

impl<C, V> Clone for FeatureHandle<C, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C, V> Copy for FeatureHandle<C, V> {}
impl<C: FeatureSet, V> fmt::Display for FeatureHandle<C, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fqn())
    }
}
impl<C: FeatureSet, V> fmt::Debug for FeatureHandle<C, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl<C: FeatureSet, V> From<FeatureHandle<C, V>> for String {
    fn from(handle: FeatureHandle<C, V>) -> Self {
        handle.fqn()
    }
}
