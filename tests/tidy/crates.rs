//! Which crate may know which: the picture in ARCHITECTURE.md, from `cargo metadata`.

use std::{env, process::Command};

use serde_json::Value;

use crate::{docs::section, file, none, root};

/// What a crate of ours may use of ours. Anything else breaks the layers, so it must be argued for here and in ARCHITECTURE.md.
const EDGES: [(&str, &[&str]); 11] = [
    ("karst-types", &[]),
    ("karst-features", &["karst-types"]),
    ("karst-runtime", &["karst-types"]),
    ("karst-state", &["karst-types"]),
    ("karst-connectors", &["karst-types"]),
    ("karst-macros", &[]),
    ("karst-actors", &["karst-types", "karst-features", "karst-runtime", "karst-state", "karst-connectors"]),
    (
        "karst",
        &["karst-types", "karst-features", "karst-macros", "karst-runtime", "karst-state", "karst-connectors", "karst-actors"],
    ),
    ("karst-server", &["karst"]),
    ("karst-cli", &["karst", "karst-server"]),
    ("karst-front", &["karst-types", "karst-features", "karst-macros"]), // the front door's stand-in in tests of the macros
];

/// The same, for tests, examples and benches only.
const DEV_EDGES: [(&str, &[&str]); 2] = [
    ("karst-macros", &["karst-front"]),
    ("karst", &["karst-server"]), // examples and tests serve what they compute
];

/// The one crate that may use a package.
const OWNED: [(&str, &str); 7] = [
    ("actix", "karst-runtime"),
    ("actix-rt", "karst-runtime"),
    ("actix-web", "karst-server"),
    ("rocksdb", "karst-state"),
    ("librocksdb-sys", "karst-state"),
    ("rdkafka", "karst-connectors"),
    ("rdkafka-sys", "karst-connectors"),
];

/// Our packages, as cargo sees them.
pub fn packages() -> Vec<Value> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON");
    match metadata["packages"].take() {
        Value::Array(packages) => packages,
        other => panic!("cargo metadata has no list of packages: {other}"),
    }
}

/// A text of the metadata; empty where there is none.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// The targets of a package, with their kind and source file.
pub fn targets(package: &Value) -> impl Iterator<Item = (&str, &str)> {
    let kind = |target: &'_ Value| list(target, "kind").first().and_then(Value::as_str).unwrap_or_default().to_owned();
    list(package, "targets").iter().map(move |target| {
        let kind = match kind(target).as_str() {
            "lib" | "proc-macro" => "lib",
            "bench" => "bench",
            "test" => "test",
            _ => "other",
        };
        (kind, text(target, "src_path"))
    })
}

#[test]
fn crates_know_only_the_layers_below_them() {
    let packages = packages();
    let ours = |name: &str| packages.iter().any(|package| text(package, "name") == name);
    let mut places = Vec::new();
    for package in &packages {
        let name = text(package, "name");
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
            places.push(format!("{name} is new: say what it may know, in tests/tidy/crates.rs and in ARCHITECTURE.md"));
            continue;
        };
        let more: &[&str] = DEV_EDGES.iter().find(|(known, _)| *known == name).map_or(&[], |(_, more)| more);
        for dependency in list(package, "dependencies") {
            let used = text(dependency, "name");
            let dev = text(dependency, "kind") == "dev";
            if ours(used) && !allowed.contains(&used) && !(dev && more.contains(&used)) {
                places.push(format!("{name} must not know {used}{}", if dev { ", not even in its tests" } else { "" }));
            }
        }
    }
    none(
        "The four siblings (features, runtime, state, connectors) do not see one another, and only actors sees them all. \
         That is what makes each testable alone, and keeps RocksDB and librdkafka out of most builds. server and cli use the \
         root's public API alone, which proves that it is enough.",
        places,
    );
}

#[test]
fn each_foreign_system_is_known_to_one_crate() {
    let mut places = Vec::new();
    for package in &packages() {
        for dependency in list(package, "dependencies") {
            let (name, used) = (text(package, "name"), text(dependency, "name"));
            if let Some((_, owner)) = OWNED.iter().find(|(owned, owner)| *owned == used && *owner != name) {
                places.push(format!("{name} uses {used}: only {owner} may"));
            }
        }
    }
    none(
        "Only runtime knows actix, only state knows RocksDB, only connectors knows Kafka, only server knows HTTP: each can be \
          replaced in one place, and nobody else has to learn its pitfalls.",
        places,
    );
}

#[test]
fn every_dependency_has_a_reason() {
    let packages = packages();
    let table = section(&file("ARCHITECTURE.md"), "Why each dependency");
    let words: Vec<&str> = table.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).collect();
    let ours = |name: &str| packages.iter().any(|package| text(package, "name") == name);
    let mut places: Vec<String> = packages
        .iter()
        .flat_map(|package| list(package, "dependencies").iter().map(move |used| (text(package, "name"), text(used, "name"))))
        .filter(|(_, used)| !ours(used) && !words.contains(used))
        .map(|(name, used)| format!("{used}, used by {name}"))
        .collect();
    places.sort();
    places.dedup();
    none("A dependency is code that we answer for: ARCHITECTURE.md says in one line why each is there.", places);
}
