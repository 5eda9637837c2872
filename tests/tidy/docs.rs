//! Rules about the pages: what they name exists.

use std::path::Path;

use crate::{Source, file, files, none, root};

/// The lines of a page that are text, not a fenced block.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    page.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// What stands between backticks.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The part of a page under a heading, up to the next heading of the same or a higher rank.
pub fn section(page: &str, heading: &str) -> String {
    let rank = |line: &str| line.chars().take_while(|c| *c == '#').count();
    let mut lines = page.lines().skip_while(|line| rank(line) == 0 || line.trim_start_matches('#').trim() != heading);
    let own = rank(lines.next().unwrap_or_else(|| panic!("there is no section {heading:?}")));
    lines.take_while(|line| rank(line) == 0 || rank(line) > own).collect::<Vec<_>>().join("\n")
}

/// Whether a code span means a file or folder of the checkout: `state/src/row.rs`, `tests/it`.
fn is_path(span: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    span.contains('/') && !span.starts_with(['/', '.']) && !span.ends_with('/') && span.chars().all(plain)
}

#[test]
fn files_and_tests_that_a_page_names_are_there() {
    let mut gone = Vec::new();
    for page in files("md").iter().filter(|page| !page.path.starts_with("examples/")) {
        for (index, line) in prose(&page.text) {
            for span in code_spans(line) {
                let (path, test) = span.split_once("::").map_or((span, None), |(path, test)| (path, Some(test)));
                if !is_path(path) {
                    continue;
                }
                let place = format!("{}:{}: `{span}`", page.path, index + 1);
                let whole = root().join(path);
                if !whole.exists() {
                    gone.push(place);
                } else if let Some(test) = test
                    && !std::fs::read_to_string(whole).is_ok_and(|text| text.contains(&format!("fn {test}(")))
                {
                    gone.push(format!("{place}: there is no such function"));
                }
            }
        }
    }
    none("A page that names a file or a test is believed: what it names must be there.", gone);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut dead = Vec::new();
    for page in &files("md") {
        let folder = Path::new(&page.path).parent().unwrap_or(Path::new(""));
        for (index, line) in prose(&page.text) {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let path = target.split('#').next().unwrap_or_default();
                let elsewhere = target.contains("://") || target.starts_with("mailto:") || path.is_empty();
                if !elsewhere && !root().join(folder).join(path).exists() {
                    dead.push(format!("{}:{}: {target}", page.path, index + 1));
                }
            }
        }
    }
    none("A reader who follows a link must arrive.", dead);
}

#[test]
fn nothing_refers_to_a_document_that_is_not_here() {
    let section_of_a_design =
        |line: &str| line.contains('§') || line.split("DESIGN ").skip(1).any(|rest| rest.starts_with('S'));
    let own = |source: &Source| source.path.starts_with("tests/tidy/"); // the pattern stands here
    let mut places = Vec::new();
    for source in ["rs", "md", "toml", "sh"].iter().flat_map(|extension| files(extension)).filter(|source| !own(source)) {
        let lines = source.text.lines().enumerate().filter(|(_, line)| section_of_a_design(line));
        places.extend(lines.map(|(index, line)| format!("{}:{}: {}", source.path, index + 1, line.trim())));
    }
    none("Whoever reads has this checkout and nothing else: name the section of docs/semantics.md that says it.", places);
}

#[test]
fn every_hop_of_the_table_is_a_file_of_actors() {
    let table = section(&file("ARCHITECTURE.md"), "One event");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes().get(2).is_some_and(u8::is_ascii_digit))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let actors: Vec<&str> = rows.iter().filter_map(|row| code_spans(row.get(2)?).next()).collect();
    assert_eq!(actors.len(), 7, "the table of ARCHITECTURE.md has seven hops, each with its actor: {actors:?}");
    // Hop 6 has no actor of its own: the commit of hop 5 writes the history.
    let gone = actors.iter().filter(|name| **name != "changelog").map(|name| format!("actors/src/{name}.rs"));
    none(
        "The table that opens ARCHITECTURE.md is the map of the path: each actor in it is a file of that name.",
        gone.filter(|path| !root().join(path).exists()).collect(),
    );
}

#[test]
fn every_setting_is_documented() {
    let page = file("docs/config.md");
    let mut missing = Vec::new();
    for (path, name) in [
        ("actors/src/settings.rs", "EngineSettings"),
        ("state/src/settings.rs", "StoreSettings"),
        ("connectors/src/settings.rs", "SourceSettings"),
        ("server/src/settings.rs", "ServerSettings"),
    ] {
        let source = file(path);
        let body =
            source.split_once(&format!("pub struct {name} {{")).map(|(_, rest)| rest.split("\n}").next().unwrap_or(rest));
        let body = body.unwrap_or_else(|| panic!("{path} has no struct {name}"));
        let fields = body.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next());
        missing.extend(fields.filter(|field| !page.contains(&format!("| `{field}` |"))).map(|field| format!("{name}.{field}")));
    }
    none("An operator finds every setting in docs/config.md, with its default and what it does.", missing);
}

/// The names that a source of settings by builder has: its setters, and the variables of the environment.
fn names_of_a_builder(source: &str) -> impl Iterator<Item = &str> {
    let word = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
    source.lines().map(str::trim).filter_map(move |line| {
        let method = line.strip_prefix("pub fn ").and_then(|rest| rest.split_once("(mut self"));
        let method = method.map(|(name, _)| name.split('<').next().unwrap_or(name));
        // setter!(/// What it is. ⏎ topic, TOPIC);
        let setter = || line.strip_suffix(");")?.split_once(", ").filter(|(_, key)| word(key)).map(|(name, _)| name);
        let variable = || line.strip_prefix("const ")?.split_once(": &str = \"")?.1.strip_suffix("\";");
        method.or_else(setter).or_else(variable).filter(word)
    })
}

#[test]
fn every_setting_of_kafka_and_of_registries_is_documented() {
    let page = file("docs/config.md");
    let is_there = |name: &str| ["`", "(", " = "].iter().any(|end| page.contains(&format!("`{name}{end}")));
    let (kafka, registry, declared) =
        (file("connectors/src/kafka/config.rs"), file("connectors/src/registry/mod.rs"), file("cli/src/config/declared.rs"));
    let kafka = kafka.split("fn looked_up").next().unwrap_or_default();
    let mut names: Vec<&str> = names_of_a_builder(kafka).chain(names_of_a_builder(&registry)).collect();
    assert!(names.contains(&"topic") && names.contains(&"unknown_for") && names.contains(&"SSL_CA_FILE"), "{names:?}");
    // What the file's reader asks a source and its registry for.
    let readers = ["\nfn kafka(", "\nfn registry(", "\nfn format(", "\nfn source("];
    let bodies = readers.iter().filter_map(|start| declared.split_once(start)?.1.split("\n}\n").next());
    let from_file: Vec<&str> = bodies
        .flat_map(|body| body.split("(\"").skip(1).filter_map(|rest| rest.split_once('"')))
        .filter(|(_, after)| after.starts_with([')', ',']))
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    assert!(
        from_file.contains(&"bootstrap_servers") && from_file.contains(&"path") && from_file.contains(&"message"),
        "{from_file:?}"
    );
    names.extend(from_file);
    let missing = names.into_iter().filter(|name| !is_there(name)).map(str::to_owned).collect();
    none(
        "Settings of Kafka and of schema registries stand in docs/config.md, as the builder, a file and the environment call them.",
        missing,
    );
}

#[test]
fn every_reason_is_documented() {
    let page = section(&file("docs/semantics.md"), "Outcomes and dead letters");
    let source = file("types/src/outcome.rs");
    let names = source.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
    let missing: Vec<String> = names.filter(|name| !page.contains(&format!("| `{name}` |"))).map(str::to_owned).collect();
    none("Whoever finds a dead letter looks its reason up in docs/semantics.md.", missing);
}

#[test]
fn code_spans_and_sections_are_found() {
    let page = "# A\ntext `a/b.rs`\n```\n`not/this`\n```\n## B\nmore\n# C\n";
    let spans: Vec<&str> = prose(page).flat_map(|(_, line)| code_spans(line)).collect();
    assert_eq!(spans, ["a/b.rs"]);
    assert_eq!(section(page, "B"), "more");
    assert!(section(page, "A").contains("more"));
    assert!(is_path("tests/it") && !is_path("/healthz") && !is_path("./data") && !is_path("<crate>/tests"));
}
