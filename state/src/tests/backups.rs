//! Backups: each is a state of one moment, and any mix of their shards replays to the same state (I34).

use std::fs;

use super::*;
use crate::{Error, restore};

const LOG: Log = Log { keys: 40 };
const SHARDS: u16 = 2;

/// Three backups of one life, some hundred records apart, with shards that stand at different places in each.
fn three_backups(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut driver = Driver::new(open(dir, SHARDS).unwrap(), LOG);
    let mut made = Vec::new();
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        for step in 0..20u64 {
            driver.send(1 + (mix(step + number as u64 * 100) % 17) as i64);
            driver.commit_shard((mix(step) % 2) as usize).unwrap();
            if step % 3 == 0 {
                driver.commit_source();
            }
        }
        made.push(driver.store.backup(name).unwrap());
    }
    made
}

fn restored(backup: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    restore(backup, dir.path(), ProcessingTime(0)).unwrap();
    dir
}

/// Reads the log on from wherever the directory stands.
fn goes_on_to_the_same_end(dir: &Path) {
    let mut driver = Driver::new(open(dir, SHARDS).unwrap(), LOG);
    driver.check_committed();
    while driver.next < 900 {
        driver.send(23);
    }
    driver.commit_all();
    driver.check_committed();
    check_source(&driver.store, LOG, driver.next - 1);
}

#[test]
fn a_backup_is_a_state_of_one_moment_and_goes_on_as_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    for backup in three_backups(dir.path()) {
        goes_on_to_the_same_end(restored(&backup).path());
        goes_on_to_the_same_end(restored(&backup).path()); // a backup is not changed by being restored
    }
    goes_on_to_the_same_end(dir.path()); // nor is what it was made of
}

#[test]
fn any_mix_of_ages_replays_to_the_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let backups = three_backups(dir.path());
    for mix in 0..27usize {
        let mixed = restored(&backups[mix % 3]);
        for (shard, age) in [("000", mix / 3 % 3), ("source", mix / 9)] {
            let other = restored(&backups[age]);
            let (from, to) = (other.path().join("shards").join(shard), mixed.path().join("shards").join(shard));
            fs::remove_dir_all(&to).unwrap();
            copy(&from, &to);
        }
        goes_on_to_the_same_end(mixed.path());
    }
    tried("any_mix_of_ages_replays_to_the_same_state", 27);
}

#[test]
fn what_is_restored_gives_no_version_that_was_given_after_the_backup() {
    let dir = tempfile::tempdir().unwrap();
    let backup = &three_backups(dir.path())[0];
    let incarnation = |dir: &Path| open(dir, SHARDS).unwrap().reader().shards()[0].newest().incarnation;
    let before = incarnation(dir.path());
    let mut incarnations = vec![before];
    for second in [1_000, 2_000] {
        let again = tempfile::tempdir().unwrap();
        restore(backup, again.path(), ProcessingTime(second * 1_000_000)).unwrap();
        incarnations.push(incarnation(again.path()));
    }
    assert!(incarnations.is_sorted_by(|a, b| a < b), "{incarnations:?}");
}

#[test]
fn what_is_no_whole_backup_is_not_restored_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let backups = three_backups(dir.path());
    let store = open(dir.path(), SHARDS).unwrap();
    assert!(matches!(store.backup("a"), Err(Error::Exists { .. })));
    for name in ["", ".hidden", "../up", "a/b", "ä"] {
        let error = store.backup(name).unwrap_err();
        assert!(matches!(error, Error::Name { .. }) && error.hint().is_some(), "{name}: {error}");
    }
    drop(store);
    let error = restore(&backups[0], dir.path(), ProcessingTime(0)).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    fs::remove_file(backups[1].join("backup")).unwrap();
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(restore(&backups[1], empty.path(), ProcessingTime(0)), Err(Error::Missing { .. })));
    fs::remove_dir_all(backups[2].join("shards/001")).unwrap();
    assert!(matches!(restore(&backups[2], empty.path(), ProcessingTime(0)), Err(Error::Missing { .. })));
    let error = open(empty.path(), SHARDS).map(drop).unwrap_err();
    assert!(matches!(error, Error::Unfinished { .. }) && error.hint().is_some(), "{error}");
    tried("what_is_no_whole_backup_is_not_restored_and_nothing_is_overwritten", 4);
}
