//! Reading rows beside the writer: hot set first, RocksDB where that has none. No mailbox, no queue, no wait for a commit.

use std::sync::Arc;

use karst_types::{ClassId, EntityKey, Offset, ShardCount, ShardId, entity::key_hash, shard_of};

use crate::{
    changelog::{ChangeVersion, Changelog},
    core::Core,
    error::Result,
    keys,
    lane::LaneId,
    row::{self, Row},
};

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

    /// The row as committed.
    ///
    /// # Errors
    /// As [`ShardReader::get`].
    pub fn get_committed(&self, class: ClassId, key: &[u8]) -> Result<Option<Row>> {
        self.core.with_rocks(|rocks| {
            let Some(stored) = rocks.get(&keys::row(class, key))? else { return Ok(None) };
            if row::check(&stored) { Ok(Some(Row::trusted(&stored))) } else { Err(rocks.corrupt("a row")) }
        })
    }

    /// Committed rows of a class from `from` on by rising key, at most `limit`: for exports, checks and support.
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

    /// The shards.
    pub fn shards(&self) -> &[ShardReader] {
        &self.shards
    }
}
