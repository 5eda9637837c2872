//! One look at one shard at one moment: a bounded part of what is new there.
//!
//! Invariants:
//! - how far time has come was asked before the moment was taken: so all updates that brought it there are in the moment;
//! - windows that are over are told only at a moment whose history has been told; so an update that comes after is after them, and one
//!   whose window was told before makes it be told again, corrected.

use std::{collections::BTreeSet, sync::Arc};

use karst_state::{ChangeVersion, Changes, Closed, Moment, Store, WindowValue};
use karst_types::{EntityKey, EventTime, UpdateRef, Value, update::cells};

use super::{
    ChangeKind, FeatureChange, Missed,
    cursor::{EVERYTHING, ShardCursor},
    watched::Watched,
};

/// Updates that one look takes, at least; of a large commit a part.
const UPDATES: usize = 512;
const PARTS: usize = 32;
/// A commit of more updates is not kept in memory between two looks, but read again.
const OPEN_MAX: usize = 32_768;
/// Entities that one look takes for windows that are over.
const ENTITIES: usize = 512;

/// What a look came to.
pub(super) enum Step {
    /// There is nothing new in this shard.
    Idle,
    Told(Vec<FeatureChange>),
    Missed(Missed, ShardCursor),
}

/// How far time had come at a moment in the past, for each class with windows, and the newest commit of a shard then or after: once the rows of that
/// commit are written, they hold every update that brought time there.
pub(super) struct Due {
    pub(super) watermarks: Vec<Option<EventTime>>,
    pub(super) seq: u64,
}

/// One look at one shard.
pub(super) struct Look<'a> {
    pub(super) watched: &'a [Watched],
    pub(super) store: &'a Store,
    pub(super) moment: &'a Moment<'a>,
    pub(super) shard: u16,
    pub(super) due: &'a Due,
}

impl Look<'_> {
    pub(super) fn run(&self, cursor: &mut ShardCursor, open: &mut Option<Arc<Changes>>) -> karst_state::Result<Step> {
        let now = self.moment.version();
        if now.incarnation != cursor.version.incarnation {
            let survived = self.moment.survived(cursor.version)?;
            if survived < cursor.version.seq {
                let (shard, seq) = (self.shard, cursor.version.seq);
                let version = ChangeVersion { seq: survived, ..now };
                let resume = ShardCursor { version, skip: 0, ..cursor.clone() };
                return Ok(Step::Missed(Missed::FellBack { shard, seq, survived }, resume));
            }
            cursor.version.incarnation = now.incarnation;
        }
        // Of windows that are in no row yet nothing can be told.
        let visible = if self.due.watermarks.is_empty() { now.seq } else { self.moment.rows() };
        if open.is_none() {
            let (seq, trimmed) = (cursor.version.seq, self.moment.trimmed());
            if seq < trimmed {
                let version = ChangeVersion { seq: trimmed, ..now };
                let resume = ShardCursor { version, skip: 0, ..cursor.clone() };
                return Ok(Step::Missed(Missed::Trimmed { shard: self.shard, seq, trimmed }, resume));
            }
            if seq < visible {
                *open = self.moment.changes_after(seq)?.filter(|changes| changes.version.seq <= visible);
            }
        }
        if let Some(changes) = open.take() {
            let (told, done) = self.updates(&changes, cursor)?;
            if done {
                (cursor.version, cursor.skip) = (changes.version, 0);
            } else {
                *open = Some(changes).filter(|changes| count(changes) <= OPEN_MAX);
            }
            return Ok(Step::Told(told));
        }
        cursor.version.seq = cursor.version.seq.max(visible);
        if self.moment.rows() < self.due.seq { Ok(Step::Idle) } else { self.windows_that_are_over(cursor) }
    }

    fn with_windows(&self) -> impl Iterator<Item = (&Watched, Option<EventTime>)> {
        let all = self.watched.iter().filter(|watched| !watched.windows.is_empty());
        all.zip(self.due.watermarks.iter().copied())
    }

    /// Tells the next updates of a commit. Whether it was the last of them.
    fn updates(&self, changes: &Changes, cursor: &mut ShardCursor) -> karst_state::Result<(Vec<FeatureChange>, bool)> {
        let mut left = changes.batches.iter().flat_map(|batch| batch.updates.iter()).skip(cursor.skip);
        let mut told = Vec::new();
        // What is computed is told once for all updates of this step.
        let (mut changed, mut again) = (Changed::default(), BTreeSet::new());
        for update in left.by_ref().take(UPDATES.max(count(changes) / PARTS)) {
            cursor.skip += 1;
            let Ok(at) = self.watched.binary_search_by_key(&update.class, |watched| watched.class) else { continue };
            let watched = &self.watched[at];
            if !watched.is_wanted(update.key) {
                continue;
            }
            self.written(watched, &update, changes.version, &mut told);
            if watched.windows.is_empty() {
                continue;
            }
            let class = cursor.classes.iter().find(|class| class.class == watched.class);
            let seen = self.store.windows().seen_by(&update);
            let time = update.version.event_time;
            let corrects = class.is_some_and(|class| class.is_told(update.key, time.0));
            for nth in (0..watched.windows.len()).filter(|nth| seen.contains(&watched.windows[*nth].read.slot)) {
                changed.note(at, update.key, nth, time, corrects);
            }
            for (closing, nth) in &watched.closing {
                let window = &watched.windows[*nth];
                // Most are of windows that are open yet: nothing is read for them.
                if seen.contains(&window.read.slot)
                    && class.is_some_and(|class| class.is_told(update.key, window.ends_after(time)))
                    && let Some(closed) = self.moment.window_of(watched.class, update.key, *closing, time)?
                    && class.is_some_and(|class| class.is_told(update.key, closed.end.0))
                    && again.insert((at, *nth, update.key.to_vec(), closed.end))
                {
                    told.extend(self.closed(watched, *nth, update.key, closed, changes.version, true));
                }
            }
        }
        let done = left.next().is_none();
        for (at, key, windows) in changed.0 {
            self.changed(&self.watched[at], &key, &windows, changes.version, &mut told)?;
        }
        Ok((told, done))
    }

    fn written(&self, watched: &Watched, update: &UpdateRef<'_>, version: ChangeVersion, told: &mut Vec<FeatureChange>) {
        let Some(key) = EntityKey::to_value(watched.key_type, update.key) else { return };
        for (slot, cell) in cells(update.cells).into_iter().flatten() {
            let Some((_, feature)) = watched.stored.iter().find(|(known, _)| *known == slot) else { continue };
            told.push(FeatureChange {
                feature: Arc::clone(feature),
                key: key.clone(),
                value: Value::decode(cell).map(|(value, _)| value).unwrap_or_default(),
                kind: ChangeKind::Written,
                ts: update.version.event_time,
                corrected: false,
                from: None,
                shard: self.shard,
                version,
            });
        }
    }

    /// Values of an entity's windows at the watermark, or at its newest update where that is later.
    fn changed(
        &self,
        watched: &Watched,
        key: &[u8],
        windows: &[(usize, EventTime, bool)],
        version: ChangeVersion,
        told: &mut Vec<FeatureChange>,
    ) -> karst_state::Result<()> {
        let Some(of) = EntityKey::to_value(watched.key_type, key) else { return Ok(()) };
        let watermark =
            self.with_windows().find(|(known, _)| known.class == watched.class).and_then(|(_, watermark)| watermark);
        let newest = windows.iter().map(|(_, newest, _)| *newest).max();
        // Where expiry did not wait any longer, time is later.
        let expiry = Some(self.store.windows().watermark(watched.class));
        let Some(now) = watermark.max(newest).max(expiry) else { return Ok(()) };
        let (sessions, tiles): (Vec<&(usize, EventTime, bool)>, Vec<_>) =
            windows.iter().partition(|(nth, ..)| watched.windows[*nth].is_session());
        let slots: Vec<_> = sessions.iter().map(|(nth, ..)| watched.windows[*nth].read.slot).collect();
        let reads: Vec<_> = tiles.iter().map(|(nth, ..)| watched.windows[*nth].read).collect();
        let mut values = if reads.is_empty() { Vec::new() } else { self.moment.windows(watched.class, key, &reads, now)? };
        if !slots.is_empty() {
            values.extend(self.moment.sessions(watched.class, key, &slots, now)?);
        }
        for ((nth, _, corrected), value) in tiles.into_iter().chain(sessions).zip(values) {
            let window = &watched.windows[*nth];
            // It has been let go only if expiry did not wait any longer.
            let WindowValue::Value { value, as_of } = value else { continue };
            told.push(FeatureChange {
                feature: Arc::clone(&window.feature),
                key: of.clone(),
                value: window.value(value),
                kind: ChangeKind::Changed,
                ts: as_of,
                corrected: *corrected,
                from: None,
                shard: self.shard,
                version,
            });
        }
        Ok(())
    }

    fn closed(
        &self,
        watched: &Watched,
        nth: usize,
        key: &[u8],
        closed: Closed,
        version: ChangeVersion,
        corrected: bool,
    ) -> Option<FeatureChange> {
        let window = &watched.windows[nth];
        Some(FeatureChange {
            feature: Arc::clone(&window.feature),
            key: EntityKey::to_value(watched.key_type, key)?,
            value: window.value(closed.value),
            kind: ChangeKind::Closed,
            ts: closed.end,
            corrected,
            from: Some(closed.from),
            shard: self.shard,
            version,
        })
    }

    /// Tells windows that time has passed, of some entities. The history has been told up to this moment.
    fn windows_that_are_over(&self, cursor: &mut ShardCursor) -> karst_state::Result<Step> {
        for (at, (watched, watermark)) in self.with_windows().enumerate() {
            let class = &mut cursor.classes[at];
            let Some(target) = watermark.map(|watermark| passed(watermark, watched.step)) else { continue };
            let told = *class.told.get_or_insert(target);
            if watched.closing.is_empty() {
                class.told = Some(told.max(target));
                continue;
            }
            if class.telling.is_none() && target <= told {
                continue;
            }
            let (to, after) = class.telling.take().unwrap_or((target, Vec::new()));
            let wanted: Vec<_> = watched.closing.iter().map(|(closing, _)| *closing).collect();
            let range = (EventTime(told), EventTime(to));
            let found = match &watched.keys {
                None => self.moment.closings(watched.class, &wanted, range, &after, ENTITIES)?,
                Some(keys) => self.moment.closings_of(watched.class, &wanted, range, keys, &after, ENTITIES)?,
            };
            // After they were read: then nothing of them had been let go before.
            let let_go = self.let_go_before(watched).filter(|(_, bound)| *bound > told && told != EVERYTHING);
            if let Some((feature, bound)) = let_go {
                let missed = Missed::LetGo { feature: feature.to_string(), from: EventTime(told), to: EventTime(bound) };
                class.told = Some(bound);
                return Ok(Step::Missed(missed, cursor.clone()));
            }
            match found.next {
                Some(next) => class.telling = Some((to, next)),
                None => class.told = Some(to),
            }
            let version = self.moment.version();
            let of = |closed: karst_state::ClosedOf| {
                let nth = watched.closing[closed.nth].1;
                self.closed(watched, nth, &closed.key, closed.closed, version, false)
            };
            return Ok(Step::Told(found.closed.into_iter().filter_map(of).collect()));
        }
        Ok(Step::Idle)
    }

    /// The feature of which most has been let go, and before when.
    fn let_go_before(&self, watched: &Watched) -> Option<(Arc<str>, i64)> {
        let windows = self.store.windows();
        let bound = |(closing, nth): &(karst_state::Closing, usize)| {
            (Arc::clone(&watched.windows[*nth].feature), windows.let_go_before(watched.class, *closing).0)
        };
        watched.closing.iter().map(bound).max_by_key(|(_, bound)| *bound)
    }
}

/// Windows that ended up to here are over: the watermark is past their ends. In whole steps, so that they are not looked for each moment.
pub(super) fn passed(watermark: EventTime, step: i64) -> i64 {
    watermark.0.saturating_sub(1).div_euclid(step).saturating_mul(step)
}

fn count(changes: &Changes) -> usize {
    changes.batches.iter().map(|batch| batch.updates.len()).sum()
}

/// Which windows of which entities have changed, in the order of the first update.
#[derive(Default)]
struct Changed(Vec<(usize, Vec<u8>, Vec<WindowChanged>)>);
/// Which window, the newest of its updates, and whether one came late.
type WindowChanged = (usize, EventTime, bool);

impl Changed {
    fn note(&mut self, at: usize, key: &[u8], nth: usize, time: EventTime, corrects: bool) {
        let place = self.0.iter().position(|(of, known, _)| *of == at && known == key).unwrap_or_else(|| {
            self.0.push((at, key.to_vec(), Vec::new()));
            self.0.len() - 1
        });
        let windows = &mut self.0[place].2;
        match windows.iter_mut().find(|(known, ..)| *known == nth) {
            Some((_, newest, corrected)) => {
                *newest = time.max(*newest);
                *corrected |= corrects;
            }
            None => windows.push((nth, time, corrects)),
        }
    }
}
