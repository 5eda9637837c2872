//! Rules about Rust files.

use crate::{
    Source,
    crates::{packages, targets, text},
    files, none, root,
};

/// The part of a file that runs in production: without the test module at its end.
fn production(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod ") && pair[1].trim_end().ends_with('{')
    });
    let end = tests.unwrap_or(lines.len());
    lines.into_iter().take(end).enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn places<'a>(source: &Source, lines: impl Iterator<Item = (usize, &'a str)>, patterns: &[&str]) -> Vec<String> {
    lines
        .filter(|(_, line)| patterns.iter().any(|pattern| line.contains(pattern)))
        .map(|(index, line)| format!("{}:{}: {}", source.path, index + 1, line.trim()))
        .collect()
}

fn rust_files() -> Vec<Source> {
    let own = |source: &Source| source.path.starts_with("tests/tidy/"); // the patterns stand here
    let meant_to_fail = |source: &Source| source.path.starts_with("tests/ui/");
    files("rs").into_iter().filter(|source| !own(source) && !meant_to_fail(source)).collect()
}

#[test]
fn nothing_is_left_unfinished() {
    let all = |source: &Source| places(source, source.text.lines().enumerate(), &["todo!(", "unimplemented!(", "#[ignore"]);
    none(
        "What is not there is an issue with a number, not a panic in waiting; a test that is not run proves nothing. A test that \
         cannot run here says so in the file named by KARST_TEST_SKIPPED.",
        rust_files().iter().flat_map(all).collect(),
    );
}

#[test]
fn time_is_a_parameter() {
    let in_production = |source: &&Source| {
        let folders: Vec<&str> = source.path.split('/').collect();
        let is_source = folders.first() == Some(&"src") || folders.get(1) == Some(&"src");
        is_source && !folders.contains(&"tests") && source.path != "runtime/src/clock.rs"
    };
    let readings =
        |source: &Source| places(source, production(&source.text), &["SystemTime::now", "Instant::now", "thread::sleep"]);
    none(
        "Only runtime/src/clock.rs reads a clock; everything else is handed a karst_types::Clock, so that tests decide what time it \
         is, and replays agree. Nothing sleeps: it would hold a thread that others need. Wait on a channel with a timeout.",
        rust_files().iter().filter(in_production).flat_map(readings).collect(),
    );
}

#[test]
fn every_crate_says_what_it_is() {
    let mut silent = Vec::new();
    for package in &packages() {
        for (_, path) in targets(package).filter(|(kind, _)| *kind == "lib") {
            let source = std::fs::read_to_string(path).unwrap_or_default();
            // The root's page is the README.
            if !source.starts_with("//!") && !source.starts_with("#![doc = include_str!") {
                silent.push(format!("{} of {}", path.replace(&*root().to_string_lossy(), ""), text(package, "name")));
            }
        }
    }
    none(
        "The first lines of a crate say what it is, what it must not know, and where to begin reading: start lib.rs with //!.",
        silent,
    );
}

#[test]
fn every_file_says_what_it_is() {
    let in_a_crate = |source: &&Source| source.path.contains("src/");
    let opens = |source: &Source| {
        let first = source.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        first.starts_with("//!") || first.starts_with("#![doc")
    };
    let silent =
        rust_files().iter().filter(in_a_crate).filter(|source| !opens(source)).map(|source| source.path.clone()).collect();
    none("A file is one idea, and its first line says which: start it with //!, then its invariants.", silent);
}

#[test]
fn every_bench_says_what_it_measures() {
    let mut silent = Vec::new();
    for package in &packages() {
        for (_, path) in targets(package).filter(|(kind, _)| *kind == "bench") {
            let source = std::fs::read_to_string(path).unwrap_or_default();
            let first = source.lines().next().unwrap_or_default();
            if !(first.starts_with("//!") && first.to_lowercase().contains("measure")) {
                silent.push(format!("{path}: {first}"));
            }
        }
    }
    none(
        "A figure without a sentence is a rumour: the first line of a bench says what it measures, and in which unit.",
        silent,
    );
}

#[test]
fn the_test_module_of_a_file_is_not_production_code() {
    let source = "fn now() {}\n// Instant::now\n#[cfg(test)]\nmod tests {\n    Instant::now();\n}\n";
    assert_eq!(production(source).map(|(_, line)| line).collect::<Vec<_>>(), ["fn now() {}"]);
    assert_eq!(production("#[cfg(test)]\nmod tests;\nfn now() {}\n").count(), 3);
}
