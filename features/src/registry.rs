//! The registry: all that was declared, whoever declared it (macros, by hand, later Python).
//!
//! [`RegistryBuilder`] takes declarations in any order and says nothing; [`RegistryBuilder::freeze`] checks them all and
//! either tells every mistake, or gives a [`Registry`] that cannot change and needs no further checks: names are unique
//! and well-formed, every resolver's outputs exist, and it has the key of each class that it writes.

use std::collections::HashMap;

use karst_types::{ValueType, WindowLength};

use crate::{
    Feature, FeatureClass, FeatureSet, Location, Mistakes, Shape, StreamDeclaration, StreamResolver, WindowedFeature,
    name::{nearest, suggest},
    validate::validate,
};

/// Gathers declarations. See [`Registry`].
#[derive(Debug, Default)]
pub struct RegistryBuilder {
    pub(crate) classes: Vec<FeatureClass>,
    pub(crate) sources: Vec<(String, Location)>,
    pub(crate) resolvers: Vec<StreamDeclaration>,
}

impl RegistryBuilder {
    /// Adds a class. Adding the very same declaration again changes nothing.
    pub fn add_class(&mut self, class: FeatureClass) -> &mut Self {
        if !self.classes.contains(&class) {
            self.classes.push(class);
        }
        self
    }

    /// Adds the class of a Rust type.
    pub fn add_set<C: FeatureSet>(&mut self) -> &mut Self {
        self.add_class(C::class().clone())
    }

    /// Adds a source, declared where this is called.
    #[track_caller]
    pub fn add_source(&mut self, name: impl Into<String>) -> &mut Self {
        self.add_source_at(name, Location::here())
    }

    /// Adds a source that was declared at `at`.
    pub fn add_source_at(&mut self, name: impl Into<String>, at: Location) -> &mut Self {
        self.sources.push((name.into(), at));
        self
    }

    /// Adds a resolver, and the classes that it names.
    pub fn add_resolver<R: StreamResolver>(&mut self, resolver: &R) -> &mut Self {
        for class in resolver.classes() {
            self.add_class(class.clone());
        }
        self.add_declaration(resolver.declaration())
    }

    /// Adds a resolver's declaration alone.
    pub fn add_declaration(&mut self, declaration: StreamDeclaration) -> &mut Self {
        self.resolvers.push(declaration);
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// All mistakes, each with where it was made.
    pub fn freeze(self) -> Result<Registry, Mistakes> {
        validate(&self)?;
        Ok(Registry::of(self))
    }
}

/// All that was declared, checked. See the module's page for what holds.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    classes: Vec<FeatureClass>,
    sources: Vec<String>,
    resolvers: Vec<StreamDeclaration>,
    class_named: HashMap<String, usize>,
    /// By fully qualified name: index of the class, and of the feature in it.
    feature_named: HashMap<String, (usize, usize)>,
    /// By fully qualified name: indices of the resolvers that write it.
    writers: HashMap<String, Vec<usize>>,
}

impl Registry {
    /// An empty builder.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    fn of(declared: RegistryBuilder) -> Self {
        let RegistryBuilder { classes, sources, resolvers } = declared;
        let class_named = classes.iter().enumerate().map(|(index, class)| (class.name.clone(), index)).collect();
        let feature_named = classes
            .iter()
            .enumerate()
            .flat_map(|(class, declared)| declared.fqns().enumerate().map(move |(feature, fqn)| (fqn, (class, feature))))
            .collect();
        let mut writers: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, resolver) in resolvers.iter().enumerate() {
            for output in &resolver.outputs {
                writers.entry(output.clone()).or_default().push(index);
            }
        }
        let sources = sources.into_iter().map(|(name, _)| name).collect();
        Self { classes, sources, resolvers, class_named, feature_named, writers }
    }

    /// The classes, as declared.
    pub fn classes(&self) -> &[FeatureClass] {
        &self.classes
    }
    /// The class with this name.
    pub fn class(&self, name: &str) -> Option<&FeatureClass> {
        self.class_named.get(name).map(|index| &self.classes[*index])
    }
    /// The feature with this fully qualified name, and its class.
    pub fn feature(&self, fqn: &str) -> Option<(&FeatureClass, &Feature)> {
        let (class, feature) = *self.feature_named.get(fqn)?;
        let class = &self.classes[class];
        Some((class, &class.features()[feature]))
    }
    /// The windows that a name stands for: `user.failed_logins__600__` and `user.failed_logins["10m"]` (or with `('10m')`) for
    /// one, `user.failed_logins` for all. `None` if there is no such windowed feature.
    ///
    /// # Errors
    /// It has no such window; says which it has.
    pub fn windowed(&self, name: &str) -> Option<Result<NamedWindows<'_>, String>> {
        let (base, window) = split_window(name);
        let (class, base) = base.split_once('.')?;
        let class = self.class(class)?;
        let index = class.windowed_features().iter().position(|feature| feature.name == base)?;
        let feature = &class.windowed_features()[index];
        let windows = match window {
            None => feature.windows.clone(),
            Some(asked) => match asked.parse().ok().filter(|asked| feature.windows.contains(asked)) {
                Some(window) => vec![window],
                None => return Some(Err(no_such_window(class, feature))),
            },
        };
        Some(Ok(NamedWindows { class, index, windows }))
    }
    /// The type of the values of a feature, or of one window, by its name. `None` if there is none, or its values are lists.
    pub fn value_type(&self, name: &str) -> Option<ValueType> {
        if let Some((_, feature)) = self.feature(name) {
            return Some(feature.ty);
        }
        let named = self.windowed(name)?.ok()?;
        let result = named.feature().result_type(named.class)?;
        (result.shape == Shape::One).then_some(result.ty)
    }
    /// The names of the sources, as declared.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = &str> {
        self.sources.iter().map(String::as_str)
    }
    /// The resolvers, as declared.
    pub fn resolvers(&self) -> &[StreamDeclaration] {
        &self.resolvers
    }
    /// The resolver with this name.
    pub fn resolver(&self, name: &str) -> Option<&StreamDeclaration> {
        self.resolvers.iter().find(|resolver| resolver.name == name)
    }
    /// The resolvers that take the messages of a source, as declared.
    pub fn resolvers_of<'a>(&'a self, source: &'a str) -> impl Iterator<Item = &'a StreamDeclaration> {
        self.resolvers.iter().filter(move |resolver| resolver.source == source)
    }
    /// The resolvers that write a feature.
    pub fn writers(&self, fqn: &str) -> impl Iterator<Item = &StreamDeclaration> {
        self.writers.get(fqn).into_iter().flatten().map(|index| &self.resolvers[*index])
    }
    /// The class or feature name that `name` is probably a slip of, in words.
    pub fn suggest(&self, name: &str) -> Option<String> {
        let (base, window) = split_window(name);
        let windowed: Vec<String> = self.classes.iter().flat_map(FeatureClass::windowed_fqns).collect();
        let features: Vec<String> = self.classes.iter().flat_map(FeatureClass::fqns).collect();
        let classes = self.classes.iter().map(|class| class.name.as_str());
        let names: Vec<&str> = features.iter().chain(&windowed).map(String::as_str).chain(classes).collect();
        if window.is_some()
            && let Some(near) = nearest(base, windowed.iter().map(String::as_str))
        {
            return Some(format!("did you mean \"{near}{}\"?", &name[base.len()..]));
        }
        suggest(name, names)
    }
}

/// Windows of one windowed feature.
#[derive(Clone, PartialEq, Debug)]
pub struct NamedWindows<'a> {
    /// The class.
    pub class: &'a FeatureClass,
    /// The feature's place in [`FeatureClass::windowed_features`].
    pub index: usize,
    /// The windows.
    pub windows: Vec<WindowLength>,
}

impl<'a> NamedWindows<'a> {
    /// The feature.
    pub fn feature(&self) -> &'a WindowedFeature {
        &self.class.windowed_features()[self.index]
    }
    /// The fully qualified names, such as `user.failed_logins__600__`, one for each window.
    pub fn fqns(&self) -> impl Iterator<Item = String> {
        self.windows.iter().map(|window| self.class.fqn(&window.feature_name(&self.feature().name)))
    }
}

/// The name before the window, and the window, as a query writes them: `user.x["10m"]`, `user.x('10m')`, `user.x__600__`.
fn split_window(name: &str) -> (&str, Option<String>) {
    for (open, close) in [('[', ']'), ('(', ')')] {
        if let Some((base, window)) = name.strip_suffix(close).and_then(|name| name.split_once(open)) {
            let plain = |quote| window.strip_prefix(quote)?.strip_suffix(quote);
            return (base, Some(plain('"').or_else(|| plain('\'')).unwrap_or(window).to_owned()));
        }
    }
    match name.strip_suffix("__").and_then(|name| name.rsplit_once("__")) {
        Some((base, "all")) => (base, Some("all".to_owned())),
        Some((base, seconds)) => (base, Some(format!("{seconds}s"))),
        None => (name, None),
    }
}

fn no_such_window(class: &FeatureClass, feature: &WindowedFeature) -> String {
    let windows: Vec<String> = feature.windows.iter().map(|window| format!("\"{window}\"")).collect();
    format!("\"{}\" has the windows {}", class.fqn(&feature.name), windows.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_be_written_in_four_ways() {
        let ten = Some("10m".to_owned());
        for name in ["user.x[\"10m\"]", "user.x['10m']", "user.x(\"10m\")", "user.x[10m]"] {
            assert_eq!(split_window(name), ("user.x", ten.clone()), "{name}");
        }
        assert_eq!(split_window("user.x__600__"), ("user.x", Some("600s".to_owned())));
        assert_eq!(split_window("user.x_y__all__"), ("user.x_y", Some("all".to_owned())));
        for name in ["user.x", "user.x__", "__", "", "[", "user.x]"] {
            assert_eq!(split_window(name), (name, None));
        }
    }
}
