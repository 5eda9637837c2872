//! Damaged files of RocksDB behind the log: tables, manifest, CURRENT. A directory is refused, or what is read of it is right or an error;
//! never a wrong value (I23).

use std::{fs, path::PathBuf};

use super::*;
use crate::{Error, restore};

const LOG: Log = Log { keys: 200 };

/// A directory whose shard lies in tables, and how far it had come.
fn image() -> (tempfile::TempDir, i64) {
    let made = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(open(made.path(), 1).unwrap(), LOG);
    (0..40).for_each(|_| {
        driver.send(25);
        driver.commit_all();
    });
    let through = driver.next - 1;
    let backup = driver.store.backup("flushed").unwrap();
    let image = tempfile::tempdir().unwrap();
    restore(&backup, image.path(), ProcessingTime(0)).unwrap();
    (image, through)
}

fn files(dir: &Path, which: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let all = fs::read_dir(dir.join("shards/000")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = all.filter(|path| which(&path.file_name().unwrap().to_string_lossy())).collect();
    found.sort();
    assert!(!found.is_empty(), "there is no such file");
    found
}

/// `None`: refused, and says what to do. Otherwise how many entities could not be read; all others are right.
fn unreadable(dir: &Path, through: i64, what: &str) -> Option<usize> {
    let store = match open(dir, 1) {
        Ok(store) => store,
        Err(error) => {
            let typed =
                matches!(error, Error::Corrupt { .. } | Error::Missing { .. } | Error::WalHole { .. } | Error::Storage { .. });
            assert!(typed && error.hint().is_some(), "{what}: {error:?}");
            return None;
        }
    };
    let mut failed = 0;
    for (key, row) in LOG.fold(through, 0, 1) {
        match store.reader().shards()[0].get_committed(CLASS, key.as_bytes()) {
            Ok(found) => assert_eq!(found.as_ref().map(content), Some(row), "{what}: {key}"),
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { .. } | Error::Storage { .. }), "{what}: {error:?}");
                failed += 1;
            }
        }
    }
    Some(failed)
}

#[test]
fn an_undamaged_image_is_read_whole() {
    let (image, through) = image();
    assert_eq!(unreadable(image.path(), through, "no damage"), Some(0));
}

#[test]
fn a_missing_or_truncated_table_is_refused() {
    let (image, through) = image();
    for number in 0..files(image.path(), |name| name.ends_with(".sst")).len() {
        for (how, part) in [("deleted", None), ("emptied", Some(0)), ("halved", Some(2))] {
            let copied = tempfile::tempdir().unwrap();
            copy(image.path(), copied.path());
            let table = &files(copied.path(), |name| name.ends_with(".sst"))[number];
            match part {
                None => fs::remove_file(table).unwrap(),
                Some(part) => {
                    let length = fs::metadata(table).unwrap().len().checked_div(part).unwrap_or(0);
                    fs::OpenOptions::new().write(true).open(table).unwrap().set_len(length).unwrap();
                }
            }
            assert_eq!(unreadable(copied.path(), through, how), None, "table {number} {how}");
            tried("a_missing_or_truncated_table_is_refused", 1);
        }
    }
}

#[test]
fn a_flipped_bit_in_a_table_is_never_a_wrong_value() {
    let (image, through) = image();
    let (mut refused, mut errors) = (0, 0);
    for number in 0..60u64 {
        let copied = tempfile::tempdir().unwrap();
        copy(image.path(), copied.path());
        let tables = files(copied.path(), |name| name.ends_with(".sst") || name.ends_with(".blob"));
        let table = &tables[number as usize % tables.len()];
        let mut bytes = fs::read(table).unwrap();
        let at = mix(number) as usize % bytes.len();
        bytes[at] ^= 1 << (number % 8);
        fs::write(table, bytes).unwrap();
        match unreadable(copied.path(), through, &format!("bit {at} of {}", table.display())) {
            None => refused += 1,
            Some(failed) => errors += usize::from(failed > 0),
        }
    }
    tried("a_flipped_bit_in_a_table_is_never_a_wrong_value", 60);
    assert!(refused + errors > 10, "most flips hit something: {refused} refused, {errors} with errors");
}

#[test]
fn a_missing_or_damaged_manifest_or_current_is_refused() {
    let (image, through) = image();
    for (what, which) in [("MANIFEST", "MANIFEST-"), ("CURRENT", "CURRENT")] {
        for (how, part) in [("deleted", None), ("emptied", Some(0)), ("halved", Some(2))] {
            let copied = tempfile::tempdir().unwrap();
            copy(image.path(), copied.path());
            for file in files(copied.path(), |name| name.starts_with(which)) {
                match part {
                    None => fs::remove_file(file).unwrap(),
                    Some(part) => {
                        let length = fs::metadata(&file).unwrap().len().checked_div(part).unwrap_or(0);
                        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length).unwrap();
                    }
                }
            }
            assert_eq!(unreadable(copied.path(), through, what), None, "{what} {how}");
            tried("a_missing_or_damaged_manifest_or_current_is_refused", 1);
        }
    }
}
