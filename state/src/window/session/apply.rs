//! Applying updates to the sessions of their entities: what [`super::super::apply`] is for tiles. They are rows like others: committed
//! together with the positions up to which they hold everything.

use karst_types::{UpdateRef, Updates};

use super::{ClassSessions, row};
use crate::{
    core::Core,
    error::Result,
    hot::Marked,
    window::{apply::put, layout::Scratch},
};

/// What writes the sessions of one shard.
#[derive(Default)]
pub(crate) struct Sessions {
    scratch: Scratch,
}

impl Sessions {
    /// Applies the updates from `from` on.
    pub(crate) fn apply(&mut self, core: &Core, dirty: &mut Marked, updates: &Updates, from: usize) -> Result<()> {
        let windows = core.windows();
        if !windows.has_sessions() {
            return Ok(());
        }
        let of_sessions = |index: &usize| windows.sessions_of(updates.get(*index).class).is_some();
        let named: Vec<u32> = (from..updates.len()).filter(of_sessions).map(|index| index as u32).collect();
        if named.is_empty() {
            return Ok(());
        }
        let nth = |nth: usize| {
            let update = updates.get(named[nth] as usize);
            UpdateRef { class: ClassSessions::stored(update.class), ..update }
        };
        let (scratch, mut too_old) = (&mut self.scratch, 0);
        let build = |update: &UpdateRef<'_>| {
            windows.sessions_of(update.class).map_or_else(Vec::new, |layout| row::build(layout, layout.watermark()))
        };
        let change = |row: &mut Vec<u8>, _: usize, update: &UpdateRef<'_>| {
            let Some(layout) = windows.sessions_of(update.class) else { return false };
            let watermark = layout.watermark();
            let mut changed = row::is_due(row, layout, watermark);
            if changed {
                row::roll(row, layout, watermark);
            }
            layout.seen.inputs(update, scratch, |index, input| {
                let added = row::add(row, layout, index, input);
                changed |= added;
                too_old += u64::from(!added);
            });
            changed
        };
        put(core, windows, dirty, named.len(), nth, build, change)?;
        core.metrics.windows_too_old.increment(too_old);
        Ok(())
    }
}
