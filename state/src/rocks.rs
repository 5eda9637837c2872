//! RocksDB, opened the way the guarantees need it. The only file that knows its options.
//!
//! What must not be changed lightly: one column family, the write-ahead log always on,
//! point-in-time recovery, paranoid checks, log files tracked in the manifest.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, CompactionDecision, DB, DBCompressionType, DBPinnableSlice, DBRecoveryMode,
    DataBlockIndexType, Direction, ErrorKind, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch, WriteBufferManager,
    WriteOptions, checkpoint::Checkpoint,
};

use karst_types::{KillPoint, ShardId, kill_point, kill_point::Place};

use crate::{
    error::{Error, Result, ShardName},
    keys,
    metrics::ShardMetrics,
    settings::Shares,
    window::Windows,
};

/// Values from this size on go to blob files: changelog entries are then not rewritten whenever rows are compacted.
const BLOB_BYTES_MIN: u64 = 4096;

/// Memory that all shards of a store share, and how they are tuned.
pub(crate) struct Shared {
    cache: Cache,
    buffers: WriteBufferManager,
    pub(crate) memtable: usize,
    /// Memtables to gather before one flush. Above 1 only in tests, to keep several log files alive.
    pub(crate) memtables_per_flush: i32,
    /// Whether tiles may be there that expire. Only then is every value looked at when it is compacted: to do so, RocksDB reads also
    /// those that lie in blob files.
    pub(crate) expires: bool,
    /// Said once, after the declarations are known.
    pub(crate) windows: Arc<OnceLock<Windows>>,
    /// Counts what [`Rocks::log_syncs`] tells.
    #[cfg(test)]
    pub(crate) statistics: bool,
}

impl Shared {
    pub(crate) fn new(shares: &Shares) -> Self {
        let cache = Cache::new_lru_cache(shares.cache);
        // Stalling would block the writer of one shard for the sins of another; a flush starts earlier instead.
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(shares.memtables, false, cache.clone());
        Self {
            cache,
            buffers,
            memtable: shares.memtable,
            memtables_per_flush: 1,
            expires: false,
            windows: Arc::default(),
            #[cfg(test)]
            statistics: false,
        }
    }

    fn options(&self, create: bool) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        table.set_block_size(8 << 10);
        table.set_bloom_filter(10.0, false);
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_index_type(BlockBasedIndexType::BinarySearch);
        table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        table.set_data_block_hash_ratio(0.75);
        let mut options = Options::default();
        options.create_if_missing(create);
        options.set_error_if_exists(false);
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_manager(&self.buffers);
        options.set_write_buffer_size(self.memtable);
        options.set_max_write_buffer_number(2 + self.memtables_per_flush);
        options.set_min_write_buffer_number_to_merge(self.memtables_per_flush);
        options.set_max_bytes_for_level_base(8 * self.memtable.max(8 << 20) as u64);
        options.set_target_file_size_base(32 << 20);
        options.set_level_compaction_dynamic_level_bytes(true);
        // What is flushed is soon compacted, and compressed then.
        let [none, lz4] = [DBCompressionType::None, DBCompressionType::Lz4];
        options.set_compression_per_level(&[none, lz4, lz4, lz4, lz4, lz4, lz4]);
        // One thread writes, in sorted order: the memtable then finds its place from the place before.
        options.set_allow_concurrent_memtable_write(false);
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(0.05);
        options.set_enable_blob_files(true);
        options.set_min_blob_size(BLOB_BYTES_MIN);
        options.set_blob_compression_type(DBCompressionType::None); // see changelog/encode.rs
        options.set_blob_file_size(64 << 20);
        options.set_enable_blob_gc(true);
        options.set_max_background_jobs(2);
        options.set_max_open_files(512);
        // A quarter of those is opened ahead. RocksDB would start sixteen threads for it, also where there is one table.
        options.set_max_file_opening_threads(2);
        options.set_manifest_preallocation_size(64 << 10); // it lists some hundred tables, and takes 4 MiB otherwise
        options.set_paranoid_checks(true);
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_avoid_unnecessary_blocking_io(true);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options
    }
}

/// One open RocksDB.
pub(crate) struct Rocks {
    db: DB,
    shard: ShardName,
    path: PathBuf,
    sync: bool,
    #[cfg(test)]
    options: Options,
}

impl Rocks {
    /// Opens the database in `path`; `create` makes it if it is not there. `sync` fsyncs every batch.
    pub(crate) fn open(shard: ShardName, path: &Path, create: bool, sync: bool, shared: &Shared) -> Result<Self> {
        if !create && !path.join("CURRENT").exists() {
            return Err(Error::Missing { what: shard.to_string(), path: path.to_owned() });
        }
        let mut rows = shared.options(create);
        if shared.expires {
            let (windows, compacted) = (Arc::clone(&shared.windows), ShardMetrics::new(shard).windows_compacted);
            rows.set_compaction_filter("karst-windows", move |_, key, value| {
                kill_point::here(KillPoint::Compacting);
                let expired = windows.get().is_some_and(|windows| windows.has_expired(key, value));
                compacted.increment(u64::from(expired));
                if expired { CompactionDecision::Remove } else { CompactionDecision::Keep }
            });
        }
        #[cfg_attr(not(test), allow(unused_mut))]
        let mut options = shared.options(create);
        #[cfg(test)]
        if shared.statistics {
            options.enable_statistics();
        }
        let opened = DB::open_cf_with_opts(&options, path, [("default", rows)]);
        let db = opened.map_err(|source| translate(shard, path, "open", source))?;
        Ok(Self {
            db,
            shard,
            path: path.to_owned(),
            sync,
            #[cfg(test)]
            options,
        })
    }

    fn error(&self, action: &'static str) -> impl Fn(rocksdb::Error) -> Error + '_ {
        move |source| translate(self.shard, &self.path, action, source)
    }

    /// A value that is not what it should be.
    pub(crate) fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::Corrupt { shard: self.shard, path: self.path.clone(), what: what.into(), source: None }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>> {
        self.db.get_pinned(key).map_err(self.error("read"))
    }

    /// The values of `keys`, which are sorted and without repeats, in their order.
    pub(crate) fn get_sorted<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> Result<Vec<Option<DBPinnableSlice<'_>>>> {
        let family = self.db.cf_handle("default").expect("every database has the default column family");
        let found = self.db.batched_multi_get_cf(family, keys, true);
        found.into_iter().map(|value| value.map_err(self.error("read"))).collect()
    }

    /// Whether there is any row of an entity.
    pub(crate) fn has_rows(&self) -> Result<bool> {
        let mut found = false;
        self.scan(&[keys::ROW], &[keys::ROW], |_, _| {
            found = true;
            Ok(false)
        })?;
        Ok(found)
    }

    /// One of the moments at which a test may make the disk fail.
    pub(crate) fn moment(&self, at: KillPoint, action: &'static str) -> Result<()> {
        let place = match self.shard {
            ShardName::Shard(ShardId(shard)) => Place::Shard(shard),
            ShardName::Source => Place::SourceShard,
        };
        kill_point::at_disk(at, place).map_err(|source| Error::Storage {
            action,
            shard: self.shard,
            path: self.path.clone(),
            source: source.into(),
        })
    }

    pub(crate) fn write(&self, batch: WriteBatch) -> Result<()> {
        if self.sync {
            return self.write_synced(batch);
        }
        self.db.write(batch).map_err(self.error("write"))
    }

    /// As [`Rocks::write`], on stable storage before it returns, whatever the settings say.
    pub(crate) fn write_synced(&self, batch: WriteBatch) -> Result<()> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.moment(KillPoint::SyncBefore, "write")?;
        self.db.write_opt(batch, &options).map_err(self.error("write"))?;
        self.moment(KillPoint::SyncAfter, "sync")
    }

    /// Makes everything that was written stable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.moment(KillPoint::SyncBefore, "sync")?;
        self.db.flush_wal(true).map_err(self.error("sync"))?;
        self.moment(KillPoint::SyncAfter, "sync")
    }

    /// How often log files have been synced.
    #[cfg(test)]
    pub(crate) fn log_syncs(&self) -> u64 {
        self.options.get_ticker_count(rocksdb::statistics::Ticker::WalFileSynced)
    }
    /// Compacts everything.
    #[cfg(test)]
    pub(crate) fn compact(&self) {
        self.db.compact_range(None::<&[u8]>, None::<&[u8]>);
    }
    /// Writes the memtable out, and waits for it: the log files before are then no longer needed.
    pub(crate) fn flush(&self) -> Result<()> {
        self.db.flush().map_err(self.error("flush"))
    }

    /// Everything as it is now, for several reads; it holds back nothing but the compaction of what it sees.
    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        Snapshot { rocks: self, snapshot: self.db.snapshot() }
    }
    /// Links and copies everything that is written into the folder `path`, which must not be there.
    pub(crate) fn checkpoint(&self, path: &Path) -> Result<()> {
        let checkpoint = Checkpoint::new(&self.db).map_err(self.error("copy"))?;
        checkpoint.create_checkpoint(path).map_err(self.error("copy"))
    }

    /// Visits the entries from `from` on, as long as their keys start with `prefix` and `visit` says so.
    pub(crate) fn scan(&self, prefix: &[u8], from: &[u8], visit: impl FnMut(&[u8], &[u8]) -> Result<bool>) -> Result<()> {
        self.scan_with(ReadOptions::default(), prefix, from, visit)
    }

    fn scan_with(
        &self,
        mut read: ReadOptions,
        prefix: &[u8],
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        read.set_iterate_range(rocksdb::PrefixRange(prefix));
        for entry in self.db.iterator_opt(IteratorMode::From(from, Direction::Forward), read) {
            let (key, value) = entry.map_err(self.error("read"))?;
            if !visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }
}

/// A database as it was at one moment.
pub(crate) struct Snapshot<'a> {
    rocks: &'a Rocks,
    snapshot: rocksdb::Snapshot<'a>,
}

impl Snapshot<'_> {
    pub(crate) fn rocks(&self) -> &Rocks {
        self.rocks
    }
    /// As [`Rocks::get`].
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>> {
        self.snapshot.get_pinned(key).map_err(self.rocks.error("read"))
    }
    /// As [`Rocks::scan`].
    pub(crate) fn scan(&self, prefix: &[u8], from: &[u8], visit: impl FnMut(&[u8], &[u8]) -> Result<bool>) -> Result<()> {
        let mut read = ReadOptions::default();
        read.set_snapshot(&self.snapshot);
        self.rocks.scan_with(read, prefix, from, visit)
    }
}

fn translate(shard: ShardName, path: &Path, action: &'static str, source: rocksdb::Error) -> Error {
    let (path, cause) = (path.to_owned(), Box::new(source.clone()));
    match source.kind() {
        ErrorKind::Corruption => {
            Error::Corrupt { shard, path, what: format!("the database (found on {action})"), source: Some(cause) }
        }
        _ => Error::Storage { action, shard, path, source: cause },
    }
}
