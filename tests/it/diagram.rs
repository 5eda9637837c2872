//! The picture in the README is the one that the engine draws of itself.

use karst::{EngineSettings, diagram};

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_shows_the_topology_as_it_is_wired() {
    let (_, rest) = README.split_once("<!-- topology -->\n```mermaid\n").expect("README.md has a topology block");
    let (shown, _) = rest.split_once("```\n<!-- /topology -->").expect("the topology block of README.md ends");
    let drawn = diagram(&EngineSettings::default());
    assert!(shown == drawn, "put this between the topology markers of README.md:\n```mermaid\n{drawn}```");
}

#[test]
fn the_picture_tells_the_capacities_that_are_set() {
    let mut settings = EngineSettings { credits: 5, mailbox: 6, shard_mailbox: 7, ..EngineSettings::default() };
    settings.store.shards = 9;
    let drawn = diagram(&settings);
    for part in ["5 credits", "\"Events; 6\"", "shard; 7\"", "store_shard × 9"] {
        assert!(drawn.contains(part), "{part} is not in\n{drawn}");
    }
}
