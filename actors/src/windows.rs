//! Windowed features on the path: from their declarations to what shards keep, what drives it, and how it is read.
//!
//! Roll-over and expiry are driven by the least progress watermark of the sources that write a class, as of what every shard has applied,
//! but never by the clock alone: a source that has nothing more to say is as far as its newest event. So a replay of last year keeps last
//! year's windows.

use std::{collections::HashMap, sync::Arc, time::Duration};

use karst_features::{Catalog, FeatureClass, Registry, WindowedFeature};
use karst_state::{AggregateDeclaration, ClassSessions, ClassWindows, SessionDeclaration, Store, WindowDeclaration, Windows};
use karst_types::{ClassId, EventTime, Expr, FeatureSlot, ValueType, WindowKind};

use crate::{source_time::SourceWatermark, subscription::Passing};

/// What the shards are to keep for the windowed features of all classes.
///
/// # Errors
/// Names what the catalog does not know: a fault of Karst.
pub(crate) fn declare(registry: &Registry, catalog: &Catalog) -> Result<Windows, String> {
    let with_windows = registry.classes().iter().filter(|class| !class.windowed_features().is_empty());
    let (mut tiles, mut sessions) = (Vec::new(), Vec::new());
    for class in with_windows {
        let id = catalog.class_id(&class.name).ok_or_else(|| format!("no class {}", class.name))?;
        tiles.extend(tiles_of(class, id, catalog)?.map(Arc::new));
        sessions.extend(sessions_of(class, id, catalog)?.map(Arc::new));
    }
    Ok(Windows::new(tiles).with_sessions(sessions))
}

/// Features of one aggregate share its sessions, which are kept for the longest retention.
fn sessions_of(class: &FeatureClass, id: ClassId, catalog: &Catalog) -> Result<Option<ClassSessions>, String> {
    let mut sessions: Vec<SessionDeclaration> = Vec::new();
    for feature in class.windowed_features() {
        let WindowKind::Session { gap } = feature.kind else { continue };
        let aggregate = aggregate(class, id, feature, catalog)?;
        match sessions.iter_mut().find(|known| known.aggregate.slot == aggregate.slot) {
            Some(known) => known.retention = known.retention.max(feature.retention),
            None => sessions.push(SessionDeclaration { aggregate, gap, retention: feature.retention }),
        }
    }
    sessions.sort_unstable_by_key(|session| session.aggregate.slot);
    Ok((!sessions.is_empty()).then(|| ClassSessions::new(id, &sessions)))
}

fn tiles_of(class: &FeatureClass, id: ClassId, catalog: &Catalog) -> Result<Option<ClassWindows>, String> {
    let mut aggregates: Vec<AggregateDeclaration> = Vec::new();
    let mut windows = Vec::new();
    for feature in class.windowed_features() {
        if matches!(feature.kind, WindowKind::Session { .. }) {
            continue;
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
    Ok((!windows.is_empty()).then(|| ClassWindows::new(id, &aggregates, &windows)))
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
    store: Store,
    /// Each class with the names of the sources that write it.
    classes: Vec<(ClassId, Vec<String>)>,
    passing: Arc<Passing>,
}

impl WindowClock {
    pub(crate) fn new(store: &Store, registry: &Registry, catalog: &Catalog, passing: Arc<Passing>) -> Self {
        let sources_of = |class: ClassId| {
            let name = catalog.class(class).map_or("", |class| class.name.as_str());
            let writes = |output: &String| output.split_once('.').is_some_and(|(class, _)| class == name);
            let writers = registry.resolvers().iter().filter(|resolver| resolver.outputs.iter().any(writes));
            let mut sources: Vec<String> = writers.map(|resolver| resolver.source.clone()).collect();
            sources.sort_unstable();
            sources.dedup();
            sources
        };
        let classes = store.windows().class_ids().into_iter().map(|class| (class, sources_of(class))).collect();
        Self { store: store.clone(), classes, passing }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// `sources`: how far each source is. `now`: since the process started.
    pub(crate) fn look(&self, sources: &[SourceWatermark], now: Duration) {
        if self.is_empty() {
            return;
        }
        let reached: HashMap<&str, [Option<EventTime>; 2]> =
            sources.iter().map(|source| (source.name.as_str(), [source.applied(), committed(source)])).collect();
        for (class, names) in &self.classes {
            let least = |nth: usize| {
                names.iter().map(|name| reached.get(name.as_str()).and_then(|reached| reached[nth])).min().flatten()
            };
            // Subscribers are told what is committed.
            self.passing.commit(*class, least(1));
            if let Some(applied) = least(0) {
                let expired = self.passing.expire(*class, applied, now);
                self.store.windows().advance(*class, expired);
            }
        }
    }
}

/// The progress watermark of a source, as of what every shard has committed, but not beyond its newest event.
fn committed(source: &SourceWatermark) -> Option<EventTime> {
    let newest = source.partitions.iter().filter_map(|partition| partition.watermark).max()?;
    Some(source.watermark?.min(newest))
}
