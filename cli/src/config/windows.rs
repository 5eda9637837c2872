//! Windowed features of the configuration file: `failed = { windows = ["10m"], aggregate = "count", filter = "status == \\"x\\"" }`.

use karst::{Value, features::WindowedFeature};

use super::document::{Entry, Section};

/// Whether a feature is a windowed one.
pub(super) fn is_one(section: &Section<'_, '_>) -> bool {
    ["aggregate", "windows", "session"].iter().any(|key| section.has(key))
}

/// A setter that takes nothing.
type SetFlag = fn(WindowedFeature) -> WindowedFeature;
/// A setter that takes text.
type SetText = fn(WindowedFeature, &str) -> WindowedFeature;

pub(super) fn read(entry: &Entry<'_, '_>, section: Section<'_, '_>) -> Option<WindowedFeature> {
    let aggregate = section.required("aggregate", "count");
    let windows = section.texts("windows");
    let mut feature = WindowedFeature::of_text(entry.key, aggregate.as_ref().map_or("count", |aggregate| &aggregate.text))
        .declared_at(entry.location())
        .windows(windows.iter().map(|window| window.text.as_str()))
        .tags(section.texts("tags").into_iter().map(|tag| tag.text));
    let settings: [(&'static str, SetText); 7] = [
        ("session", |feature, text| feature.session(text)),
        ("filter", |feature, text| feature.filter(text)),
        ("group_by", |feature, text| feature.group_by(text)),
        ("hop", |feature, text| feature.hop(text)),
        ("retention", |feature, text| feature.retention(text)),
        ("description", |feature, text| feature.description(text)),
        ("owner", |feature, text| feature.owner(text)),
    ];
    for (key, set) in settings {
        if let Some(text) = section.text(key) {
            feature = set(feature, &text.text);
        }
    }
    if let Some(groups) = section.count("groups_max") {
        feature = feature.groups_max(u32::try_from(groups).unwrap_or(u32::MAX));
    }
    if let Some(default) = section.value("default") {
        match constant(&default) {
            Some(value) => feature.default = Some(value),
            None => default.problem(format!("default: expected a text, a number, true or false, got {}", default.kind())),
        }
    }
    let flags: [(&'static str, SetFlag); 3] =
        [("exact", WindowedFeature::exact), ("tumbling", WindowedFeature::tumbling), ("unbounded", WindowedFeature::unbounded)];
    for (key, set) in flags {
        if section.flag(key) == Some(true) {
            feature = set(feature);
        }
    }
    section.finish();
    aggregate.map(|_| feature)
}

fn constant(entry: &Entry<'_, '_>) -> Option<Value> {
    if let Some(text) = entry.text() {
        return Some(Value::Str(text.into()));
    }
    let text = entry.scalar()?;
    let int = || text.parse().ok().map(Value::Int);
    let float = || text.parse().ok().map(Value::Float);
    int().or_else(float).or_else(|| text.parse().ok().map(Value::Bool))
}
