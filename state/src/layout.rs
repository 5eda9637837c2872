//! The files of a state directory around the shards.
//!
//! ```text
//! karst.meta   format, store, shards, hash: written once, checked at every start
//! catalog      text of karst-features; replaced as a whole
//! windows      every layout that tiles ever had, one on each line; replaced as a whole
//! LOCK         held while the directory is open
//! in_hand      which records were in hand when the process ended, and `suspects`, what follows from it: see in_hand.rs
//! restoring    there while a backup is being copied into it; with it the directory is refused
//! backups/…    copies of all of this but itself: see backup.rs
//! creating     there while the shards are being made; without it a missing shard is an error, not a new one
//! shards/000 … shards/source
//! ```

use std::{
    fs::{self, File, TryLockError},
    hash::{BuildHasher, Hasher},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use karst_types::{KillPoint, ShardCount, entity::HASH_VERSION, kill_point};

use crate::error::{Error, Result, ShardName};

/// The format of everything on disk. A change that older programs cannot read raises it.
pub(crate) const FORMAT: u32 = 1;

/// There while a backup is being copied into the directory.
pub(crate) const RESTORING: &str = "restoring";

/// What identifies a state directory; stored in `karst.meta` and again in every shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) store: String,
    pub(crate) shards: u16,
    pub(crate) hash: u16,
    pub(crate) format: u32,
}

impl Identity {
    /// Names and texts, as stored.
    pub(crate) fn fields(&self) -> [(&'static str, String); 4] {
        // The store comes first: a foreign shard is told as such, whatever else differs.
        [
            ("format", self.format.to_string()),
            ("store", self.store.clone()),
            ("shards", self.shards.to_string()),
            ("hash", self.hash.to_string()),
        ]
    }
}

/// How a stored field is named in an error.
pub(crate) fn property(field: &str) -> &'static str {
    match field {
        "format" => "format",
        "shards" => "shard count",
        "hash" => "hash version",
        "shard" => "shard",
        _ => "store",
    }
}

/// An opened and locked directory.
pub(crate) struct Layout {
    dir: PathBuf,
    pub(crate) identity: Identity,
    /// Whether shards may be made.
    pub(crate) creating: bool,
    /// Held by everything that has a shard open; released when the last is gone.
    pub(crate) lock: Arc<DirLock>,
}

pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

/// The lock of a directory: whoever has it is the only one, in this process and in all others.
pub(crate) struct DirLock(File);

impl DirLock {
    fn take(dir: &Path) -> Result<Self> {
        let path = dir.join("LOCK");
        let file = File::create(&path).map_err(io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(io("lock", &path)(source)),
        }
    }
}

/// Given back in so many words. Closing the file is not enough: while another thread starts a child process, that has for a moment
/// a copy of every open file, and would hold the lock until it runs its program.
impl Drop for DirLock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock of a state directory could not be given back; it goes when its file is closed");
        }
    }
}

impl Layout {
    /// Opens `dir`, or makes it with `shards` shards.
    pub(crate) fn open(dir: &Path, shards: ShardCount) -> Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("create", dir))?;
        let lock = Arc::new(DirLock::take(dir)?);
        if dir.join(RESTORING).exists() {
            return Err(Error::Unfinished { path: dir.to_owned() });
        }
        let meta = dir.join("karst.meta");
        let marker = dir.join("creating");
        let expected = Identity { store: random_id(), shards: shards.get(), hash: HASH_VERSION, format: FORMAT };
        if !meta.exists() {
            if dir.join("shards").exists() {
                return Err(Error::Missing { what: "karst.meta of a directory that has shards".to_owned(), path: meta });
            }
            replace(&marker, "shards are being made\n")?;
            kill_point::here(KillPoint::OpenMarked);
            let text = expected.fields().map(|(name, value)| format!("{name} = {value}\n")).concat();
            replace(&meta, &text)?;
            kill_point::here(KillPoint::OpenIdentified);
        }
        let identity = read_identity(&meta)?;
        let wanted = Identity { store: identity.store.clone(), ..expected };
        for ((field, expected), (_, got)) in wanted.fields().into_iter().zip(identity.fields()) {
            if expected != got {
                return Err(Error::Mismatch { what: property(field), path: meta, expected, got });
            }
        }
        let shards = dir.join("shards");
        fs::create_dir_all(&shards).map_err(io("create", &shards))?;
        Ok(Self { dir: dir.to_owned(), identity, creating: marker.exists(), lock })
    }

    /// All shards exist: from now on a missing one is an error.
    pub(crate) fn created(&mut self) -> Result<()> {
        if std::mem::take(&mut self.creating) {
            let marker = self.dir.join("creating");
            kill_point::here(KillPoint::OpenMade);
            fs::remove_file(&marker).map_err(io("remove", &marker))?;
            sync_dir(&self.dir)?;
        }
        Ok(())
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn shard_dir(&self, shard: ShardName) -> PathBuf {
        self.dir.join("shards").join(shard.label())
    }

    pub(crate) fn catalog(&self) -> Result<Option<String>> {
        let path = self.dir.join("catalog");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io("read", &path)(error)),
        }
    }

    /// Every layout that tiles ever had, one on each line.
    pub(crate) fn windows(&self) -> Result<String> {
        let path = self.dir.join("windows");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(io("read", &path)(error)),
        }
    }

    pub(crate) fn set_windows(&self, text: &str) -> Result<()> {
        replace(&self.dir.join("windows"), text)
    }

    /// A line of it that cannot be read.
    pub(crate) fn unknown_windows(&self, line: &str) -> Error {
        unreadable(&self.dir.join("windows"), &format!("the layout of tiles, got \"{line}\""))
    }

    pub(crate) fn set_catalog(&self, text: &str) -> Result<()> {
        replace(&self.dir.join("catalog"), text)
    }
}

pub(crate) fn read_identity(path: &Path) -> Result<Identity> {
    let text = fs::read_to_string(path).map_err(io("read", path))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.split_once('=').filter(|(found, _)| found.trim() == name));
        line.map(|(_, value)| value.trim().to_owned()).ok_or_else(|| unreadable(path, &format!("a line `{name} = …`")))
    };
    let number = |name: &str| field(name)?.parse::<u32>().map_err(|_| unreadable(path, &format!("a whole number as `{name}`")));
    let short =
        |name: &str| u16::try_from(number(name)?).map_err(|_| unreadable(path, &format!("a number below 65536 as `{name}`")));
    // The format first: of a newer one nothing else may be assumed.
    let format = number("format")?;
    if format != FORMAT {
        return Err(Error::Mismatch {
            what: "format",
            path: path.to_owned(),
            expected: FORMAT.to_string(),
            got: format.to_string(),
        });
    }
    Ok(Identity { format, store: field("store")?, shards: short("shards")?, hash: short("hash")? })
}

fn unreadable(path: &Path, expected: &str) -> Error {
    let source = io::Error::new(io::ErrorKind::InvalidData, format!("expected {expected}"));
    Error::Io { action: "understand", path: path.to_owned(), source }
}

/// Replaces a file as a whole: after a crash it has the old content or the new, nothing between.
pub(crate) fn replace(path: &Path, content: &str) -> Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary).map_err(io("create", &temporary))?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write", &temporary))?;
    kill_point::here(KillPoint::FileWritten);
    fs::rename(&temporary, path).map_err(io("replace", path))?;
    kill_point::here(KillPoint::FileReplaced);
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync", dir))
}

/// 128 random bits. The seeds of the standard library's hash maps are random, and need no further dependency.
fn random_id() -> String {
    let part = || std::hash::RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", part(), part())
}

/// Tells one boot of the machine from another: within one, what a process wrote cannot be lost by the death of the process.
/// `None` where the system does not say.
pub(crate) fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a child process has a copy between its start and its program.
    #[test]
    fn a_directory_is_free_as_soon_as_it_is_closed_also_while_a_copy_of_its_lock_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let count = ShardCount::new(1).unwrap();
        let layout = Layout::open(dir.path(), count).unwrap();
        let copy = layout.lock.0.try_clone().unwrap();
        assert!(matches!(Layout::open(dir.path(), count), Err(Error::Locked { .. })));
        drop(layout);
        Layout::open(dir.path(), count).unwrap();
        drop(copy);
    }
}
