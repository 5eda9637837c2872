//! Dead letters over HTTP: found, shown, sent through again.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use karst::{BrokerTime, Engine, MemorySource, PartitionId, prelude::*};
use serde_json::{Value as Json, json};

use crate::{on_click, site::Site};

#[derive(Message)]
struct Order {
    id: String,
    amount: i64,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Sale {
    id: String,
    amount: i64,
}

/// Whether the cause is mended.
static MENDED: AtomicBool = AtomicBool::new(false);

#[stream(source = "orders")]
fn on_order(order: Order) -> Result<Updates![Sale::id, Sale::amount], String> {
    if order.amount > 50 && !MENDED.load(SeqCst) {
        return Err("above the limit".to_owned());
    }
    Ok(updates!(order.id, order.amount))
}

/// Six orders: two are fine, two too high, one is cut, one is not text.
async fn with_orders(dir: &Path) -> Engine {
    let orders = MemorySource::json("orders");
    let order = |id: &str, amount: i64| json!({ "id": id, "amount": amount }).to_string().into_bytes();
    let values = [order("a", 1), order("b", 60), order("c", 2), b"{\"id\":".to_vec(), vec![0xff, 0xfe], order("d", 70)];
    for (nth, value) in values.iter().enumerate() {
        let key = format!("key {nth}");
        let sent = orders.send_to(PartitionId(0), BrokerTime::from_secs(1_000), Some(key.as_bytes()), Some(value)).await;
        sent.unwrap();
    }
    let engine = Engine::builder(dir).source(orders).resolver(on_order).start().await.unwrap();
    engine.drain().await.unwrap();
    engine
}

async fn without_orders(dir: &Path) -> Engine {
    Engine::builder(dir).source(MemorySource::json("clicks")).resolver(on_click).start().await.unwrap()
}

fn offsets(site: &Site, query: &str) -> Vec<i64> {
    let reply = site.get(&format!("/v1/dead-letters{query}"));
    assert_eq!(reply.status, 200, "{query}: {}", reply.body);
    reply.json()["letters"].as_array().unwrap().iter().map(|letter| letter["offset"].as_i64().unwrap()).collect()
}

fn replay(site: &Site, wanted: &Json) -> Json {
    let reply = site.post_to("/v1/dead-letters/replay", &wanted.to_string());
    assert_eq!(reply.status, 200, "{wanted}: {}", reply.body);
    reply.json()
}

fn queued(count: u64) -> Json {
    json!({ "queued": count, "under_way": 0, "cut": 0, "more": false })
}

#[test]
fn letters_are_found_shown_and_replayed_also_when_their_source_is_gone_for_a_while() {
    let site = Site::over(tempfile::tempdir().unwrap(), |settings| settings, with_orders);

    assert_eq!(offsets(&site, ""), [1, 3, 4, 5]);
    assert_eq!(offsets(&site, "?source=orders&partition=0&limit=2"), [1, 3]);
    assert_eq!(offsets(&site, "?reason=resolver_error"), [1, 5]);
    assert_eq!(offsets(&site, "?from=3&through=4"), [3, 4]);
    let unknown = site.get("/v1/dead-letters?source=clicks");
    assert_eq!(unknown.status, 404, "{}", unknown.body);
    assert!(unknown.detail().contains("orders"), "it names those that are: {}", unknown.detail());
    assert_eq!(offsets(&site, "?partition=1"), [0; 0]);

    let mut letter = site.get("/v1/dead-letters/orders/0/1").json();
    assert!(letter["stored_at"].take().is_string());
    let expected = json!({
        "position": "orders[0]@1", "source": "orders", "partition": 0, "offset": 1, "broker_time": "1970-01-01T00:16:40Z",
        "stored_at": null, "stage": "stream_resolver", "reason": "resolver_error", "error": "above the limit", "attempt": 1,
        "state": "waiting", "outcome": null, "value_bytes": 22, "cut": false,
        "key": {"text": "key 1"}, "value": {"text": "{\"amount\":60,\"id\":\"b\"}"}, "headers": [],
    });
    assert_eq!(letter, expected);
    let raw = site.get("/v1/dead-letters/orders/0/4").json();
    assert_eq!((&raw["reason"], &raw["value"]), (&json!("not_utf8"), &json!({"base64": "//4="})));

    // Of two that are mended, one is asked for twice; the rest stays as it is.
    MENDED.store(true, SeqCst);
    assert_eq!(replay(&site, &json!({"source": "orders", "reason": "resolver_error", "through": 1})), queued(1));
    site.drain();
    assert_eq!(replay(&site, &json!({"source": "orders", "reason": "resolver_error"})), queued(1));
    site.drain();
    assert_eq!(replay(&site, &json!({"source": "orders", "reason": "resolver_error"})), queued(0));
    assert_eq!(offsets(&site, ""), [3, 4]);
    assert_eq!(offsets(&site, "?replayed=true"), [1, 3, 4, 5]);
    let done = site.get("/v1/dead-letters/orders/0/5").json();
    assert_eq!((&done["state"], &done["outcome"]), (&json!("replayed"), &json!("applied")));
    let sums = &site.get("/v1/status").json()["outcomes"];
    assert_eq!((&sums["records"], &sums["applied"], &sums["dead_letters"]), (&json!(6), &json!(4), &json!(2)));

    // What fails again says so.
    assert_eq!(replay(&site, &json!({"source": "orders", "limit": 1}))["more"], json!(true));
    site.drain();
    let again = site.get("/v1/dead-letters/orders/0/3").json();
    assert_eq!((&again["state"], &again["attempt"], &again["reason"]), (&json!("waiting"), &json!(2), &json!("malformed")));

    // Nobody declares the source any more: its letters are there to be looked at.
    let site = Site::over(site.close(), |settings| settings, without_orders);
    assert_eq!(offsets(&site, ""), [3, 4]);
    assert_eq!(offsets(&site, "?source=orders&replayed=true"), [1, 3, 4, 5]);
    assert_eq!(site.get("/v1/dead-letters/orders/0/4").json()["value"], json!({"base64": "//4="}));
    let refused = site.post_to("/v1/dead-letters/replay", r#"{"source": "orders"}"#);
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.detail().contains("orders"), "{}", refused.detail());

    // It is back.
    let site = Site::over(site.close(), |settings| settings, with_orders);
    assert_eq!(replay(&site, &json!({"source": "orders"})), queued(2));
    site.drain();
    assert_eq!(site.get("/v1/dead-letters/orders/0/3").json()["attempt"], json!(3));
}

#[test]
fn what_is_asked_wrongly_is_refused_with_what_and_why() {
    let site = Site::over(tempfile::tempdir().unwrap(), |settings| settings, without_orders);
    for (query, part) in [
        ("?reason=nope", "no reason \"nope\"; there are empty, "),
        ("?limit=0", "limit: expected 1 to 10000, got 0"),
        ("?limit=10001", "limit: expected 1 to 10000, got 10001"),
        ("?colour=red", "colour"),
        ("?partition=x", "invalid digit"),
    ] {
        let reply = site.get(&format!("/v1/dead-letters{query}"));
        assert_eq!(reply.status, 400, "{query}: {}", reply.body);
        assert!(reply.detail().contains(part), "{query}: {}", reply.detail());
    }
    for (body, part) in [
        ("", "EOF"),
        ("{}", "source: which source's letters are to be replayed?"),
        (r#"{"source": "clicks", "reason": "nope"}"#, "no reason \"nope\""),
        (r#"{"source": "clicks", "colour": "red"}"#, "colour"),
        (r#"{"source": 7}"#, "invalid type"),
    ] {
        let reply = site.post_to("/v1/dead-letters/replay", body);
        assert_eq!(reply.status, 400, "{body}: {}", reply.body);
        assert!(reply.detail().contains(part), "{body}: {}", reply.detail());
    }
    let nowhere = site.get("/v1/dead-letters/clicks/0/7");
    assert_eq!((nowhere.status, nowhere.detail().contains("clicks[0]@7")), (404, true), "{}", nowhere.body);
    for reply in
        [site.get("/v1/dead-letters?source=nobody"), site.post_to("/v1/dead-letters/replay", r#"{"source": "nobody"}"#)]
    {
        assert_eq!(reply.status, 404, "{}", reply.body);
        let (detail, known) = (reply.detail(), "no source \"nobody\" is known; there ");
        assert!(detail.contains(known) && detail.contains("\"clicks\""), "{detail}");
    }
}
