//! What is left after a loss of power, and after a SIGKILL: the two promises of `durability`.
//!
//! For the loss of power the files of a running store are copied, and of each write-ahead log only what was synced is left. What that is
//! comes from RocksDB's own count of syncs: where it rose over a commit, the log files of that shard are safe as long as they are then.
//! (Tables and manifests RocksDB syncs before it relies on them; they are left as they are.)

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use super::*;
use crate::Durability;

const LOG: Log = Log { keys: 60 };
const SHARDS: u16 = 2;

fn of(durability: Durability) -> StoreSettings {
    StoreSettings { durability, ..settings(SHARDS) }
}

/// Several log files live at a time, and syncs are counted.
fn tune(shared: &mut Shared) {
    (shared.memtable, shared.memtables_per_flush, shared.statistics) = (128 << 10, 8, true);
}

/// What a disk keeps of the logs of a store.
struct Disk {
    dir: PathBuf,
    synced: HashMap<PathBuf, u64>,
    syncs: Vec<u64>,
}

impl Disk {
    fn new(store: &Store) -> Self {
        Self { dir: store.dir().to_owned(), synced: HashMap::new(), syncs: store.cores().map(|_| 0).collect() }
    }

    /// To be called after each commit.
    fn look(&mut self, store: &Store) {
        for (core, seen) in store.cores().zip(&mut self.syncs) {
            let syncs = core.with_rocks(|rocks| Ok(rocks.log_syncs())).unwrap();
            if std::mem::replace(seen, syncs) < syncs {
                let logs = logs_of(&self.dir.join("shards").join(core.name.label()));
                self.synced.extend(logs.into_iter().map(|log| (log.clone(), fs::metadata(&log).unwrap().len())));
            }
        }
    }

    /// As the power goes now.
    fn image(&self) -> (tempfile::TempDir, u64) {
        let image = tempfile::tempdir().unwrap();
        copy(&self.dir, image.path());
        let mut lost = 0;
        for shard in fs::read_dir(image.path().join("shards")).unwrap().map(|entry| entry.unwrap().path()) {
            for log in logs_of(&shard) {
                let own = self.dir.join(log.strip_prefix(image.path()).unwrap());
                let (length, safe) = (fs::metadata(&log).unwrap().len(), self.synced.get(&own).copied().unwrap_or(0));
                lost += length.saturating_sub(safe);
                fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(safe.min(length)).unwrap();
            }
        }
        (image, lost)
    }
}

fn logs_of(shard: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(shard).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

/// Of each shard and the source shard.
fn positions(store: &Store, of: impl Fn(&crate::core::Core) -> Option<Offset>) -> Vec<i64> {
    store.cores().map(|core| of(core).map_or(-1, |offset| offset.0)).collect()
}

/// A whole life; every so often `power_goes` is called with what is left, what was promised and what was there.
fn a_life(durability: Durability, mut power_goes: impl FnMut(Store, u64, &[i64], &[i64])) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with(dir.path(), &of(durability), Arc::new(StoppedClock), tune).unwrap();
    let mut disk = Disk::new(&store);
    disk.look(&store);
    let mut driver = Driver::new(store.clone(), LOG);
    for step in 0..700u64 {
        let random = mix(step);
        driver.send(1 + (random % 9) as i64);
        for shard in (0..usize::from(SHARDS)).filter(|shard| random >> (8 + shard) & 3 != 0) {
            driver.commit_shard(shard).unwrap();
            disk.look(&store);
        }
        if random >> 16 & 3 != 0 {
            driver.commit_source();
            disk.look(&store);
        }
        if step % 23 == 22 {
            let (image, lost) = disk.image();
            let left = Store::open_with(image.path(), &of(durability), Arc::new(StoppedClock), tune).unwrap();
            let promised = positions(&store, |core| match durability {
                Durability::Power => core.committed(LANE),
                Durability::Process => core.stable(LANE),
            });
            power_goes(left, lost, &promised, &positions(&store, |core| core.committed(LANE)));
        }
    }
}

/// Reads the log on from wherever the store stands.
fn goes_on_to_the_same_end(store: Store) {
    let mut driver = Driver::new(store, LOG);
    driver.check_committed();
    while driver.next < 4_000 {
        driver.send(97);
    }
    driver.commit_all();
    driver.check_committed();
    check_source(&driver.store, LOG, driver.next - 1);
}

#[test]
fn with_durability_power_every_acknowledged_commit_is_there_after_a_loss_of_power() {
    let mut images = 0;
    a_life(Durability::Power, |left, _, promised, _| {
        assert_eq!(positions(&left, |core| core.committed(LANE)), promised);
        goes_on_to_the_same_end(left);
        images += 1;
    });
    assert!(images > 20);
    tried("with_durability_power_every_acknowledged_commit_is_there_after_a_loss_of_power", images);
}

#[test]
fn with_durability_process_a_loss_of_power_leaves_each_shard_an_earlier_whole_state_and_the_replay_makes_them_one() {
    let (mut fell_back, mut apart, mut bytes, mut images) = (0, 0, 0, 0);
    a_life(Durability::Process, |left, lost, promised, committed| {
        let stand = positions(&left, |core| core.committed(LANE));
        for ((stand, promised), committed) in stand.iter().zip(promised).zip(committed) {
            assert!(promised <= stand && stand <= committed, "{promised} <= {stand} <= {committed}");
        }
        fell_back += usize::from(stand.iter().zip(committed).any(|(stand, committed)| stand < committed));
        apart += usize::from(stand[0] != stand[1]);
        bytes += lost;
        images += 1;
        goes_on_to_the_same_end(left);
    });
    let own = "with_durability_process_a_loss_of_power_leaves_each_shard_an_earlier_whole_state_and_the_replay_makes_them_one";
    tried(own, images);
    assert!(fell_back > 10 && apart > 5 && bytes > 0, "{fell_back} {apart} {bytes}: otherwise this shows nothing");
}

const CHILD: &str = "KARST_TEST_DIR";

#[test]
fn what_is_acknowledged_outlives_a_sigkill_with_either_durability() {
    if let Ok(dir) = std::env::var(CHILD) {
        let durability = if dir.ends_with("power") { Durability::Power } else { Durability::Process };
        let store = Store::open(&dir, &of(durability), Arc::new(StoppedClock)).unwrap();
        let mut driver = Driver::new(store, LOG);
        loop {
            driver.send(1 + (mix(driver.next as u64) % 30) as i64);
            driver.commit_all();
            println!("acknowledged {}", driver.next - 1); // until it is killed
        }
    }
    for durability in ["power", "process"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(durability);
        for round in 0..6u64 {
            let own = "tests::power::what_is_acknowledged_outlives_a_sigkill_with_either_durability";
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", own, "--nocapture", "--test-threads=1"]).env(CHILD, &path);
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            let told = lines.filter_map(|line| line.split_once("acknowledged ").map(|(_, offset)| offset.parse().unwrap()));
            let acknowledged: Vec<i64> = told.take(5 + (mix(round) % 60) as usize).collect();
            child.kill().unwrap(); // SIGKILL
            child.wait().unwrap();
            let durability = if durability == "power" { Durability::Power } else { Durability::Process };
            let store = Store::open(&path, &of(durability), Arc::new(StoppedClock)).unwrap();
            assert!(store.committed(LANE) >= acknowledged.last().map(|offset| Offset(*offset)), "round {round}");
            check_committed(&store, LOG);
            tried("what_is_acknowledged_outlives_a_sigkill_with_either_durability", 1);
            if round == 5 {
                let mut driver = Driver::new(store, LOG);
                driver.send(50);
                driver.commit_all();
                check_source(&driver.store, LOG, driver.next - 1);
            }
        }
    }
}
