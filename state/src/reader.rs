//! Reading rows beside the writer: hot set first, RocksDB where that has none. No mailbox, no queue, no wait for a commit.

use std::sync::Arc;

use karst_types::{ClassId, EntityKey, EventTime, Offset, ShardCount, ShardId, entity::key_hash, shard_of};

use crate::{
    changelog::{ChangeVersion, Changelog},
    core::Core,
    error::Result,
    keys,
    lane::LaneId,
    row::{self, Row},
    window::{ClassSessions, ClassWindows, WindowRead, WindowValue, archive, expire, read},
};

/// What rows take on disk, before compression.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RowsSize {
    /// How many there are.
    pub rows: u64,
    /// Bytes of their keys.
    pub key_bytes: u64,
    /// Bytes of their values.
    pub value_bytes: u64,
}

/// What the entities of a class take on disk, before compression and without history.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ClassSize {
    /// The values of their features, a row for each entity.
    pub features: RowsSize,
    /// The tiles of their windows, a row for each entity.
    pub tiles: RowsSize,
    /// Tiles that are kept for `retention`, 64 to a row.
    pub archive: RowsSize,
}

impl ClassSize {
    /// Adds what is in another shard.
    pub fn add(&mut self, other: &Self) {
        let all = [&mut self.features, &mut self.tiles, &mut self.archive];
        for (own, other) in all.into_iter().zip([other.features, other.tiles, other.archive]) {
            own.rows += other.rows;
            own.key_bytes += other.key_bytes;
            own.value_bytes += other.value_bytes;
        }
    }
}

/// Reads one shard. Clone it; use it on any thread.
#[derive(Clone)]
pub struct ShardReader {
    id: ShardId,
    core: Arc<Core>,
}

impl ShardReader {
    pub(crate) fn new(id: ShardId, core: Arc<Core>) -> Self {
        Self { id, core }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Which shard.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The row as applied: at most one commit ahead of what a crash would keep. `None` if the entity was never written.
    /// `hash` is [`key_hash`] of `key`.
    ///
    /// # Errors
    /// Of the disk, or if the row is corrupt.
    pub fn get(&self, class: ClassId, key: &[u8], hash: u64) -> Result<Option<Row>> {
        // Of a stopped shard only what is committed may be seen (I24).
        if !self.core.poison.is_set()
            && let Some(row) = self.core.hot.read(class, key, hash, Row::trusted)
        {
            return Ok(Some(row));
        }
        self.get_committed(class, key)
    }

    /// Values over windows, all of one moment but for what is archived.
    ///
    /// # Errors
    /// As [`ShardReader::get`].
    pub fn windows(
        &self,
        layout: &ClassWindows,
        key: &[u8],
        hash: u64,
        wanted: &[WindowRead],
        now: EventTime,
        committed_only: bool,
    ) -> Result<Vec<WindowValue>> {
        let live = self.tiles(ClassWindows::live_of(layout.class()), key, hash, committed_only)?;
        if live.as_deref().is_some_and(|row| expire::is_expired(row, layout)) {
            self.core.metrics.windows_expired_present.increment(1);
        }
        let mut chunks = |level: usize, chunk: i64| {
            let (key, hash) = archive::key_of(key, hash, level, chunk);
            self.tiles(layout.archive(), &key, hash, committed_only)
        };
        let mut overflowed = 0;
        let mut read = |wanted| read::read(layout, live.as_deref(), &mut chunks, wanted, now, &mut overflowed);
        let values = wanted.iter().map(&mut read).collect();
        if overflowed > 0 {
            self.core.metrics.windows_groups_overflowed.increment(overflowed);
        }
        values
    }

    /// Values over the sessions that are open at `now`, all of one moment, by the numbers of their aggregates.
    ///
    /// # Errors
    /// As [`ShardReader::get`].
    pub fn sessions(
        &self,
        layout: &ClassSessions,
        key: &[u8],
        hash: u64,
        wanted: &[u16],
        now: EventTime,
        committed_only: bool,
    ) -> Result<Vec<WindowValue>> {
        let stored = self.tiles(ClassSessions::stored(layout.class()), key, hash, committed_only)?;
        if stored.as_deref().is_some_and(|row| layout.has_expired(row)) {
            self.core.metrics.windows_expired_present.increment(1);
        }
        Ok(wanted.iter().map(|slot| layout.read(stored.as_deref(), *slot, now)).collect())
    }

    fn tiles(&self, class: ClassId, key: &[u8], hash: u64, committed_only: bool) -> Result<Option<Vec<u8>>> {
        if !committed_only
            && !self.core.poison.is_set()
            && let Some(row) = self.core.hot.read(class, key, hash, <[u8]>::to_vec)
        {
            return Ok(Some(row));
        }
        self.core.with_rocks(|rocks| {
            let Some(stored) = rocks.get(&keys::row(class, key))? else { return Ok(None) };
            let row = self.core.windows().read(class, &stored);
            row.map(Some).ok_or_else(|| rocks.corrupt("the tiles of an entity"))
        })
    }

    /// The row as it is on disk: as committed, but while a flood comes up to two seconds behind ([`Store::rows_written`]).
    ///
    /// [`Store::rows_written`]: crate::Store::rows_written
    ///
    /// # Errors
    /// As [`ShardReader::get`].
    pub fn get_committed(&self, class: ClassId, key: &[u8]) -> Result<Option<Row>> {
        self.core.with_rocks(|rocks| {
            let Some(stored) = rocks.get(&keys::row(class, key))? else { return Ok(None) };
            if row::check(&stored) { Ok(Some(Row::trusted(&stored))) } else { Err(rocks.corrupt("a row")) }
        })
    }

    /// Rows of a class as they are on disk, from `from` on by rising key, at most `limit`: for exports, checks and support.
    ///
    /// # Errors
    /// As [`ShardReader::get`].
    pub fn rows(&self, class: ClassId, from: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Row)>> {
        self.core.with_rocks(|rocks| {
            let mut rows = Vec::new();
            rocks.scan(&keys::row(class, b""), &keys::row(class, from), |key, stored| {
                if rows.len() == limit {
                    return Ok(false);
                }
                if !row::check(stored) {
                    return Err(rocks.corrupt("a row"));
                }
                rows.push((key[keys::ROW_HEAD..].to_vec(), Row::trusted(stored)));
                Ok(true)
            })?;
            Ok(rows)
        })
    }

    /// How much the committed rows of a class take. Reads all of them.
    ///
    /// # Errors
    /// As [`ShardReader::get`].
    pub fn class_size(&self, class: ClassId) -> Result<ClassSize> {
        let of = |class: ClassId| {
            let mut size = RowsSize::default();
            let prefix = keys::row(class, b"");
            self.core.with_rocks(|rocks| {
                rocks.scan(&prefix, &prefix, |key, stored| {
                    size.rows += 1;
                    size.key_bytes += key.len() as u64;
                    size.value_bytes += stored.len() as u64;
                    Ok(true)
                })
            })?;
            Ok(size)
        };
        let (tiles, archive) = (ClassWindows::live_of(class), ClassWindows::archive_of(class));
        Ok(ClassSize { features: of(class)?, tiles: of(tiles)?, archive: of(archive)? })
    }

    /// The committed positions.
    pub fn positions(&self) -> Vec<(LaneId, Offset)> {
        self.core.all_committed()
    }

    /// The newest commit.
    pub fn newest(&self) -> ChangeVersion {
        self.core.newest()
    }

    /// The history.
    pub fn changelog(&self) -> Changelog {
        Changelog::new(self.core.clone())
    }

    /// Rows in memory, and the bytes they take.
    pub fn hot(&self) -> (usize, usize) {
        (self.core.hot.len(), self.core.hot.bytes())
    }
}

/// Reads every shard, by key. Clone it; use it on any thread.
#[derive(Clone)]
pub struct StoreReader {
    shards: Arc<[ShardReader]>,
    count: ShardCount,
}

impl StoreReader {
    pub(crate) fn new(shards: Arc<[ShardReader]>, count: ShardCount) -> Self {
        Self { shards, count }
    }

    fn shard(&self, hash: u64) -> &ShardReader {
        &self.shards[usize::from(shard_of(hash, self.count).0)]
    }

    /// The row of an entity, as applied. See [`ShardReader::get`].
    ///
    /// # Errors
    /// As [`ShardReader::get`].
    pub fn get(&self, entity: &EntityKey) -> Result<Option<Row>> {
        let hash = key_hash(&entity.bytes);
        self.shard(hash).get(entity.class, &entity.bytes, hash)
    }

    /// The row of an entity, as committed.
    ///
    /// # Errors
    /// As [`ShardReader::get`].
    pub fn get_committed(&self, entity: &EntityKey) -> Result<Option<Row>> {
        self.shard(key_hash(&entity.bytes)).get_committed(entity.class, &entity.bytes)
    }

    /// Values of an entity over windows. See [`ShardReader::windows`].
    ///
    /// # Errors
    /// As [`ShardReader::get`].
    pub fn windows(
        &self,
        layout: &ClassWindows,
        entity: &EntityKey,
        wanted: &[WindowRead],
        now: EventTime,
        committed_only: bool,
    ) -> Result<Vec<WindowValue>> {
        let hash = key_hash(&entity.bytes);
        self.shard(hash).windows(layout, &entity.bytes, hash, wanted, now, committed_only)
    }

    /// Values of an entity over its open sessions. See [`ShardReader::sessions`].
    ///
    /// # Errors
    /// As [`ShardReader::get`].
    pub fn sessions(
        &self,
        layout: &ClassSessions,
        entity: &EntityKey,
        wanted: &[u16],
        now: EventTime,
        committed_only: bool,
    ) -> Result<Vec<WindowValue>> {
        let hash = key_hash(&entity.bytes);
        self.shard(hash).sessions(layout, &entity.bytes, hash, wanted, now, committed_only)
    }

    /// The shards.
    pub fn shards(&self) -> &[ShardReader] {
        &self.shards
    }
}
