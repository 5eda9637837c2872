//! The page of the HTTP API names what the code has, and nothing else.

use std::collections::BTreeSet;

use crate::{docs::section, file, files, none};

/// What one side has and the other has not, in words.
fn differences(code: &BTreeSet<String>, page: &BTreeSet<String>) -> Vec<String> {
    let missing = code.difference(page).map(|name| format!("{name} is in the code and not on the page"));
    let gone = page.difference(code).map(|name| format!("{name} is on the page and not in the code"));
    missing.chain(gone).collect()
}

/// The pieces of a text between two others.
fn between<'a>(text: &'a str, open: &'a str, close: char) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split_once(close).map(|(piece, _)| piece))
}

#[test]
fn every_route_is_on_the_page() {
    let server = file("server/src/server.rs");
    let code: BTreeSet<String> = between(&server, ".route(\"", ')')
        .filter_map(|route| {
            let (path, method) = route.split_once("\", web::")?;
            Some(format!("{} {path}", method.trim_end_matches('(').to_uppercase()))
        })
        .collect();
    assert!(code.len() > 5, "the routes were not found: {code:?}");
    let page = section(&file("docs/http.md"), "Routes");
    let page = between(&page, "\n### `", '`').map(str::to_owned).collect();
    none("Whoever writes a client has docs/http.md and no more: every route is a section there.", differences(&code, &page));
}

#[test]
fn every_metric_is_on_the_page() {
    // Two words at least: one alone is a crate's name.
    let is_metric = |name: &&str| name.contains('_') && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let mut code = BTreeSet::new();
    for source in files("rs").iter().filter(|source| source.path.contains("/src/")) {
        let names = between(&source.text, "\"karst_", '"').filter(is_metric);
        code.extend(names.map(|name| format!("karst_{name}")));
    }
    assert!(code.len() > 40, "the metrics were not found: {code:?}");
    let page = section(&file("docs/http.md"), "Metrics");
    let page = between(&page, "\n| `karst_", '`').map(|name| format!("karst_{name}")).collect();
    none("An operator who sees a metric looks its meaning up in docs/http.md.", differences(&code, &page));
}
