//! Damaged write-ahead logs, for real: each image of a running store is damaged in one place and opened. It must be refused,
//! or be an earlier state of the shard, whole (I1, I23). Never anything between.

use std::{fs, path::PathBuf};

use super::*;
use crate::Error;

const LOG: Log = Log { keys: 300 };
const SHARD: &str = "shards/000";

struct Images {
    running: tempfile::TempDir,
    copies: tempfile::TempDir,
    count: usize,
    newest: u64,
}

fn tune(shared: &mut Shared) {
    (shared.memtable, shared.memtables_per_flush) = (128 << 10, 8); // so that several log files are alive
}

impl Images {
    /// A store in the middle of its life, and a copy of its files as kill -9 leaves them.
    fn new() -> (Self, tempfile::TempDir) {
        let running = tempfile::tempdir().unwrap();
        let store = Store::open_with(running.path(), &settings(1), Arc::new(StoppedClock), tune).unwrap();
        let mut driver = Driver::new(store, LOG);
        let mut logs = 0;
        for commit in 0.. {
            driver.send(60);
            driver.commit_all();
            logs = if commit % 8 == 7 { log_files(&running.path().join(SHARD)).len() } else { logs };
            if commit > 60 && logs >= 5 {
                break;
            }
            assert!(commit < 2000, "there are never five log files");
        }
        let image = tempfile::tempdir().unwrap();
        copy(running.path(), image.path());
        let newest = driver.store.reader().shards()[0].newest().seq;
        drop(driver);
        (Self { running: image, copies: tempfile::tempdir().unwrap(), count: 0, newest }, running)
    }

    fn damaged(&mut self, damage: impl FnOnce(&Path)) -> PathBuf {
        self.count += 1;
        let copied = self.copies.path().join(self.count.to_string());
        copy(self.running.path(), &copied);
        damage(&copied.join(SHARD));
        copied
    }

    /// The commit at which a damaged image opens; `None` if it is refused.
    fn opens_at(&mut self, what: &str, damage: impl FnOnce(&Path)) -> Option<u64> {
        let dir = self.damaged(damage);
        let opened = Store::open_with(&dir, &settings(1), Arc::new(StoppedClock), tune);
        let seq = match opened {
            Err(error @ (Error::WalHole { .. } | Error::Corrupt { .. } | Error::Missing { .. })) => {
                assert!(error.hint().is_some());
                None
            }
            Err(error) => panic!("{what}: {error:?}"),
            Ok(store) => {
                check_committed(&store, LOG);
                let shard = store.reader().shards()[0].clone();
                let seq = shard.newest().seq;
                assert!(seq <= self.newest, "{what}");
                assert_eq!(
                    shard.positions().first().map(|(_, offset)| offset.0 + 1),
                    (seq > 0).then_some(seq as i64 * 60),
                    "{what}"
                );
                let history = (1..=seq).filter(|seq| shard.changelog().read(*seq).unwrap().is_some()).count();
                assert_eq!(history as u64, seq, "{what}: history has holes");
                Some(seq)
            }
        };
        fs::remove_dir_all(dir).unwrap();
        seq
    }
}

fn log_files(shard: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(shard).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    logs.sort();
    logs
}

fn cut(log: &Path, length: u64) {
    fs::OpenOptions::new().write(true).open(log).unwrap().set_len(length).unwrap();
}

#[test]
fn an_undamaged_image_opens_at_the_newest_commit() {
    let (mut images, _running) = Images::new();
    let newest = images.newest;
    assert_eq!(images.opens_at("no damage", |_| ()), Some(newest));
}

#[test]
fn a_log_file_lost_from_the_middle_or_the_front_is_always_refused() {
    let (mut images, _running) = Images::new();
    let logs = log_files(&images.running.path().join(SHARD)).len();
    for number in 0..logs - 1 {
        for (how, length) in [("deleted", None), ("emptied", Some(0)), ("halved", Some(2))] {
            let opened = images.opens_at(&format!("log {number} {how}"), |shard| {
                let log = &log_files(shard)[number];
                match length {
                    None => fs::remove_file(log).unwrap(),
                    Some(0) => cut(log, 0),
                    Some(part) => cut(log, fs::metadata(log).unwrap().len() / part),
                }
            });
            // Cut in half, RocksDB may stop there, which is a whole earlier state; gone or empty, it goes on behind the hole.
            assert!(opened.is_none() || how == "halved", "log {number} of {logs} {how} was opened at {opened:?}");
        }
    }
    tried("a_log_file_lost_from_the_middle_or_the_front_is_always_refused", images.count);
}

#[test]
fn a_torn_tail_leaves_an_earlier_state_whole() {
    let (mut images, _running) = Images::new();
    let newest = images.newest;
    let last = log_files(&images.running.path().join(SHARD)).pop().unwrap();
    let length = fs::metadata(&last).unwrap().len();
    const BLOCK: u64 = 32 << 10; // of RocksDB's log format: records are split and padded at its borders
    let borders = (0..=length / BLOCK).flat_map(|block| (0..15).map(move |byte| (block * BLOCK + byte).saturating_sub(7)));
    let random = (0..20u64).map(|number| mix(number) % length);
    let tail = (0..30).map(|byte| length.saturating_sub(byte));
    let mut opened = Vec::new();
    for keep in borders.chain(random).chain(tail).filter(|keep| *keep <= length) {
        let seq = images
            .opens_at(&format!("newest log cut at {keep} of {length}"), |shard| cut(&log_files(shard).pop().unwrap(), keep));
        opened.push((keep, seq.unwrap_or_else(|| panic!("a torn tail at {keep} of {length} was refused"))));
    }
    opened.sort_unstable();
    assert!(opened.is_sorted_by_key(|(_, seq)| *seq), "keeping more bytes never loses commits");
    assert_eq!(opened.last().map(|(_, seq)| *seq), Some(newest));
    assert!(opened[0].1 < newest);
    tried("a_torn_tail_leaves_an_earlier_state_whole", opened.len());
}

#[test]
fn a_flipped_bit_is_refused_or_leaves_an_earlier_state_whole() {
    let (mut images, _running) = Images::new();
    let logs = log_files(&images.running.path().join(SHARD)).len();
    for number in 0..40usize {
        images.opens_at(&format!("bit flip {number}"), |shard| {
            let log = &log_files(shard)[number % logs];
            let mut bytes = fs::read(log).unwrap();
            if let Some(length) = std::num::NonZeroUsize::new(bytes.len()) {
                bytes[mix(number as u64) as usize % length] ^= 1 << (number % 8);
            }
            fs::write(log, bytes).unwrap();
        });
    }
    tried("a_flipped_bit_is_refused_or_leaves_an_earlier_state_whole", images.count);
}
