//! The table "One event" of ARCHITECTURE.md is what one event does.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use karst::prelude::*;
use tracing_subscriber::{Layer, layer::Context, prelude::*};

use crate::world::{child, is_child, outcomes, small, succeeded, until};

const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");

#[derive(Message)]
struct Click {
    user_id: String,
    page: String,
}

#[features(key = "id")]
#[allow(dead_code)]
struct User {
    id: String,
    last_page: String,
}

#[stream(source = "clicks")]
fn on_click(click: Click) -> Updates![User::id, User::last_page] {
    updates!(click.user_id, click.page)
}

/// The column `actor`, row by row.
fn table() -> Vec<String> {
    let rows = ARCHITECTURE.lines().skip_while(|line| *line != "## One event").skip_while(|line| !line.starts_with("| hop |"));
    let cells = rows.skip(2).take_while(|line| line.starts_with('|')).map(|line| line.split('|').nth(3).unwrap().trim());
    cells.map(|actor| actor.trim_matches('`').to_owned()).collect()
}

/// A batch at a hop, as its stage tells: hop, place, records or updates.
type Reached = (String, String, u64);

#[derive(Clone, Default)]
struct Follower(Arc<Mutex<Vec<Reached>>>);

impl<S: tracing::Subscriber> Layer<S> for Follower {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "karst::hop" {
            return;
        }
        struct Fields(Reached);
        impl tracing::field::Visit for Fields {
            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                let slot = if field.name() == "hop" { &mut self.0.0 } else { &mut self.0.1 };
                value.clone_into(slot);
            }
            fn record_u64(&mut self, _: &tracing::field::Field, value: u64) {
                self.0.2 = value;
            }
            fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn fmt::Debug) {}
        }
        let mut fields = Fields(Reached::default());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
}

#[test]
fn the_hops_of_one_record_are_the_rows_of_the_table() {
    if !is_child() {
        // A subscriber for all threads is one for the whole process.
        let output = child("one_event::the_hops_of_one_record_are_the_rows_of_the_table", &[]).output().unwrap();
        return succeeded(&output);
    }
    let follower = Follower::default();
    tracing_subscriber::registry().with(follower.clone()).init();
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let clicks = MemorySource::json("clicks");
        let engine = Engine::builder(dir.path()).settings(small()).source(clicks.clone()).resolver(on_click).start().await?;
        clicks.send(r#"{"user_id":"ada","page":"/"}"#).await?;
        engine.drain().await?;
        assert_eq!(outcomes(&engine).applied, 1);
        let committed = |seen: &[Reached]| {
            seen.iter().any(|(hop, place, count)| hop == "changelog" && place != "source shard" && *count > 0)
        };
        until("the commit is told", || committed(&follower.0.lock().unwrap())).await;
        let answer = engine.query(&QueryRequest::new().input("user.id", "ada").output(User::last_page));
        assert_eq!(answer.get("user.last_page"), Some(&Value::Str("/".into())));
        engine.shutdown().await
    })
    .unwrap();

    let seen = follower.0.lock().unwrap().clone();
    // Every shard hears of every batch, also where there is nothing in it for that shard.
    let carried: Vec<&Reached> = seen.iter().filter(|(_, place, count)| *count > 0 && place != "source shard").collect();
    let hops: Vec<&str> = carried.iter().map(|(hop, ..)| hop.as_str()).collect();
    assert_eq!(hops, table(), "{seen:?}");
    assert!(carried.iter().all(|(_, _, count)| *count == 1), "one record, one update, one value: {carried:?}");
    let of_shards: Vec<&str> = carried[4..6].iter().map(|(_, place, _)| place.as_str()).collect();
    assert_eq!(of_shards[0], of_shards[1], "values and history are written by the same shard");
    let facts = seen.iter().filter(|(hop, place, count)| hop == "store_shard" && place == "source shard" && *count == 1);
    assert_eq!(facts.count(), 1, "what became of the record goes to the source shard: {seen:?}");
}

#[test]
fn the_stages_that_run_are_the_actors_of_the_table() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let clicks = MemorySource::json("clicks").partitions(2);
        let engine = Engine::builder(dir.path()).settings(small()).source(clicks).resolver(on_click).start().await?;
        engine.drain().await?;
        let stages = engine.handle().topology().stages;
        let count = |hop: &str| stages.iter().filter(|stage| stage.hop == hop).count();
        for actor in &table()[..4] {
            assert_eq!(count(actor), 2, "{actor}: one for each partition");
        }
        assert_eq!(count("store_shard"), 2 + 1, "one for each shard, and the source shard");
        assert!(stages.iter().all(|stage| stage.healthy && stage.restarts == 0), "{stages:?}");
        engine.shutdown().await
    })
    .unwrap();
}
