//! What an engine is made of, and how it is started.

use std::{path::PathBuf, sync::Arc};

use karst_connectors::{BatchDecoder, RunningSource, Source, SourceSettings};
use karst_features::{
    BatchResolver, Catalog, FeatureClass, FeatureSet, IntoStreamResolver, Mistakes, Registry, RegistryBuilder,
    StreamDeclaration, StreamResolver, bind,
};
use karst_runtime::{Budget, Host, SystemClock, spawn};
use karst_state::{LaneId, Store};
use karst_types::Clock;

use super::{Engine, EngineHandle, Inner, SourceView};
use crate::{
    error::{Error, Result},
    hands::Hands,
    letter_forwarder::Forwarding,
    metrics::ResolverCounts,
    online_query::OnlineQuery,
    settings::EngineSettings,
    source_supervisor::SourceSupervisor,
    source_time::SourceTime,
    stream_resolver::share_messages,
    subscription::Passing,
    topology::{SourcePlan, Wiring},
    windows::{self, WindowClock},
};

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
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            settings: EngineSettings::default(),
            clock: Arc::new(SystemClock),
            sources: Vec::new(),
            registry: Registry::builder(),
            resolvers: Vec::new(),
            host: None,
        }
    }

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
