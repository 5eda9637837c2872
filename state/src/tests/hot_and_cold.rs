//! Rows that do not fit in memory, and readers beside the writer.

use karst_types::{EntityKey, ShardId};

use super::*;

#[test]
fn rows_that_were_evicted_are_read_from_disk_and_updated_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log { keys: 30_000 };
    let mut driver = Driver::new(open(dir.path(), 1).unwrap(), log);
    driver.store.shrink_hot(ShardId(0), 1 << 20);
    let mut evicted = false;
    for _ in 0..60 {
        driver.send(1000);
        driver.commit_all();
        let (rows, bytes) = driver.store.reader().shards()[0].hot();
        evicted |= rows < 20_000 && driver.next > 50_000;
        assert!(bytes < 2 << 20, "{rows} rows, {bytes} bytes");
    }
    assert!(evicted);
    driver.check_committed();
    let reader = driver.store.reader();
    for (key, row) in log.fold(driver.next - 1, 0, 1).into_iter().take(3000) {
        let entity = EntityKey { class: CLASS, bytes: key.into_bytes() };
        assert_eq!(content(&reader.get(&entity).unwrap().unwrap()), row);
    }
}

#[test]
fn memory_asks_for_a_commit_before_it_is_exceeded() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(open(dir.path(), 1).unwrap(), Log { keys: 1_000_000 });
    let mut sent = 0;
    while !driver.shards[0].must_commit() {
        driver.send(1000);
        sent += 1000;
        assert!(sent <= 100_000, "commit_events is the limit at the latest");
    }
    let frozen = driver.shards[0].freeze().unwrap();
    assert!(!driver.shards[0].is_full());
    while !driver.shards[0].is_full() {
        driver.send(1000);
        sent += 1000;
        assert!(sent <= 200_000);
    }
    let done = driver.commits(0).write(frozen).unwrap();
    driver.shards[0].committed(&done);
    assert!(!driver.shards[0].is_full());
}

#[test]
fn readers_never_see_a_value_go_back_while_batches_are_applied_and_committed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log { keys: 50 };
    let mut driver = Driver::new(open(dir.path(), 2).unwrap(), log);
    driver.send(200);
    let reader = driver.store.reader();
    let finished = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let look = scope.spawn(|| {
            let mut newest: HashMap<u64, i64> = HashMap::new();
            let mut reads = 0u64;
            while !finished.load(std::sync::atomic::Ordering::Relaxed) {
                let key = reads % log.keys;
                let entity = EntityKey { class: CLASS, bytes: format!("key {key}").into_bytes() };
                if let Some(row) = reader.get(&entity).unwrap() {
                    let time = content(&row).get(&1).map_or(i64::MIN, |cell| cell.0);
                    let before = newest.insert(key, time);
                    assert!(before.is_none_or(|before| before <= time), "event time of key {key} went back");
                }
                reads += 1;
            }
            reads
        });
        for _ in 0..300 {
            driver.send(100);
            driver.commit_all();
        }
        finished.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(look.join().unwrap() > 0);
    });
    driver.check_committed();
}
