//! A state directory: opens it, checks that it is whole and what it was, and hands out writers and readers.

use std::{path::Path, sync::Arc};

use karst_types::{Clock, EventTime, Offset, ShardCount, ShardId};

use crate::{
    commit::CommitWriter,
    core::{Core, Place},
    error::{Error, Result, ShardName},
    in_hand::InHand,
    lane::LaneId,
    layout::Layout,
    reader::{ShardReader, StoreReader},
    restart::RestartPoint,
    rocks::Shared,
    settings::StoreSettings,
    shard::ShardWriter,
    source_shard::{SourceReader, SourceState, SourceWriter},
    window::Windows,
};

/// An open state directory. Cheap to clone; the directory is closed, and free for others, when the last clone and everything
/// that was handed out is gone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shards: Vec<Arc<Core>>,
    source: Arc<Core>,
    source_state: Arc<SourceState>,
    reader: StoreReader,
    gathered_max: usize,
    count: ShardCount,
    layout: Layout,
    shared: Arc<Shared>,
}

impl Store {
    /// Opens `dir`, or makes it if it is empty or not there.
    ///
    /// # Errors
    /// [`Error::Settings`], all problems at once. [`Error::Locked`] if another process has it. [`Error::Mismatch`] if it was
    /// made with another shard count, hash or format, or a shard in it belongs elsewhere. [`Error::Missing`],
    /// [`Error::WalHole`], [`Error::Corrupt`] if it is damaged: it is not opened then. Every error has a hint.
    pub fn open(dir: impl AsRef<Path>, settings: &StoreSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::open_with(dir.as_ref(), settings, clock, |_| ())
    }

    /// The same for a store that is to have windows: their expired tiles are dropped when RocksDB compacts.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with_windows(dir: impl AsRef<Path>, settings: &StoreSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::open_with(dir.as_ref(), settings, clock, |shared| shared.expires = true)
    }

    pub(crate) fn open_with(
        dir: &Path,
        settings: &StoreSettings,
        clock: Arc<dyn Clock>,
        tune: impl FnOnce(&mut Shared),
    ) -> Result<Self> {
        let problems = settings.problems();
        let count = match ShardCount::new(settings.shards) {
            Some(count) if problems.is_empty() => count,
            _ => return Err(Error::Settings { problems }),
        };
        let mut layout = Layout::open(dir, count)?;
        let shares = settings.shares(count.get());
        let mut shared = Shared::new(&shares);
        tune(&mut shared);
        let shared = Arc::new(shared);
        let open = |name: ShardName, hot_bytes: usize| {
            let (path, identity, create) = (layout.shard_dir(name), layout.identity.clone(), layout.creating);
            let place = Place { name, path, identity, create, hot_bytes, lock: layout.lock.clone() };
            Core::open(place, settings, shared.clone(), clock.clone()).map(Arc::new)
        };
        let shards = count.shards().map(|id| open(ShardName::Shard(id), shares.hot)).collect::<Result<Vec<_>>>()?;
        let source = open(ShardName::Source, 0)?;
        layout.created()?;
        let source_state = Arc::new(SourceState::new(shards.clone()));
        source.with_rocks(|rocks| source_state.reload(rocks))?;
        // A source shard that was restored from an older backup than the others must not give their numbers again.
        let replayed = shards.iter().flat_map(|shard| shard.all_committed()).filter(|(lane, _)| lane.is_replay());
        source.skip_replays(replayed.map(|(_, offset)| offset.0 as u64 + 1).max().unwrap_or(0));
        let readers = count.shards().zip(&shards).map(|(id, core)| ShardReader::new(id, core.clone())).collect();
        let reader = StoreReader::new(readers, count);
        tracing::info!(dir = %dir.display(), shards = count.get(), store = layout.identity.store, "state opened");
        Ok(Self {
            inner: Arc::new(Inner {
                shards,
                source,
                source_state,
                reader,
                gathered_max: shares.gathered,
                count,
                layout,
                shared,
            }),
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.inner.layout.dir()
    }
    /// The directory's own name, given when it was made; 32 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.inner.layout.identity.store
    }
    /// The number of shards.
    pub fn shards(&self) -> ShardCount {
        self.inner.count
    }

    /// The stored catalog, if one was stored. Its content is karst-features' business.
    ///
    /// # Errors
    /// Of the file system.
    pub fn catalog_text(&self) -> Result<Option<String>> {
        self.inner.layout.catalog()
    }
    /// Replaces the stored catalog: whole, and on stable storage when this returns.
    ///
    /// # Errors
    /// Of the file system.
    pub fn set_catalog_text(&self, text: &str) -> Result<()> {
        self.inner.layout.set_catalog(text)
    }

    /// Says which windows there are: once, before the first writer is made. What earlier declarations collected is kept as far as the
    /// new ones can use it.
    ///
    /// # Errors
    /// Of the file system.
    ///
    /// # Panics
    /// If they were said before.
    pub fn declare_windows(&self, mut windows: Windows) -> Result<()> {
        let before = self.inner.layout.windows()?;
        let now = windows.remember(&before).map_err(|line| self.inner.layout.unknown_windows(&line))?;
        if now != before {
            self.inner.layout.set_windows(&now)?; // before the first row is written so
        }
        assert!(self.inner.shared.windows.set(windows).is_ok(), "windows are declared once");
        Ok(())
    }
    /// The windows of all classes.
    pub fn windows(&self) -> &Windows {
        self.inner.source.windows()
    }

    pub(crate) fn cores(&self) -> impl Iterator<Item = &Core> {
        self.inner.shards.iter().chain([&self.inner.source]).map(|core| &**core)
    }
    pub(crate) fn core(&self, shard: ShardId) -> &Arc<Core> {
        &self.inner.shards[usize::from(shard.0)]
    }

    /// The writer of a shard, at its last commit: what was applied and not committed is forgotten, and a writer that was
    /// handed out before may no longer write (drop it first). Waits for a commit that is on its way; opens a stopped shard
    /// again. To be called at the start and after every failure.
    ///
    /// # Errors
    /// Of opening the shard again; try later.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn shard_writer(&self, shard: ShardId) -> Result<ShardWriter> {
        ShardWriter::new(shard, self.core(shard).clone(), self.inner.gathered_max)
    }
    /// Writes the commits of a shard, whichever of its writers froze them.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn commit_writer(&self, shard: ShardId) -> CommitWriter {
        CommitWriter::new(self.core(shard).clone(), None)
    }
    /// The writer of the source shard; as [`Store::shard_writer`].
    ///
    /// # Errors
    /// As [`Store::shard_writer`].
    pub fn source_writer(&self) -> Result<SourceWriter> {
        SourceWriter::new(self.inner.source.clone(), self.inner.source_state.clone())
    }
    /// Writes the commits of the source shard.
    pub fn source_commit_writer(&self) -> CommitWriter {
        CommitWriter::new(self.inner.source.clone(), Some(self.inner.source_state.clone()))
    }

    /// Reads rows of every shard.
    pub fn reader(&self) -> StoreReader {
        self.inner.reader.clone()
    }
    /// Reads the source shard.
    pub fn source_reader(&self) -> SourceReader {
        SourceReader::new(self.inner.source.clone(), self.inner.source_state.clone())
    }

    /// Where a partition starts to read, and the watermark there. Only committed positions count. Ask anew for every epoch.
    pub fn restart_point(&self, lane: LaneId) -> RestartPoint {
        self.inner.source_state.restart_point(&self.inner.source, lane)
    }

    /// Notes, on stable storage, where a partition is first read: before anything of it is. A crash before every shard has committed
    /// something of it must not leave the beginning to the start setting, which may mean another place by then.
    ///
    /// # Errors
    /// Of the disk, or if the source shard is stopped; try later.
    pub fn note_begun(&self, lane: LaneId, from: Offset) -> Result<()> {
        self.inner.source_state.note_begun(&self.inner.source, lane, from)
    }

    /// What was in hand when the last process ended, and where this one notes it. Once, before anything is read.
    ///
    /// # Errors
    /// Of the file system.
    pub fn in_hand(&self) -> Result<InHand> {
        InHand::open(self.dir(), |lane| self.restart_point(lane).after)
    }

    /// The offset up to which every shard has committed a partition: what may be told to the broker (I9). `None`: nothing.
    pub fn committed(&self, lane: LaneId) -> Option<Offset> {
        self.inner.shards.iter().map(|shard| shard.committed(lane)).fold(self.inner.source.committed(lane), Ord::min)
    }

    /// Whether rows on disk hold everything that is committed: so it is a moment after the last update.
    pub fn rows_written(&self) -> bool {
        self.inner.shards.iter().all(|shard| !shard.rows_behind())
    }

    /// The log watermark of a partition as of what every shard has applied, be it committed or not; `None` while one of them has
    /// nothing of it.
    pub fn applied_watermark(&self, lane: LaneId) -> Option<EventTime> {
        let shards = self.inner.shards.iter().map(|shard| shard.applied_watermark(lane));
        shards.min().flatten()
    }

    /// The shards that are stopped, and why.
    pub fn stopped(&self) -> Vec<(ShardName, String)> {
        let all = self.inner.shards.iter().chain([&self.inner.source]);
        all.filter_map(|core| core.poison.cause().map(|cause| (core.name, cause))).collect()
    }

    #[cfg(test)]
    pub(crate) fn shrink_hot(&self, shard: ShardId, bytes: usize) {
        self.core(shard).hot.set_budget(bytes);
    }
}
