//! The engine: built from sources, resolvers and a directory; started; asked; drained; shut down.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use karst_connectors::{BatchDecoder, HealthState, RunningSource, Source, SourceSettings};
use karst_features::{
    BatchResolver, Catalog, FeatureClass, FeatureSet, IntoStreamResolver, Mistakes, Registry, RegistryBuilder,
    StreamDeclaration, StreamResolver, bind,
};
use karst_runtime::{Budget, ExitStatus, Host, SystemClock, drain, spawn};
use karst_state::{ClassSize, LaneId, ReplayRequest, Store};
use karst_types::{ByteSize, Clock, SourceId};
use tokio::sync::Notify;

use crate::{
    error::{Error, Result},
    hands::Hands,
    late::ResolverLateness,
    letter_forwarder::Forwarding,
    metrics::ResolverCounts,
    online_query::{OnlineQuery, QueryAnswer, QueryRequest},
    protocol::ShardControl,
    settings::EngineSettings,
    source_supervisor::SourceSupervisor,
    source_time::SourceTime,
    status::{Health, PartitionStatus, Problem, ResolverStatus, ShardStatus, SourceStatus, StageView, Status, Topology},
    stream_resolver::share_messages,
    subscription::{ChangeFeed, Passing, Subscription},
    topology::{SourcePlan, Wiring, diagram},
    windows::{self, WindowClock},
};

/// How long [`Engine::shutdown`] lets batches on the way drain; with what sources and servers take, below the 30 s that Kubernetes
/// grants.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(18);
/// How often [`Engine::drain`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A resolver whose types only this knows.
trait Declared: Send + Sync {
    fn declare(&self, registry: &mut RegistryBuilder);
    fn declaration(&self) -> StreamDeclaration;
    fn bind(&self, catalog: &Catalog) -> Result<Box<dyn BatchResolver>, Mistakes>;
    fn decoder(&self, settings: &SourceSettings) -> Box<dyn BatchDecoder>;
}

struct Typed<R>(Arc<R>);

impl<R: StreamResolver> Declared for Typed<R> {
    fn declare(&self, registry: &mut RegistryBuilder) {
        registry.add_resolver(&*self.0);
    }
    fn declaration(&self) -> StreamDeclaration {
        self.0.declaration()
    }
    fn bind(&self, catalog: &Catalog) -> Result<Box<dyn BatchResolver>, Mistakes> {
        bind(Arc::clone(&self.0), catalog)
    }
    fn decoder(&self, settings: &SourceSettings) -> Box<dyn BatchDecoder> {
        settings.format.decoder::<R::Message>(settings)
    }
}

/// Gathers what an engine is made of. Nothing is checked or started before [`EngineBuilder::start`].
#[must_use = "an engine begins with start()"]
pub struct EngineBuilder {
    dir: PathBuf,
    settings: EngineSettings,
    clock: Arc<dyn Clock>,
    sources: Vec<Box<dyn Source>>,
    registry: RegistryBuilder,
    resolvers: Vec<Arc<dyn Declared>>,
    host: Option<Host>,
}

impl EngineBuilder {
    /// Adds a source.
    #[track_caller]
    pub fn source(mut self, source: impl Source) -> Self {
        self.registry.add_source(source.settings().name.as_str());
        self.sources.push(Box::new(source));
        self
    }
    /// Adds a stream resolver, and the feature classes that it writes if it names them. The resolvers of a source see each
    /// message in the order in which they were added, those that take it by value last.
    pub fn resolver<R: IntoStreamResolver>(mut self, resolver: R) -> Self {
        let typed = Typed(Arc::new(resolver.into_resolver()));
        typed.declare(&mut self.registry);
        self.resolvers.push(Arc::new(typed));
        self
    }
    /// Adds a feature class that was declared with `#[features]`. Those that a `#[stream]` resolver writes are there already.
    pub fn features<C: FeatureSet>(mut self) -> Self {
        self.registry.add_set::<C>();
        self
    }
    /// Adds a feature class that was declared by hand.
    pub fn class(mut self, class: FeatureClass) -> Self {
        self.registry.add_class(class);
        self
    }
    /// Replaces the settings.
    pub fn settings(mut self, settings: EngineSettings) -> Self {
        self.settings = settings;
        self
    }
    /// Replaces the clock; for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Runs all stages, and the writing of commits, on this one thread instead of several of their own: for small machines, and for
    /// simulations ([`Host::paced`](karst_runtime::Host::paced)). Threads of sources are theirs.
    pub fn host(mut self, host: Host) -> Self {
        self.host = Some(host);
        self
    }

    /// Checks everything, opens the state directory, and starts reading where it was left. Does not wait for brokers: one
    /// that is not there shows in [`EngineHandle::health`].
    ///
    /// # Errors
    /// [`Error::Settings`] and [`Error::Declarations`] with all mistakes at once; [`Error::State`] if the directory cannot be
    /// used; [`Error::Source`] if a source is not configured correctly.
    pub async fn start(self) -> Result<Engine> {
        let Self { dir, settings, clock, sources, registry, resolvers, host } = self;
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(Error::Settings(problems));
        }
        let registry = Arc::new(registry.freeze()?);
        let has_windows = registry.classes().iter().any(|class| !class.windowed_features().is_empty());
        let store = match has_windows {
            true => Store::open_with_windows(dir, &settings.store, Arc::clone(&clock))?,
            false => Store::open(dir, &settings.store, Arc::clone(&clock))?,
        };
        let catalog = Arc::new(reconcile(&store, &registry)?);
        store.declare_windows(windows::declare(&registry, &catalog).map_err(Error::Catalog)?)?;
        let mut started = Vec::new();
        for source in sources {
            // There is nothing to decode it into, so it is not even connected to.
            let name = source.settings().name.as_str();
            if resolvers.iter().all(|resolver| resolver.declaration().source != name) {
                tracing::warn!(source = name, "no resolver reads this source: it is not started");
                continue;
            }
            let running: Arc<dyn RunningSource> = Arc::from(source.start(Arc::clone(&clock))?);
            let settings = SourceSettings::clone(source.settings());
            started.push((settings.with_format(source.resolved_format()), source.kind(), running));
        }
        let hands = Hands::new(store.in_hand()?, settings.deaths_before_aside);
        tell_suspects(&hands, &catalog);
        let wiring = Wiring::new(settings.clone(), Arc::clone(&catalog), store.clone(), Arc::clone(&clock), host, hands)?;
        let wiring = Arc::new(wiring);
        let mut views = Vec::new();
        for (source, kind, running) in started {
            let id =
                catalog.source_id(source.name.as_str()).ok_or_else(|| Error::Catalog(format!("no source {}", source.name)))?;
            let time = SourceTime::new(source.clone(), id, Arc::clone(&running), store.clone());
            let of = |resolver: &&Arc<dyn Declared>| resolver.declaration().source == source.name.as_str();
            let mut own: Vec<_> = resolvers.iter().filter(of).cloned().collect();
            // Whoever takes the message comes last: the others need no copy of it.
            own.sort_by_key(|resolver| resolver.declaration().by_value);
            let counts: Vec<_> =
                own.iter().map(|resolver| (resolver.declaration().name, Arc::<ResolverCounts>::default())).collect();
            let Some(first) = own.first().cloned() else { continue };
            let decoded = source.clone();
            let plan = Arc::new(SourcePlan {
                running: Arc::clone(&running),
                decoder: Arc::new(move || first.decoder(&decoded)),
                resolvers: Arc::new(move |catalog| {
                    let mut bound = own.iter().map(|resolver| resolver.bind(catalog)).collect::<Result<Vec<_>, _>>()?;
                    share_messages(&mut bound);
                    Ok(bound)
                }),
                counts: counts.clone(),
                budget: Budget::new(format!("memory of {}", source.name), source.memory.bytes() / 2),
            });
            // What was queued before a stop goes on.
            let after = store.restart_point(LaneId::replay(id)).after;
            if !store.source_reader().replay_log(id, after, 1)?.is_empty() {
                wiring.replays(&source, id, &plan);
            }
            let forwarding = running.letter_sink().map(|sink| {
                let forwarding = Arc::new(Forwarding::new(source.name.clone(), sink, Arc::clone(&clock)));
                wiring.forwarder(id, &forwarding);
                forwarding
            });
            views.push(SourceView {
                forwarding,
                settings: source.clone(),
                id,
                kind,
                running,
                plan: Arc::clone(&plan),
                time: Arc::clone(&time),
                counts,
            });
            let weak = Arc::downgrade(&wiring);
            let label = format!("source_supervisor {}", source.name);
            wiring.supervisor(
                |host, spec| {
                    let make = move || {
                        let (time, plan, wiring) = (Arc::clone(&time), plan.clone(), weak.clone());
                        Ok(SourceSupervisor { time, id, plan, wiring })
                    };
                    spawn(host, spec, make).1
                },
                label,
            );
        }
        let passing = Arc::<Passing>::default();
        let window_clock = WindowClock::new(&store, &registry, &catalog, Arc::clone(&passing));
        wiring.watchdog(views.iter().map(|view: &SourceView| Arc::clone(&view.time)).collect(), window_clock)?;
        let query = OnlineQuery::new(Arc::clone(&registry), Arc::clone(&catalog), store.clone(), Arc::clone(&clock));
        let inner = Inner { settings, registry, catalog, store, clock, wiring, sources: views, query, passing };
        Ok(Engine { handle: EngineHandle(Arc::new(inner)) })
    }
}

/// Ids once given stay: the stored catalog is extended by what was declared anew, before anything is written with it.
fn reconcile(store: &Store, registry: &Registry) -> Result<Catalog> {
    let mut catalog = match store.catalog_text()? {
        Some(text) => Catalog::from_text(&text).map_err(|error| Error::Catalog(error.to_string()))?,
        None => Catalog::new(),
    };
    let changes = catalog.reconcile(registry)?;
    if !changes.is_empty() {
        store.set_catalog_text(&catalog.to_text())?;
        tracing::info!(%changes, "catalog extended");
    }
    Ok(catalog)
}

/// The process before this one ended in the middle of something.
fn tell_suspects(hands: &Hands, catalog: &Catalog) {
    for lane in hands.notes().suspected_lanes() {
        let named = catalog.sources().iter().find(|name| catalog.source_id(name) == Some(lane.source));
        let (source, partition) = (named.map_or("(not read any more)", String::as_str), lane.partition.0);
        for (first, last) in hands.notes().suspected(lane) {
            let (first, last) = (first.0, last.0);
            tracing::warn!(source, partition, first, last, "in hand when the process ended: these records are read one by one");
        }
    }
}

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
        EngineBuilder {
            dir: dir.into(),
            settings: EngineSettings::default(),
            clock: Arc::new(SystemClock),
            sources: Vec::new(),
            registry: Registry::builder(),
            resolvers: Vec::new(),
            host: None,
        }
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

    /// How far it is: positions, lag, watermarks, and what became of every record.
    pub fn status(&self) -> Status {
        let inner = &self.0;
        let outcomes = inner.store.source_reader().outcomes();
        let partitions = inner.wiring.origins.partitions();
        let sources = inner.sources.iter().map(|source| {
            let health = source.running.health();
            let own = partitions.iter().filter(|partition| partition.settings.name == source.settings.name);
            let mut partitions: Vec<PartitionStatus> = own
                .map(|partition| {
                    let lane = partition.lane();
                    let sums = outcomes.iter().find(|sums| (sums.source, sums.partition) == (lane.source, lane.partition));
                    let view = health.partitions.iter().find(|view| view.partition == partition.id);
                    PartitionStatus {
                        partition: partition.id,
                        committed: inner.store.committed(lane),
                        fetched: partition.fetched_through(),
                        end: view.and_then(|view| view.end),
                        lag: view.and_then(|view| view.lag).or_else(|| partition.lag()),
                        watermark: partition.watermark(),
                        outcomes: sums.map(|sums| sums.outcomes).unwrap_or_default(),
                        reasons: sums.map(|sums| sums.reasons.clone()).unwrap_or_default(),
                        tripped: partition.tripped(),
                        halted: partition.halted().map(|halt| halt.why),
                        paused: view.map_or_else(|| partition.is_paused(), |view| view.paused),
                        rewinds: partition.rewinds(),
                    }
                })
                .collect();
            // Those that are not found yet (a broker that is down) have a past nevertheless.
            let id = inner.catalog.source_id(source.settings.name.as_str());
            for sums in outcomes.iter().filter(|sums| Some(sums.source) == id) {
                if partitions.iter().all(|known| known.partition != sums.partition) {
                    partitions.push(PartitionStatus {
                        partition: sums.partition,
                        committed: inner.store.committed(LaneId { source: sums.source, partition: sums.partition }),
                        fetched: None,
                        end: None,
                        lag: None,
                        watermark: None,
                        outcomes: sums.outcomes,
                        reasons: sums.reasons.clone(),
                        tripped: None,
                        halted: None,
                        paused: false,
                        rewinds: 0,
                    });
                }
            }
            partitions.sort_by_key(|partition| partition.partition);
            SourceStatus {
                name: source.settings.name.to_string(),
                kind: source.kind,
                partitions,
                resolvers: source.resolvers(),
            }
        });
        let sources = sources.collect();
        let shard = |reader: &karst_state::ShardReader| {
            let (hot_entities, hot_bytes) = reader.hot();
            ShardStatus {
                shard: reader.id().0,
                commit: reader.newest().seq,
                hot_entities,
                hot_bytes: ByteSize(hot_bytes as u64),
            }
        };
        let dead_letters = inner.store.source_reader().dead_letter_counts().ok();
        Status { sources, shards: inner.store.reader().shards().iter().map(shard).collect(), dead_letters }
    }

    /// What is not well, by name, and why.
    pub fn health(&self) -> Health {
        let inner = &self.0;
        let now = inner.clock.elapsed();
        let stages = inner.wiring.board.snapshot(now);
        let looked_at = stages.len() + inner.sources.len() + usize::from(inner.settings.store.shards) + 1;
        let mut problems: Vec<Problem> = stages.into_iter().filter_map(|stage| StageView::new(stage, now).problem()).collect();
        for partition in inner.wiring.origins.lanes().iter().filter(|partition| partition.is_stalled()) {
            let why = format!("records are read, and none has been committed for {} s", inner.settings.stuck_after_s);
            let hint = "look at the shards: a disk that is full or hangs, or a resolver that never returns".to_owned();
            problems.push(Problem { what: format!("partition {}", partition.label), why, since: None, hint });
        }
        for partition in inner.wiring.origins.partitions() {
            if let Some(why) = partition.tripped() {
                let hint =
                    "nothing is lost: it goes on from there. Mend the cause, or raise max_failing_percent, and restart karst";
                problems.push(Problem { what: format!("partition {}", partition.label), why, since: None, hint: hint.into() });
            }
        }
        for partition in inner.wiring.origins.partitions() {
            if let Some(halt) = partition.halted() {
                let hint = match halt.gap {
                    Some(_) => format!(
                        "bring the log back and restart karst, or accept the loss: karst source accept-gap {} --partition {}",
                        partition.settings.name, partition.id
                    ),
                    None => "the other partitions go on. Bring the log back and restart karst, or give the source another name"
                        .into(),
                };
                problems.push(Problem { what: format!("partition {}", partition.label), why: halt.why, since: None, hint });
            }
        }
        for forwarding in inner.sources.iter().filter_map(|source| source.forwarding.as_ref()) {
            if let Some((why, since)) = forwarding.trouble() {
                let what = format!("dead letters of {} to {}", forwarding.source, forwarding.sink.name());
                let hint = "the source goes on, and its letters are kept; they are sent once the cause is gone".to_owned();
                problems.push(Problem { what, why, since: Some(since), hint });
            }
        }
        for source in &inner.sources {
            let what = format!("source {}", source.settings.name);
            let health = source.running.health();
            match health.state {
                HealthState::Ok => {}
                HealthState::Waiting { why, since } => {
                    let hint = "nothing is lost; it goes on by itself once the cause is gone".to_owned();
                    problems.push(Problem { what: what.clone(), why, since: Some(since), hint });
                }
                HealthState::Failed { why } => {
                    let hint = "correct the cause and restart karst".to_owned();
                    problems.push(Problem { what: what.clone(), why, since: None, hint });
                }
            }
            for partition in health.partitions {
                if let Some(why) = partition.fault {
                    let hint = "the other partitions go on; see the log".to_owned();
                    problems.push(Problem { what: format!("{what}[{}]", partition.partition), why, since: None, hint });
                }
            }
        }
        for sums in inner.store.source_reader().outcomes().iter().filter(|sums| !sums.outcomes.conserved()) {
            let source = inner
                .sources
                .iter()
                .find(|view| view.id == sums.source)
                .map_or("(not read any more)", |view| view.settings.name.as_str());
            let why = format!("{} records have no outcome: {:?}", sums.outcomes.missing(), sums.outcomes);
            let hint = "this is a fault of Karst: please report it with the log".to_owned();
            problems.push(Problem { what: format!("partition {source}[{}]", sums.partition), why, since: None, hint });
        }
        for (shard, why) in inner.store.stopped() {
            let hint = "free space or mend the disk; the shard opens itself again and replays".to_owned();
            problems.push(Problem { what: shard.to_string(), why, since: None, hint });
        }
        Health { healthy: problems.is_empty(), problems, looked_at }
    }

    /// Makes a backup of the whole state directory, in its folder `backups`, and returns where it is. Blocks: commits wait, and so may
    /// sources, as long as it takes to flush what is in memory.
    ///
    /// # Errors
    /// [`Error::State`]: it is no name, there is one of this name, or the disk says no.
    pub fn backup(&self, name: &str) -> Result<PathBuf> {
        Ok(self.0.store.backup(name)?)
    }

    /// The stages as they run.
    pub fn topology(&self) -> Topology {
        let now = self.0.clock.elapsed();
        let stages = self.0.wiring.board.snapshot(now).into_iter().map(|stage| StageView::new(stage, now)).collect();
        Topology { diagram: diagram(&self.0.settings), stages }
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

    /// Committed rows of a feature class, for exports and checks: key and values by feature name, by rising key within each
    /// shard. All of them are gathered in memory.
    ///
    /// # Errors
    /// [`Error::State`] if they could not be read.
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
                    let name = |slot: karst_types::FeatureSlot| {
                        known.features().get(usize::from(slot.0)).map(|feature| feature.name.clone())
                    };
                    let cells = row.cells().filter_map(|(slot, cell)| Some((name(slot)?, cell.value))).collect();
                    all.extend(karst_types::EntityKey::to_value(key_type, key).map(|key| (key, cells)));
                }
            }
        }
        Ok(all)
    }

    /// How much the committed rows of a feature class take on disk, before compression: what `karst plan` predicts of its windows, as it
    /// is. Reads all of them.
    ///
    /// # Errors
    /// [`Error::State`] if they could not be read.
    pub fn class_size(&self, class: &str) -> Result<ClassSize> {
        let mut all = ClassSize::default();
        let Some(id) = self.0.catalog.class_id(class) else { return Ok(all) };
        for shard in self.0.store.reader().shards() {
            all.add(&shard.class_size(id)?);
        }
        Ok(all)
    }
}

const SCAN_PAGE: usize = 4096;

/// A committed row: the key, and the values by feature name.
pub type ScannedRow = (karst_types::Value, Vec<(String, karst_types::Value)>);
