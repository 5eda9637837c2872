//! The Kafka source against librdkafka's mock cluster: the real client path, a broker in the process.
#![allow(clippy::unwrap_used, clippy::type_complexity)]

use std::{future::Future, time::Duration};

use karst_connectors::{
    Error, Fetched, HealthState, KafkaProducer, KafkaSource, PartitionReader, RunningSource, Source,
    kafka::mock::MockBroker,
    testing::{ManualClock, OwnedRecord, assert_source_compliance, owned, read_count, read_to_end},
};
use karst_types::{BrokerTime, Offset, PartitionId, Retry};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

const P0: PartitionId = PartitionId(0);
const P1: PartitionId = PartitionId(1);

/// Nothing here takes long; what does is broken.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// Looks until it holds. (The network follows no virtual clock.)
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn source(servers: &str) -> KafkaSource {
    KafkaSource::new("clicks").environment(|_| None).bootstrap_server(servers).additional_kafka_arg("fetch.wait.max.ms", "10")
}

fn produce(servers: &str, partition: PartitionId, values: impl IntoIterator<Item = Vec<u8>>) {
    let producer = KafkaProducer::new(servers).unwrap();
    for value in values {
        producer.send("clicks", partition.0, BrokerTime::from_millis(5), Some(b"key"), Some(&value)).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

fn numbered(range: std::ops::Range<usize>, len: usize) -> Vec<Vec<u8>> {
    range.map(|index| format!("{index:0len$}").into_bytes()).collect()
}

fn numbers(records: &[OwnedRecord]) -> Vec<usize> {
    records.iter().map(|record| String::from_utf8(record.value.clone().unwrap()).unwrap().parse().unwrap()).collect()
}

async fn opened(running: &dyn RunningSource, partition: PartitionId, from: Option<i64>) -> Box<dyn PartitionReader> {
    soon("partitions", running.partitions()).await.unwrap();
    let mut reader = running.reader(partition).unwrap();
    soon("seek", reader.seek(from.map(Offset))).await.unwrap();
    reader
}

#[tokio::test]
async fn the_kafka_source_passes_the_suite() {
    let broker = MockBroker::start(&[("clicks", 3)]).unwrap();
    let producer = KafkaProducer::new(broker.bootstrap_servers()).unwrap();
    let mut expected = vec![Some(b"".to_vec()), None, Some(vec![b'x'; 200_000])];
    expected.extend(numbered(0..1000, 8).into_iter().map(Some));
    for value in &expected {
        producer.send("clicks", 1, BrokerTime::from_millis(7), None, value.as_deref()).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    let source = source(broker.bootstrap_servers()).batch_records(100).batch_bytes("1KiB");
    soon("the suite", assert_source_compliance(&source, ManualClock::new(), P1, &expected)).await;
}

#[tokio::test]
async fn a_record_keeps_its_key_time_and_headers() {
    let broker = MockBroker::start(&[("clicks", 1)]).unwrap();
    let producer = KafkaProducer::new(broker.bootstrap_servers()).unwrap();
    let headers = [("trace", Some(&b"abc"[..])), ("none", None), ("trace", Some(&b""[..]))];
    let time = BrokerTime::from_millis(1_357_034_400_123);
    producer.send_with_headers("clicks", 0, time, Some(b"\xff"), Some(b"{}"), &headers).unwrap();
    producer.send("clicks", 0, time, None, None).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    let running = source(broker.bootstrap_servers()).start(ManualClock::new()).unwrap();
    let mut reader = opened(&*running, P0, None).await;
    let records = soon("records", read_count(&mut *reader, 2)).await;
    assert_eq!(records[0].broker_time, time);
    assert_eq!(records[0].key.as_deref(), Some(&b"\xff"[..]));
    let expected = [("trace", Some(&b"abc"[..])), ("none", None), ("trace", Some(&b""[..]))];
    let found: Vec<_> = records[0].headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    assert_eq!(found, expected);
    assert_eq!((&records[1].key, &records[1].value), (&None, &None));
    assert!(records[1].headers.is_empty());

    let running = source(broker.bootstrap_servers()).read_headers(false).start(ManualClock::new()).unwrap();
    let mut reader = opened(&*running, P0, None).await;
    let without = soon("records", read_count(&mut *reader, 2)).await;
    assert!(without[0].headers.is_empty() && without[0].value == records[0].value);
}

/// Records without headers are told apart by a byte behind their value, which is looked at before librdkafka is asked.
#[tokio::test]
async fn records_with_headers_and_without_in_any_order_keep_them_however_they_are_packed() {
    for compression in ["none", "gzip", "lz4"] {
        let broker = MockBroker::start(&[("clicks", 1)]).unwrap();
        let options = [("compression.type", compression), ("batch.num.messages", "700")];
        let producer = KafkaProducer::with(broker.bootstrap_servers(), options).unwrap();
        let mut state = 7u64;
        let mut chance = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut expected = Vec::new();
        for number in 0..5_000u64 {
            let value = match chance(8) {
                0 => None,
                1 => Some(Vec::new()),
                2 => Some(vec![0; chance(6_000) as usize]), // a zero is the byte that is looked for
                _ => Some(number.to_le_bytes().repeat(chance(20) as usize + 1)),
            };
            let key = (chance(2) == 0).then(|| vec![0; chance(4) as usize]);
            let count = if chance(3) == 0 { chance(4) } else { 0 };
            let headers: Vec<_> = (0..count).map(|at| (["a", "", "trace"][at as usize], number.to_be_bytes())).collect();
            let given: Vec<_> = headers.iter().map(|(name, value)| (*name, Some(&value[..]))).collect();
            let time = BrokerTime::from_millis(number as i64);
            producer.send_with_headers("clicks", 0, time, key.as_deref(), value.as_deref(), &given).unwrap();
            expected.push((key, value, headers));
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let running = source(broker.bootstrap_servers()).start(ManualClock::new()).unwrap();
        let mut reader = opened(&*running, P0, None).await;
        let records = soon("records", read_count(&mut *reader, expected.len())).await;
        for (record, (key, value, headers)) in records.iter().zip(&expected) {
            assert_eq!((record.key.as_deref(), record.value.as_deref()), (key.as_deref(), value.as_deref()));
            let found: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            let sent: Vec<_> = headers.iter().map(|(name, value)| (*name, Some(&value[..]))).collect();
            assert_eq!(found, sent, "{compression}, {record:?}");
        }
    }
}

#[tokio::test]
async fn a_caught_up_reader_goes_on_with_what_comes_later() {
    let broker = MockBroker::start(&[("clicks", 2)]).unwrap();
    let running = source(broker.bootstrap_servers()).start(ManualClock::new()).unwrap();
    let mut reader = opened(&*running, P0, None).await;
    assert_eq!(soon("end", read_to_end(&mut *reader)).await, (vec![], Offset(0)), "an empty topic tells its end");
    for round in 0..3 {
        produce(broker.bootstrap_servers(), P0, numbered(round * 10..round * 10 + 10, 4));
        let mut seen = Vec::new();
        while seen.len() < 10 {
            seen.extend(soon("records", read_to_end(&mut *reader)).await.0);
        }
        assert_eq!(numbers(&seen), (round * 10..round * 10 + 10).collect::<Vec<_>>());
    }
}

/// One slow reader among fast ones: it alone is paused, memory stays bounded, and nothing is lost or doubled by pausing.
#[tokio::test]
async fn a_slow_reader_is_paused_alone_and_loses_nothing() {
    let broker = MockBroker::start(&[("clicks", 2)]).unwrap();
    let limit = 128 << 10;
    produce(broker.bootstrap_servers(), P0, numbered(0..4000, 1000));
    produce(broker.bootstrap_servers(), P1, numbered(0..4000, 1000));
    let source = source(broker.bootstrap_servers()).buffer_bytes("128KiB").batch_records(20);
    let running = source.start(ManualClock::new()).unwrap();
    let mut slow = opened(&*running, P0, None).await;
    let mut fast = opened(&*running, P1, None).await;
    let (all, end) = soon("the fast reader", read_to_end(&mut *fast)).await;
    assert_eq!((numbers(&all), end), ((0..4000).collect(), Offset(4000)), "the other partition flows");
    until("the slow one is paused", || running.health().partitions[0].paused).await;
    assert!(slow.paused() && !fast.paused());
    assert_eq!(slow.lag(), Some(4000));

    let (mut seen, mut most) = (Vec::new(), 0);
    while seen.len() < 4000 {
        most = most.max(running.health().partitions[0].buffered_bytes);
        if let Fetched::Records(batch) = soon("the slow reader", slow.next()).await.unwrap() {
            seen.extend(owned(&batch));
        }
        if seen.len() % 400 == 0 {
            produce(broker.bootstrap_servers(), P1, numbered(0..10, 1000)); // the fast one stays in need of draining
            soon("the fast reader", read_count(&mut *fast, 10)).await;
        }
    }
    assert_eq!(numbers(&seen), (0..4000).collect::<Vec<_>>(), "each record once, in order");
    // what was prefetched comes on top of the limit, once: 1 MiB (the least), and one fetch response
    assert!(most <= limit + (3 << 20), "{most}");
    until("it is not paused any more", || !running.health().partitions[0].paused).await;
}

#[tokio::test]
async fn only_slow_readers_hold_the_fetching_and_lose_nothing() {
    let broker = MockBroker::start(&[("clicks", 2)]).unwrap();
    for partition in [P0, P1] {
        produce(broker.bootstrap_servers(), partition, numbered(0..4000, 1000));
    }
    let source = source(broker.bootstrap_servers()).buffer_bytes("64KiB").batch_records(16);
    let running = source.start(ManualClock::new()).unwrap();
    let mut readers = [opened(&*running, P0, None).await, opened(&*running, P1, None).await];
    until("both are held", || running.health().partitions.iter().all(|partition| partition.paused)).await;
    let mut seen = [Vec::new(), Vec::new()];
    while seen.iter().any(|seen| seen.len() < 4000) {
        for (reader, seen) in readers.iter_mut().zip(&mut seen).filter(|(_, seen)| seen.len() < 4000) {
            if let Fetched::Records(batch) = soon("records", reader.next()).await.unwrap() {
                seen.extend(owned(&batch));
            }
        }
    }
    for seen in seen {
        assert_eq!(numbers(&seen), (0..4000).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_seek_back_while_records_are_in_flight_starts_where_it_says() {
    let broker = MockBroker::start(&[("clicks", 1)]).unwrap();
    produce(broker.bootstrap_servers(), P0, numbered(0..3000, 500));
    let source = source(broker.bootstrap_servers()).buffer_bytes("64KiB").batch_records(50);
    let running = source.start(ManualClock::new()).unwrap();
    let mut reader = opened(&*running, P0, None).await;
    for from in [2000, 10, 2990, 0, 1500, 1499] {
        soon("seek", reader.seek(Some(Offset(from)))).await.unwrap();
        let mut next = from as usize;
        while next < 3000.min(from as usize + 150) {
            if let Fetched::Records(batch) = soon("records", reader.next()).await.unwrap() {
                for number in numbers(&owned(&batch)) {
                    assert_eq!(number, next);
                    next += 1;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_broker_that_goes_down_is_told_and_waited_for() {
    let broker = MockBroker::start(&[("clicks", 1)]).unwrap();
    produce(broker.bootstrap_servers(), P0, numbered(0..100, 4));
    let running = source(broker.bootstrap_servers()).start(ManualClock::new()).unwrap();
    let mut reader = opened(&*running, P0, None).await;
    assert_eq!(soon("records", read_to_end(&mut *reader)).await.0.len(), 100);
    broker.down().unwrap();
    let why = format!("source \"clicks\": broker {} cannot be reached: ", broker.bootstrap_servers());
    until(
        "health says so",
        || matches!(running.health().state, HealthState::Waiting { why: found, .. } if found.starts_with(&why)),
    )
    .await;
    let bounds = tokio::time::timeout(Duration::from_millis(50), reader.bounds()).await;
    assert!(bounds.is_err(), "bounds() waits, and can be given up");
    broker.up().unwrap();
    until("it recovers by itself", || running.health().state == HealthState::Ok).await;
    produce(broker.bootstrap_servers(), P0, numbered(100..200, 4));
    let mut seen = Vec::new();
    while seen.len() < 100 {
        seen.extend(soon("records", read_to_end(&mut *reader)).await.0);
    }
    assert_eq!(numbers(&seen), (100..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_wrong_server_is_a_state_with_a_reason_and_stopping_ends_the_wait() {
    let running = source("127.0.0.1:1").start(ManualClock::new()).unwrap();
    let waiting = running.partitions();
    until("health says so", || {
        matches!(running.health().state, HealthState::Waiting { why, .. }
            if why.starts_with("source \"clicks\": broker 127.0.0.1:1 cannot be reached: ") && why.contains("Connection refused"))
    })
    .await;
    soon("stop", running.stop()).await;
    assert!(matches!(soon("partitions", waiting).await, Err(Error::Stopped { .. })));
    assert!(matches!(running.reader(P0), Err(Error::Stopped { .. })));
}

#[tokio::test]
async fn a_missing_topic_is_waited_for_until_it_is_made() {
    let broker = MockBroker::start(&[]).unwrap();
    let running = source(broker.bootstrap_servers()).start(ManualClock::new()).unwrap();
    let partitions = running.partitions();
    let why = format!("topic \"clicks\" of source \"clicks\" does not exist at {}; create it", broker.bootstrap_servers());
    tokio::pin!(partitions);
    let told = until(
        "health says so",
        || matches!(running.health().state, HealthState::Waiting { why: found, .. } if found.starts_with(&why)),
    );
    tokio::select! {
        biased;
        () = told => {}
        found = &mut partitions => panic!("{found:?}"),
    }
    broker.create_topic("clicks", 2).unwrap();
    assert_eq!(soon("partitions", partitions).await.unwrap(), [P0, P1]);
    assert_eq!(running.health().state, HealthState::Ok);
    produce(broker.bootstrap_servers(), P1, numbered(0..10, 4));
    let mut reader = opened(&*running, P1, None).await;
    assert_eq!(soon("records", read_to_end(&mut *reader)).await.0.len(), 10);
}

#[tokio::test]
async fn an_offset_that_retention_has_deleted_is_a_gap_and_one_behind_the_end_a_regression() {
    let broker = MockBroker::start(&[("clicks", 2)]).unwrap();
    for _ in 0..8 {
        produce(broker.bootstrap_servers(), P0, numbered(0..1000, 1000)); // the mock keeps 5 MiB
    }
    produce(broker.bootstrap_servers(), P1, numbered(0..10, 4));
    let running = source(broker.bootstrap_servers()).start(ManualClock::new()).unwrap();
    let mut reader = opened(&*running, P0, None).await;
    let low = soon("bounds", reader.bounds()).await.unwrap().low;
    assert!(low > Offset(0));
    let gap = soon("seek", reader.seek(Some(Offset(3)))).await.unwrap_err();
    assert!(
        matches!(&gap, Error::SourceGap { position, low: found } if position.to_string() == "clicks[0]@3" && *found == low),
        "{gap}"
    );
    assert_eq!(gap.retry(), Retry::Never);
    let behind = soon("seek", reader.seek(Some(Offset(9000)))).await.unwrap_err();
    assert!(matches!(&behind, Error::SourceRegressed { high: Offset(8000), .. }), "{behind}");
    let mut other = opened(&*running, P1, None).await;
    assert_eq!(soon("records", read_to_end(&mut *other)).await.0.len(), 10, "the other partition is not concerned");
}

#[tokio::test]
async fn an_error_of_the_broker_about_a_partition_stops_it_and_a_seek_starts_it_again() {
    let broker = MockBroker::start(&[("clicks", 1)]).unwrap();
    produce(broker.bootstrap_servers(), P0, numbered(0..10, 4));
    let running = source(broker.bootstrap_servers()).start(ManualClock::new()).unwrap();
    soon("partitions", running.partitions()).await.unwrap();
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    broker.with(move |cluster| cluster.request_errors(RDKafkaApiKey::Fetch, &[refused; 3])).unwrap();
    let mut reader = running.reader(P0).unwrap();
    soon("seek", reader.seek(None)).await.unwrap();
    let error = soon("the error", reader.next()).await.unwrap_err();
    assert!(matches!(&error, Error::Broker { code, .. } if code == "TopicAuthorizationFailed"), "{error}");
    assert_eq!(error.retry(), Retry::Backoff);
    assert!(running.health().partitions[0].fault.as_ref().is_some_and(|fault| fault.contains("TopicAuthorizationFailed")));
    broker.with(|cluster| cluster.clear_request_errors(RDKafkaApiKey::Fetch)).unwrap();
    soon("seek", reader.seek(None)).await.unwrap();
    assert_eq!(soon("records", read_to_end(&mut *reader)).await.0.len(), 10);
    assert_eq!(running.health().partitions[0].fault, None);
}

#[tokio::test]
async fn errors_that_pass_by_themselves_are_not_told() {
    let broker = MockBroker::start(&[("clicks", 1)]).unwrap();
    produce(broker.bootstrap_servers(), P0, numbered(0..10, 4));
    let moved = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    broker.with(move |cluster| cluster.request_errors(RDKafkaApiKey::Fetch, &[moved; 3])).unwrap();
    let running = source(broker.bootstrap_servers()).start(ManualClock::new()).unwrap();
    let mut reader = opened(&*running, P0, None).await;
    assert_eq!(soon("records", read_to_end(&mut *reader)).await.0.len(), 10);
}

/// Once: assigning it anew helps. Twice: only a new client does. By the handed clock.
#[tokio::test]
async fn the_watchdog_restarts_a_partition_that_silently_stops() {
    for silences in [1, 2] {
        let broker = MockBroker::start(&[("clicks", 2)]).unwrap();
        produce(broker.bootstrap_servers(), P0, numbered(0..100, 4));
        let clock = ManualClock::new();
        let running = source(broker.bootstrap_servers()).start_kafka(clock.clone()).unwrap();
        let mut reader = opened(&running, P0, None).await;
        assert_eq!(soon("records", read_to_end(&mut *reader)).await.0.len(), 100);
        running.silence_for_test(P0, silences);
        until("it is silent", || running.silences_left_for_test(P0) < silences).await;
        produce(broker.bootstrap_servers(), P0, numbered(100..200, 4));
        soon("bounds", reader.bounds()).await.unwrap(); // the end of the log is known now
        assert_eq!(reader.lag(), Some(100));
        let mut seen = Vec::new();
        soon("the watchdog", async {
            while seen.len() < 100 {
                clock.advance(Duration::from_secs(20));
                if let Ok(Ok(Fetched::Records(batch))) = tokio::time::timeout(Duration::from_millis(50), reader.next()).await {
                    seen.extend(owned(&batch));
                }
            }
        })
        .await;
        assert_eq!(numbers(&seen), (100..200).collect::<Vec<_>>(), "it goes on where it stood");
        assert_eq!(running.silences_left_for_test(P0), 0);
    }
}

#[tokio::test]
async fn a_seek_of_a_paused_partition_fetches_again() {
    let broker = MockBroker::start(&[("clicks", 2)]).unwrap();
    produce(broker.bootstrap_servers(), P0, numbered(0..3000, 1000));
    let running = source(broker.bootstrap_servers()).buffer_bytes("64KiB").start(ManualClock::new()).unwrap();
    let mut paused = opened(&*running, P0, None).await;
    let mut other = opened(&*running, P1, None).await;
    soon("the end", read_to_end(&mut *other)).await;
    until("it is paused", || paused.paused()).await;
    produce(broker.bootstrap_servers(), P1, numbered(0..10, 4));
    soon("the other one flows, so the first is not only held", read_count(&mut *other, 10)).await;
    soon("seek", paused.seek(Some(Offset(2990)))).await.unwrap();
    let (seen, _) = soon("records", read_to_end(&mut *paused)).await;
    assert_eq!(numbers(&seen), (2990..3000).collect::<Vec<_>>());
    drop(paused);
    let mut again = opened(&*running, P0, Some(2999)).await;
    assert_eq!(numbers(&soon("records", read_to_end(&mut *again)).await.0), [2999]);
}

#[tokio::test]
async fn applied_offsets_are_told_to_the_group() {
    let broker = MockBroker::start(&[("clicks", 1)]).unwrap();
    produce(broker.bootstrap_servers(), P0, numbered(0..50, 4));
    let clock = ManualClock::new();
    let running = source(broker.bootstrap_servers()).start(clock.clone()).unwrap();
    let mut reader = opened(&*running, P0, None).await;
    soon("records", read_to_end(&mut *reader)).await;
    reader.commit(Offset(41));
    let servers = broker.bootstrap_servers().to_owned();
    let committed = move || {
        use rdkafka::consumer::{BaseConsumer, Consumer};
        let mut config = rdkafka::ClientConfig::new();
        let consumer: BaseConsumer =
            config.set("bootstrap.servers", &servers).set("group.id", "karst/clicks").create().unwrap();
        let mut wanted = rdkafka::TopicPartitionList::new();
        wanted.add_partition("clicks", 0);
        let found = consumer.committed_offsets(wanted, Duration::from_secs(5)).unwrap();
        let offset = found.elements()[0].offset().to_raw();
        drop(found); // a list that is alive blocks the end of the consumer
        offset
    };
    until("the offset is committed", || {
        clock.advance(Duration::from_secs(5));
        committed() == Some(42)
    })
    .await;
    soon("stop", running.stop()).await;
}
