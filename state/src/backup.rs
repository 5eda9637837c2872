//! Copies of a whole state directory while it is in use, and what is made of them again.
//!
//! A backup is what the death of the process would leave at one moment: no commit of any shard is written while the files are linked.
//! So a directory that is restored from it is whole, and goes on as after a crash: every partition replays what came since.
//!
//! ```text
//! backups/NAME/   backup (written last: without it the copy is not whole), karst.meta, catalog, windows, shards/…
//! ```
//! Files of RocksDB that never change are linked, not copied: a backup costs space only as the store moves on, and protects from a lost
//! disk only once it is copied to another one.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use karst_types::{ProcessingTime, ShardCount, ShardId};
use rocksdb::WriteBatch;

use crate::{
    bytes,
    error::{Error, Result, ShardName},
    keys,
    layout::{self, boot_id, io, read_identity, replace, sync_dir},
    lineage::Lineage,
    rocks::{Rocks, Shared},
    settings::StoreSettings,
    store::Store,
};

/// The file that says that a backup is whole.
const WHOLE: &str = "backup";
/// Those of the directory around the shards.
const FILES: [&str; 3] = ["karst.meta", "catalog", "windows"];
const NAME_MAX: usize = 64;

impl Store {
    /// Makes the backup `name` in the directory `backups` of this one, and returns where it is. Commits wait meanwhile: as long as it
    /// takes to flush what is in memory, and to link the files.
    ///
    /// # Errors
    /// [`Error::Name`] if it is no name of a folder, [`Error::Exists`] if there is one of this name; of the disk, and then nothing is
    /// left of it.
    pub fn backup(&self, name: &str) -> Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > NAME_MAX || name.starts_with('.') || !name.chars().all(plain) {
            return Err(Error::Name { what: "backup", name: name.chars().take(NAME_MAX).collect() });
        }
        let backups = self.dir().join("backups");
        let (path, partial) = (backups.join(name), backups.join(format!(".{name}")));
        if path.exists() {
            return Err(Error::Exists { what: "a backup", path });
        }
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(io("remove", &partial))?; // of a process that was ended in the middle of it
        }
        let made = self.copy_into(&partial, name).and_then(|()| {
            fs::rename(&partial, &path).map_err(io("rename", &partial))?;
            sync_dir(&backups)
        });
        if made.is_err() {
            let _ = fs::remove_dir_all(&partial); // the first error is the one that counts
        }
        made?;
        tracing::info!(path = %path.display(), "backup made");
        Ok(path)
    }

    fn copy_into(&self, partial: &Path, name: &str) -> Result<()> {
        let shards = partial.join("shards");
        fs::create_dir_all(&shards).map_err(io("create", &shards))?;
        for file in FILES.iter().map(|file| (self.dir().join(file), partial.join(file))) {
            copy_if_there(&file.0, &file.1)?;
        }
        {
            // No commit between the first shard and the last.
            let _held: Vec<_> = self.cores().map(|core| core.hold_commits()).collect();
            for core in self.cores() {
                let to = shards.join(core.name.label());
                core.with_rocks(|rocks| rocks.checkpoint(&to))?;
                sync_dir(&to)?;
            }
        }
        sync_dir(&shards)?;
        replace(&partial.join(WHOLE), &format!("name = {name}\nstore = {}\n", self.id()))
    }
}

fn copy_if_there(from: &Path, to: &Path) -> Result<()> {
    if from.exists() {
        fs::copy(from, to).map_err(io("copy", from))?;
        fs::File::open(to).and_then(|file| file.sync_all()).map_err(io("sync", to))?;
    }
    Ok(())
}

/// Makes the state directory `to`, which must not be there or be empty, from the backup `from`. `now` begins a new incarnation of every
/// shard: versions that were given after the backup are not given again.
///
/// # Errors
/// [`Error::Missing`] if `from` is no whole backup, [`Error::Exists`] if something is in `to`, [`Error::Mismatch`] if it is of another
/// format; of the disk.
pub fn restore(from: &Path, to: &Path, now: ProcessingTime) -> Result<()> {
    if !from.join(WHOLE).exists() {
        return Err(Error::Missing { what: "a whole backup".to_owned(), path: from.join(WHOLE) });
    }
    let identity = read_identity(&from.join("karst.meta"))?;
    if to.exists() && fs::read_dir(to).map_err(io("read", to))?.next().is_some() {
        return Err(Error::Exists { what: "something", path: to.to_owned() });
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(io("create", to))?;
    let unfinished = to.join(layout::RESTORING);
    replace(&unfinished, "a backup is being restored\n")?;
    for file in FILES {
        copy_if_there(&from.join(file), &to.join(file))?;
    }
    let names: Vec<ShardName> =
        (0..identity.shards).map(|id| ShardName::Shard(ShardId(id))).chain([ShardName::Source]).collect();
    for name in names {
        let (copy, path) = (from.join("shards").join(name.label()), to.join("shards").join(name.label()));
        if !copy.exists() {
            return Err(Error::Missing { what: name.to_string(), path: copy });
        }
        fs::create_dir_all(&path).map_err(io("create", &path))?;
        for entry in fs::read_dir(&copy).map_err(io("read", &copy))? {
            let entry = entry.map_err(io("read", &copy))?;
            copy_if_there(&entry.path(), &path.join(entry.file_name()))?;
        }
        sync_dir(&path)?;
        begin_incarnation(name, &path, identity.shards, now)?;
    }
    sync_dir(&to.join("shards"))?;
    fs::remove_file(&unfinished).map_err(io("remove", &unfinished))?;
    sync_dir(to)
}

/// Seconds of the clock, so that restoring one backup twice gives two incarnations.
fn begin_incarnation(name: ShardName, path: &Path, shards: u16, now: ProcessingTime) -> Result<()> {
    let shards = ShardCount::new(shards).map_or(1, ShardCount::get);
    let rocks = Rocks::open(name, path, false, true, &Shared::new(&StoreSettings::default().shares(shards)))?;
    let number = |name: &str| rocks.get(&keys::meta(name)).map(|value| value.and_then(|value| bytes::u64(&mut &value[..])));
    let stored = number("incarnation")?.ok_or_else(|| rocks.corrupt("meta entry \"incarnation\""))?;
    let incarnation = (stored + 1).max(now.0.max(0) as u64 / 1_000_000);
    let mut lineage = rocks.get(&keys::meta("bases"))?.map_or_else(Lineage::default, |stored| Lineage::decode(&stored));
    lineage.begin(stored, incarnation, number("seq")?.unwrap_or(0));
    let mut batch = WriteBatch::default();
    batch.put(keys::meta("bases"), lineage.encode());
    batch.put(keys::meta("incarnation"), incarnation.to_le_bytes());
    batch.put(keys::meta("boot"), boot_id().unwrap_or_default());
    rocks.write_synced(batch)
}
