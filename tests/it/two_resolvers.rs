//! Two resolvers of one source: each sees every message, and what became of the record is one thing.

use std::collections::BTreeMap;

use karst::{Reason, prelude::*};

use crate::world::{column, outcomes, small};

#[derive(Message)]
struct Sale {
    buyer: Option<String>,
    shop: Option<String>,
    price: i64,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Buyer {
    id: String,
    last_price: i64,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Shop {
    id: String,
    last_price: i64,
}

/// By value, and first: the other one must find the message nevertheless.
#[stream(source = "sales")]
fn to_buyer(sale: Sale) -> Option<Updates![Buyer::id, Buyer::last_price]> {
    Some(updates!(sale.buyer?, sale.price))
}

#[stream(source = "sales")]
fn to_shop(sale: &Sale) -> Result<Option<Updates![Shop::id, Shop::last_price]>, String> {
    if sale.price < 0 {
        return Err(format!("price {} is negative", sale.price));
    }
    Ok(sale.shop.clone().map(|shop| updates!(shop, sale.price)))
}

const SALES: [&str; 6] = [
    r#"{"buyer":"ada","shop":"north","price":1}"#,
    r#"{"buyer":"bob","price":2}"#,
    r#"{"shop":"south","price":3}"#,
    r#"{"price":4}"#,
    r#"{"buyer":"eve","shop":"north","price":-5}"#,
    r#"{"buyer":"ada","shop":"east","price":6}"#,
];

async fn check(source: MemorySource, engine: Engine) -> karst::Result<()> {
    for sale in SALES {
        source.send(sale).await?;
    }
    engine.drain().await?;
    let handle = engine.handle();
    let values = |pairs: &[(&str, i64)]| -> BTreeMap<String, Value> {
        pairs.iter().map(|(id, price)| ((*id).to_owned(), Value::Int(*price))).collect()
    };
    assert_eq!(column(&handle, "buyer", "last_price"), values(&[("ada", 6), ("bob", 2)]), "nothing of a record that failed");
    assert_eq!(column(&handle, "shop", "last_price"), values(&[("north", 1), ("south", 3), ("east", 6)]));
    let sums = outcomes(&engine);
    assert_eq!((sums.records, sums.applied, sums.skipped, sums.dead_letters), (6, 4, 1, 1), "skipped: both wrote nothing");
    let letters = handle.dead_letters("sales", 10)?;
    assert_eq!((letters[0].letter.offset.0, letters[0].letter.reason), (4, Reason::ResolverError));
    engine.shutdown().await
}

#[test]
fn a_record_is_skipped_only_if_both_write_nothing_and_fails_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("sales");
        let builder = Engine::builder(dir.path()).settings(small()).source(source.clone());
        check(source, builder.resolver(to_buyer).resolver(to_shop).start().await?).await
    })
    .unwrap();
}

#[test]
fn the_order_in_which_resolvers_are_added_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("sales");
        let builder = Engine::builder(dir.path()).settings(small()).source(source.clone());
        check(source, builder.resolver(to_shop).resolver(to_buyer).start().await?).await
    })
    .unwrap();
}
