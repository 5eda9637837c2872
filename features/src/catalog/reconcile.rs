//! What was declared meets what is stored: new names get ids, contradictions are mistakes.

use super::{Catalog, CatalogAggregate, CatalogChanges, CatalogClass, CatalogFeature};
use crate::{Feature, FeatureClass, Mistakes, Registry, WindowedFeature, mistake::Found, validate::FEATURES_MAX};

impl Catalog {
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
}

impl CatalogClass {
    fn reconcile_feature(&mut self, id: usize, feature: &Feature, changes: &mut CatalogChanges, found: &mut Found) {
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
