//! Rows of an earlier layout: what was collected goes on to count when windows are added, taken away or changed.
//!
//! The tiles of the old row are taken for events at their ends. An aggregate keeps its state by its number; one that is new begins empty. Where
//! the new tiles are finer than the old ones, the past stays as coarse as it was collected. Archived tiles are kept as long as the levels stay
//! the same.

use karst_types::EventTime;

use super::{
    archive,
    layout::{ClassWindows, Place, end_of},
    row::{self, Section, Tile},
};

/// The old row in the new layout; `None` if it is not a row of the old one.
pub(crate) fn live(old: &[u8], was: &ClassWindows, layout: &ClassWindows) -> Option<Vec<u8>> {
    if !row::check_shape(old, was) {
        return None;
    }
    let mut new = row::build(layout, EventTime(old_watermark(old, was)));
    let coarsest = was.levels().len() - 1;
    // What is known begins here.
    let begin = (0..=coarsest).map(|level| row::floor(old, level)).min().unwrap_or(i64::MIN);
    let begin = if row::bottom(old, was, coarsest).is_some() { i64::MIN } else { begin };
    for level in 0..layout.levels().len() {
        let from = if level == 0 { row::floor(old, 0) } else { begin };
        let hop = layout.levels()[level].hop;
        row::set_floor(&mut new, level, if from == i64::MIN { from } else { end_of(EventTime(from), hop) });
    }
    let mut put = |end: i64, tile: Tile<'_>| {
        row::put_tile(&mut new, layout, end, |section, at| merge(section, at, tile, was, layout));
    };
    for level in 0..=coarsest {
        // Of the levels that cover an instant, the finest has it most exactly.
        let until = if level == 0 { i64::MAX } else { row::floor(old, level - 1) };
        row::level(old, was, level).take_while(|tile| tile.end <= until).for_each(|tile| put(tile.end, tile));
        if let Some(bottom) = row::bottom(old, was, level) {
            put(i64::MIN, bottom);
        }
    }
    Some(new)
}

/// A chunk of the archive in the new layout; `None` if it is not one of the old, or the levels are others.
pub(crate) fn chunk(old: &[u8], was: &ClassWindows, layout: &ClassWindows) -> Option<Vec<u8>> {
    let hops = |layout: &ClassWindows| layout.levels().iter().map(|level| level.hop).collect::<Vec<_>>();
    if hops(was) != hops(layout) || !archive::check_shape(old, was) {
        return None;
    }
    let mut new = archive::build(layout);
    for tile in archive::chunk(old, was) {
        let mut section = archive::section(&mut new);
        let at = section.find(layout, tile.end);
        merge(&mut section, at, tile, was, layout);
    }
    Some(new)
}

/// The watermark that the old row has been rolled up to.
fn old_watermark(old: &[u8], was: &ClassWindows) -> i64 {
    (1..was.levels().len()).map(|level| row::rolled(old, level)).max().unwrap_or(i64::MIN)
}

fn merge(section: &mut Section<'_>, at: usize, tile: Tile<'_>, was: &ClassWindows, layout: &ClassWindows) {
    for (index, slot) in layout.slots().iter().enumerate() {
        let Some(old) = was.slots().iter().position(|known| known == slot) else { continue };
        let (place, (aggregate, new)) = (was.place(old), layout.aggregate(index));
        let state = tile.state(was, place);
        let same_size = match (place, new) {
            (Place::Fixed(_, a), Place::Fixed(_, b)) => a == b,
            (Place::Variable(_), Place::Variable(_)) => true,
            _ => false,
        };
        // The number stands for the aggregate; but bytes from a disk are looked at before they are believed.
        if same_size && aggregate.check(state) {
            section.merge_state(layout, at, index, state);
        }
    }
}
