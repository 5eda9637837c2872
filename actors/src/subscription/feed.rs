//! One subscriber's steps: each is a look ([`look`](super::look)) at one shard; the shards take turns.
//!
//! Invariant: the cursor moves with what is told, never before it.

use std::sync::Arc;

use karst_state::{ChangeVersion, Changes, Moment, ShardReader, Store};
use karst_types::EventTime;

use super::{
    FeatureChanges, Since, Subscription,
    cursor::{ClassCursor, Cursor, EVERYTHING, ShardCursor},
    look::{Due, Look, Step, passed},
    passing::{Listener, Passing},
    watched::{self, Watched},
};
use crate::{
    EngineHandle,
    error::{Error, Result},
};

pub(super) struct Feed {
    watched: Vec<Watched>,
    store: Store,
    passing: Arc<Passing>,
    listener: Arc<Listener>,
    shards: Vec<ShardCursor>,
    /// The shard whose turn it is.
    turn: usize,
    /// The commit that is being told in parts, of that shard.
    open: Option<Arc<Changes>>,
    /// For each shard, what waits for rows to be written.
    due: Vec<Option<Due>>,
}

impl Feed {
    pub(super) fn new(engine: &EngineHandle, subscription: &Subscription) -> Result<Self> {
        let inner = &engine.0;
        let watched = watched::find(&inner.registry, &inner.catalog, subscription).map_err(Error::Subscription)?;
        let with_windows = || watched.iter().filter(|watched| !watched.windows.is_empty());
        let class = |watched: &Watched| ClassCursor {
            class: watched.class,
            told: inner.passing.watermark(watched.class).map(|watermark| passed(watermark, watched.step)),
            telling: None,
        };
        let readers = inner.store.reader();
        let shards = match &subscription.since {
            Since::Cursor(cursor) => {
                let classes: Vec<_> = with_windows().map(|watched| watched.class).collect();
                check(cursor, &inner.store, &classes).map_err(|wrong| Error::Subscription(vec![wrong]))?;
                cursor.shards.clone()
            }
            Since::Now => {
                // Time first: what it stands for is in the commits then.
                let classes: Vec<_> = with_windows().map(class).collect();
                let at = |reader: &ShardReader| ShardCursor { version: reader.newest(), skip: 0, classes: classes.clone() };
                readers.shards().iter().map(at).collect()
            }
            Since::Oldest => {
                let classes: Vec<_> =
                    with_windows().map(|watched| ClassCursor { told: Some(EVERYTHING), ..class(watched) }).collect();
                let oldest = |moment: &Moment<'_>| {
                    let version = ChangeVersion { seq: moment.trimmed(), ..moment.version() };
                    Ok(ShardCursor { version, skip: 0, classes: classes.clone() })
                };
                readers.shards().iter().map(|reader| reader.at_one_moment(oldest)).collect::<karst_state::Result<_>>()?
            }
        };
        let feed = Self {
            watched,
            store: inner.store.clone(),
            passing: Arc::clone(&inner.passing),
            listener: inner.passing.listen(),
            due: shards.iter().map(|_| None).collect(),
            shards,
            turn: 0,
            open: None,
        };
        feed.report();
        Ok(feed)
    }

    pub(super) fn cursor(&self) -> Cursor {
        Cursor { directory: Cursor::directory_of(self.store.id()), shards: self.shards.clone() }
    }

    /// Tells expiry how far this subscriber is.
    fn report(&self) {
        for (nth, watched) in self.with_windows().enumerate() {
            let least = self.shards.iter().filter_map(|shard| shard.classes.get(nth)?.told).min();
            if let Some(least) = least {
                self.listener.told(watched.class, EventTime(least));
            }
        }
    }
    fn with_windows(&self) -> impl Iterator<Item = &Watched> {
        self.watched.iter().filter(|watched| !watched.windows.is_empty())
    }

    /// Looks at the shards in turn until one has something new.
    pub(super) fn step(&mut self) -> Result<Option<FeatureChanges>> {
        for _ in 0..self.shards.len() {
            let (shard, looked) = (self.turn, self.look());
            // A shard that is being opened again does not keep the others from their turns.
            if self.open.is_none() {
                self.turn = (self.turn + 1) % self.shards.len();
            }
            match looked? {
                Step::Idle => {}
                Step::Told(changes) => return Ok(Some(FeatureChanges { changes, cursor: self.cursor() })),
                Step::Missed(missed, resume) => {
                    let mut cursor = self.cursor();
                    cursor.shards[shard] = resume;
                    return Err(Error::Missed { missed, resume: Box::new(cursor) });
                }
            }
        }
        Ok(None)
    }

    fn look(&mut self) -> Result<Step> {
        // Time first, then the commit: what stands for that time is in it, and stays in it until its rows are written.
        let now = || self.with_windows().map(|watched| self.passing.watermark(watched.class)).collect();
        let watermarks: Vec<_> = self.due[self.turn].as_ref().map_or_else(now, |due| due.watermarks.clone());
        let reader = self.store.reader().shards()[self.turn].clone();
        let newest = reader.newest();
        let seq = self.due[self.turn].as_ref().map_or(newest.seq, |due| due.seq);
        let due = Due { watermarks, seq };
        let mut cursor = self.shards[self.turn].clone();
        let time_has_come =
            cursor.classes.iter().zip(self.with_windows()).zip(&due.watermarks).any(|((class, watched), watermark)| {
                let target = watermark.map(|watermark| passed(watermark, watched.step));
                class.telling.is_some() || target.is_some_and(|target| class.told.is_none_or(|told| told < target))
            });
        if self.open.is_none() && cursor.skip == 0 && newest == cursor.version && !time_has_come {
            self.due[self.turn] = None;
            return Ok(Step::Idle);
        }
        let (mut open, mut written) = (self.open.take(), false);
        let looked = reader.at_one_moment(|moment| {
            written = moment.rows() >= due.seq;
            let (watched, store, shard) = (&self.watched[..], &self.store, self.turn as u16);
            Look { watched, store, moment, shard, due: &due }.run(&mut cursor, &mut open)
        })?;
        self.due[self.turn] = (!written).then_some(due);
        if !matches!(looked, Step::Missed(..)) {
            (self.open, self.shards[self.turn]) = (open, cursor);
            self.report();
        }
        Ok(looked)
    }
}

fn check(cursor: &Cursor, store: &Store, classes: &[karst_types::ClassId]) -> Result<(), String> {
    if cursor.directory != Cursor::directory_of(store.id()) {
        return Err("the cursor is of another state directory: begin without one".to_owned());
    }
    let shards = store.reader().shards().len();
    if cursor.shards.len() != shards {
        return Err(format!("the cursor has {} shards; expected {shards}", cursor.shards.len()));
    }
    let same = |shard: &ShardCursor| shard.classes.iter().map(|class| class.class).eq(classes.iter().copied());
    if !cursor.shards.iter().all(same) {
        return Err("the cursor is of a subscription to windows of other classes: begin without one".to_owned());
    }
    Ok(())
}
