//! What `karst plan` predicts, compared with what a store holds after days of known keys.

use karst::{EngineHandle, EventTime, MemorySource, features::budget, prelude::*};

use crate::world::{small, until};

#[derive(Message)]
struct Payment {
    user: String,
    merchant: String,
    cents: i64,
    #[message(event_time)]
    at: EventTime,
}

/// States of fixed size.
#[features(key = "id")]
#[allow(dead_code)]
struct Plain {
    id: String,
    merchant: String,
    cents: i64,
    #[windowed("1h", "1d", count)]
    payments: Windowed<i64>,
    #[windowed("1h", "1d", sum(cents))]
    spent: Windowed<i64>,
    #[windowed("1d", "7d", max(cents))]
    most: Windowed<i64>,
}

/// Sketches, lists and groups: states that grow.
#[features(key = "id")]
#[allow(dead_code)]
struct Grown {
    id: String,
    merchant: String,
    cents: i64,
    #[windowed("1d", approx_count_distinct(merchant))]
    merchants: Windowed<i64>,
    #[windowed("1d", approx_percentile(cents, 0.9))]
    high: Windowed<f64>,
    #[windowed("1d", approx_top_k(merchant, 3))]
    favourites: Windowed<Vec<String>>,
    #[windowed("1d", last_n(cents, 5))]
    latest: Windowed<Vec<i64>>,
    #[windowed("1d", count, group_by = merchant, groups_max = 20)]
    by_merchant: Windowed<Groups<String, i64>>,
}

/// With an archive, and raw events at the edges.
#[features(key = "id")]
#[allow(dead_code)]
struct Kept {
    id: String,
    merchant: String,
    cents: i64,
    #[windowed("1h", count, retention = "10d")]
    payments: Windowed<i64>,
    #[windowed("1h", sum(cents), exact)]
    spent: Windowed<i64>,
}

#[stream(source = "payments", keys(user = Plain::id, user = Grown::id, user = Kept::id))]
fn on_payment(
    payment: &Payment,
) -> Updates![Plain::merchant, Plain::cents, Grown::merchant, Grown::cents, Kept::merchant, Kept::cents] {
    let (merchant, cents) = (&payment.merchant, payment.cents);
    updates!(merchant.clone(), cents, merchant.clone(), cents, merchant.clone(), cents)
}

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 1_440 * MINUTE;
/// 2023-11-14T00:00:00Z
const START: i64 = 1_699_920_000_000_000;

/// The event time of a round: each key has its events at equal distances, all keys at once.
fn at(nth: i64, events_per_day: i64) -> EventTime {
    EventTime(START + nth * DAY / events_per_day)
}

async fn send(source: &MemorySource, keys: i64, nth: i64, at: EventTime) -> karst::Result<()> {
    for user in 0..keys {
        let (merchant, cents) = ((nth * 7 + user) % 40, (nth * 13 + user * 5) % 1_000);
        let json = format!(r#"{{"user":"user_{user:06}","merchant":"merchant_{merchant:04}","cents":{cents},"at":"{at}"}}"#);
        source.send(json.as_bytes()).await?;
    }
    Ok(())
}

/// Waits until the windows are as far as `at`. (Days that are read in seconds leave the watermark, which is that of what is committed,
/// behind by hours, and rows are tidied when an event comes.)
async fn windows_are_at(engine: &EngineHandle, at: EventTime) {
    // The tiles of a minute are kept for two hours.
    let long_ago = EventTime(at.0.div_euclid(MINUTE) * MINUTE - 61 * MINUTE);
    let request = QueryRequest { now: Some(long_ago), ..QueryRequest::new() }.input(Plain::id, "user_000000");
    let request = request.output("plain.payments[\"1h\"]");
    until("the windows have moved on", || engine.query(&request).data[0].error.is_some()).await;
}

/// Predicted bytes of all windows of each class, and real ones.
fn compare(keys: i64, events_per_day: i64, days: i64) -> Vec<(&'static str, f64, f64)> {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("payments");
        let engine = Engine::builder(dir.path()).settings(small()).source(source.clone()).resolver(on_payment).start().await?;
        let handle = engine.handle();
        let last = events_per_day * days;
        for nth in 0..last {
            send(&source, keys, nth, at(nth, events_per_day)).await?;
        }
        engine.drain().await?;
        windows_are_at(&handle, at(last - 1, events_per_day)).await;
        send(&source, keys, last, at(last, events_per_day)).await?;
        engine.drain().await?;
        let sizes = ["plain", "grown", "kept"].map(|class| {
            let expected = budget::Expected { keys: keys as f64, events_per_day: Some(events_per_day as f64) };
            let predicted = budget::of_class(handle.registry().class(class).unwrap(), expected).unwrap().bytes().unwrap();
            let real = handle.class_size(class).unwrap();
            assert_eq!((real.features.rows, real.tiles.rows), (keys as u64, keys as u64), "{class}");
            (class, predicted, (real.tiles.value_bytes + real.archive.value_bytes) as f64)
        });
        engine.shutdown().await?;
        Ok(sizes.to_vec())
    })
    .unwrap()
}

#[test]
fn what_plan_predicts_is_what_is_stored_or_up_to_three_times_that() {
    for (keys, events_per_day, days) in [(200, 48, 10), (5, 4_320, 8)] {
        for (class, predicted, real) in compare(keys, events_per_day, days) {
            let ratio = predicted / real;
            println!(
                "{class}: {keys} keys, {events_per_day} events a day: predicted {predicted:.0}, stored {real:.0}: {ratio:.2}"
            );
            assert!(
                (1.0..3.0).contains(&ratio),
                "{class}: {keys} keys, {events_per_day} events a day: {predicted} / {real} = {ratio}"
            );
        }
    }
}
