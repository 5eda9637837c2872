//! Metric handles of one shard, resolved once; recorded per batch or per commit, never per update.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::error::ShardName;

pub(crate) struct ShardMetrics {
    pub(crate) commit_seconds: Histogram,
    pub(crate) commit_rows: Histogram,
    pub(crate) commits: Counter,
    pub(crate) history_bytes: Counter,
    pub(crate) hot_entries: Gauge,
    pub(crate) hot_bytes: Gauge,
    pub(crate) hot_hits: Counter,
    pub(crate) hot_misses: Counter,
    pub(crate) hot_evicted: Counter,
    pub(crate) dirty_rows: Gauge,
    pub(crate) updates: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) old_epochs: Counter,
    pub(crate) gaps: Counter,
    pub(crate) poisoned: Counter,
    pub(crate) windows_too_old: Counter,
    pub(crate) windows_expired_present: Counter,
    pub(crate) windows_compacted: Counter,
    pub(crate) windows_groups_overflowed: Counter,
}

impl ShardMetrics {
    pub(crate) fn new(shard: ShardName) -> Self {
        let shard = shard.label();
        let refused =
            |why: &'static str| counter!("karst_state_lane_messages_not_applied_total", "shard" => shard.clone(), "why" => why);
        Self {
            commit_seconds: histogram!("karst_state_commit_seconds", "shard" => shard.clone()),
            commit_rows: histogram!("karst_state_commit_rows", "shard" => shard.clone()),
            commits: counter!("karst_state_commits_total", "shard" => shard.clone()),
            history_bytes: counter!("karst_state_history_bytes_total", "shard" => shard.clone()),
            hot_entries: gauge!("karst_state_hot_entries", "shard" => shard.clone()),
            hot_bytes: gauge!("karst_state_hot_bytes", "shard" => shard.clone()),
            hot_hits: counter!("karst_state_hot_hits_total", "shard" => shard.clone()),
            hot_misses: counter!("karst_state_hot_misses_total", "shard" => shard.clone()),
            hot_evicted: counter!("karst_state_hot_evicted_total", "shard" => shard.clone()),
            dirty_rows: gauge!("karst_state_dirty_rows", "shard" => shard.clone()),
            updates: counter!("karst_state_updates_total", "shard" => shard.clone()),
            duplicates: refused("duplicate"),
            old_epochs: refused("old_epoch"),
            gaps: refused("gap"),
            poisoned: counter!("karst_state_poisoned_total", "shard" => shard.clone()),
            windows_expired_present: counter!("karst_state_windows_expired_present_total", "shard" => shard.clone()),
            windows_compacted: counter!("karst_state_windows_compacted_total", "shard" => shard.clone()),
            windows_groups_overflowed: counter!("karst_state_windows_groups_overflowed_total", "shard" => shard.clone()),
            windows_too_old: counter!("karst_state_windows_too_old_total", "shard" => shard.clone()),
        }
    }
}
