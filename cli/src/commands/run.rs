//! `karst run`: an engine and its server, until a signal.

use std::{future::pending, io::IsTerminal, process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use karst::{Engine, EngineBuilder, EngineHandle, types::kill_point};
use karst_server::RunningServer;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{interval, timeout},
};
use tracing_subscriber::EnvFilter;

use crate::{
    args::RunArgs,
    config::Config,
    report::{Report, say},
};

/// How long a graceful stop may take in all; Kubernetes kills after 30 s.
const STOP_WITHIN: Duration = Duration::from_secs(25);
/// Names the moment at which the process is to end; for tests.
const KILL_AT: &str = "KARST_KILL_AT";
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// "Temporary failure" of sysexits.h: it ended before it was drained; the next start goes on from the stored positions.
const NOT_DRAINED: i32 = 75;

pub(crate) fn run(args: &RunArgs, app: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Result<ExitCode, Report> {
    let config = Config::load(&args.config, args.overrides())?;
    arm()?;
    log(&args.log)?;
    // Before the engine: handles made without a recorder count into nothing.
    karst_server::install_metrics().map_err(|error| Report::new("cannot keep metrics").detail(error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Report::new("the machine gives no event loop").detail(error))?;
    runtime.block_on(start(config, app))
}

/// A test may say where the process is to end: see [`kill_point`].
fn arm() -> Result<(), Report> {
    let Some(wanted) = std::env::var_os(KILL_AT) else { return Ok(()) };
    kill_point::arm(&wanted.to_string_lossy()).map_err(|why| Report::usage(format!("{KILL_AT}: {why}")))
}

fn log(filter: &str) -> Result<(), Report> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Report::usage(format!("--log {filter} is not a filter"))
            .detail(error)
            .hint("for example --log info, or --log warn,karst_actors=debug")
    })?;
    // An embedding program may have set up its own logging: that one stays.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    Ok(())
}

async fn start(config: Config, app: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Result<ExitCode, Report> {
    let Config { directory, engine, server, declared } = config;
    let mut signals = Signals::new().map_err(|error| Report::new("cannot listen to signals").detail(error))?;
    let builder = app(declared.add_to(Engine::builder(&directory).settings(engine)));
    let engine = builder.start().await.map_err(|error| {
        Report::new(format!("the engine with its state in {} does not start", directory.display())).detail(error)
    })?;
    let serving = match karst_server::serve(engine.handle(), server).await {
        Ok(serving) => serving,
        Err(error) => {
            let report = Report::new("the server does not start").detail(&error);
            drop(engine.shutdown().await); // the report that counts is the server's
            return Err(error.hint().into_iter().fold(report, Report::hint));
        }
    };
    say(format_args!("serving {}", serving.url()));
    tokio::select! {
        () = signals.next() => {}
        () = progress(engine.handle()) => {}
    }
    Ok(stop(engine, serving, &mut signals).await)
}

/// The graceful end, in the order of reliability: announce, stop the path from its source on, then the server.
async fn stop(engine: Engine, serving: RunningServer, signals: &mut Signals) -> ExitCode {
    say("stopping; once more to end at once");
    serving.announce_stop();
    let ordered = async {
        let drained = engine.shutdown().await;
        serving.stop().await;
        drained
    };
    tokio::select! {
        () = signals.next() => end_at_once(),
        ended = timeout(STOP_WITHIN + Duration::from_secs(1), ordered) => match ended {
            Ok(Ok(())) => {
                say("stopped");
                ExitCode::SUCCESS
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "not everything was drained");
                end_at_once()
            }
            Err(_) => end_at_once(),
        },
    }
}

/// Ends the process while its threads are at work. Not by returning from `main`: then C++ takes down the globals of RocksDB under
/// the threads that still use it, which aborts. What is committed is with the operating system, as when it is killed.
#[allow(unsafe_code)]
fn end_at_once() -> ! {
    // SAFETY: it touches no memory of this process, runs no handlers, and does not return.
    unsafe { libc::_exit(NOT_DRAINED) }
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// One line that is kept up to date, on a terminal only. Never ends.
async fn progress(engine: EngineHandle) {
    if !std::io::stderr().is_terminal() {
        return pending().await;
    }
    let bar =
        ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}").expect("a constant template"));
    let mut tick = interval(PROGRESS_EVERY);
    let mut before = (engine.clock().elapsed(), engine.status().outcomes().records);
    loop {
        tick.tick().await;
        let (status, health, now) = (engine.status(), engine.health(), engine.clock().elapsed());
        let outcomes = status.outcomes();
        let seconds = now.saturating_sub(before.0).as_secs_f64();
        let rate = if seconds > 0.0 { outcomes.records.saturating_sub(before.1) as f64 / seconds } else { 0.0 };
        before = (now, outcomes.records);
        let watermark = status.watermark().map_or_else(|| "-".to_owned(), |watermark| watermark.to_string());
        let problem =
            health.problems.first().map_or_else(String::new, |problem| format!("; {}: {}", problem.what, problem.why));
        bar.set_message(format!(
            "{rate:.0} records/s, {} applied, {} late, {} skipped, {} dead letters, lag {}, watermark {watermark}{problem}",
            outcomes.applied,
            outcomes.late,
            outcomes.skipped,
            outcomes.dead_letters,
            status.lag(),
        ));
        bar.tick();
    }
}
