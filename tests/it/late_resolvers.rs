//! What each resolver of a source did with late events: they need not do the same.

use karst::{BrokerTime, LateLane, PartitionId, ResolverLateness, prelude::*};
use serde_json::json;

use crate::world::{outcomes, small};

#[derive(Message)]
struct Note {
    id: String,
    kind: String,
    #[message(event_time)]
    at: EventTime,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Page {
    id: String,
    odd: bool,
    even: bool,
    last: bool,
}

fn odd_ones(note: &Note) -> Option<&Note> {
    (note.kind == "odd").then_some(note)
}

#[stream(source = "notes", parse = odd_ones)]
fn odd(note: &Note) -> Updates![Page::id, Page::odd] {
    updates!(note.id.clone(), true)
}

/// Fails on one kind, and writes nothing of another.
#[stream(source = "notes")]
fn even(note: &Note) -> Result<Option<Updates![Page::id, Page::even]>, String> {
    match &*note.kind {
        "broken" => Err("broken".to_owned()),
        "odd" => Ok(None),
        _ => Ok(Some(updates!(note.id.clone(), true))),
    }
}

#[stream(source = "notes")]
fn last(note: &Note) -> Updates![Page::id, Page::last] {
    updates!(note.id.clone(), true)
}

/// One event in time, then two late odd ones, three late even ones and one that breaks.
async fn late_by_resolver(lane: LateLane) -> karst::Result<Vec<(String, ResolverLateness)>> {
    let dir = tempfile::tempdir()?;
    let source = MemorySource::json("notes").late_arrival_deadline("10s").late_lane(lane).batch_records(3);
    let builder = Engine::builder(dir.path()).settings(small()).source(source.clone());
    let engine = builder.resolver(odd).resolver(even).resolver(last).start().await?;
    let kinds = ["even", "odd", "even", "broken", "even", "odd", "even"];
    for (nth, kind) in kinds.iter().enumerate() {
        let at = if nth == 0 { 1_000 } else { 100 };
        let value = json!({ "id": format!("{nth}"), "kind": kind, "at": at * 1_000_000 }).to_string();
        source.send_to(PartitionId(0), BrokerTime::from_secs(1_000), None, Some(value.as_bytes())).await?;
    }
    engine.drain().await?;
    assert_eq!((outcomes(&engine).late, outcomes(&engine).applied), (6, 1));
    let [found] = &engine.handle().lateness()[..] else { panic!("one source") };
    let resolvers = found.resolvers.clone();
    assert!(resolvers.iter().all(|(_, did)| did.late() == found.late()), "{resolvers:?}");
    engine.shutdown().await?;
    Ok(resolvers)
}

#[test]
fn each_resolver_counts_what_it_did_with_late_events_and_the_sum_is_the_same_for_all() {
    let named = |counts: [(&str, ResolverLateness); 3]| counts.map(|(name, did)| (name.to_owned(), did)).to_vec();
    let none = ResolverLateness::default();
    for lane in [LateLane::Drop, LateLane::DeadLetter] {
        let withheld = ResolverLateness { withheld: 6, ..none };
        let got = karst::run(late_by_resolver(lane)).unwrap();
        assert_eq!(got, named([("odd", withheld), ("even", withheld), ("last", withheld)]), "{lane}");
    }
    let got = karst::run(late_by_resolver(LateLane::Correct)).unwrap();
    let expected = named([
        ("odd", ResolverLateness { corrected: 2, skipped: 4, ..none }),
        ("even", ResolverLateness { corrected: 3, nothing: 2, failed: 1, ..none }),
        ("last", ResolverLateness { corrected: 5, cut_off: 1, ..none }),
    ]);
    assert_eq!(got, expected);
}
