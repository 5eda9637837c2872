//! Replays of dead letters: after the cause is mended each has one effect, however often it is asked for and whatever ends the
//! engine in between; and the sums of outcomes stay exact.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
};

use karst::{
    BrokerTime, EngineHandle, LetterFilter, Offset, Outcomes, PartitionId, Reason, StreamResolver,
    features::{MessageSlot, ResolverError, StreamDeclaration, UpdateWriter},
    prelude::*,
    state::{LetterState, Store},
};
use serde_json::json;

use crate::world::{column, once_unlocked, outcomes, small, until};

const PARTITIONS: i64 = 3;
const RECORDS: i64 = 300; // in each partition

#[derive(Message)]
struct Order {
    id: String,
    amount: i64,
    #[message(event_time)]
    at: Option<EventTime>,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Sale {
    id: String,
    amount: i64,
}

/// Refuses amounts from its limit on. A fix is another limit.
struct OnOrder {
    limit: Arc<AtomicI64>,
}

impl OnOrder {
    fn upto(limit: i64) -> Self {
        Self { limit: Arc::new(AtomicI64::new(limit)) }
    }
}

impl StreamResolver for OnOrder {
    type Message = Order;
    type Row = (String, i64);
    fn declaration(&self) -> StreamDeclaration {
        StreamDeclaration::of::<Self>("on_order", "orders", ["sale.id", "sale.amount"])
    }
    fn resolve(&self, message: MessageSlot<'_, Order>, out: &mut UpdateWriter<'_, Self::Row>) -> Result<(), ResolverError> {
        let Order { id, amount, .. } = message.get();
        assert!(*amount != 13, "a bug that panics");
        if *amount >= self.limit.load(SeqCst) {
            return Err(ResolverError::new(format!("amount {amount} is above the limit")));
        }
        out.write(&(id.clone(), *amount))
    }
}

/// Amounts 0 to 99 in turn. Each tenth record is malformed for good.
fn record(partition: i64, nth: i64) -> String {
    if nth % 10 == 9 {
        return format!("{{\"id\":\"{partition}-{nth}\"");
    }
    json!({ "id": format!("{partition}-{nth}"), "amount": amount(nth), "at": at(nth) }).to_string()
}
fn amount(nth: i64) -> i64 {
    let amount = nth % 100;
    if amount == 13 { 14 } else { amount }
}
fn at(nth: i64) -> i64 {
    (1_700_000_000 + nth) * 1_000_000
}

async fn filled() -> karst::Result<MemorySource> {
    let source = MemorySource::json("orders").partitions(PARTITIONS as usize).batch_records(16);
    for partition in 0..PARTITIONS {
        for nth in 0..RECORDS {
            let value = record(partition, nth);
            source.send_to(PartitionId(partition as i32), BrokerTime(at(nth)), Some(b"k"), Some(value.as_bytes())).await?;
        }
    }
    Ok(source)
}

async fn start(dir: &Path, source: &MemorySource, resolver: OnOrder) -> karst::Result<Engine> {
    let again = || OnOrder { limit: Arc::clone(&resolver.limit) };
    let engine = || Engine::builder(dir).settings(small()).features::<Sale>().source(source.clone());
    once_unlocked(async || engine().resolver(again()).start().await).await
}

fn all(limit: usize) -> LetterFilter {
    LetterFilter { limit, ..LetterFilter::source("orders") }
}

fn replayed(engine: &EngineHandle) -> usize {
    let letters = engine.dead_letters("orders", 10_000).unwrap();
    letters.iter().filter(|letter| matches!(letter.state, LetterState::Replayed(_))).count()
}

fn sums(applied: i64, dead: i64) -> Outcomes {
    let (applied, dead_letters) = (applied as u64, dead as u64);
    Outcomes { records: (PARTITIONS * RECORDS) as u64, applied, dead_letters, ..Outcomes::default() }
}

/// How often each position stands in the history, over all shards.
fn history(dir: &Path) -> BTreeMap<(i32, i64), u32> {
    let store = Store::open(dir, &small().store, Arc::new(karst::runtime::SystemClock)).unwrap();
    let mut seen = BTreeMap::new();
    for shard in store.reader().shards() {
        let (log, mut seq) = (shard.changelog(), 0);
        while let Some(changes) = log.next(seq).unwrap() {
            seq = changes.version.seq;
            for batch in &changes.batches {
                for update in batch.updates.iter() {
                    *seen.entry((update.version.partition.0, update.version.offset.0)).or_default() += 1;
                }
            }
        }
    }
    seen
}

fn good(keep: impl Fn(i64) -> bool) -> BTreeSet<(i32, i64)> {
    let of = |partition| {
        (0..RECORDS).filter(|nth| nth % 10 != 9 && keep(*nth)).map(move |nth| (partition as i32, nth)).collect::<Vec<_>>()
    };
    (0..PARTITIONS).flat_map(of).collect()
}

fn values(engine: &EngineHandle) -> BTreeMap<String, Value> {
    column(engine, "sale", "amount")
}

#[test]
fn letters_replayed_after_a_fix_have_one_effect_each_whatever_ends_the_engine_and_however_often_it_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let malformed = PARTITIONS * RECORDS / 10;
    let refused = good(|nth| amount(nth) >= 50).len() as i64;
    let applied = PARTITIONS * RECORDS - malformed - refused;
    karst::run(async {
        let source = filled().await?;
        let engine = start(dir.path(), &source, OnOrder::upto(50)).await?;
        engine.drain().await?;
        assert_eq!(outcomes(&engine), sums(applied, malformed + refused));
        engine.shutdown().await?;

        // The fix. Asked for again and again, some of it twice at the same time, by engines that are dropped at once.
        for round in 0..12 {
            let engine = start(dir.path(), &source, OnOrder::upto(1_000)).await?;
            let handle = engine.handle();
            let before = replayed(&handle);
            let filter = LetterFilter { reason: Some(Reason::ResolverError), ..all(20) };
            let (first, second) = futures_join(handle.replay(&filter), handle.replay(&filter)).await;
            let queued = first?.queued + second?.queued;
            assert!(queued <= 40, "{queued}");
            if round % 3 == 0 && queued > 0 {
                until("it is in the middle of them", || replayed(&handle) > before).await;
            }
        }
        let engine = start(dir.path(), &source, OnOrder::upto(1_000)).await?;
        let handle = engine.handle();
        handle.replay(&all(10_000)).await?;
        engine.drain().await?;
        // The malformed ones failed again: there is nothing to mend but the data.
        assert_eq!(outcomes(&engine), sums(applied + refused, malformed));
        let expected: BTreeMap<String, Value> =
            good(|_| true).into_iter().map(|(p, nth)| (format!("{p}-{nth}"), Value::Int(amount(nth)))).collect();
        assert_eq!(values(&handle), expected);
        let letters = handle.dead_letters("orders", 10_000)?;
        assert_eq!(letters.len() as i64, malformed + refused, "replayed letters are kept, once");
        for stored in &letters {
            let (state, attempt) = (stored.state, stored.letter.attempt);
            match stored.letter.reason {
                Reason::ResolverError => assert_eq!(state, LetterState::Replayed(karst::types::Outcome::Applied)),
                reason => assert_eq!((reason, state, attempt >= 2), (Reason::Malformed, LetterState::Waiting, true)),
            }
        }
        assert_eq!(handle.replay(&LetterFilter { reason: Some(Reason::ResolverError), ..all(10_000) }).await?.queued, 0);
        engine.shutdown().await
    })
    .unwrap();
    let history = history(dir.path());
    assert_eq!(history.keys().copied().collect::<BTreeSet<_>>(), good(|_| true));
    assert!(history.values().all(|times| *times == 1), "{:?}", history.iter().find(|(_, times)| **times != 1));
}

async fn futures_join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    tokio::join!(a, b)
}

#[test]
fn a_replay_is_late_exactly_if_the_record_would_have_been_late_in_its_place_and_moves_no_watermark() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("orders").late_arrival_deadline("10s");
        let send = async |id: &str, amount: i64, second: i64| {
            let value = json!({ "id": id, "amount": amount, "at": second * 1_000_000 }).to_string();
            source.send_to(PartitionId(0), BrokerTime::from_secs(2_000), None, Some(value.as_bytes())).await
        };
        send("first", 1, 1_000).await?;
        send("in time", 60, 995).await?; // refused by the resolver, 5 s behind
        send("newest", 1, 1_100).await?;
        send("late", 60, 1_000).await?; // 100 s behind
        let before = {
            let engine = start(dir.path(), &source, OnOrder::upto(50)).await?;
            engine.drain().await?;
            let sums = outcomes(&engine);
            assert_eq!((sums.applied, sums.dead_letters, sums.late), (2, 1, 1));
            let status = engine.handle().status();
            engine.shutdown().await?;
            status.sources[0].partitions[0].watermark
        };
        let engine = start(dir.path(), &source, OnOrder::upto(1_000)).await?;
        engine.handle().replay(&all(10)).await?;
        engine.drain().await?;
        let sums = outcomes(&engine);
        assert_eq!(
            (sums.applied, sums.dead_letters, sums.late),
            (3, 0, 1),
            "by now its lateness is 105 s; in its place it was 5"
        );
        send("after", 1, 1_095).await?;
        engine.drain().await?;
        assert_eq!(engine.handle().status().sources[0].partitions[0].watermark, before);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_letter_that_panics_in_its_replay_is_put_aside_again_and_the_ones_after_it_pass() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("orders");
        for (nth, amount) in [60, 13, 61, 13, 62].into_iter().enumerate() {
            let value = json!({ "id": format!("{nth}"), "amount": amount }).to_string();
            source.send_to(PartitionId(0), BrokerTime::from_secs(1_000), None, Some(value.as_bytes())).await?;
        }
        let engine = start(dir.path(), &source, OnOrder::upto(50)).await?;
        engine.drain().await?;
        engine.shutdown().await?;
        let engine = start(dir.path(), &source, OnOrder::upto(1_000)).await?;
        let handle = engine.handle();
        assert_eq!(handle.replay(&all(10)).await?.queued, 5);
        engine.drain().await?;
        let sums = outcomes(&engine);
        assert_eq!((sums.applied, sums.dead_letters), (3, 2));
        let open = handle.find_dead_letters(&all(10))?;
        let open: Vec<_> = open.iter().map(|found| (found.stored.letter.offset, found.stored.letter.attempt)).collect();
        assert_eq!(open, [(Offset(1), 2), (Offset(3), 2)]);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_letter_that_was_cut_is_not_replayed_and_a_large_one_within_the_limit_is_kept_whole() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("orders").max_record_bytes("3MiB");
        let send = async |megabytes: usize| {
            let value =
                json!({ "id": "x".repeat(20), "amount": 60, "at": null, "pad": "p".repeat(megabytes << 20) }).to_string();
            source.send_to(PartitionId(0), BrokerTime::from_secs(1_000), None, Some(value.as_bytes())).await
        };
        send(2).await?;
        send(4).await?;
        let engine = start(dir.path(), &source, OnOrder::upto(50)).await?;
        engine.drain().await?;
        let letters = engine.handle().dead_letters("orders", 10)?;
        let kept: Vec<_> = letters.iter().map(|stored| (stored.letter.reason, stored.letter.is_cut())).collect();
        assert_eq!(kept, [(Reason::ResolverError, false), (Reason::TooLarge, true)]);
        assert!(letters[1].letter.value_len > 4 << 20);
        engine.shutdown().await?;
        let engine = start(dir.path(), &source, OnOrder::upto(1_000)).await?;
        let replays = engine.handle().replay(&all(10)).await?;
        assert_eq!((replays.queued, replays.cut), (1, 1));
        engine.drain().await?;
        let sums = outcomes(&engine);
        assert_eq!((sums.applied, sums.dead_letters), (1, 1));
        engine.shutdown().await
    })
    .unwrap();
}
