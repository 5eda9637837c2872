//! Windowed features on the path: from their declarations to what shards keep, what drives it, and how it is read.
//!
//! Roll-over and expiry are driven by the least progress watermark of the sources that write a class, as of what every shard has applied,
//! but never by the clock alone: a source that has nothing more to say is as far as its newest event. So a replay of last year keeps last
//! year's windows.

use std::{collections::HashMap, sync::Arc};

use karst_features::{Catalog, FeatureClass, Registry, WindowedFeature};
use karst_state::{AggregateDeclaration, ClassWindows, WindowDeclaration, Windows};
use karst_types::{ClassId, EventTime, Expr, FeatureSlot, ValueType, WindowKind};

use crate::source_time::SourceWatermark;

/// What the shards are to keep for the windowed features of all classes.
///
/// # Errors
/// Names what the catalog does not know: a fault of Karst.
pub(crate) fn declare(registry: &Registry, catalog: &Catalog) -> Result<Windows, String> {
    let with_windows = registry.classes().iter().filter(|class| !class.windowed_features().is_empty());
    let classes = with_windows.map(|class| of_class(class, catalog).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
    Ok(Windows::new(classes))
}

fn of_class(class: &FeatureClass, catalog: &Catalog) -> Result<ClassWindows, String> {
    let id = catalog.class_id(&class.name).ok_or_else(|| format!("no class {}", class.name))?;
    let mut aggregates: Vec<AggregateDeclaration> = Vec::new();
    let mut windows = Vec::new();
    for feature in class.windowed_features() {
        if matches!(feature.kind, WindowKind::Session { .. }) {
            return Err(format!("{} is a session window: Karst cannot keep these yet", class.fqn(&feature.name)));
        }
        let aggregate = aggregate(class, id, feature, catalog)?;
        match aggregates.iter_mut().find(|known| known.slot == aggregate.slot) {
            Some(known) => known.exact |= aggregate.exact,
            None => aggregates.push(aggregate),
        }
        let of = |length| WindowDeclaration {
            length,
            kind: feature.kind,
            hop: Some(feature.hop_of(length)),
            retention: feature.retention,
            exact: feature.exact,
        };
        windows.extend(feature.windows.iter().map(|length| of(*length)));
    }
    aggregates.sort_unstable_by_key(|aggregate| aggregate.slot);
    Ok(ClassWindows::new(id, &aggregates, &windows))
}

fn aggregate(
    class: &FeatureClass,
    id: ClassId,
    feature: &WindowedFeature,
    catalog: &Catalog,
) -> Result<AggregateDeclaration, String> {
    let bound = |expr: &Expr| {
        expr.map(&mut |name: &String| catalog.slot(id, name).ok_or_else(|| format!("no feature {}", class.fqn(name))))
    };
    let optional = |expr: &Option<Expr>| expr.as_ref().map(bound).transpose();
    let text = feature.aggregate();
    let slot = catalog.aggregate_slot(id, &text).ok_or_else(|| format!("no aggregate {text} of {}", class.name))?;
    let input: Option<Expr<FeatureSlot>> = optional(&feature.input)?;
    Ok(AggregateDeclaration {
        slot: slot.0,
        aggregation: feature.aggregation,
        // Only null has no type: then there is nothing to aggregate, whatever it is taken for.
        input: input.map(|input| (input, feature.input_type(class).unwrap_or(ValueType::Int))),
        by: optional(&feature.by)?,
        filter: optional(&feature.filter)?,
        group_by: optional(&feature.group_by)?.map(|group| (group, feature.groups_max)),
        exact: feature.exact,
    })
}

/// Moves the windows of each class on.
#[derive(Clone)]
pub(crate) struct WindowClock {
    /// Each with the names of the sources that write the class.
    classes: Vec<(Arc<ClassWindows>, Vec<String>)>,
}

impl WindowClock {
    pub(crate) fn new(windows: &Windows, registry: &Registry, catalog: &Catalog) -> Self {
        let sources_of = |class: &ClassWindows| {
            let name = catalog.class(class.class()).map_or("", |class| class.name.as_str());
            let writes = |output: &String| output.split_once('.').is_some_and(|(class, _)| class == name);
            let writers = registry.resolvers().iter().filter(|resolver| resolver.outputs.iter().any(writes));
            let mut sources: Vec<String> = writers.map(|resolver| resolver.source.clone()).collect();
            sources.sort_unstable();
            sources.dedup();
            sources
        };
        Self { classes: windows.iter().map(|class| (Arc::clone(class), sources_of(class))).collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// `sources`: how far each source is.
    pub(crate) fn look(&self, sources: &[SourceWatermark]) {
        if self.is_empty() {
            return;
        }
        let reached: HashMap<&str, Option<EventTime>> =
            sources.iter().map(|source| (source.name.as_str(), source.applied())).collect();
        for (class, names) in &self.classes {
            let least = names.iter().map(|name| reached.get(name.as_str()).copied().flatten()).min().flatten();
            if let Some(watermark) = least {
                class.advance(watermark);
            }
        }
    }
}
