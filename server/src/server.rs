//! Starting and stopping. The server runs on threads of its own, so it can be started from any runtime, or from none.

use std::{
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use actix_web::{
    App, HttpServer,
    dev::ServerHandle,
    middleware::from_fn,
    rt::{System, spawn, time::interval},
    web::{self, Data},
};
use futures::channel::oneshot;
use karst::EngineHandle;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    Error, Result, ServerSettings, backups, guard, letters, metrics, metrics::QueryMetrics, online, pages, quickack, sources,
    subscribe, time,
};

/// What all requests share. The threads that answer them let go of it when they end.
pub(crate) struct Shared {
    pub(crate) engine: EngineHandle,
    pub(crate) settings: ServerSettings,
    pub(crate) metrics: QueryMetrics,
    /// Set before a stop, so that load balancers look elsewhere.
    pub(crate) stopping: Arc<AtomicBool>,
    /// How many subscribers there are.
    pub(crate) subscribers: Arc<AtomicUsize>,
    ids: Ids,
    /// Behind the engine: when this is dropped, the server holds nothing of it any more.
    _gone: oneshot::Sender<()>,
}

impl Shared {
    /// The id of one request: in its answer, and in the log.
    pub(crate) fn next_id(&self) -> String {
        format!("{:016x}-{:08x}", self.ids.process, self.ids.count.fetch_add(1, Ordering::Relaxed))
    }
}

struct Ids {
    process: u64,
    count: AtomicU64,
}

/// A server at work. Dropping it stops it at once; [`RunningServer::stop`] lets requests under way end first.
#[must_use = "dropping it stops the server"]
pub struct RunningServer {
    address: SocketAddr,
    handle: ServerHandle,
    stopping: Arc<AtomicBool>,
    gone: Option<oneshot::Receiver<()>>,
}

impl RunningServer {
    /// Where it listens: the port is the real one, also if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on `/healthz` says 503, so that load balancers look elsewhere; queries are answered as before.
    pub fn announce_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Takes no new connections, waits for requests under way (at most `stop_timeout`), and ends. When this returns, no thread of
    /// the server has a handle of the engine: if its own are gone too, its state directory is closed.
    pub async fn stop(mut self) {
        self.announce_stop(); // subscribers would stay on
        drop(self.handle.stop(true)); // the command is sent by the call; the server's own end comes before that of its workers
        if let Some(gone) = self.gone.take() {
            let _ = gone.await; // nothing is ever sent: it is dropped
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        if self.gone.is_some() {
            drop(self.handle.stop(false));
        }
    }
}

/// Starts a server for an engine. It listens when this returns.
///
/// # Errors
/// [`Error::Settings`] with all problems, [`Error::Bind`], [`Error::Thread`].
pub async fn serve(engine: EngineHandle, settings: ServerSettings) -> Result<RunningServer> {
    settings.check()?;
    if let Err(error) = metrics::install() {
        tracing::warn!(%error, "/metrics will be empty");
    }
    let wanted = settings.bind;
    let bind = |source| Error::Bind { address: wanted, source };
    let listener = listen(settings.bind).map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let (started, start) = oneshot::channel();
    let (_gone, gone) = oneshot::channel();
    let ids = Ids { process: RandomState::new().hash_one(address), count: AtomicU64::new(0) };
    let (stopping, subscribers) = (Arc::<AtomicBool>::default(), Arc::default());
    let told = Arc::clone(&stopping);
    let shared = Shared { engine, settings, metrics: QueryMetrics::new(), stopping, subscribers, ids, _gone };
    thread::Builder::new()
        .name("karst-server".to_owned())
        .spawn(move || {
            let ran = System::new().block_on(run(Data::new(shared), listener, started));
            if let Err(error) = ran {
                tracing::error!(%error, "the server ended");
            }
        })
        .map_err(|error| Error::Thread(error.to_string()))?;
    let handle = start.await.map_err(|_| Error::Thread("it ended while it started; the log says why".to_owned()))?;
    tracing::info!(%address, "serving");
    Ok(RunningServer { address, handle, stopping: told, gone: Some(gone) })
}

/// A listening socket. `SO_REUSEADDR`, so that a restart does not wait for old connections to fade.
fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

async fn run(
    shared: Data<Shared>,
    listener: std::net::TcpListener,
    started: oneshot::Sender<ServerHandle>,
) -> std::io::Result<()> {
    let settings = shared.settings.clone();
    let app = move || {
        App::new()
            .app_data(shared.clone())
            .wrap(from_fn(guard::guard))
            .route("/", web::get().to(pages::index))
            .route("/v1/query/online", web::post().to(online::query))
            .route("/v1/status", web::get().to(pages::status))
            .route("/v1/watermarks", web::get().to(time::watermarks))
            .route("/v1/dead-letters", web::get().to(letters::list))
            .route("/v1/dead-letters/replay", web::post().to(letters::replay))
            .route("/v1/dead-letters/{source}/{partition}/{offset}", web::get().to(letters::show))
            .route("/v1/subscribe", web::get().to(subscribe::subscribe))
            .route("/v1/late", web::get().to(time::late))
            .route("/v1/backups", web::post().to(backups::make))
            .route("/v1/sources/accept-gap", web::post().to(sources::accept_gap))
            .route("/healthz", web::get().to(pages::health))
            .route("/metrics", web::get().to(pages::metrics))
            .route("/topology", web::get().to(pages::topology))
            .default_service(web::to(guard::no_such_route))
    };
    let seconds = |span: karst::types::TimeSpan| span.to_duration();
    let server = HttpServer::new(app)
        .workers(settings.workers)
        .max_connections(settings.max_connections)
        .keep_alive(seconds(settings.keep_alive))
        .client_request_timeout(seconds(settings.header_timeout))
        .shutdown_timeout(seconds(settings.stop_timeout).as_secs().max(1))
        .worker_max_blocking_threads(1) // subscribers read the disk, one after the other
        .on_connect(quickack::on_connect)
        .disable_signals() // they belong to the program
        .listen(listener)?
        .run();
    if started.send(server.handle()).is_err() {
        return Ok(()); // nobody waits for it any more
    }
    let upkeep = spawn(async {
        let mut tick = interval(guard::UPKEEP);
        loop {
            tick.tick().await;
            metrics::upkeep();
        }
    });
    let ended = server.await;
    upkeep.abort();
    ended
}
