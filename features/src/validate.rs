//! Checks a set of declarations: every mistake, not the first. In the order of reading: classes, sources, resolvers.

use std::collections::{HashMap, HashSet};

use karst_types::TimeSpan;

use crate::{
    Feature, FeatureClass, Location, MessageKey, Mistakes, OutputType, RegistryBuilder, StreamDeclaration,
    feature::makes_key,
    mistake::Found,
    name::{suggest, wrong_name, wrong_source_name},
};

mod windowed;

/// Most features of one class: slots stay small, and a row of all of them stays under a megabyte for numbers.
pub const FEATURES_MAX: usize = 4096;

pub(crate) fn validate(declared: &RegistryBuilder) -> Result<(), Mistakes> {
    let mut found = Found::default();
    let mut first_class: HashMap<&str, &FeatureClass> = HashMap::new();
    for class in &declared.classes {
        check_class(class, &mut found);
        if let Some(first) = first_class.get(class.name.as_str()) {
            found.add_with(
                Some(&class.declared_at),
                format!("feature class \"{}\" is declared twice; first at {}", class.name, first.declared_at),
                Some("give one of them another name: `#[features(name = \"…\", …)]`".to_owned()),
            );
        } else {
            first_class.insert(&class.name, class);
        }
    }
    check_sources(&declared.sources, &mut found);
    check_resolvers(declared, &first_class, &mut found);
    declared.classes.iter().for_each(|class| windowed::check_written(class, &declared.resolvers, &mut found));
    found.into_result()
}

fn check_class(class: &FeatureClass, found: &mut Found) {
    let at = &class.declared_at;
    let name = &class.name;
    if let Some(why) = wrong_name(name) {
        found.add_with(Some(at), format!("\"{name}\" cannot be the name of a feature class"), Some(why));
    }
    for wrong in &class.wrong {
        found.add(at, format!("feature class \"{name}\": max_staleness: {wrong}"));
    }
    check_staleness(&format!("feature class \"{name}\""), class.max_staleness, at, found);
    if class.features().len() > FEATURES_MAX {
        found.add(at, format!("feature class \"{name}\" has {} features; {FEATURES_MAX} are allowed", class.features().len()));
    }
    let key = class.key();
    if key.nullable || !makes_key(key.ty) {
        found.add_with(
            Some(&key.declared_at),
            format!("\"{}\" cannot be the key of feature class \"{name}\": its type is {}", key.name, key.type_name()),
            Some("keys are str or int, and never null".to_owned()),
        );
    }
    let mut first: HashMap<&str, &Feature> = HashMap::new();
    for feature in class.features() {
        let fqn = class.fqn(&feature.name);
        let at = &feature.declared_at;
        if let Some(why) = wrong_name(&feature.name) {
            found.add_with(Some(at), format!("\"{fqn}\" cannot be the name of a feature"), Some(why));
        }
        for wrong in &feature.wrong {
            found.add(at, format!("feature \"{fqn}\": max_staleness: {wrong}"));
        }
        check_staleness(&format!("feature \"{fqn}\""), feature.max_staleness, at, found);
        if let Some(first) = first.get(feature.name.as_str()) {
            found.add(at, format!("feature \"{fqn}\" is declared twice; first at {}", first.declared_at));
        } else {
            first.insert(&feature.name, feature);
        }
    }
    windowed::check(class, found);
}

fn check_staleness(what: &str, span: Option<TimeSpan>, at: &Location, found: &mut Found) {
    if let Some(span) = span.filter(|span| *span < TimeSpan::ZERO) {
        found.add(at, format!("{what}: max_staleness: expected no negative span, got {span}"));
    }
}

fn check_sources(sources: &[(String, Location)], found: &mut Found) {
    let mut first: HashMap<&str, &Location> = HashMap::new();
    for (name, at) in sources {
        if let Some(why) = wrong_source_name(name) {
            found.add_with(Some(at), format!("\"{name}\" cannot be the name of a source"), Some(why));
        }
        if let Some(first) = first.insert(name, at) {
            found.add(at, format!("source \"{name}\" is declared twice; first at {first}"));
        }
    }
}

fn check_resolvers(declared: &RegistryBuilder, classes: &HashMap<&str, &FeatureClass>, found: &mut Found) {
    let mut named: HashMap<&str, &StreamDeclaration> = HashMap::new();
    let mut first_of_source: HashMap<&str, &StreamDeclaration> = HashMap::new();
    let mut first_taker: HashMap<&str, &StreamDeclaration> = HashMap::new();
    for resolver in &declared.resolvers {
        let StreamDeclaration { name, source, declared_at: at, .. } = resolver;
        if let Some(why) = wrong_name(name) {
            found.add_with(Some(at), format!("\"{name}\" cannot be the name of a resolver"), Some(why));
        }
        if let Some(first) = named.get(name.as_str()) {
            found.add_with(
                Some(at),
                format!("resolver \"{name}\" is declared twice; first at {}", first.declared_at),
                Some("give one of them another name: `#[stream(name = \"…\", …)]`".to_owned()),
            );
        } else {
            named.insert(name, resolver);
        }
        if !declared.sources.iter().any(|(known, _)| known == source) {
            found.add_with(
                Some(at),
                format!("resolver \"{name}\" reads source \"{source}\", which is not declared"),
                suggest(source, declared.sources.iter().map(|(name, _)| name.as_str()))
                    .or_else(|| Some("no source is declared".to_owned())),
            );
        }
        match first_of_source.get(source.as_str()) {
            Some(first) if first.message_type != resolver.message_type => found.add_with(
                Some(at),
                format!(
                    "resolver \"{name}\" takes messages of type {}, but resolver \"{}\" of the same source \"{source}\" takes {} (at {})",
                    resolver.message.name, first.name, first.message.name, first.declared_at
                ),
                Some(one_message_type(first, resolver)),
            ),
            Some(_) => {}
            None => {
                first_of_source.insert(source, resolver);
            }
        }
        if resolver.by_value {
            match first_taker.get(source.as_str()) {
                Some(first) if !resolver.message_is_copied => found.add_with(
                    Some(at),
                    format!(
                        "resolver \"{name}\" takes {} by value, and so does resolver \"{}\" of the same source \"{source}\" (at {}); a message is decoded once, and {0} cannot be copied",
                        resolver.message.name, first.name, first.declared_at
                    ),
                    Some(format!("derive `Clone` for {0}, or let one of them (or its parse function) take `&{0}`", resolver.message.name)),
                ),
                Some(_) => {}
                None => {
                    first_taker.insert(source, resolver);
                }
            }
        }
        check_outputs(resolver, classes, found);
    }
}

/// What to do about two resolvers of a source with different messages: the one without a parse function may want one.
fn one_message_type(first: &StreamDeclaration, second: &StreamDeclaration) -> String {
    let help = match (&first.parse, &second.parse) {
        (Some(_), Some(_)) => "; let their parse functions take the same one".to_owned(),
        (None, Some(_)) => format!("; make {} of it for \"{}\" by a parse function", first.message.name, first.name),
        (_, None) => format!("; make {} of it for \"{}\" by a parse function", second.message.name, second.name),
    };
    format!("a source is decoded once: all of its resolvers take the same message type{help}")
}

fn check_outputs(resolver: &StreamDeclaration, classes: &HashMap<&str, &FeatureClass>, found: &mut Found) {
    let StreamDeclaration { name, outputs, output_types, declared_at: at, .. } = resolver;
    if let Some(types) = output_types.as_ref().filter(|types| types.len() != outputs.len()) {
        found.add(
            at,
            format!("resolver \"{name}\" declares {} outputs, but its rows have {} values", outputs.len(), types.len()),
        );
    }
    if outputs.is_empty() {
        found.add(at, format!("resolver \"{name}\" declares no outputs"));
    }
    let mut seen = HashSet::new();
    let mut written: Vec<Written<'_>> = Vec::new();
    let mut unknown = false;
    for (nth, output) in outputs.iter().enumerate() {
        if !seen.insert(output) {
            found.add(at, format!("resolver \"{name}\" writes feature \"{output}\" twice"));
            continue;
        }
        let Some((class, feature)) = known(output, classes) else {
            unknown = true;
            if windowed::is_one(output, classes) {
                let what = format!("resolver \"{name}\" writes \"{output}\", which is a windowed feature");
                let hint = "write the features that it is computed from; it follows them by itself";
                found.add_with(Some(at), what, Some(hint.to_owned()));
                continue;
            }
            not_declared(at, &format!("resolver \"{name}\" writes feature \"{output}\""), output, classes, found);
            continue;
        };
        let is_key = class.is_key(&feature.name);
        let part = Written::of(&mut written, class);
        part.key |= is_key;
        part.values |= !is_key;
        let wanted = OutputType { ty: feature.ty, nullable: feature.nullable };
        let got = output_types.as_ref().and_then(|types| types.get(nth));
        if let Some(got) = got.filter(|got| !got.fits(wanted) && !is_key || got.ty != wanted.ty) {
            found.add(
                at,
                format!("resolver \"{name}\" writes feature \"{output}\": expected values of type {wanted}, got {got}"),
            );
        }
    }
    check_keys(resolver, classes, &mut written, found);
    if unknown {
        return; // the name that was not found may be what a class lacks
    }
    for Written { class, key, values } in written {
        if !values {
            found.add(
                at,
                format!("resolver \"{name}\" writes only the key of feature class \"{}\", and no feature", class.name),
            );
        } else if !key {
            let key = class.fqn(&class.key().name);
            found.add_with(
                Some(at),
                format!("resolver \"{name}\" does not write \"{key}\", the key of feature class \"{}\"", class.name),
                Some(
                    "the key says whose values they are: add it to the outputs, or take it from the message by `keys(…)`"
                        .to_owned(),
                ),
            );
        }
    }
}

/// What a resolver writes of one class.
struct Written<'a> {
    class: &'a FeatureClass,
    key: bool,
    values: bool,
}

impl<'a> Written<'a> {
    fn of<'w>(written: &'w mut Vec<Self>, class: &'a FeatureClass) -> &'w mut Self {
        let index = written.iter().position(|known| known.class.name == class.name).unwrap_or(written.len());
        if index == written.len() {
            written.push(Self { class, key: false, values: false });
        }
        &mut written[index]
    }
}

/// The keys that come from the message, and those that may be null.
fn check_keys<'a>(
    resolver: &StreamDeclaration,
    classes: &HashMap<&str, &'a FeatureClass>,
    written: &mut Vec<Written<'a>>,
    found: &mut Found,
) {
    let StreamDeclaration { name, keys, optional_keys, declared_at: at, .. } = resolver;
    for MessageKey { feature: fqn, field, ty } in keys {
        let what = format!("resolver \"{name}\" takes key \"{fqn}\" from field \"{field}\"");
        let Some((class, feature)) = known(fqn, classes) else {
            not_declared(at, &what, fqn, classes, found);
            continue;
        };
        if !class.is_key(&feature.name) {
            let hint = format!("the key of feature class \"{}\" is \"{}\"", class.name, class.fqn(&class.key().name));
            found.add_with(Some(at), format!("{what}, which is not the key of its class"), Some(hint));
            continue;
        }
        if ty.ty != feature.ty {
            found.add(at, format!("{what}: expected a field of type {}, got {ty}", feature.ty));
        }
        let part = Written::of(written, class);
        if part.key {
            found.add_with(
                Some(at),
                format!("{what}, but has it already"),
                Some("name it once: among the outputs, or as one of the keys".to_owned()),
            );
        }
        part.key = true;
    }
    for fqn in optional_keys {
        let is_key = |part: &Written<'_>| part.key && *fqn == part.class.fqn(&part.class.key().name);
        if !written.iter().any(is_key) {
            found.add(at, format!("resolver \"{name}\" says that \"{fqn}\" may be null, which is not a key that it has"));
        }
    }
}

/// The class and the feature of `class.feature`.
fn known<'a>(fqn: &str, classes: &HashMap<&str, &'a FeatureClass>) -> Option<(&'a FeatureClass, &'a Feature)> {
    let (class, feature) = fqn.split_once('.')?;
    let class = *classes.get(class)?;
    Some((class, class.get(feature)?))
}

fn not_declared(at: &Location, what: &str, fqn: &str, classes: &HashMap<&str, &FeatureClass>, found: &mut Found) {
    let names: Vec<String> = classes.values().flat_map(|class| class.fqns()).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    let hint = suggest(fqn, names).or_else(|| Some("no feature class is declared".to_owned()));
    found.add_with(Some(at), format!("{what}, which is not declared"), hint);
}
