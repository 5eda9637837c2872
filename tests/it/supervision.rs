//! Resolvers that fail: the unit is the record, and the engine goes on.

use karst::{Reason, prelude::*};
use serde_json::json;

use crate::world::{column, outcomes, small};

#[derive(Message)]
struct Order {
    id: String,
    amount: i64,
}

/// Adding up would show an order that is applied twice; its number shows that all of them came.
#[features(key = "id")]
#[allow(dead_code)]
struct Customer {
    id: String,
    last_amount: i64,
}

/// By value: what a failed attempt took must be there again at the next.
#[stream(source = "orders")]
fn by_value(order: Order) -> Result<Updates![Customer::id, Customer::last_amount], String> {
    if order.amount == POISON {
        panic!("no such amount: {}", order.amount);
    }
    if order.amount < 0 {
        return Err(format!("amount {} of {} is negative", order.amount, order.id));
    }
    Ok(updates!(order.id, order.amount))
}

#[stream(source = "orders")]
fn by_reference(order: &Order) -> Result<Updates![Customer::id, Customer::last_amount], String> {
    by_value::call(Order { id: order.id.clone(), amount: order.amount })
}

const POISON: i64 = 666;
const RECORDS: i64 = 500;
const POISONED: [i64; 4] = [0, 123, 124, 499];
const FAILING: [i64; 2] = [7, 300];

async fn check(source: MemorySource, engine: Engine) -> karst::Result<()> {
    for nth in 0..RECORDS {
        let amount = match nth {
            nth if POISONED.contains(&nth) => POISON,
            nth if FAILING.contains(&nth) => -nth,
            nth => nth,
        };
        source.send(json!({ "id": format!("c{nth}"), "amount": amount }).to_string()).await?;
    }
    engine.drain().await?;
    let handle = engine.handle();
    let good = |nth: &i64| !POISONED.contains(nth) && !FAILING.contains(nth);
    let expected = (0..RECORDS).filter(good).map(|nth| (format!("c{nth}"), Value::Int(nth))).collect();
    assert_eq!(column(&handle, "customer", "last_amount"), expected);
    let sums = outcomes(&engine);
    let dead = (POISONED.len() + FAILING.len()) as u64;
    assert_eq!((sums.records, sums.applied, sums.dead_letters), (RECORDS as u64, RECORDS as u64 - dead, dead));

    let letters = handle.dead_letters("orders", 100)?;
    let told: Vec<(i64, Reason)> = letters.iter().map(|stored| (stored.letter.offset.0, stored.letter.reason)).collect();
    let mut expected: Vec<(i64, Reason)> = POISONED.iter().map(|offset| (*offset, Reason::Panicked)).collect();
    expected.extend(FAILING.map(|offset| (offset, Reason::ResolverError)));
    expected.sort_unstable();
    assert_eq!(told, expected);
    for stored in &letters {
        let part = if stored.letter.reason == Reason::Panicked { "no such amount: 666" } else { "is negative" };
        assert!(stored.letter.error.contains(part), "{}", stored.letter.error);
        assert_eq!(stored.letter.stage, "stream_resolver");
        assert!(stored.letter.value.as_deref().is_some_and(|value| value.starts_with(b"{")));
    }
    let health = handle.health();
    assert!(health.healthy, "{:?}", health.problems);
    let stages = handle.topology().stages;
    let resolver = stages.iter().find(|stage| stage.hop == "stream_resolver").unwrap();
    assert!(resolver.restarts >= 4, "a panic rebuilds the stage: {resolver:?}");
    assert_eq!(resolver.poisoned, POISONED.len() as u64);
    assert!(stages.iter().all(|stage| stage.hop == "stream_resolver" || stage.restarts == 0), "no other stage is touched");
    assert_eq!(handle.status().sources[0].partitions[0].rewinds, 0, "nothing had to be read again");
    engine.shutdown().await
}

#[test]
fn a_record_that_makes_its_resolver_panic_is_put_aside_and_all_others_are_applied_once() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("orders");
        let builder = Engine::builder(dir.path()).settings(small()).source(source.clone());
        check(source, builder.resolver(by_value).start().await?).await
    })
    .unwrap();
}

#[test]
fn the_same_with_a_resolver_by_reference_and_small_batches() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("orders").batch_records(7);
        let builder = Engine::builder(dir.path()).settings(small()).source(source.clone());
        check(source, builder.resolver(by_reference).start().await?).await
    })
    .unwrap();
}
