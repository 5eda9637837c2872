//! State directories and backups of every format that there was: kept for ever, and opened by each version from then on.
//!
//! One is made, where the format changes, by `KARST_TEST_MAKE_STATE=tests/it/state_of_format_N cargo test --workspace --test it old_formats`.
//! What it must hold is not stored with it, but counted here from the same log.

use std::{fs, path::Path};

use karst::{Reason, prelude::*, types::ProcessingTime};

use crate::{
    tried::tried,
    windows::{MINUTE, Told, check, check_visits, send, start, told},
    world::outcomes,
};

/// Records of the log when the directory was made; in the middle of them stand some that are none.
const FIRST: usize = 180;
const BAD: usize = 3;

fn log() -> Vec<Told> {
    told(31, 400)
}

async fn source_as_it_was(events: &[Told]) -> MemorySource {
    let source = MemorySource::json("logins");
    send(&source, &events[..100]).await;
    for _ in 0..BAD {
        source.send(&b"{\"user\""[..]).await.unwrap();
    }
    send(&source, &events[100..FIRST]).await;
    source
}

fn check_all(engine: &Engine, known: &[Told]) {
    let sums = outcomes(engine);
    assert_eq!((sums.records, sums.applied, sums.dead_letters), ((known.len() + BAD) as u64, known.len() as u64, BAD as u64));
    let letters = engine.handle().dead_letters("logins", 100).unwrap();
    let told: Vec<_> = letters.iter().map(|stored| (stored.letter.offset.0, stored.letter.reason)).collect();
    assert_eq!(told, [(100, Reason::Malformed), (101, Reason::Malformed), (102, Reason::Malformed)]);
    let newest = known.iter().map(|event| event.at).max().unwrap();
    for minute in [0, 1, 10, 21, 61, 1_441] {
        check(engine, known, newest + minute * MINUTE);
        check_visits(engine, known, newest + minute * MINUTE);
    }
}

/// Opened, it answers as when it was made, and goes on in the same log.
fn opens_and_goes_on(dir: &Path) {
    karst::run(async {
        let events = log();
        let source = source_as_it_was(&events).await;
        let engine = start(dir, &source).await?;
        check_all(&engine, &events[..FIRST]); // before anything can be read again
        engine.drain().await?;
        check_all(&engine, &events[..FIRST]);
        assert_eq!(engine.handle().status().sources[0].partitions[0].rewinds, 0);
        send(&source, &events[FIRST..]).await;
        engine.drain().await?;
        check_all(&engine, &events);
        assert!(engine.handle().health().healthy, "{:?}", engine.handle().health());
        engine.shutdown().await?;
        let engine = start(dir, &source).await?;
        check_all(&engine, &events);
        engine.shutdown().await
    })
    .unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn fixtures() -> Vec<std::path::PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let all = fs::read_dir(here).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> =
        all.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("state_of_format_")).collect();
    assert!(!found.is_empty());
    found
}

#[test]
fn a_directory_of_each_format_is_opened_answers_as_it_did_and_goes_on() {
    for fixture in fixtures() {
        let dir = tempfile::tempdir().unwrap();
        copy(&fixture.join("directory"), dir.path());
        opens_and_goes_on(dir.path());
        tried("a_directory_of_each_format_is_opened_answers_as_it_did_and_goes_on", 1);
    }
}

#[test]
fn a_backup_of_each_format_is_restored_answers_as_it_did_and_goes_on() {
    for fixture in fixtures() {
        let dir = tempfile::tempdir().unwrap();
        karst::state::restore(&fixture.join("backup"), dir.path(), ProcessingTime(0)).unwrap();
        opens_and_goes_on(dir.path());
        tried("a_backup_of_each_format_is_restored_answers_as_it_did_and_goes_on", 1);
    }
}

/// Makes the directory and the backup of this version, where it is asked to.
#[test]
fn what_is_kept_of_this_format_is_made_where_the_environment_says() {
    let Some(to) = std::env::var_os("KARST_TEST_MAKE_STATE") else { return };
    let to = Path::new(env!("CARGO_MANIFEST_DIR")).join(to);
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let events = log();
        let source = source_as_it_was(&events).await;
        let engine = start(dir.path(), &source).await?;
        engine.drain().await?;
        engine.shutdown().await?;
        copy(dir.path(), &to.join("directory"));
        let engine = start(dir.path(), &source).await?;
        engine.handle().backup("kept")?;
        copy(&dir.path().join("backups/kept"), &to.join("backup"));
        engine.shutdown().await
    })
    .unwrap();
    let_go_of_what_nobody_reads(&to);
}

/// Logs for people and options, which name the machine, and locks.
fn let_go_of_what_nobody_reads(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            let_go_of_what_nobody_reads(&entry.path());
        } else if ["LOG", "OPTIONS-", "LOCK", "in_hand", "suspects"].iter().any(|start| name.starts_with(start)) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}
