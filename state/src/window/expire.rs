//! Which tiles nothing can reach any more: the read path answers as if they were gone, and compaction drops their rows.

use karst_types::ClassId;

use super::{
    ClassSessions, Windows, archive,
    layout::{ClassWindows, Level},
    row,
};
use crate::keys;

/// Before this no tile of a level is read; `None`: not known, or there is no such bound.
fn bound(level: &Level, watermark: i64) -> Option<i64> {
    let known = watermark != i64::MIN && !level.bottom && level.archive != i64::MAX;
    known.then(|| watermark.saturating_sub(level.keep).saturating_sub(level.archive))
}

/// How far back the windows that hop so reach.
pub(crate) fn reach(layout: &ClassWindows, hop: i64) -> Option<i64> {
    let level = layout.levels().iter().find(|level| level.hop == hop)?;
    let bound = bound(level, layout.watermark().0)?;
    Some(bound.div_euclid(hop).saturating_mul(hop))
}

/// Whether no tile of an entity's row is reached any more. A row is rolled up only when it is touched, so a fine tile may stand for what a
/// coarser one would hold: all of them are measured by the longest reach.
pub(crate) fn is_expired(live: &[u8], layout: &ClassWindows) -> bool {
    let watermark = layout.watermark().0;
    let bounds = layout.levels().iter().map(|level| bound(level, watermark));
    let Some(bound) = bounds.collect::<Option<Vec<_>>>().and_then(|bounds| bounds.into_iter().min()) else { return false };
    (0..layout.levels().len()).all(|nth| row::level(live, layout, nth).last().is_none_or(|tile| tile.end <= bound))
}

impl Windows {
    /// Whether a stored row may be dropped. Of what is not understood nothing is.
    pub(crate) fn has_expired(&self, key: &[u8], value: &[u8]) -> bool {
        let Some((class, entity)) = keys::of_row(key) else { return false };
        if ClassSessions::is_stored(class) {
            return self.sessions_of(class).is_some_and(|layout| layout.has_expired(value));
        }
        let Some(layout) = self.of(class) else { return false };
        if class == ClassWindows::live_of(layout.class()) {
            return row::check_shape(value, layout) && is_expired(value, layout);
        }
        let of_archive = |class: ClassId| class == layout.archive();
        let Some((level, chunk)) = archive::chunk_named(entity).filter(|_| of_archive(class)) else { return false };
        let Some(level) = layout.levels().get(level).filter(|_| archive::is_of(value, layout)) else { return false };
        bound(level, layout.watermark().0).is_some_and(|bound| archive::chunk_end(chunk, level.hop) <= bound)
    }
}
