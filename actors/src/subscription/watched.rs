//! What a subscription names, found in the declarations.

use std::{collections::HashSet, sync::Arc};

use karst_features::{Catalog, Plan, PlanRequest, Read, Registry};
use karst_state::{Closing, WindowRead};
use karst_types::{ClassId, EntityKey, EventTime, FeatureSlot, Value, ValueType, WindowKind, WindowLength, window::tile_end};

use super::Subscription;

/// More entities cannot be named; without any all are meant.
const KEYS_MAX: usize = 10_000;
const SECOND: i64 = 1_000_000;
/// Sessions that are over are looked for once in so long, of the time of events.
const SESSIONS_EVERY: i64 = 60 * SECOND;

/// What is watched of one class.
pub(super) struct Watched {
    pub(super) class: ClassId,
    pub(super) key_type: ValueType,
    /// Only these entities, by rising key.
    pub(super) keys: Option<Vec<Vec<u8>>>,
    pub(super) stored: Vec<(FeatureSlot, Arc<str>)>,
    pub(super) windows: Vec<WatchedWindow>,
    /// Those of them whose windows close.
    pub(super) closing: Vec<(Closing, usize)>,
    /// Windows that are over are told in steps of so many µs, of the time of events.
    pub(super) step: i64,
}

pub(super) struct WatchedWindow {
    pub(super) feature: Arc<str>,
    pub(super) read: WindowRead,
    default: Value,
}

impl WatchedWindow {
    pub(super) fn is_session(&self) -> bool {
        matches!(self.read.kind, WindowKind::Session { .. })
    }
    /// The window of an event of this time is not over before: when a tumbling one ends, and a session at the earliest.
    pub(super) fn ends_after(&self, time: EventTime) -> i64 {
        match (self.read.kind, self.read.length) {
            (WindowKind::Session { gap }, _) => time.0.saturating_add(gap.micros()),
            (_, WindowLength::Span(span)) => tile_end(time, span).0,
            (_, WindowLength::All) => i64::MAX,
        }
    }
    /// With the default in the place of null.
    pub(super) fn value(&self, value: Value) -> Value {
        if value == Value::Null { self.default.clone() } else { value }
    }
}

impl Watched {
    pub(super) fn is_wanted(&self, key: &[u8]) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.binary_search_by(|known| known[..].cmp(key)).is_ok())
    }
}

/// # Errors
/// Everything that is wrong.
pub(super) fn find(registry: &Registry, catalog: &Catalog, subscription: &Subscription) -> Result<Vec<Watched>, Vec<String>> {
    // As a query of all classes would name them.
    let inputs: Vec<String> = registry.classes().iter().map(|class| class.fqn(&class.key().name)).collect();
    let asked = PlanRequest { inputs: &inputs, outputs: &subscription.features, staleness: &[] };
    let plan = Plan::new(registry, catalog, &asked);
    let mut wrong: Vec<String> = plan.errors.iter().map(ToString::to_string).collect();
    let mut all: Vec<Watched> = Vec::new();
    for (planned, output) in plan.outputs.iter().filter_map(|output| match output.read {
        Read::Input(_) => None,
        Read::Stored { entity, .. } | Read::Windowed { entity, .. } => Some((&plan.entities[entity], output)),
    }) {
        let at = all.iter().position(|watched| watched.class == planned.class).unwrap_or_else(|| {
            let (class, key_type) = (planned.class, planned.key_type);
            all.push(Watched {
                class,
                key_type,
                keys: None,
                stored: Vec::new(),
                windows: Vec::new(),
                closing: Vec::new(),
                step: SECOND,
            });
            all.len() - 1
        });
        let (watched, feature) = (&mut all[at], Arc::<str>::from(output.fqn.as_str()));
        match &output.read {
            Read::Stored { feature: id, .. } => watched.stored.push((id.slot, feature)),
            Read::Windowed { feature: nth, window, aggregate, default, .. } => {
                let declared = registry.class(&planned.class_name).and_then(|class| class.windowed_features().get(*nth));
                let Some(declared) = declared else { continue };
                let (slot, hop, kind) = (aggregate.0, declared.hop_of(*window), declared.kind);
                let closing = match (kind, *window) {
                    (WindowKind::Tumbling, WindowLength::Span(span)) => {
                        Some((Closing::Tumbling { slot, span, hop }, span.micros()))
                    }
                    (WindowKind::Session { gap }, _) => Some((Closing::Session { slot }, gap.micros().min(SESSIONS_EVERY))),
                    _ => None,
                };
                if let Some((closing, every)) = closing {
                    watched.step = if watched.closing.is_empty() { every } else { watched.step.min(every) }.max(SECOND);
                    watched.closing.push((closing, watched.windows.len()));
                }
                let read = WindowRead { slot, length: *window, kind, hop, exact: declared.exact };
                watched.windows.push(WatchedWindow { feature, read, default: default.clone() });
            }
            Read::Input(_) => {}
        }
    }
    if all.is_empty() && wrong.is_empty() {
        wrong.push("only keys are named, and these do not change; name other features".to_owned());
    }
    if subscription.keys.len() > KEYS_MAX {
        wrong.push(format!("{} keys are named; {KEYS_MAX} are allowed", subscription.keys.len()));
    }
    for (name, value) in &subscription.keys {
        let class = registry.classes().iter().find(|class| class.fqn(&class.key().name) == *name);
        let id = class.and_then(|class| catalog.class_id(&class.name));
        let Some(watched) = all.iter_mut().find(|watched| Some(watched.class) == id) else {
            wrong.push(format!("\"{name}\" is not the key of a class of which a feature is named"));
            continue;
        };
        match EntityKey::from_value(watched.class, watched.key_type, value) {
            Ok(key) => watched.keys.get_or_insert_default().push(key.bytes),
            Err(why) => wrong.push(format!("key \"{name}\": {why}")),
        }
    }
    for keys in all.iter_mut().filter_map(|watched| watched.keys.as_mut()) {
        *keys = keys.drain(..).collect::<HashSet<_>>().into_iter().collect();
        keys.sort_unstable();
    }
    all.sort_unstable_by_key(|watched| watched.class);
    if wrong.is_empty() { Ok(all) } else { Err(wrong) }
}
