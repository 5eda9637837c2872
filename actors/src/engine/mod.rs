//! The engine: built from sources, resolvers and a directory; started; asked; drained; shut down.

mod builder;
mod report;
mod scan;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use karst_connectors::{RunningSource, SourceSettings};
use karst_features::{Catalog, Registry};
use karst_runtime::{ExitStatus, drain};
use karst_state::{LaneId, ReplayRequest, Store};
use karst_types::{Clock, SourceId};
use tokio::sync::Notify;

pub use self::{builder::EngineBuilder, scan::ScannedRow};
use crate::{
    error::{Error, Result},
    late::ResolverLateness,
    letter_forwarder::Forwarding,
    metrics::ResolverCounts,
    online_query::{OnlineQuery, QueryAnswer, QueryRequest},
    protocol::ShardControl,
    settings::EngineSettings,
    source_time::SourceTime,
    status::ResolverStatus,
    subscription::{ChangeFeed, Passing, Subscription},
    topology::{SourcePlan, Wiring},
};

/// How long [`Engine::shutdown`] lets batches on the way drain; with what sources and servers take, below the 30 s that Kubernetes
/// grants.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(18);
/// How often [`Engine::drain`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

pub(crate) struct SourceView {
    pub(crate) settings: SourceSettings,
    pub(crate) id: SourceId,
    kind: &'static str,
    running: Arc<dyn RunningSource>,
    pub(crate) time: Arc<SourceTime>,
    plan: Arc<SourcePlan>,
    forwarding: Option<Arc<Forwarding>>,
    counts: Vec<(String, Arc<ResolverCounts>)>,
}

impl SourceView {
    pub(crate) fn late_by_resolver(&self) -> Vec<(String, ResolverLateness)> {
        self.counts.iter().map(|(name, counts)| (name.clone(), counts.late())).collect()
    }
    fn resolvers(&self) -> Vec<ResolverStatus> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let one = |(name, counts): &(String, Arc<ResolverCounts>)| ResolverStatus {
            name: name.clone(),
            applied: read(&counts.applied),
            nothing: read(&counts.nothing),
            skipped: read(&counts.skipped),
            failed: read(&counts.failed),
        };
        self.counts.iter().map(one).collect()
    }
}

pub(crate) struct Inner {
    settings: EngineSettings,
    pub(crate) registry: Arc<Registry>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wiring: Arc<Wiring>,
    pub(crate) sources: Vec<SourceView>,
    query: OnlineQuery,
    pub(crate) passing: Arc<Passing>,
}

/// A running engine. Dropping it without [`Engine::shutdown`] is what a crash is: nothing is lost, and what was not committed is
/// read again at the next start.
pub struct Engine {
    handle: EngineHandle,
}

/// Asks a running engine, from any thread. Clones are cheap. It keeps the state directory open.
#[derive(Clone)]
pub struct EngineHandle(pub(crate) Arc<Inner>);

impl Engine {
    /// Begins an engine whose state is kept in `dir`, which is made if it is not there.
    pub fn builder(dir: impl Into<PathBuf>) -> EngineBuilder {
        EngineBuilder::new(dir.into())
    }

    /// For servers and other threads.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Answers a query. See [`EngineHandle::query`].
    pub fn query(&self, request: &QueryRequest) -> QueryAnswer {
        self.handle.query(request)
    }

    /// Waits until everything that the sources hold now, as far as they have been told, is applied and committed. With no end in
    /// sight (a broker that is down, a source that fails, a partition that `max_failing_percent` or a gap has stopped) it waits on:
    /// use a timeout, and [`EngineHandle::health`] to tell why. Needs a tokio timer.
    ///
    /// # Errors
    /// None today; a stage that was given up may become one.
    pub async fn drain(&self) -> Result<()> {
        // Twice: one look may fall between the moment a batch leaves its source and the moment it counts as read.
        let mut looks = 0;
        while looks < 2 {
            looks = if self.handle.is_drained() { looks + 1 } else { 0 };
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Stops in the order of the path: sources first, shards last, so that what was read is committed. What could not be
    /// drained in time is read again at the next start, and so is what waits for a dependency that is away, such as a schema
    /// registry: that is not waited for, and a warning says what it was.
    ///
    /// # Errors
    /// [`Error::Timeout`] names the stages that did not end in time.
    pub async fn shutdown(self) -> Result<()> {
        let inner = &self.handle.0;
        let end = inner.clock.elapsed() + SHUTDOWN_WITHIN;
        let mut report = drain(&inner.wiring.supervisors(), SHUTDOWN_WITHIN, &*inner.clock).await;
        let left = end.saturating_sub(inner.clock.elapsed());
        report.extend(drain(&inner.wiring.stages(), left, &*inner.clock).await);
        for source in &inner.sources {
            source.running.stop().await;
        }
        let left: Vec<String> = report
            .into_iter()
            .filter(|(_, status)| !matches!(status, ExitStatus::Drained | ExitStatus::Waiting { .. }))
            .map(|(stage, status)| format!("{stage}: {status:?}"))
            .collect();
        if left.is_empty() {
            inner.wiring.hands.notes().clear();
            return Ok(());
        }
        Err(Error::Timeout { what: "shutdown", within_s: SHUTDOWN_WITHIN.as_secs_f64(), left: left.join(", ") })
    }
}

impl EngineHandle {
    /// Answers a query on the calling thread, in microseconds for entities in memory; reads the disk for others. Mistakes in the
    /// query are in [`QueryAnswer::errors`], those of one feature at that feature.
    pub fn query(&self, request: &QueryRequest) -> QueryAnswer {
        self.0.query.answer(request)
    }
    /// How a query would be answered, in words.
    pub fn explain(&self, request: &QueryRequest) -> String {
        self.0.query.plan(request).explain()
    }
    /// Begins to tell what changes, from what is committed. Nothing is gathered for it: it reads on as it is asked to
    /// ([`ChangeFeed::next`]), and however slow it is, the engine goes on.
    ///
    /// # Errors
    /// [`Error::Subscription`] with all that is wrong with it.
    pub fn subscribe(&self, subscription: &Subscription) -> Result<ChangeFeed> {
        ChangeFeed::new(self, subscription)
    }
    /// What was declared.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }
    /// The settings it runs with.
    pub fn settings(&self) -> &EngineSettings {
        &self.0.settings
    }
    /// The clock it runs by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Makes a backup of the whole state directory, in its folder `backups`, and returns where it is. Blocks: commits wait, and so may
    /// sources, as long as it takes to flush what is in memory.
    ///
    /// # Errors
    /// [`Error::State`]: it is no name, there is one of this name, or the disk says no.
    pub fn backup(&self, name: &str) -> Result<PathBuf> {
        Ok(self.0.store.backup(name)?)
    }

    fn is_drained(&self) -> bool {
        let inner = &self.0;
        if !inner.sources.iter().all(|source| source.time.is_discovered()) {
            return false;
        }
        let at_end = inner.sources.iter().all(|source| {
            let health = source.running.health();
            health.partitions.iter().all(|partition| partition.next.is_some() && partition.next >= partition.end)
        });
        at_end
            && inner.store.rows_written()
            && inner.wiring.origins.lanes().iter().all(|partition| {
                let fetched = partition.fetched_through();
                partition.caught_up() && (fetched.is_none() || inner.store.committed(partition.lane()) >= fetched)
            })
            && inner.sources.iter().all(|source| {
                // What was queued a moment ago may not have woken its reader yet.
                let done = inner.store.committed(LaneId::replay(source.id));
                inner.store.source_reader().replay_log(source.id, done, 1).is_ok_and(|left| left.is_empty())
            })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }
    /// All sources that the state directory knows, also those that nobody declares any more.
    pub(crate) fn source_ids(&self) -> impl Iterator<Item = (String, SourceId)> + '_ {
        let names = self.0.catalog.sources().iter();
        names.filter_map(|name| self.0.catalog.source_id(name).map(|id| (name.clone(), id)))
    }
    /// The path of a source's replay log; what wakes it.
    pub(crate) fn replay_path(&self, source: &str) -> Result<Arc<Notify>> {
        let view = self.0.sources.iter().find(|view| view.settings.name.as_str() == source);
        let view = view.ok_or_else(|| Error::NotRead { source_name: source.to_owned() })?;
        Ok(self.0.wiring.replays(&view.settings, view.id, &view.plan))
    }
    pub(crate) async fn ask_source_shard(&self, request: ReplayRequest) -> Result<()> {
        self.0
            .wiring
            .ask_source_shard(ShardControl::Replay(request))
            .await
            .map_err(|_| Error::Busy { what: "the source shard" })
    }
}
