//! A directory that is not what it was is refused, with what, where, expected against got, and what to do (I23).

use std::{error::Error as _, fs};

use karst_types::{Domain, Retry};

use super::*;
use crate::Error;

const LOG: Log = Log { keys: 10 };

fn made(shards: u16) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(open(dir.path(), shards).unwrap(), LOG);
    driver.send(20);
    driver.commit_all();
    dir
}

/// What opening says.
fn refusal(dir: &Path, shards: u16) -> Error {
    match open(dir, shards) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

fn mismatch(error: &Error) -> (&'static str, &str, &str) {
    match error {
        Error::Mismatch { what, expected, got, .. } => (what, expected, got),
        other => panic!("{other}"),
    }
}

#[test]
fn another_shard_count_is_refused() {
    let dir = made(2);
    let error = refusal(dir.path(), 3);
    assert_eq!(mismatch(&error), ("shard count", "3", "2"));
    assert!(error.to_string().contains(&*dir.path().to_string_lossy()) && error.hint().unwrap().contains("`shards`"));
    assert_eq!((error.domain(), error.retry()), (Domain::User, Retry::Never));
}

#[test]
fn another_hash_or_format_is_refused() {
    for (line, other, what) in [("hash = 1", "hash = 2", "hash version"), ("format = 1", "format = 2", "format")] {
        let dir = made(1);
        let meta = dir.path().join("karst.meta");
        let text = fs::read_to_string(&meta).unwrap();
        fs::write(&meta, text.replace(line, other)).unwrap();
        assert_eq!(mismatch(&refusal(dir.path(), 1)).0, what);
    }
    let dir = made(1);
    fs::write(dir.path().join("karst.meta"), "nonsense").unwrap();
    let error = refusal(dir.path(), 1);
    assert!(error.source().unwrap().to_string().contains("a line `format = …`"));
    tried("another_hash_or_format_is_refused", 3);
}

#[test]
fn a_shard_that_belongs_elsewhere_is_refused() {
    let dir = made(2);
    let shards = dir.path().join("shards");
    fs::remove_dir_all(shards.join("001")).unwrap();
    copy(&shards.join("000"), &shards.join("001"));
    assert_eq!(mismatch(&refusal(dir.path(), 2)), ("shard", "001", "000"));

    let (dir, other) = (made(2), made(2));
    fs::remove_dir_all(dir.path().join("shards/001")).unwrap();
    copy(&other.path().join("shards/001"), &dir.path().join("shards/001"));
    assert_eq!(mismatch(&refusal(dir.path(), 2)).0, "store");
    tried("a_shard_that_belongs_elsewhere_is_refused", 2);
}

#[test]
fn a_missing_shard_is_not_made_anew() {
    for shard in ["001", "source"] {
        let dir = made(2);
        fs::remove_dir_all(dir.path().join("shards").join(shard)).unwrap();
        let error = refusal(dir.path(), 2);
        assert!(matches!(error, Error::Missing { .. }) && error.hint().is_some(), "{error}");
    }
    let dir = made(2);
    fs::remove_file(dir.path().join("karst.meta")).unwrap();
    assert!(matches!(refusal(dir.path(), 2), Error::Missing { .. }));
    tried("a_missing_shard_is_not_made_anew", 3);
}

#[test]
fn making_a_directory_goes_on_where_it_was_interrupted() {
    let dir = made(2);
    // As if the process had died after the first shard: the marker is there, later shards are not.
    fs::write(dir.path().join("creating"), "").unwrap();
    fs::remove_dir_all(dir.path().join("shards/001")).unwrap();
    let store = open(dir.path(), 2).unwrap();
    assert!(!dir.path().join("creating").exists());
    assert_eq!(store.restart_point(LANE).after, None);
}

#[test]
fn a_directory_in_use_is_refused_and_free_afterwards() {
    let dir = made(1);
    let store = open(dir.path(), 1).unwrap();
    let reader = store.reader();
    assert!(matches!(refusal(dir.path(), 1), Error::Locked { .. }));
    drop((store, reader));
    open(dir.path(), 1).unwrap();
}

#[test]
fn the_catalog_is_kept_whole() {
    let dir = made(1);
    let store = open(dir.path(), 1).unwrap();
    assert_eq!(store.catalog_text().unwrap(), None);
    store.set_catalog_text("class 1 aircraft\n").unwrap();
    store.set_catalog_text("class 1 aircraft\nclass 2 route\n").unwrap();
    let id = store.id().to_owned();
    drop(store);
    let store = open(dir.path(), 1).unwrap();
    assert_eq!(store.catalog_text().unwrap().as_deref(), Some("class 1 aircraft\nclass 2 route\n"));
    assert_eq!((store.id(), id.len()), (&*id, 32));
}

#[test]
fn settings_that_do_not_hold_are_refused_together() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = StoreSettings { shards: 0, commit_events: 0, ..StoreSettings::default() };
    match Store::open(dir.path(), &wrong, Arc::new(StoppedClock)).map(drop) {
        Err(Error::Settings { problems }) => assert_eq!(problems.len(), 2),
        other => panic!("{other:?}"),
    }
}
