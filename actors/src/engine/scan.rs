//! What is committed, as a whole: for exports, checks and predictions.

use karst_state::ClassSize;
use karst_types::{EntityKey, FeatureSlot, Value};

use super::EngineHandle;
use crate::error::Result;

/// Rows that are read at once.
const SCAN_PAGE: usize = 4096;

/// A committed row: the key, and the values by feature name.
pub type ScannedRow = (Value, Vec<(String, Value)>);

impl EngineHandle {
    /// Committed rows of a feature class, for exports and checks: key and values by feature name, by rising key within each
    /// shard. All of them are gathered in memory.
    ///
    /// # Errors
    /// [`Error::State`](crate::Error::State) if they could not be read.
    pub fn scan(&self, class: &str) -> Result<Vec<ScannedRow>> {
        let mut all = Vec::new();
        let Some(id) = self.0.catalog.class_id(class) else { return Ok(all) };
        let Some(known) = self.0.catalog.class(id) else { return Ok(all) };
        let Some(key_type) = known.key_type() else { return Ok(all) };
        for shard in self.0.store.reader().shards() {
            let mut from = Vec::new();
            loop {
                let rows = shard.rows(id, &from, SCAN_PAGE)?;
                let Some((last, _)) = rows.last() else { break };
                from.clone_from(last);
                from.push(0); // the least key after it
                for (key, row) in &rows {
                    let name =
                        |slot: FeatureSlot| known.features().get(usize::from(slot.0)).map(|feature| feature.name.clone());
                    let cells = row.cells().filter_map(|(slot, cell)| Some((name(slot)?, cell.value))).collect();
                    all.extend(EntityKey::to_value(key_type, key).map(|key| (key, cells)));
                }
            }
        }
        Ok(all)
    }

    /// How much the committed rows of a feature class take on disk, before compression: what `karst plan` predicts of its windows, as it
    /// is. Reads all of them.
    ///
    /// # Errors
    /// [`Error::State`](crate::Error::State) if they could not be read.
    pub fn class_size(&self, class: &str) -> Result<ClassSize> {
        let mut all = ClassSize::default();
        let Some(id) = self.0.catalog.class_id(class) else { return Ok(all) };
        for shard in self.0.store.reader().shards() {
            all.add(&shard.class_size(id)?);
        }
        Ok(all)
    }
}
