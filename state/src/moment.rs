//! The committed state of one shard at one commit, to read several things of the same moment: what subscribers are told is made of it.

use std::sync::Arc;

use karst_types::{ClassId, EventTime, UpdateRef};

use crate::{
    bytes,
    changelog::{self, ChangeVersion, Changes},
    core::LogState,
    error::Result,
    keys,
    lineage::Lineage,
    reader::ShardReader,
    rocks::Snapshot,
    window::{
        ClassSessions, ClassWindows, WindowRead, WindowValue, Windows, archive,
        closing::{self, Closed, Closing},
    },
};

/// One moment of one shard.
pub struct Moment<'a> {
    snapshot: Snapshot<'a>,
    windows: &'a Windows,
    version: ChangeVersion,
    rows: u64,
    trimmed: u64,
}

/// What a look for windows that are over found.
#[derive(Debug, Default)]
pub struct Closings {
    /// By rising key of the entity, then in the order in which the features were named, then by rising end.
    pub closed: Vec<ClosedOf>,
    /// Where to go on; `None`: all entities were looked at.
    pub next: Option<Vec<u8>>,
}

/// A window that is over, and whose.
#[derive(Clone, PartialEq, Debug)]
pub struct ClosedOf {
    /// The entity's key.
    pub key: Vec<u8>,
    /// The index of the feature among those that were asked for.
    pub nth: usize,
    /// The window.
    pub closed: Closed,
}

impl ShardReader {
    /// Lets `read` see the shard as of its newest commit. What it sees does not change meanwhile; nobody waits for it, but for a shard that
    /// is opened again.
    ///
    /// # Errors
    /// Of the disk, or what `read` says.
    pub fn at_one_moment<R>(&self, read: impl FnOnce(&Moment<'_>) -> Result<R>) -> Result<R> {
        let core = self.core();
        core.with_rocks(|rocks| {
            let snapshot = rocks.snapshot();
            let number = |name: &str, absent: u64| -> Result<u64> {
                let stored = snapshot.get(&keys::meta(name))?;
                let wrong = || rocks.corrupt(format!("meta entry \"{name}\""));
                stored.map_or(Ok(absent), |stored| bytes::u64(&mut &stored[..]).ok_or_else(wrong))
            };
            let version = ChangeVersion { incarnation: number("incarnation", 0)?, seq: number("seq", 0)? };
            let row_seq = number("rows", version.seq)?;
            let log = snapshot.get(&keys::meta("log"))?.map_or(Some(LogState::default()), |stored| LogState::decode(&stored));
            let trimmed = log.ok_or_else(|| rocks.corrupt("meta entry \"log\""))?.trimmed;
            let windows = core.windows();
            read(&Moment { snapshot, windows, version, rows: row_seq, trimmed })
        })
    }
}

impl Moment<'_> {
    /// The newest commit.
    pub fn version(&self) -> ChangeVersion {
        self.version
    }
    /// The commit that values of windows are of: in a flood rows are written with one of many.
    pub fn rows(&self) -> u64 {
        self.rows
    }
    /// What is left of what an earlier incarnation had up to commit `seq`: all of it, if this is `seq`; else what came after the answer is void,
    /// and was, or will be, committed anew.
    ///
    /// # Errors
    /// Of the disk, or if it is corrupt.
    pub fn survived(&self, version: ChangeVersion) -> Result<u64> {
        let lineage = self.snapshot.get(&keys::meta("bases"))?.map_or_else(Lineage::default, |stored| Lineage::decode(&stored));
        Ok(lineage.survived(version, self.version.incarnation))
    }
    /// The last commit whose changes have been dropped from the history; 0: none were.
    pub fn trimmed(&self) -> u64 {
        self.trimmed
    }

    /// The first commit after `seq` that applied updates, if there is one.
    ///
    /// # Errors
    /// Of the disk, or if the entry is corrupt.
    pub fn changes_after(&self, seq: u64) -> Result<Option<Arc<Changes>>> {
        let mut found = None;
        self.snapshot.scan(&[keys::CHANGE], &keys::change(seq.saturating_add(1)), |key, entry| {
            let seq = keys::number_of(key).unwrap_or_default();
            let changes = changelog::decode(entry);
            found = Some(changes.ok_or_else(|| self.snapshot.rocks().corrupt(format!("changelog entry {seq}")))?);
            Ok(false)
        })?;
        Ok(found.map(Arc::new))
    }

    fn row(&self, class: ClassId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(stored) = self.snapshot.get(&keys::row(class, key))? else { return Ok(None) };
        self.understood(class, &stored).map(Some)
    }
    fn understood(&self, class: ClassId, stored: &[u8]) -> Result<Vec<u8>> {
        let row = self.windows.read(class, stored);
        row.ok_or_else(|| self.snapshot.rocks().corrupt("the windows of an entity"))
    }
    fn chunk(&self, layout: &ClassWindows, entity: &[u8], level: usize, chunk: i64) -> Result<Option<Vec<u8>>> {
        let (key, _) = archive::key_of(entity, 0, level, chunk);
        self.row(layout.archive(), &key)
    }

    /// Values of an entity over windows.
    ///
    /// # Errors
    /// Of the disk, or if a row is corrupt.
    pub fn windows(&self, class: ClassId, key: &[u8], wanted: &[WindowRead], now: EventTime) -> Result<Vec<WindowValue>> {
        let Some(layout) = self.windows.of(class) else { return Ok(vec![WindowValue::Unknown; wanted.len()]) };
        let live = self.row(ClassWindows::live_of(class), key)?;
        let mut chunks = |level: usize, chunk: i64| self.chunk(layout, key, level, chunk);
        let mut read = |wanted| crate::window::read::read(layout, live.as_deref(), &mut chunks, wanted, now, &mut 0);
        wanted.iter().map(&mut read).collect()
    }

    /// Values of an entity over its sessions that are open at `now`, by the numbers of their aggregates.
    ///
    /// # Errors
    /// As [`Moment::windows`].
    pub fn sessions(&self, class: ClassId, key: &[u8], wanted: &[u16], now: EventTime) -> Result<Vec<WindowValue>> {
        let Some(layout) = self.windows.sessions_of(class) else { return Ok(vec![WindowValue::Unknown; wanted.len()]) };
        let stored = self.row(ClassSessions::stored(class), key)?;
        Ok(wanted.iter().map(|slot| layout.read(stored.as_deref(), *slot, now)).collect())
    }

    /// The window of an entity that an event of this time is in: to be told again. `None` if it has been let go.
    ///
    /// # Errors
    /// As [`Moment::windows`].
    pub fn window_of(&self, class: ClassId, key: &[u8], closing: Closing, time: EventTime) -> Result<Option<Closed>> {
        match closing {
            Closing::Tumbling { slot, span, hop } => {
                let live = self.row(ClassWindows::live_of(class), key)?;
                let Some((layout, live)) = self.windows.of(class).zip(live) else { return Ok(None) };
                let end = karst_types::window::tile_end(time, span).0;
                let mut chunks = |level: usize, chunk: i64| self.chunk(layout, key, level, chunk);
                closing::tumbling_at(layout, &live, &mut chunks, (slot, span, hop), end)
            }
            Closing::Session { slot } => {
                let stored = self.row(ClassSessions::stored(class), key)?;
                let found = self.windows.sessions_of(class).zip(stored);
                Ok(found.and_then(|(layout, stored)| closing::session_at(layout, &stored, slot, time.0)))
            }
        }
    }

    /// Windows of a class that ended after `from` and not after `to`, of at most `limit` entities whose keys are not before `after`.
    ///
    /// # Errors
    /// As [`Moment::windows`].
    pub fn closings(
        &self,
        class: ClassId,
        wanted: &[Closing],
        (from, to): (EventTime, EventTime),
        after: &[u8],
        limit: usize,
    ) -> Result<Closings> {
        let stored_as = [
            (ClassWindows::live_of(class), wanted.iter().any(|closing| matches!(closing, Closing::Tumbling { .. }))),
            (ClassSessions::stored(class), wanted.iter().any(|closing| matches!(closing, Closing::Session { .. }))),
        ];
        let mut found = Closings::default();
        let mut pages = Vec::new();
        for (stored, _) in stored_as.into_iter().filter(|(_, asked)| *asked) {
            let mut page: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            self.snapshot.scan(&keys::row(stored, b""), &keys::row(stored, after), |key, row| {
                if page.len() == limit {
                    // Both kinds of rows go as far.
                    let next = key[keys::ROW_HEAD..].to_vec();
                    found.next = Some(found.next.take().map_or(next.clone(), |other| other.min(next)));
                    return Ok(false);
                }
                page.push((key[keys::ROW_HEAD..].to_vec(), row.to_vec()));
                Ok(true)
            })?;
            pages.push((stored, page));
        }
        let next = found.next.clone();
        for (stored, page) in pages {
            for (key, row) in page.into_iter().filter(|(key, _)| next.as_ref().is_none_or(|next| key < next)) {
                self.closings_in(stored, &key, &row, wanted, (from.0, to.0), &mut found.closed)?;
            }
        }
        found.closed.sort_by(|a, b| (&a.key, a.nth, a.closed.end).cmp(&(&b.key, b.nth, b.closed.end)));
        Ok(found)
    }

    /// The same of these entities, which are by rising key.
    ///
    /// # Errors
    /// As [`Moment::windows`].
    pub fn closings_of(
        &self,
        class: ClassId,
        wanted: &[Closing],
        (from, to): (EventTime, EventTime),
        entities: &[Vec<u8>],
        after: &[u8],
        limit: usize,
    ) -> Result<Closings> {
        let mut found = Closings::default();
        let mut left = entities.iter().filter(|key| &key[..] >= after);
        for key in left.by_ref().take(limit) {
            for stored in [ClassWindows::live_of(class), ClassSessions::stored(class)] {
                if let Some(row) = self.snapshot.get(&keys::row(stored, key))? {
                    self.closings_in(stored, key, &row, wanted, (from.0, to.0), &mut found.closed)?;
                }
            }
        }
        found.next = left.next().cloned();
        found.closed.sort_by(|a, b| (&a.key, a.nth, a.closed.end).cmp(&(&b.key, b.nth, b.closed.end)));
        Ok(found)
    }

    /// The windows in a row under a class of tiles, or of sessions.
    fn closings_in(
        &self,
        stored: ClassId,
        key: &[u8],
        row: &[u8],
        wanted: &[Closing],
        range: (i64, i64),
        found: &mut Vec<ClosedOf>,
    ) -> Result<()> {
        let row = self.understood(stored, row)?;
        let (tiles, sessions) = match ClassSessions::is_stored(stored) {
            true => (None, self.windows.sessions_of(stored)),
            false => (self.windows.of(stored), None),
        };
        for (nth, closing) in wanted.iter().enumerate() {
            let closed = match (closing, tiles, sessions) {
                (Closing::Tumbling { slot, span, hop }, Some(layout), _) => {
                    let mut chunks = |level: usize, chunk: i64| self.chunk(layout, key, level, chunk);
                    closing::tumbling(layout, &row, &mut chunks, (*slot, *span, *hop), range)?
                }
                (Closing::Session { slot }, _, Some(layout)) => closing::sessions(layout, &row, *slot, range),
                _ => continue,
            };
            found.extend(closed.into_iter().map(|closed| ClosedOf { key: key.to_vec(), nth, closed }));
        }
        Ok(())
    }
}

impl Windows {
    /// The numbers of the aggregates of its class that see this update.
    pub fn seen_by(&self, update: &UpdateRef<'_>) -> Vec<u16> {
        let mut seen = self.of(update.class).map_or_else(Vec::new, |layout| layout.sees(update));
        seen.extend(self.sessions_of(update.class).into_iter().flat_map(|layout| layout.sees(update)));
        seen
    }

    /// Before this, windows that ended may have been let go.
    pub fn let_go_before(&self, class: ClassId, closing: Closing) -> EventTime {
        let bound = closing.bound(self.of(class).map(|class| &**class), self.sessions_of(class).map(|class| &**class));
        EventTime(bound.unwrap_or(i64::MIN))
    }
}
