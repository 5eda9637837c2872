//! A write that fails stops the shard, shows nothing of what failed, and is forgotten when the shard is opened again (I24).

use std::{cell::Cell, io, rc::Rc};

use karst_types::{
    EntityKey, KillPoint, Retry, ShardId,
    kill_point::{self, Place},
};

use super::*;
use crate::{Error, ShardName};

const LOG: Log = Log { keys: 12 };

/// Once, at this moment of shard 0 on this thread, `what` is done.
fn once(at: KillPoint, what: fn() -> io::Result<()>) {
    let done = Cell::new(false);
    let listener = move |now: KillPoint, place: Place| {
        let due = (now, place) == (at, Place::Shard(0)) && !done.replace(true);
        if due { what() } else { Ok(()) }
    };
    kill_point::listen(Some(Rc::new(listener)));
}

fn full() -> io::Result<()> {
    Err(io::Error::other("no space left on device"))
}

#[test]
fn after_a_failed_write_only_what_is_committed_is_read_and_replay_makes_it_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(open(dir.path(), 1).unwrap(), LOG);
    driver.send(40);
    driver.commit_all();
    driver.send(40);
    let store = driver.store.clone();
    once(KillPoint::CommitBefore, full);
    let error = driver.commit_shard(0).unwrap_err();
    assert!(matches!(error, Error::Storage { action: "write", .. }) && error.retry() == Retry::Backoff, "{error}");
    assert_eq!(store.stopped().iter().map(|(shard, _)| *shard).collect::<Vec<_>>(), [ShardName::Shard(ShardId(0))]);
    assert!(store.stopped()[0].1.contains("no space left"));

    for (key, row) in LOG.fold(39, 0, 1) {
        let entity = EntityKey { class: CLASS, bytes: key.into_bytes() };
        assert_eq!(content(&store.reader().get(&entity).unwrap().unwrap()), row);
    }
    let (mut batches, _) = driver.batch(1);
    assert!(matches!(driver.shards[0].apply(&mut batches[0]), Err(Error::Poisoned { .. })));

    driver.shards.clear();
    driver.shards.push(store.shard_writer(ShardId(0)).unwrap());
    assert!(store.stopped().is_empty());
    driver.rewind();
    assert_eq!(driver.next, 40);
    driver.send(60); // ends at 79, where the source shard stands
    driver.send(20);
    driver.commit_all();
    driver.check_committed();
    check_source(&store, LOG, 99);
    let newest = store.reader().shards()[0].newest();
    assert_eq!((newest.incarnation, newest.seq), (1, 2), "nothing that was reported was lost: the same incarnation");
}

/// Whether it was written is not known, and it was: going on from what was known before would give its number a second time, and apply
/// its updates twice.
#[test]
fn after_a_failure_or_a_panic_behind_a_write_its_number_is_not_given_again_and_nothing_counts_twice() {
    for what in [full, || panic!("behind a write")] {
        let dir = tempfile::tempdir().unwrap();
        let mut driver = Driver::new(open(dir.path(), 1).unwrap(), LOG);
        driver.send(40);
        driver.commit_all();
        driver.send(40);
        once(KillPoint::CommitAfter, what);
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| driver.commit_shard(0).is_err()));
        assert!(failed.unwrap_or(true));
        driver.shards.clear();
        driver.shards.push(driver.store.shard_writer(ShardId(0)).unwrap());
        assert_eq!(driver.store.reader().shards()[0].newest().seq, 2, "it was written");
        driver.rewind();
        driver.send(60);
        driver.send(20);
        driver.commit_all();
        driver.check_committed();
        assert_eq!(driver.store.reader().shards()[0].newest().seq, 3);
    }
}

/// With the least `commit_events` every commit is one of a flood, but for those that have no updates.
#[test]
fn rows_are_written_in_the_end_also_with_the_least_commit_events() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings { commit_events: 1, ..settings(1) };
    let mut driver = Driver::new(Store::open(dir.path(), &settings, Arc::new(StoppedClock)).unwrap(), LOG);
    let mut empty = 0;
    for offset in 0..100 {
        driver.send(1);
        driver.commit_all();
        if LOG.outcome(offset) != Outcome::Applied {
            empty += 1;
            assert!(driver.store.rows_written(), "behind @{offset}, which wrote nothing");
        }
    }
    assert!(empty > 5);
}

#[test]
fn a_writer_interrupted_in_a_batch_is_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(open(dir.path(), 1).unwrap(), LOG);
    driver.send(10);
    driver.commit_all();
    let (mut batches, _) = driver.batch(10);
    // Cells that are no cells: a bug of a resolver makes the merge fail somewhere in the middle of the batch.
    let broken = karst_types::UpdateRef { cells: &[], ..batches[0].updates.get(0) };
    let mut updates = batches[0].updates.clone();
    updates.copy(broken);
    batches[0].updates = updates;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| driver.shards[0].apply(&mut batches[0]))).is_err();
    assert!(panicked && !batches[0].updates.is_empty());
    assert!(driver.shards[0].freeze().is_none(), "half a batch is never committed");
    let (mut batches, _) = driver.batch(10);
    assert!(matches!(driver.shards[0].apply(&mut batches[0]), Err(Error::Poisoned { .. })));
    driver.shards.clear();
    driver.shards.push(driver.store.shard_writer(ShardId(0)).unwrap());
    driver.rewind();
    driver.send(20);
    driver.commit_all();
    driver.check_committed();
}
