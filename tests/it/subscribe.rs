//! Subscribers are told what changes, once and in order: against naive computations over everything that was sent.

use std::collections::{BTreeMap, BTreeSet};

use karst::{
    ChangeFeed, ChangeKind, Cursor, Error, EventTime, FeatureChange, LateLane, MemorySource, Missed, Since, Subscription,
    Value, prelude::*,
};

use crate::world::{Random, once_unlocked, small, until};

#[derive(Message)]
struct Sale {
    shopper: String,
    amount: i64,
    #[message(event_time)]
    at: EventTime,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Shopper {
    id: String,
    amount: i64,
    #[windowed("10m", "1h", sum(amount))]
    recent: Windowed<i64>,
    #[windowed("1h", sum(amount), tumbling, retention = "10d")]
    hourly: Windowed<i64>,
    #[windowed(session = "15m", count, retention = "10d")]
    visit: Windowed<i64>,
}

#[stream(source = "sales")]
fn on_sale(sale: Sale) -> Updates![Shopper::id, Shopper::amount] {
    updates!(sale.shopper, sale.amount)
}

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const VISIT: i64 = 15 * MINUTE;
/// 2023-11-14T22:00:00Z
const START: i64 = 1_699_999_200_000_000;

#[derive(Clone, Copy)]
struct Sold {
    shopper: u64,
    amount: i64,
    at: i64,
}

/// In the order of time, so that nothing is corrected; with pauses.
fn sold(seed: u64, count: usize) -> Vec<Sold> {
    let mut random = Random::new(seed);
    let mut at = START;
    let mut next = || {
        let pause = if random.below(40) == 0 { 50 * MINUTE } else { 2 * MINUTE };
        at += 1 + random.below(pause as u64) as i64;
        Sold { shopper: random.below(5), amount: random.below(100) as i64 - 20, at }
    };
    (0..count).map(|_| next()).collect()
}

async fn send(source: &MemorySource, sales: &[Sold]) {
    for Sold { shopper, amount, at } in sales {
        let json = format!(r#"{{"shopper":"s{shopper}","amount":{amount},"at":"{}"}}"#, EventTime(*at));
        source.send(json.as_bytes()).await.unwrap();
    }
}

fn key(shopper: u64) -> String {
    format!("s{shopper}")
}
fn key_of(change: &FeatureChange) -> String {
    match &change.key {
        Value::Str(text) => text.to_string(),
        other => panic!("{other:?} is the key of {change:?}"),
    }
}
fn int(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        other => panic!("expected an int, got {other:?}"),
    }
}
fn of_kind(changes: &[FeatureChange], kind: ChangeKind) -> impl Iterator<Item = &FeatureChange> {
    changes.iter().filter(move |change| change.kind == kind)
}

/// Everything that there is to be told now.
fn all(feed: &mut ChangeFeed) -> Vec<FeatureChange> {
    let mut told = Vec::new();
    while let Some(step) = feed.poll().unwrap() {
        told.extend(step.changes);
    }
    told
}

/// The same, until so many windows that are over have been told, and nothing is left.
async fn until_closed(feed: &mut ChangeFeed, told: &mut Vec<FeatureChange>, count: usize) {
    let mut new = Vec::new();
    let before = of_kind(told, ChangeKind::Closed).count();
    until("all windows that are over are told", || {
        new.extend(all(feed));
        before + of_kind(&new, ChangeKind::Closed).count() >= count
    })
    .await;
    told.extend(new);
}

/// Feature, key, beginning, end and value.
type Window = (&'static str, String, i64, i64, i64);

/// The windows of all shoppers that are over once the watermark is past `newest`.
fn closed(sales: &[Sold]) -> BTreeSet<Window> {
    let newest = sales.iter().map(|sale| sale.at).max().unwrap();
    let passed = (newest - 1).div_euclid(MINUTE) * MINUTE;
    let mut windows = BTreeSet::new();
    for shopper in 0..5 {
        let mut own: Vec<&Sold> = sales.iter().filter(|sale| sale.shopper == shopper).collect();
        own.sort_by_key(|sale| sale.at);
        let mut hours: BTreeMap<i64, i64> = BTreeMap::new();
        own.iter().for_each(|sale| *hours.entry((sale.at + HOUR - 1).div_euclid(HOUR) * HOUR).or_default() += sale.amount);
        windows.extend(hours.into_iter().map(|(end, sum)| ("shopper.hourly__3600__", key(shopper), end - HOUR, end, sum)));
        for visit in own.chunk_by(|a, b| b.at - a.at < VISIT) {
            let (first, last) = (visit[0].at, visit[visit.len() - 1].at);
            windows.insert(("shopper.visit__all__", key(shopper), first, last + VISIT, visit.len() as i64));
        }
    }
    windows.retain(|(_, _, _, end, _)| *end <= passed);
    windows
}

fn told_closed(changes: &[FeatureChange]) -> Vec<Window> {
    let name = |change: &FeatureChange| {
        if change.feature.contains("visit") { "shopper.visit__all__" } else { "shopper.hourly__3600__" }
    };
    let window =
        |change: &FeatureChange| (name(change), key_of(change), change.from.unwrap().0, change.ts.0, int(&change.value));
    of_kind(changes, ChangeKind::Closed).map(window).collect()
}

/// What was written of each shopper, in its order, is what was sent.
fn check_written(changes: &[FeatureChange], sales: &[Sold]) {
    for shopper in 0..5 {
        let told: Vec<_> = of_kind(changes, ChangeKind::Written)
            .filter(|change| key_of(change) == key(shopper))
            .map(|change| (int(&change.value), change.ts.0))
            .collect();
        let sent: Vec<_> = sales.iter().filter(|sale| sale.shopper == shopper).map(|sale| (sale.amount, sale.at)).collect();
        assert_eq!(told, sent, "{}", key(shopper));
    }
}

/// The value of a sliding window or of the open session at an instant, of these sales.
fn naive(feature: &str, sales: &[Sold], shopper: u64, at: i64) -> i64 {
    let sum = |from: i64, to: i64| {
        let within = sales.iter().filter(|sale| sale.shopper == shopper && sale.at > from && sale.at <= to);
        within.map(|sale| sale.amount).sum()
    };
    // The newest minute counts whole.
    let head = (at + MINUTE - 1).div_euclid(MINUTE) * MINUTE;
    let tail = |span: i64| (at - span).div_euclid(MINUTE) * MINUTE;
    match feature {
        "shopper.recent__600__" => sum(tail(10 * MINUTE), head),
        "shopper.recent__3600__" => sum(tail(HOUR), head),
        "shopper.hourly__3600__" => sum((at + HOUR - 1).div_euclid(HOUR) * HOUR - HOUR, head),
        _ => {
            let mut own: Vec<i64> =
                sales.iter().filter(|sale| sale.shopper == shopper && sale.at <= head).map(|sale| sale.at).collect();
            own.sort_unstable();
            let mut next = at;
            own.iter().rev().take_while(|time| std::mem::replace(&mut next, **time) - **time < VISIT).count() as i64
        }
    }
}

/// The newest value that was told of each window of each shopper is right as of when it is said to be.
fn check_changed(changes: &[FeatureChange], sales: &[Sold]) {
    let mut last: BTreeMap<(String, &str), &FeatureChange> = BTreeMap::new();
    of_kind(changes, ChangeKind::Changed).for_each(|change| _ = last.insert((key_of(change), &change.feature), change));
    let shoppers: BTreeSet<u64> = sales.iter().map(|sale| sale.shopper).collect();
    assert_eq!(last.len(), 4 * shoppers.len());
    for ((of, feature), change) in last {
        let shopper = shoppers.iter().find(|shopper| key(**shopper) == of).unwrap();
        assert_eq!(int(&change.value), naive(feature, sales, *shopper, change.ts.0), "{change:?}");
    }
}

fn versions_rise(changes: &[FeatureChange]) {
    let mut last = BTreeMap::new();
    for change in changes {
        let before = last.insert(change.shard, change.version);
        assert!(before.is_none_or(|before| before <= change.version), "{change:?} after {before:?}");
    }
}

#[test]
fn a_subscriber_is_told_everything_once_also_over_restarts_and_crashes_from_its_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let sales = sold(3, 3_000);
    let source = MemorySource::json("sales");
    let start = async || Engine::builder(dir.path()).settings(small()).source(source.clone()).resolver(on_sale).start().await;
    karst::run(async {
        let mut told = Vec::new();
        let mut cursor: Option<String> = None;
        let mut random = Random::new(9);
        for round in 0..6 {
            let engine = once_unlocked(&start).await?;
            let since = cursor.take().map_or(Since::Oldest, |text| Since::Cursor(text.parse::<Cursor>().unwrap()));
            let mut feed = engine.handle().subscribe(&Subscription::new().feature("shopper").since(since))?;
            send(&source, &sales[round * 500..(round + 1) * 500]).await;
            if round % 2 == 0 {
                engine.drain().await?;
                // It goes away in the middle of what there is, now and then.
                for _ in 0..random.below(9) {
                    told.extend(feed.poll()?.map_or_else(Vec::new, |step| step.changes));
                }
            } else {
                told.extend(feed.next().await?.changes);
            }
            if round == 5 {
                engine.drain().await?;
                until_closed(&mut feed, &mut told, closed(&sales).len()).await;
                assert!(all(&mut feed).is_empty());
            }
            cursor = Some(feed.cursor().to_string());
            if round % 3 == 1 {
                drop(engine); // as a crash
            } else {
                engine.shutdown().await?;
            }
        }
        check_written(&told, &sales);
        check_changed(&told, &sales);
        versions_rise(&told);
        assert!(told.iter().all(|change| !change.corrected), "everything came in time");
        let windows = told_closed(&told);
        assert_eq!(windows.iter().cloned().collect::<BTreeSet<_>>(), closed(&sales));
        assert_eq!(windows.len(), closed(&sales).len(), "each once");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_window_that_is_over_is_told_again_when_a_late_event_corrects_it_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let source = MemorySource::json("sales").late_arrival_deadline("30m").late_lane(LateLane::Correct);
    let sale = |shopper, amount, minute: i64| Sold { shopper, amount, at: START + minute * MINUTE };
    let mut sales = vec![sale(1, 5, 10), sale(2, 7, 11), sale(1, 6, 30), sale(1, 1, 50), sale(3, 1, 115)];
    karst::run(async {
        let engine = Engine::builder(dir.path()).settings(small()).source(source.clone()).resolver(on_sale).start().await?;
        let mut feed = engine.handle().subscribe(&Subscription::new().feature("shopper").since(Since::Oldest))?;
        let mut told = Vec::new();
        send(&source, &sales).await;
        engine.drain().await?;
        until_closed(&mut feed, &mut told, closed(&sales).len()).await;
        assert_eq!(told_closed(&told).into_iter().collect::<BTreeSet<_>>(), closed(&sales));
        assert!(told.iter().all(|change| !change.corrected));
        let before = closed(&sales);
        // More than an hour late: it makes the hour of shopper 1 another, and one visit of two; shopper 4 has a window that nobody knew.
        let late = [sale(1, 100, 20), sale(4, 3, 40)];
        sales.extend(late);
        send(&source, &late).await;
        engine.drain().await?;
        let mut again = Vec::new();
        until_closed(&mut feed, &mut again, 4).await;
        assert_eq!(engine.handle().status().outcomes().late, 2);
        assert!(again.iter().filter(|change| change.kind != ChangeKind::Written).all(|change| change.corrected), "{again:?}");
        let expected: BTreeSet<_> = closed(&sales).difference(&before).cloned().collect();
        assert_eq!(expected.len(), 4, "two hours, a longer visit, and a new one");
        assert_eq!(told_closed(&again).into_iter().collect::<BTreeSet<_>>(), expected);
        // What comes in time is no correction.
        send(&source, &[sale(2, 1, 116)]).await;
        engine.drain().await?;
        let new = all(&mut feed);
        assert!(!new.is_empty() && new.iter().all(|change| !change.corrected), "{new:?}");
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_subscriber_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let source = MemorySource::json("sales");
    let mut settings = small();
    settings.store.shards = 1;
    settings.store.changelog_bytes = karst::ByteSize(20_000);
    settings.store.commit_events = 200;
    let sales = sold(5, 20_000);
    karst::run(async {
        let engine = Engine::builder(dir.path()).settings(settings).source(source.clone()).resolver(on_sale).start().await?;
        let subscription = Subscription::new().feature("shopper.amount");
        let mut slow = engine.handle().subscribe(&subscription)?;
        send(&source, &sales[..10_000]).await;
        engine.drain().await?;
        let Err(Error::Missed { missed: Missed::Trimmed { trimmed, .. }, resume }) = slow.next().await else {
            panic!("the history is longer than 20 kB")
        };
        assert!(trimmed > 0);
        let mut again = engine.handle().subscribe(&subscription.clone().since(Since::Cursor(*resume)))?;
        let told = all(&mut again);
        assert!(told.len() < 10_000);
        check_written(&told, &sales[10_000 - told.len()..10_000]);
        engine.shutdown().await
    })
    .unwrap();
}

/// A directory that has lost commits that a subscriber was told of: here one that was restored from an older backup.
#[test]
fn a_subscriber_whose_commits_are_gone_is_told_so_and_is_told_them_again() {
    let (dir, restored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = MemorySource::json("sales");
    let sales = sold(13, 600);
    let start = async |dir: &std::path::Path| {
        Engine::builder(dir).settings(small()).source(source.clone()).resolver(on_sale).start().await
    };
    karst::run(async {
        let engine = start(dir.path()).await?;
        let subscription = Subscription::new().feature("shopper.amount");
        let mut feed = engine.handle().subscribe(&subscription.clone().since(Since::Oldest))?;
        send(&source, &sales[..400]).await;
        engine.drain().await?;
        check_written(&all(&mut feed), &sales[..400]);
        let backup = engine.handle().backup("early")?;
        send(&source, &sales[400..]).await;
        engine.drain().await?;
        let void = all(&mut feed);
        check_written(&void, &sales[400..]);
        let shards: BTreeSet<u16> = void.iter().map(|change| change.shard).collect();
        let cursor = feed.cursor();
        engine.shutdown().await?;

        karst::state::restore(&backup, restored.path(), karst::ProcessingTime(START)).unwrap();
        let engine = start(restored.path()).await?;
        engine.drain().await?;
        let (mut fell_back, mut again) = (BTreeSet::new(), Vec::new());
        let mut feed = engine.handle().subscribe(&subscription.clone().since(Since::Cursor(cursor)))?;
        loop {
            match feed.poll() {
                Ok(Some(step)) => again.extend(step.changes),
                Ok(None) => break,
                Err(Error::Missed { missed: Missed::FellBack { shard, seq, survived }, resume }) => {
                    assert!(survived < seq, "shard {shard}: {survived}, {seq}");
                    assert!(fell_back.insert(shard), "shard {shard}: said once");
                    assert!(again.iter().all(|change| change.shard != shard), "said before anything of shard {shard} is told");
                    feed = engine.handle().subscribe(&subscription.clone().since(Since::Cursor(*resume)))?;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(fell_back, shards);
        check_written(&again, &sales[400..]);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn only_the_features_and_entities_that_were_named_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let source = MemorySource::json("sales");
    let sales = sold(7, 400);
    karst::run(async {
        let engine = Engine::builder(dir.path()).settings(small()).source(source.clone()).resolver(on_sale).start().await?;
        let wanted = Subscription::new().feature("shopper.hourly").feature("shopper.recent[\"10m\"]").key(Shopper::id, "s2");
        let mut feed = engine.handle().subscribe(&wanted.since(Since::Oldest))?;
        send(&source, &sales).await;
        engine.drain().await?;
        let hours: BTreeSet<_> =
            closed(&sales).into_iter().filter(|(feature, key, ..)| feature.contains("hourly") && key == "s2").collect();
        let mut told = Vec::new();
        until_closed(&mut feed, &mut told, hours.len()).await;
        assert_eq!(told_closed(&told).into_iter().collect::<BTreeSet<_>>(), hours);
        assert!(told.iter().all(|change| key_of(change) == "s2"));
        let names: BTreeSet<&str> = of_kind(&told, ChangeKind::Changed).map(|change| &*change.feature).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["shopper.hourly__3600__", "shopper.recent__600__"]);
        assert_eq!(of_kind(&told, ChangeKind::Written).count(), 0);

        let wrong = Subscription::new().feature("shopper.amuont").key("shopper.id", 7i64).key("cart.id", "x");
        let Err(Error::Subscription(wrong)) = engine.handle().subscribe(&wrong) else { panic!("it is wrong") };
        assert!(wrong[0].contains("\"shopper.amount\""), "{wrong:?}");
        assert!(wrong.iter().any(|wrong| wrong.contains("cart.id")), "{wrong:?}");
        let foreign: Cursor = "v1.1.1-1-0~1-1-0".parse().unwrap();
        let Err(error) = engine.handle().subscribe(&Subscription::new().feature("shopper").since(Since::Cursor(foreign)))
        else {
            panic!("it is of another directory")
        };
        assert!(error.to_string().contains("another state directory"), "{error}");
        engine.shutdown().await
    })
    .unwrap();
}
