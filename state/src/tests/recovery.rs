//! What is left after the process is gone, and that replay makes it whole.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use karst_types::{EntityKey, ShardId, TimeSpan};

use super::*;
use crate::{Error, LanePosition};

const LOG: Log = Log { keys: 40 };

#[test]
fn after_any_end_each_shard_is_the_fold_of_the_log_up_to_its_position() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..6u64 {
        let mut driver = Driver::new(open(dir.path(), 3).unwrap(), LOG);
        driver.check_committed();
        for step in 0..8u64 {
            let random = mix(round * 100 + step);
            driver.send(1 + (random % 23) as i64);
            // Some shards commit, others don't: each ends where it likes.
            (0..3).filter(|shard| random >> (8 + shard) & 1 == 1).for_each(|shard| driver.commit_shard(shard).unwrap());
            if random >> 16 & 1 == 1 {
                driver.commit_source();
            }
        }
        driver.check_committed();
    } // dropped without a goodbye, as by kill -9
    let mut driver = Driver::new(open(dir.path(), 3).unwrap(), LOG);
    while driver.next < 2000 {
        driver.send(37);
    }
    driver.commit_all();
    driver.check_committed();
    let through = driver.next - 1;
    check_source(&driver.store, LOG, through);
    let letters = driver.store.source_reader().dead_letters(LANE, Offset(0), usize::MAX).unwrap();
    let expected: Vec<_> = (0..=through)
        .filter(|offset| matches!(LOG.outcome(*offset), Outcome::Dead(_)))
        .map(|o| letter(o, Reason::Malformed))
        .collect();
    assert_eq!(letters.into_iter().map(|stored| stored.letter).collect::<Vec<_>>(), expected);
    assert_eq!(driver.store.committed(LANE), Some(Offset(through)));
    drop(driver);
    check_source(&open(dir.path(), 3).unwrap(), LOG, through);
}

/// A flood: commits without rows. A kill at any moment, and history that is let go as early as it may be.
#[test]
fn rows_that_wait_are_made_anew_from_the_history_and_written_when_there_is_time() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings { commit_events: 32, changelog_bytes: ByteSize(1), ..settings(3) };
    let open = || Store::open(dir.path(), &settings, Arc::new(StoppedClock)).unwrap();
    let (mut waited, mut written) = (0, 0);
    for round in 0..40u64 {
        let mut driver = Driver::new(open(), LOG);
        check_applied(&driver.store);
        for step in 0..6u64 {
            let random = mix(round * 100 + step);
            driver.send(1 + (random % 23) as i64);
            (0..3).filter(|shard| random >> (8 + shard) & 1 == 1).for_each(|shard| driver.commit_shard(shard).unwrap());
            driver.commit_source();
            if driver.store.rows_written() {
                written += 1;
            } else {
                waited += 1;
            }
        }
    } // dropped without a goodbye, as by kill -9
    assert!(waited > 50 && written > 5, "{waited} {written}");
    let mut driver = Driver::new(open(), LOG);
    driver.send(100);
    while driver.shards.iter().any(ShardWriter::has_uncommitted) {
        driver.commit_all();
    }
    assert!(driver.store.rows_written());
    driver.check_committed();
    let changelog = driver.store.reader().shards()[0].changelog();
    assert!(changelog.oldest() + 2 > changelog.newest().seq, "what the rows hold may go");
}

/// What a reader sees of each shard that has just been opened is the fold of the log up to its position.
fn check_applied(store: &Store) {
    for shard in store.reader().shards() {
        let through = shard.positions().first().map_or(-1, |(_, offset)| offset.0);
        for (key, row) in LOG.fold(through, shard.id().0, 3) {
            let got = shard.get(CLASS, key.as_bytes(), key_hash(key.as_bytes())).unwrap().unwrap();
            assert_eq!(content(&got), row, "{key} of {:?} at {through}", shard.id());
        }
    }
}

#[test]
fn what_is_applied_is_visible_at_once_and_gone_with_a_writer_that_did_not_commit_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(open(dir.path(), 1).unwrap(), LOG);
    driver.send(50);
    driver.commit_all();
    driver.send(50);
    let reader = driver.store.reader();
    let (before, after) = (LOG.fold(49, 0, 1), LOG.fold(99, 0, 1));
    let entity = |key: &String| EntityKey { class: CLASS, bytes: key.clone().into_bytes() };
    for (key, row) in &after {
        assert_eq!(content(&reader.get(&entity(key)).unwrap().unwrap()), *row);
        assert_eq!(reader.get_committed(&entity(key)).unwrap().as_ref().map(content), before.get(key).cloned());
    }
    driver.shards = vec![driver.store.shard_writer(ShardId(0)).unwrap()]; // as after a panic
    for key in after.keys() {
        assert_eq!(reader.get(&entity(key)).unwrap().as_ref().map(content), before.get(key).cloned());
    }
    // Its lanes start from what is committed, and the next message is a gap.
    assert_eq!(driver.shards[0].position(LANE), LanePosition { applied: Some(Offset(49)), committed: Some(Offset(49)) });
    let (mut batches, _) = driver.batch(10);
    assert_eq!(driver.shards[0].apply(&mut batches[0]).unwrap(), Applied::Gap);
    assert!(!batches[0].updates.is_empty(), "a message that is not applied stays whole");
    driver.rewind();
    assert_eq!(driver.next, 50);
    driver.send(50);
    driver.commit_all();
    driver.check_committed();
}

#[test]
fn a_replayed_batch_that_straddles_is_applied_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(open(dir.path(), 2).unwrap(), LOG);
    driver.send(10);
    driver.commit_all();
    driver.send(10);
    driver.commit_shard(0).unwrap(); // shard 0 has 19, shard 1 and the source shard have 9
    driver.rewind();
    let store = driver.store.clone();
    assert_eq!(store.restart_point(LANE).after, Some(Offset(9)));
    // The source shard, still alive, has 19 in memory; so this batch ends there, the next one does not reach back.
    driver.send(15);
    assert_eq!(driver.next, 20);
    driver.send(15);
    driver.commit_all();
    driver.check_committed();
    check_source(&store, LOG, 34);
    let seen: Vec<_> = (1..=3).filter_map(|seq| store.reader().shards()[1].changelog().read(seq).unwrap()).collect();
    let mut offsets: Vec<_> = seen
        .iter()
        .flat_map(|changes| &changes.batches)
        .flat_map(|batch| batch.updates.iter().map(|u| u.version.offset.0))
        .collect();
    let sorted = offsets.is_sorted();
    offsets.dedup();
    assert!(sorted && offsets.iter().all(|offset| *offset <= 34), "history has each update once: {offsets:?}");
}

#[test]
fn a_commit_on_its_way_holds_what_was_applied_when_it_was_frozen() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(open(dir.path(), 1).unwrap(), LOG);
    driver.send(30);
    let frozen = driver.shards[0].freeze().unwrap();
    driver.send(30);
    assert!(driver.shards[0].freeze().is_none(), "one at a time");
    let done = driver.commits(0).write(frozen).unwrap();
    assert_eq!(driver.store.reader().shards()[0].positions(), [(LANE, Offset(29))]);
    driver.check_committed();
    driver.shards[0].committed(&done);
    assert_eq!(driver.shards[0].position(LANE), LanePosition { applied: Some(Offset(59)), committed: Some(Offset(29)) });
    driver.commit_all();
    driver.check_committed();
}

#[test]
fn a_writer_that_was_replaced_may_neither_apply_nor_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(open(dir.path(), 1).unwrap(), LOG);
    driver.send(10);
    let frozen = driver.shards[0].freeze().unwrap();
    let newer = driver.store.shard_writer(ShardId(0)).unwrap();
    assert!(matches!(driver.commits(0).write(frozen), Err(Error::Fenced { .. })));
    let (mut batches, _) = driver.batch(10);
    assert!(matches!(driver.shards[0].apply(&mut batches[0]), Err(Error::Fenced { .. })));
    assert_eq!(newer.position(LANE), LanePosition::default());
    driver.check_committed();
}

#[test]
fn quiet_shards_move_on_with_the_frontiers() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(open(dir.path(), 3).unwrap(), Log { keys: 1 });
    driver.send(100);
    driver.commit_all();
    for shard in driver.store.reader().shards() {
        assert_eq!(shard.positions(), [(LANE, Offset(99))]);
    }
    assert_eq!(driver.store.restart_point(LANE).after, Some(Offset(99)));
}

#[test]
fn barriers_do_not_pile_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(open(dir.path(), 1).unwrap(), LOG);
    for _ in 0..1500 {
        driver.send(1);
        driver.commit_all();
    }
    let barriers = driver.store.source_reader().barriers(LANE).len();
    assert!((2..600).contains(&barriers), "{barriers} barriers after 1500 commits");
    drop(driver);
    let store = open(dir.path(), 1).unwrap();
    assert_eq!(store.source_reader().barriers(LANE).len(), barriers);
    assert_eq!(store.restart_point(LANE).after, Some(Offset(1499)));
}

#[test]
fn the_oldest_dead_letters_go_first_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings { dead_letters: 20, ..settings(1) };
    let store = Store::open(dir.path(), &settings, Arc::new(StoppedClock)).unwrap();
    let mut driver = Driver::new(store, LOG);
    for _ in 0..20 {
        driver.send(50);
        driver.commit_all();
    }
    let all: Vec<_> = (0..1000).filter(|offset| matches!(LOG.outcome(*offset), Outcome::Dead(_))).collect();
    let reader = driver.store.source_reader();
    let kept: Vec<_> =
        reader.dead_letters(LANE, Offset(0), usize::MAX).unwrap().into_iter().map(|stored| stored.letter.offset.0).collect();
    let counts = reader.dead_letter_counts().unwrap();
    assert_eq!((counts.kept as usize, counts.kept + counts.let_go), (kept.len(), all.len() as u64));
    assert!((15..=25).contains(&kept.len()) && all.ends_with(&kept), "{kept:?}");
    assert_eq!(reader.dead_letters(LANE, Offset(kept[3]), 2).unwrap().len(), 2);
}

/// A clock that shows what it is set to, in seconds.
#[derive(Default)]
struct SetClock(AtomicI64);
impl Clock for SetClock {
    fn now(&self) -> ProcessingTime {
        ProcessingTime(self.0.load(SeqCst) * 1_000_000)
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn dead_letters_go_by_age_with_the_next_commit_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings { dead_letter_age: TimeSpan::from_secs(100), ..settings(1) };
    let clock = Arc::new(SetClock::default());
    let store = Store::open(dir.path(), &settings, clock.clone()).unwrap();
    let mut driver = Driver::new(store, LOG);
    let dead = |range: std::ops::Range<i64>| range.filter(|o| matches!(LOG.outcome(*o), Outcome::Dead(_))).collect::<Vec<_>>();
    let kept = |driver: &Driver| {
        let letters = driver.store.source_reader().dead_letters(LANE, Offset(0), usize::MAX).unwrap();
        letters.into_iter().map(|stored| stored.letter.offset.0).collect::<Vec<_>>()
    };
    for second in [1_000, 1_060, 1_100] {
        clock.0.store(second, SeqCst);
        driver.send(100);
        driver.commit_all();
    }
    assert_eq!(kept(&driver), dead(0..300), "exactly as old as allowed is not too old");
    clock.0.store(1_101, SeqCst);
    driver.send(1);
    driver.commit_all();
    assert_eq!(kept(&driver), dead(100..301));
    drop(driver);
    // What is too old is known after a restart too.
    let mut driver = Driver::new(Store::open(dir.path(), &settings, clock.clone()).unwrap(), LOG);
    clock.0.store(1_161, SeqCst);
    driver.send(1);
    driver.commit_all();
    assert_eq!(kept(&driver), dead(200..302));
    let counts = driver.store.source_reader().dead_letter_counts().unwrap();
    assert_eq!((counts.kept, counts.let_go), (dead(200..302).len() as u64, dead(0..200).len() as u64));
}

#[test]
fn versions_continue_in_a_new_incarnation_after_another_boot_of_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let newest = |store: &Store| {
        let version = store.reader().shards()[0].newest();
        (version.incarnation, version.seq)
    };
    let mut driver = Driver::new(open(dir.path(), 1).unwrap(), LOG);
    driver.send(10);
    driver.commit_all();
    assert_eq!(newest(&driver.store), (1, 1));
    drop(driver);
    let store = open(dir.path(), 1).unwrap();
    assert_eq!(newest(&store), (1, 1), "what a process wrote outlives it within one boot");
    // As if the machine had lost power since: what was committed without fsync may be gone, and its numbers be used again.
    store
        .core(ShardId(0))
        .with_rocks(|rocks| {
            let mut batch = rocksdb::WriteBatch::default();
            batch.put(crate::keys::meta("boot"), "another boot");
            rocks.write(batch)
        })
        .unwrap();
    drop(store);
    let store = open(dir.path(), 1).unwrap();
    assert_eq!(newest(&store), (2, 1));
    let mut driver = Driver::new(store, LOG);
    driver.send(10);
    driver.commit_all();
    let changelog = driver.store.reader().shards()[0].changelog();
    let versions: Vec<_> =
        (1..=2).map(|seq| changelog.read(seq).unwrap().unwrap().version).map(|v| (v.incarnation, v.seq)).collect();
    assert_eq!(versions, [(1, 1), (2, 2)]);
}
