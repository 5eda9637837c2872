//! Writing what a shard gathered: one RocksDB batch per commit, on a thread of its own, so that the shard's turn never waits
//! for the disk (`docs/semantics.md`, Delivery).

use std::{collections::BTreeMap, sync::Arc};

use karst_types::{Offset, ProcessingTime, TimeSpan};
use rocksdb::WriteBatch;

use crate::{
    bytes,
    changelog::{ChangeVersion, Entry},
    core::{CommitState, Core},
    error::{Error, Result, ShardName},
    hot::{Copied, CopiedRow, ask_for},
    keys,
    lane::LaneId,
    rocks::Rocks,
    source_shard::{Filled, SourceContent, SourceState},
};

/// Changelog entries dropped by one commit at most; the rest goes with the next ones.
const TRIM_MAX: usize = 1024;
/// What an entry takes beyond its bytes: keys, sizes, bookkeeping of RocksDB.
const ENTRY_OVERHEAD: u64 = 128;

/// What is to be committed, taken out of the shard: the shard goes on while it is written.
#[must_use = "a frozen commit that is not written keeps its shard from committing"]
pub struct FrozenCommit {
    pub(crate) generation: u64,
    pub(crate) seq: u64,
    pub(crate) positions: Vec<(LaneId, Offset, u64)>,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    /// `copied`: the rows, if this commit is to write them.
    Rows {
        copied: Option<Copied>,
        history: Entry,
    },
    Source(SourceContent),
}

/// What was committed.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its version.
    pub version: ChangeVersion,
    /// The positions it holds.
    pub positions: Vec<(LaneId, Offset)>,
    /// Rows of entities written.
    pub rows: usize,
    /// Bytes of its changelog entry.
    pub history_bytes: usize,
    pub(crate) generation: u64,
}

/// Writes the commits of one shard. Clone and send it to the thread that writes.
#[derive(Clone)]
pub struct CommitWriter {
    core: Arc<Core>,
    source: Option<Arc<SourceState>>,
}

impl CommitWriter {
    pub(crate) fn new(core: Arc<Core>, source: Option<Arc<SourceState>>) -> Self {
        Self { core, source }
    }

    /// Which shard's.
    pub fn shard(&self) -> ShardName {
        self.core.name
    }

    /// Writes it, all or nothing. Blocks for the disk: never call it in a shard's turn. Hand the result to
    /// `ShardWriter::committed` (or `SourceWriter::committed`).
    ///
    /// # Errors
    /// [`Error::Storage`]: the shard is stopped now, and its writer must be built anew. [`Error::Fenced`]: a newer writer
    /// exists; drop this commit.
    pub fn write(&self, frozen: FrozenCommit) -> Result<Committed> {
        let FrozenCommit { generation, seq, positions, content } = frozen;
        let (mut rows, mut history_bytes) = (0, 0);
        let version = match (content, &self.source) {
            (Content::Rows { copied, mut history }, _) => {
                let size = copied.as_ref().map_or(0, |copied| copied.bytes.len() + 8 * copied.rows.len()) + history.len();
                self.core.commit(generation, seq, &positions, size, |batch, state, rocks| {
                    if let Some(newest) = history.newest() {
                        history_bytes = put_history(batch, state, &mut history, newest);
                    }
                    if let Some(copied) = copied {
                        rows = copied.rows.len();
                        put_rows(batch, &copied);
                        state.rows = seq;
                    }
                    self.trim(batch, state, rocks, history.newest())
                })?
            }
            (Content::Source(content), Some(source)) => {
                let mut filled = Filled::default();
                let version = self.core.commit(generation, seq, &positions, 4096, |batch, state, rocks| {
                    filled = source.fill(&content, &self.core, batch, state, rocks)?;
                    Ok(())
                })?;
                source.committed(content, filled);
                version
            }
            (Content::Source(_), None) => return Err(Error::Fenced { shard: self.core.name }),
        };
        self.core.metrics.commit_rows.record(rows as f64);
        self.core.metrics.history_bytes.increment(history_bytes as u64);
        let positions = positions.into_iter().map(|(lane, offset, _)| (lane, offset)).collect();
        Ok(Committed { version, positions, rows, history_bytes, generation })
    }

    /// Drops entries that every durable reader has read; if there is none, those beyond the retention. Never those that the rows on
    /// disk do not hold.
    fn trim(&self, batch: &mut WriteBatch, state: &mut CommitState, rocks: &Rocks, now: Option<ProcessingTime>) -> Result<()> {
        let settings = self.core.settings();
        let cursor = self.core.slowest_cursor();
        let newest = state.version.seq;
        let goes = |log: &crate::core::LogState, seq: u64, stored_at: i64| match cursor {
            Some(cursor) => seq <= cursor,
            None => {
                let age = now.map_or(TimeSpan::ZERO, |now| now.since(ProcessingTime(stored_at)));
                log.bytes > settings.changelog_bytes.0 || age > settings.changelog_age
            }
        };
        let mut log = state.log;
        let mut trimmed = 0;
        if cursor.is_some_and(|cursor| cursor < log.oldest) || newest < log.oldest {
            return Ok(());
        }
        rocks.scan(&[keys::LOG_SIZE], &keys::log_size(log.oldest), |key, value| {
            let mut rest = value;
            let entry = keys::number_of(key).zip(bytes::u64(&mut rest)).zip(bytes::i64(&mut rest));
            let ((seq, size), stored_at) = entry.ok_or_else(|| rocks.corrupt("the sizes of the changelog"))?;
            log.oldest = seq;
            if trimmed == TRIM_MAX || seq > state.rows || !goes(&log, seq, stored_at) {
                return Ok(false);
            }
            batch.delete(key);
            batch.delete(keys::change(seq));
            log = crate::core::LogState { oldest: seq + 1, bytes: log.bytes.saturating_sub(size), trimmed: seq };
            trimmed += 1;
            Ok(true)
        })?;
        state.log = log;
        Ok(())
    }
}

fn put_history(batch: &mut WriteBatch, state: &mut CommitState, history: &mut Entry, newest: ProcessingTime) -> usize {
    let entry = history.finish(state.version);
    let size = entry.len() as u64 + ENTRY_OVERHEAD;
    batch.put(keys::change(state.version.seq), entry);
    batch.put(keys::log_size(state.version.seq), [size.to_le_bytes(), newest.0.to_le_bytes()].concat());
    state.log.bytes += size;
    entry.len()
}

/// Rows in the order of their keys: RocksDB's memtable takes sorted keys a fifth faster.
fn put_rows(batch: &mut WriteBatch, copied: &Copied) {
    // By class, since those of one class have most in common: then most comparisons are of one number.
    let mut classes: BTreeMap<&[u8], Vec<(u64, CopiedRow)>> = BTreeMap::new();
    for row in &copied.rows {
        classes.entry(&copied.key(*row)[..keys::ROW_HEAD]).or_default().push((0, *row));
    }
    for mut order in classes.into_values() {
        let common = common_prefix(copied, &order);
        for (start, row) in &mut order {
            let rest = &copied.key(*row)[common..];
            let (mut bytes, length) = ([0; 8], rest.len().min(8));
            bytes[..length].copy_from_slice(&rest[..length]);
            *start = u64::from_be_bytes(bytes);
        }
        order.sort_unstable_by(|(a, left), (b, right)| a.cmp(b).then_with(|| copied.key(*left).cmp(copied.key(*right))));
        for (nth, (_, row)) in order.iter().enumerate() {
            const AHEAD: usize = 8;
            order.get(nth + AHEAD).and_then(|(_, row)| copied.key(*row).first()).into_iter().for_each(ask_for);
            batch.put(copied.key(*row), copied.row(*row));
        }
    }
}

fn common_prefix(copied: &Copied, rows: &[(u64, CopiedRow)]) -> usize {
    let Some(((_, first), rest)) = rows.split_first() else { return 0 };
    let first = copied.key(*first);
    rest.iter().fold(first.len(), |common, (_, row)| {
        let same = first[..common].iter().zip(copied.key(*row)).take_while(|(a, b)| a == b);
        same.count()
    })
}
