//! THE wiring: which stages there are, in the order of the path, on which threads, with which mailboxes.
//!
//! ```text
//! source_partition → parse_stage → stream_resolver → shard_router → store_shard (one per shard, and the source shard)
//! ```
//! The first four exist once for each partition; two of them share a thread, so that one partition alone can use two cores. Where
//! letters of a source were replayed, the last three exist once more, behind a `replayer`.
//! [`diagram`] prints the same with capacities; a test compares it with the README.

use std::{collections::HashMap, io, sync::Arc};

use karst_connectors::{RunningSource, SourceSettings};
use karst_features::{BatchResolver, Catalog, Mistakes};
use karst_runtime::{
    Budget, Closed, Credits, HealthBoard, Host, Hosts, Inbox, Mailbox, RestartPolicy, StageError, StageHandle, StageSpec,
    mailbox, spawn, spawn_on,
};
use karst_state::{REPLAY, Store, Work};
use karst_types::{Clock, ShardId, SourceId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    hands::Hands,
    letter_forwarder::{Forwarding, LetterForwarder},
    metrics::{LetterMetrics, ParseMetrics, PartitionMetrics, ResolverCounts, ResolverMetrics, ShardMetrics},
    parse_stage::ParseStage,
    partition::Partition,
    protocol::{Fetch, MakeDecoder, NoControl, NoData, PartitionControl, ShardControl},
    replayer::Replayer,
    settings::EngineSettings,
    shard_router::ShardRouter,
    source_partition::{Shards, SourcePartition},
    source_time::SourceTime,
    store_shard::{Origins, ShardPlan},
    stream_resolver::StreamResolver,
    watchdog::Watchdog,
    windows::WindowClock,
};

/// The path as a mermaid flowchart; on each arrow the messages that the mailbox behind it holds.
pub fn diagram(settings: &EngineSettings) -> String {
    let EngineSettings { credits, mailbox, shard_mailbox, store, .. } = settings;
    let shards = store.shards;
    format!(
        "flowchart LR\n\
        \x20 log[(partition of a source)] -- \"records; {credits} credits\" --> source_partition\n\
        \x20 source_partition -- \"Records; {mailbox}\" --> parse_stage\n\
        \x20 parse_stage -- \"Events; {mailbox}\" --> stream_resolver\n\
        \x20 stream_resolver -- \"Updates; {mailbox}\" --> shard_router\n\
        \x20 shard_router -- \"Updates of a shard; {shard_mailbox}\" --> store_shard[\"store_shard × {shards}\"]\n\
        \x20 shard_router -- \"outcomes, watermark, dead letters; {shard_mailbox}\" --> source_shard[source shard]\n\
        \x20 store_shard -- \"one commit\" --> changelog[(values, positions, changelog)]\n\
        \x20 source_shard -- \"one commit\" --> facts[(outcomes, watermarks, dead letters)]\n\
        \x20 store_shard -. \"credit\" .-> source_partition\n\
        \x20 facts -- \"queued letters, one by one; {credits} credits\" --> replayer\n\
        \x20 replayer -- \"Records; {mailbox}\" --> parse_stage\n\
        \x20 facts -- \"dead letters\" --> letter_forwarder\n\
        \x20 letter_forwarder -- \"100 under way\" --> queue[(dead_letter_queue_topic)]\n\
        \x20 query([query]) --> online_query -- \"reads, no mailbox\" --> store_shard\n"
    )
}

/// What a partition's stages are made from.
pub(crate) struct SourcePlan {
    pub(crate) running: Arc<dyn RunningSource>,
    pub(crate) decoder: MakeDecoder,
    pub(crate) resolvers: MakeResolvers,
    /// By name, in the same order.
    pub(crate) counts: Vec<(String, Arc<ResolverCounts>)>,
    /// Bytes of records that may be on the way to the shards.
    pub(crate) budget: Budget,
}

/// Binds the resolvers of a source; each stage has its own.
pub(crate) type MakeResolvers = Arc<dyn Fn(&Catalog) -> Result<Vec<Box<dyn BatchResolver>>, Mistakes> + Send + Sync>;

/// Everything that the stages of an engine share.
pub(crate) struct Wiring {
    settings: EngineSettings,
    catalog: Arc<Catalog>,
    store: Store,
    clock: Arc<dyn Clock>,
    pub(crate) board: HealthBoard,
    /// The one thread of everything; `None`: there are several.
    host: Option<Host>,
    workers: Hosts,
    shards: Shards,
    pub(crate) hands: Arc<Hands>,
    pub(crate) origins: Origins,
    /// The readers of replay logs, by source: each is woken when something is queued.
    replays: Mutex<HashMap<SourceId, Arc<Notify>>>,
    handles: Mutex<Handles>,
}

/// The one thread of everything, or else one of its own for whoever asks.
fn own_or(host: Option<&Host>, name: &str) -> io::Result<Host> {
    host.cloned().map_or_else(|| Host::new(name), Ok)
}

/// In the order in which they are stopped.
#[derive(Default)]
struct Handles {
    supervisors: Vec<StageHandle>,
    path: [Vec<StageHandle>; 4],
    shards: Vec<StageHandle>,
}

impl Wiring {
    /// Starts the shards: the end of the path first, since everything before it leads there.
    pub(crate) fn new(
        settings: EngineSettings,
        catalog: Arc<Catalog>,
        store: Store,
        clock: Arc<dyn Clock>,
        host: Option<Host>,
        hands: Arc<Hands>,
    ) -> io::Result<Self> {
        let board = HealthBoard::new();
        let origins = Origins::default();
        let workers = match &host {
            Some(host) => Hosts::one(host.clone()),
            None => Hosts::new("karst-path", settings.worker_count())?,
        };
        let spec = |id: String| {
            // A shard is never given up: what it needs is a disk that works again (`docs/semantics.md`, Delivery, Failure).
            let restart = RestartPolicy { intensity: u32::MAX, ..RestartPolicy::default() };
            let spec = StageSpec::new("store_shard", id, Arc::clone(&clock)).restart(restart).board(&board);
            spec.capacity(settings.shard_mailbox).stuck_after(settings.stuck_after()).abort_stuck(false)
        };
        let mut handles = Handles::default();
        let mut mailboxes = Vec::new();
        for ShardId(shard) in store.shards().shards() {
            let name = format!("shard {shard}");
            let mut plan = ShardPlan {
                name: name.clone(),
                store: store.clone(),
                open: |store, shard| store.shard_writer(ShardId(shard as u16)),
                commits: |store, shard| store.commit_writer(ShardId(shard as u16)),
                index: usize::from(shard),
                origins: origins.clone(),
                clock: Arc::clone(&clock),
                commit_interval: settings.store.commit_interval,
                metrics: ShardMetrics::new(&shard.to_string()),
                tasks: host.as_ref().map(Host::tasks),
                built: false,
            };
            let (mailbox, inbox) = mailbox(name.as_str(), settings.shard_mailbox);
            let thread = own_or(host.as_ref(), &format!("shard-{shard}"))?;
            handles.shards.push(spawn_on(&thread, inbox, spec(name), move || plan.build()));
            mailboxes.push(mailbox);
        }
        let mut plan = ShardPlan {
            name: "source shard".to_owned(),
            store: store.clone(),
            open: |store, _| store.source_writer(),
            commits: |store, _| store.source_commit_writer(),
            index: 0,
            origins: origins.clone(),
            clock: Arc::clone(&clock),
            commit_interval: settings.store.commit_interval,
            metrics: ShardMetrics::new("source"),
            tasks: host.as_ref().map(Host::tasks),
            built: false,
        };
        let (source, inbox) = mailbox("source shard", settings.shard_mailbox);
        let thread = own_or(host.as_ref(), "shard-source")?;
        handles.shards.push(spawn_on(&thread, inbox, spec("source shard".to_owned()), move || plan.build()));
        let shards = Shards { shards: mailboxes, source };
        Ok(Self {
            settings,
            catalog,
            store,
            clock,
            board,
            host,
            workers,
            shards,
            hands,
            origins,
            replays: Mutex::default(),
            handles: Mutex::new(handles),
        })
    }

    /// The path of one partition.
    pub(crate) fn partition(&self, partition: &Arc<Partition>, source: &SourcePlan, time: &Arc<SourceTime>) {
        let time = Arc::clone(time);
        let (own, running, store, shards) =
            (Arc::clone(partition), Arc::clone(&source.running), self.store.clone(), self.shards.clone());
        let (hands, budget) = (Arc::clone(&self.hands), source.budget.clone());
        time.add(Arc::clone(partition));
        self.path(partition, source, "source_partition", move |host, inbox, spec, credits, next| {
            spawn_on(host, inbox, spec, move || {
                Ok(SourcePartition {
                    partition: Arc::clone(&own),
                    time: Arc::clone(&time),
                    running: Arc::clone(&running),
                    store: store.clone(),
                    shards: shards.clone(),
                    hands: Arc::clone(&hands),
                    credits: credits.clone(),
                    budget: budget.clone(),
                    next: next.clone(),
                    metrics: PartitionMetrics::new(&own),
                    reading: None,
                    told: None,
                })
            })
        });
    }

    /// The path of a source's replay log: made when there is something in it. What is returned wakes its reader.
    pub(crate) fn replays(&self, settings: &SourceSettings, id: SourceId, source: &SourcePlan) -> Arc<Notify> {
        let mut replays = self.replays.lock();
        if let Some(queued) = replays.get(&id) {
            return Arc::clone(queued);
        }
        let queued = Arc::clone(replays.entry(id).or_default());
        let partition = Partition::new(settings.clone(), id, REPLAY, false);
        let (own, store, shards, wake) = (Arc::clone(&partition), self.store.clone(), self.shards.clone(), Arc::clone(&queued));
        self.path(&partition, source, "replayer", move |host, inbox, spec, credits, next| {
            spawn_on(host, inbox, spec, move || {
                Ok(Replayer {
                    partition: Arc::clone(&own),
                    store: store.clone(),
                    shards: shards.clone(),
                    credits: credits.clone(),
                    next: next.clone(),
                    queued: Arc::clone(&wake),
                    reading: None,
                })
            })
        });
        queued
    }

    /// Mailboxes first, then the stages, both in the order of the path. `first` makes the stage that reads.
    fn path(
        &self,
        partition: &Arc<Partition>,
        source: &SourcePlan,
        name: &'static str,
        first: impl FnOnce(&Host, Inbox<NoData, PartitionControl>, StageSpec, Credits, Mailbox<Fetch, NoControl>) -> StageHandle,
    ) {
        let label = partition.label.as_str();
        let capacity = self.settings.mailbox;
        let spec = |name: &'static str| {
            // Restarts without progress count: any number of poison records passes, as long as each of them does.
            let restart = RestartPolicy { healthy_messages: 1, ..RestartPolicy::default() };
            let spec =
                StageSpec::new(name, format!("{name} {label}"), Arc::clone(&self.clock)).restart(restart).board(&self.board);
            // What is left at a stop is read again at the next start, so nothing waits for a dependency that is away.
            spec.capacity(capacity).stuck_after(self.settings.stuck_after()).leave_at_stop(true)
        };
        let (to_partition, at_partition) = mailbox(format!("{name} {label}"), 1);
        let (to_parse, at_parse) = mailbox(format!("parse_stage {label}"), capacity);
        let (to_resolver, at_resolver) = mailbox(format!("stream_resolver {label}"), capacity);
        let (to_router, at_router) = mailbox(format!("shard_router {label}"), capacity);
        self.origins.add(Arc::clone(partition), to_partition.clone());

        let (front, back) = (self.workers.next().clone(), self.workers.next().clone());
        let credits = Credits::new(format!("{label} credits"), self.settings.credits);
        let reader = first(&front, at_partition, spec(name), credits, to_parse);
        let (own, decoder, clock) = (Arc::clone(partition), Arc::clone(&source.decoder), Arc::clone(&self.clock));
        let hand = self.hands.hand(partition.lane(), Work::Decoding);
        let parse_stage = spawn_on(&front, at_parse, spec("parse_stage"), move || {
            let (decoder, metrics) = (decoder(), ParseMetrics::new(&own));
            let (partition, clock, hand) = (Arc::clone(&own), Arc::clone(&clock), Arc::clone(&hand));
            Ok(ParseStage { partition, decoder, next: to_resolver.clone(), clock, hand, metrics })
        });
        let (own, decoder, resolvers, catalog) =
            (Arc::clone(partition), Arc::clone(&source.decoder), Arc::clone(&source.resolvers), Arc::clone(&self.catalog));
        let counts = source.counts.clone();
        let hand = self.hands.hand(partition.lane(), Work::Resolving);
        let stream_resolver = spawn_on(&back, at_resolver, spec("stream_resolver"), move || {
            let resolvers = resolvers(&catalog).map_err(|mistakes| StageError::broken(mistakes.to_string()))?;
            let metrics = ResolverMetrics::new(&own, &counts);
            let (partition, hand) = (Arc::clone(&own), Arc::clone(&hand));
            Ok(StreamResolver { partition, resolvers, decoder: decoder(), next: to_router.clone(), metrics, hand })
        });
        let (own, count, shards, clock) =
            (Arc::clone(partition), self.store.shards(), self.shards.clone(), Arc::clone(&self.clock));
        let shard_router = spawn_on(&back, at_router, spec("shard_router"), move || {
            Ok(ShardRouter {
                partition: Arc::clone(&own),
                count,
                shards: shards.clone(),
                origin: to_partition.clone(),
                clock: Arc::clone(&clock),
                lane: None,
            })
        });

        let mut handles = self.handles.lock();
        let stages = [reader, parse_stage, stream_resolver, shard_router];
        stages.into_iter().zip(&mut handles.path).for_each(|(stage, hop)| hop.push(stage));
    }

    pub(crate) async fn ask_source_shard(&self, control: ShardControl) -> Result<(), Closed> {
        self.shards.source.control(control).await
    }

    /// Forwards the dead letters of a source.
    pub(crate) fn forwarder(&self, id: SourceId, forwarding: &Arc<Forwarding>) {
        let stage = format!("letter_forwarder {}", forwarding.source);
        let spec = StageSpec::new("letter_forwarder", stage, Arc::clone(&self.clock)).board(&self.board);
        let (store, forwarding) = (self.store.clone(), Arc::clone(forwarding));
        let make = move || Ok(LetterForwarder::new(id, store.clone(), Arc::clone(&forwarding)));
        let handle = spawn(self.workers.next(), spec, make).1;
        self.handles.lock().supervisors.push(handle);
    }

    /// A stage that is not on the path, stopped before all others.
    pub(crate) fn supervisor(&self, spawn: impl FnOnce(&Host, StageSpec) -> StageHandle, id: String) {
        let spec = StageSpec::new("source_supervisor", id, Arc::clone(&self.clock)).board(&self.board);
        let handle = spawn(self.workers.next(), spec);
        self.handles.lock().supervisors.push(handle);
    }

    /// The watchdog, on a thread of its own.
    pub(crate) fn watchdog(&self, times: Vec<Arc<SourceTime>>, windows: WindowClock) -> io::Result<()> {
        let (board, origins, store) = (self.board.clone(), self.origins.clone(), self.store.clone());
        let (clock, stuck_after) = (Arc::clone(&self.clock), self.settings.stuck_after());
        let stuck_abort_after = self.settings.stuck_abort_after();
        let spec = StageSpec::new("watchdog", "watchdog", Arc::clone(&clock));
        let make = move || {
            let (board, origins, store, clock) = (board.clone(), origins.clone(), store.clone(), Arc::clone(&clock));
            let (times, windows) = (times.clone(), windows.clone());
            Ok(Watchdog {
                times,
                windows,
                board,
                origins,
                store,
                clock,
                stuck_after,
                stuck_abort_after,
                seen: HashMap::new(),
                letters: LetterMetrics::new(),
                gauges: HashMap::new(),
            })
        };
        let handle = spawn(&own_or(self.host.as_ref(), "karst-watch")?, spec, make).1;
        self.handles.lock().supervisors.push(handle);
        Ok(())
    }

    /// Those that make other stages: stopped first, so that [`Wiring::stages`] is complete afterwards.
    pub(crate) fn supervisors(&self) -> Vec<StageHandle> {
        self.handles.lock().supervisors.clone()
    }

    /// The stages of the path, in the order in which it drains.
    pub(crate) fn stages(&self) -> Vec<StageHandle> {
        let handles = self.handles.lock();
        handles.path.iter().flatten().chain(&handles.shards).cloned().collect()
    }
}
