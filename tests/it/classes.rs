//! One resolver, several classes: what one message writes of each, with keys from the row and from the message.

use std::collections::BTreeMap;

use karst::prelude::*;

use crate::world::{outcomes, small, stored};

#[derive(Message)]
struct Sale {
    buyer: Buyer,
    shop: Option<String>,
    items: Vec<i64>,
    price: i64,
}

#[derive(Message)]
struct Buyer {
    id: String,
}

#[features(key = "id")]
#[allow(dead_code)]
struct User {
    id: String,
    last_price: i64,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Shop {
    id: String,
    last_price: i64,
    last_buyer: String,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Item {
    id: i64,
    last_buyer: String,
}

/// One entity of two classes; the shop may be missing.
#[stream(source = "sales", keys(buyer.id = User::id, shop = Shop::id?))]
fn to_both(sale: &Sale) -> Updates![User::last_price, Shop::last_price, Shop::last_buyer] {
    updates!(sale.price, sale.price, sale.buyer.id.clone())
}

/// Several entities of one class, or none.
#[stream(source = "sales")]
fn to_items(sale: &Sale) -> Vec<Updates![Item::id, Item::last_buyer]> {
    sale.items.iter().map(|item| updates!(*item, sale.buyer.id.clone())).collect()
}

/// Several entities of several classes: an item more for the shop, which is named in the first row alone.
#[stream(source = "sales")]
fn bonus(sale: Sale) -> Vec<Updates![Shop::id?, Shop::last_price, Shop::last_buyer, Item::id, Item::last_buyer]> {
    if sale.price < 1000 {
        return Vec::new();
    }
    let row = |shop, item| updates!(shop, sale.price, sale.buyer.id.clone(), item, sale.buyer.id.clone());
    vec![row(Some("headquarters".to_owned()), 1000), row(None, 1001)]
}

const SALES: [&str; 4] = [
    r#"{"buyer":{"id":"ada"},"shop":"north","items":[1,2],"price":10}"#,
    r#"{"buyer":{"id":"bob"},"shop":null,"items":[],"price":20}"#,
    r#"{"buyer":{"id":"ada"},"shop":"south","items":[2],"price":30}"#,
    r#"{"buyer":{"id":"eve"},"shop":"north","items":[],"price":1000}"#,
];

#[test]
fn a_message_writes_entities_of_several_classes_and_a_class_without_key_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("sales");
        let builder = Engine::builder(dir.path()).settings(small()).source(source.clone());
        let engine = builder.resolver(to_both).resolver(to_items).resolver(bonus).start().await?;
        for sale in SALES {
            source.send(sale).await?;
        }
        engine.drain().await?;
        let handle = engine.handle();
        let row = |cells: &[(&str, Value)]| -> BTreeMap<String, Value> {
            cells.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
        };
        let (int, text) = (Value::Int, |text: &str| Value::Str(text.into()));
        let table = |rows: Vec<(&str, BTreeMap<String, Value>)>| -> BTreeMap<String, BTreeMap<String, Value>> {
            rows.into_iter().map(|(key, row)| (key.to_owned(), row)).collect()
        };
        let price = |price| row(&[("last_price", int(price))]);
        assert_eq!(stored(&handle, "user"), table(vec![("ada", price(30)), ("bob", price(20)), ("eve", price(1000))]));
        let shop = |price, buyer| row(&[("last_price", int(price)), ("last_buyer", text(buyer))]);
        assert_eq!(
            stored(&handle, "shop"),
            table(vec![("north", shop(1000, "eve")), ("south", shop(30, "ada")), ("headquarters", shop(1000, "eve"))])
        );
        let item = |buyer| row(&[("last_buyer", text(buyer))]);
        let items = [("Int(1)", "ada"), ("Int(2)", "ada"), ("Int(1000)", "eve"), ("Int(1001)", "eve")];
        assert_eq!(stored(&handle, "item"), table(items.map(|(id, buyer)| (id, item(buyer))).to_vec()));
        let sums = outcomes(&engine);
        assert_eq!((sums.records, sums.applied), (4, 4));
        engine.shutdown().await
    })
    .unwrap();
}
