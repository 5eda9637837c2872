//! Applying updates to the tiles of their entities: the part of a shard's turn that is about windows.
//!
//! Invariant: an update that was applied once is once in each tile of its time. The lanes see to it that no batch is applied twice, and
//! tiles are rows like others: they are committed together with the positions up to which they hold everything.

use std::collections::BTreeMap;

use karst_types::{ClassId, UpdateRef, Updates};

use super::{
    ClassWindows, Windows, archive,
    layout::{Scratch, end_of},
    row,
};
use crate::{
    core::Core,
    error::Result,
    hot::{Beside, Marked},
    keys,
};

/// What writes the tiles of one shard.
#[derive(Default)]
pub(crate) struct Tiles {
    scratch: Scratch,
}

/// Adds the updates of one batch to tiles: first where the hot set has them beside the rows of values, then [`Adding::finish`].
pub(crate) struct Adding<'t> {
    windows: &'t Windows,
    scratch: &'t mut Scratch,
    found: Found,
}

/// What one pass found besides.
#[derive(Default)]
struct Found {
    too_old: u64,
    /// Updates that belong into archived levels, by their bits.
    late: Vec<(usize, u32)>,
    /// Updates of entities that have tiles to be archived.
    full: Vec<usize>,
}

impl Tiles {
    /// Begins a batch.
    pub(crate) fn adding<'t>(&'t mut self, core: &'t Core) -> Adding<'t> {
        Adding { windows: core.windows(), scratch: &mut self.scratch, found: Found::default() }
    }
}

impl<'u> Beside<'u> for Adding<'_> {
    #[inline]
    fn class(&self, class: ClassId) -> Option<ClassId> {
        self.windows.of(class).map(|_| ClassWindows::live_of(class))
    }

    #[inline]
    fn change(&mut self, row: &mut Vec<u8>, index: usize, update: &UpdateRef<'u>) -> bool {
        let Some(layout) = self.windows.of(update.class) else { return false };
        let layout = &**layout;
        let watermark = layout.watermark();
        let due = row::is_due(row, layout, watermark);
        if due {
            row::roll(row, layout, watermark, self.scratch);
        }
        let placed = row::add(row, layout, update, self.scratch);
        if placed.archived > 0 {
            for level in (0..layout.levels().len()).filter(|level| placed.archived & 1 << level > 0) {
                row::set_archived(row, level, end_of(update.version.event_time, layout.levels()[level].hop));
            }
            self.found.late.push((index, placed.archived));
        }
        self.found.too_old += u64::from(!placed.live && placed.archived == 0);
        if due && (0..layout.levels().len()).any(|level| row::archivable(row, layout, level, watermark).is_some()) {
            self.found.full.push(index);
        }
        true
    }
}

impl Adding<'_> {
    /// Adds the updates whose tiles were not in memory, and does what was put off; indexes are those of the updates from `from` on.
    pub(crate) fn finish(
        mut self,
        core: &Core,
        dirty: &mut Marked,
        updates: &Updates,
        from: usize,
        missed: &[usize],
    ) -> Result<()> {
        let windows = self.windows;
        let live = |index: usize| {
            let update = updates.get(from + index);
            UpdateRef { class: ClassWindows::live_of(update.class), ..update }
        };
        let build = |update: &UpdateRef<'_>| {
            windows.of(update.class).map_or_else(Vec::new, |layout| row::build(layout, layout.watermark()))
        };
        put(
            core,
            windows,
            dirty,
            missed.len(),
            |nth| live(missed[nth]),
            build,
            |row, nth, update| self.change(row, missed[nth], update),
        )?;
        core.metrics.windows_too_old.increment(self.found.too_old);
        self.archive_late(core, dirty, &live)?;
        let mut seen: Vec<UpdateRef<'_>> = self.found.full.into_iter().map(live).collect();
        seen.sort_unstable_by(|a, b| (a.class, a.key).cmp(&(b.class, b.key)));
        seen.dedup_by(|a, b| (a.class, a.key) == (b.class, b.key));
        seen.into_iter().try_for_each(|entity| archive_tiles(core, windows, dirty, entity))
    }

    /// Late events whose tiles are archived already.
    fn archive_late<'u>(&mut self, core: &Core, dirty: &mut Marked, live: &impl Fn(usize) -> UpdateRef<'u>) -> Result<()> {
        let windows = self.windows;
        let mut places = Vec::new();
        for (index, bits) in &self.found.late {
            let update = live(*index);
            let Some(layout) = windows.of(update.class) else { continue };
            for (level, declared) in layout.levels().iter().enumerate().filter(|(level, _)| bits & 1 << level > 0) {
                let end = end_of(update.version.event_time, declared.hop);
                let (key, hash) = archive::key_of(update.key, update.hash, level, archive::chunk_of(end, declared.hop));
                places.push((key, UpdateRef { class: layout.archive(), hash, ..update }, end));
            }
        }
        let scratch = &mut *self.scratch;
        let nth = |nth: usize| {
            let (key, update, _) = &places[nth];
            UpdateRef { key, ..*update }
        };
        put(
            core,
            windows,
            dirty,
            places.len(),
            nth,
            |update| new_chunk(windows, update),
            |row, nth, update| {
                if let Some(layout) = windows.of(update.class) {
                    archive::add(row, layout, update, places[nth].2, scratch);
                }
                true
            },
        )
    }
}

fn new_chunk(windows: &Windows, update: &UpdateRef<'_>) -> Vec<u8> {
    windows.of(update.class).map_or_else(Vec::new, |layout| archive::build(layout))
}

/// Moves tiles that no window reaches any more from an entity's row into the archive: first they are copied, then the floor rises.
fn archive_tiles(core: &Core, windows: &Windows, dirty: &mut Marked, entity: UpdateRef<'_>) -> Result<()> {
    let Some(layout) = windows.of(entity.class) else { return Ok(()) };
    let watermark = layout.watermark();
    let mut limits = Vec::new();
    let mut chunks: BTreeMap<(usize, i64), Vec<u8>> = BTreeMap::new();
    core.hot.read(entity.class, entity.key, entity.hash, |row| {
        for (level, declared) in layout.levels().iter().enumerate() {
            let Some(limit) = row::archivable(row, layout, level, watermark) else { continue };
            limits.push((level, limit));
            for tile in row::level(row, layout, level).take_while(|tile| tile.end <= limit) {
                chunks.entry((level, archive::chunk_of(tile.end, declared.hop))).or_default().extend_from_slice(tile.bytes());
            }
        }
    });
    let chunks: Vec<_> = chunks.into_iter().collect();
    let keys: Vec<_> =
        chunks.iter().map(|((level, chunk), _)| archive::key_of(entity.key, entity.hash, *level, *chunk)).collect();
    let nth = |nth: usize| UpdateRef { class: layout.archive(), key: &keys[nth].0, hash: keys[nth].1, ..entity };
    put(
        core,
        windows,
        dirty,
        chunks.len(),
        nth,
        |update| new_chunk(windows, update),
        |row, nth, _| {
            row::tiles(&chunks[nth].1, layout).for_each(|tile| archive::merge(row, layout, tile));
            true
        },
    )?;
    put(
        core,
        windows,
        dirty,
        1,
        |_| entity,
        |_| row::build(layout, watermark),
        |row, _, _| {
            for (level, limit) in &limits {
                let oldest = row::level(row, layout, *level).next().map_or(i64::MAX, |tile| tile.end);
                row::set_archived(row, *level, oldest);
                row::drop_until(row, layout, *level, *limit);
            }
            true
        },
    )
}

/// Changes rows of tiles, each named by class, key and hash of an update: in memory, or loaded, or new.
pub(super) fn put<'u>(
    core: &Core,
    windows: &Windows,
    dirty: &mut Marked,
    count: usize,
    nth: impl Fn(usize) -> UpdateRef<'u>,
    build: impl Fn(&UpdateRef<'_>) -> Vec<u8>,
    mut change: impl FnMut(&mut Vec<u8>, usize, &UpdateRef<'u>) -> bool,
) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let misses = core.hot.change(count, &nth, dirty, &mut change);
    if misses.is_empty() {
        return Ok(());
    }
    core.metrics.hot_misses.increment(misses.len() as u64);
    let mut absent = misses;
    if !core.hot.is_whole() {
        load(core, windows, absent.iter().map(|index| nth(*index)))?;
        let mut one =
            |index: usize| core.hot.change(1, |_| nth(index), dirty, |row, _, update| change(row, index, update)).is_empty();
        absent.retain(|index| !one(*index));
    }
    for index in absent {
        // New. The first update puts the row in, those after it find it.
        let update = nth(index);
        core.hot.change_or_insert(&update, dirty, || build(&update), |row| change(row, index, &update));
    }
    Ok(())
}

/// Brings the rows of tiles that these name and that are on disk into the hot set.
fn load<'u>(core: &Core, windows: &Windows, missing: impl Iterator<Item = UpdateRef<'u>>) -> Result<()> {
    let mut wanted: Vec<(Vec<u8>, UpdateRef<'u>)> =
        missing.map(|update| (keys::row(update.class, update.key), update)).collect();
    wanted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    wanted.dedup_by(|(a, _), (b, _)| a == b);
    core.with_rocks(|rocks| {
        let found = rocks.get_sorted(wanted.iter().map(|(key, _)| &key[..]))?;
        for ((_, update), stored) in wanted.iter().zip(found) {
            let Some(stored) = stored else { continue };
            let row = windows.read(update.class, &stored);
            let row = row.ok_or_else(|| rocks.corrupt(format!("the tiles of {:?}", update.entity())))?;
            core.hot.insert_committed(update.class, update.key, update.hash, row);
        }
        Ok(())
    })
}
