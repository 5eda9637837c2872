//! The changelog: every update once, in the order of commits; trimmed from the front.

use super::*;
use crate::{ChangeVersion, Changelog};

const LOG: Log = Log { keys: 12 };

fn kept(changelog: &Changelog) -> Vec<u64> {
    (0..=changelog.newest().seq).filter(|seq| changelog.read(*seq).unwrap().is_some()).collect()
}

#[test]
fn every_update_is_in_the_history_also_one_that_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(open(dir.path(), 1).unwrap(), LOG);
    for _ in 0..10 {
        driver.send(30);
        driver.send(7);
        driver.commit_all();
    }
    drop(driver);
    let store = open(dir.path(), 1).unwrap();
    let changelog = store.reader().shards()[0].changelog();
    assert_eq!(changelog.newest(), ChangeVersion { incarnation: 1, seq: 10 });
    let mut seen = Vec::new();
    let mut seq = 0;
    while let Some(changes) = changelog.next(seq).unwrap() {
        assert_eq!(changes.version, ChangeVersion { incarnation: 1, seq: seq + 1 });
        assert_eq!(changes.batches.len(), 2);
        for batch in &changes.batches {
            for update in batch.updates.iter() {
                assert!(update.version.offset.0 >= batch.stored_at.0, "batches are stored at their first offset here");
                seen.push((update.version.offset.0, String::from_utf8(update.key.to_vec()).unwrap(), update.cells.to_vec()));
            }
        }
        seq = changes.version.seq;
    }
    let expected: Vec<_> =
        (0..370).filter(|offset| LOG.outcome(*offset) == Outcome::Applied).map(|offset| (offset, LOG.write(offset))).collect();
    assert_eq!(seen.len(), expected.len());
    for ((offset, key, cells), (expected_offset, (expected_key, values))) in seen.iter().zip(expected) {
        assert_eq!((offset, key), (&expected_offset, &expected_key));
        let cells: Vec<_> =
            karst_types::update::cells(cells).unwrap().map(|(slot, cell)| (slot.0, Value::decode(cell).unwrap().0)).collect();
        assert_eq!(cells, values);
    }
}

#[test]
fn without_durable_readers_the_retention_bounds_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings { changelog_bytes: ByteSize(6000), ..settings(1) };
    let mut driver = Driver::new(Store::open(dir.path(), &settings, Arc::new(StoppedClock)).unwrap(), LOG);
    for _ in 0..60 {
        driver.send(20);
        driver.commit_all();
    }
    let changelog = driver.store.reader().shards()[0].changelog();
    let seqs = kept(&changelog);
    assert!((5..40).contains(&seqs.len()) && seqs.last() == Some(&60), "{seqs:?}");
    assert_eq!(seqs, (changelog.oldest()..=60).collect::<Vec<_>>());
    drop((driver, changelog));
    let store = Store::open(dir.path(), &settings, Arc::new(StoppedClock)).unwrap();
    assert_eq!(kept(&store.reader().shards()[0].changelog()), seqs);
}

#[test]
fn old_history_goes_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings { changelog_age: karst_types::TimeSpan::from_micros(200), ..settings(1) };
    let mut driver = Driver::new(Store::open(dir.path(), &settings, Arc::new(StoppedClock)).unwrap(), LOG);
    for _ in 0..50 {
        driver.send(20); // stored at 0, 20, 40, … microseconds
        driver.commit_all();
    }
    let seqs = kept(&driver.store.reader().shards()[0].changelog());
    assert_eq!(seqs, (40..=50).collect::<Vec<_>>());
}

#[test]
fn nothing_is_trimmed_in_front_of_the_slowest_durable_reader() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings { changelog_bytes: ByteSize(1), ..settings(1) };
    let store = Store::open(dir.path(), &settings, Arc::new(StoppedClock)).unwrap();
    let changelog = store.reader().shards()[0].changelog();
    changelog.set_cursor("offline", 0).unwrap();
    changelog.set_cursor("sink", 3).unwrap();
    let mut driver = Driver::new(store, LOG);
    let go = |driver: &mut Driver, commits: usize| {
        for _ in 0..commits {
            driver.send(20);
            driver.commit_all();
        }
    };
    go(&mut driver, 10);
    assert_eq!(kept(&changelog), (1..=10).collect::<Vec<_>>());
    changelog.set_cursor("offline", 7).unwrap();
    go(&mut driver, 1);
    assert_eq!(kept(&changelog), (4..=11).collect::<Vec<_>>());
    drop((driver, changelog));
    let store = Store::open(dir.path(), &settings, Arc::new(StoppedClock)).unwrap();
    let changelog = store.reader().shards()[0].changelog();
    assert_eq!(changelog.cursors(), [("offline".to_owned(), 7), ("sink".to_owned(), 3)]);
    changelog.remove_cursor("sink").unwrap();
    let mut driver = Driver::new(store, LOG);
    go(&mut driver, 1);
    assert_eq!(kept(&changelog), (8..=12).collect::<Vec<_>>());
}
