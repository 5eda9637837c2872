//! Where stages run: one named OS thread with an actix arbiter, whose futures never leave it.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use actix_rt::{Arbiter, ArbiterHandle, System};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use crate::pace::{Pace, Tasks};

/// One thread that hosts any number of stages. Clones are the same thread; it ends when the last clone and the last
/// [`StageHandle`](crate::StageHandle) of its stages are gone, or at [`Host::join`].
///
/// Each host is an actix system of its own, because only a system's first arbiter runs on a thread that we may name, and
/// because two engines in one process then share nothing.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
    pace: Option<Pace>,
}

struct Inner {
    name: Arc<str>,
    arbiter: ArbiterHandle,
    /// `None` for a thread that somebody else runs ([`Host::current`]).
    own: Option<Own>,
}

struct Own {
    system: System,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Host {
    /// Starts a thread of this name (Linux shows its first 15 bytes) with a single-threaded runtime.
    ///
    /// # Errors
    /// If the machine gives no thread or no event queue.
    pub fn new(name: &str) -> io::Result<Self> {
        Self::with_runtime(name, || tokio::runtime::Builder::new_current_thread().enable_all().build())
    }

    /// As [`Host::new`], on a runtime made by `runtime` on the new thread; it must be a single-threaded one. Tests hand in one
    /// with paused time.
    ///
    /// # Errors
    /// What `runtime` says, or if the machine gives no thread.
    pub fn with_runtime(name: &str, runtime: impl FnOnce() -> io::Result<Runtime> + Send + 'static) -> io::Result<Self> {
        let (started, start) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let runtime = match runtime() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            let runner = System::with_tokio_rt(|| runtime);
            if started.send(Ok(System::current())).is_ok()
                && let Err(error) = runner.run()
            {
                tracing::error!(%error, "host ended with an error");
            }
        })?;
        let system = start.recv().map_err(|_| io::Error::other("the host's thread ended while it started"))??;
        let arbiter = system.arbiter().clone();
        let own = Own { system, thread: Mutex::new(Some(thread)) };
        Ok(Self { inner: Arc::new(Inner { name: name.into(), arbiter, own: Some(own) }), pace: None })
    }

    /// The host of the calling thread: inside [`run_on`], inside a stage, or in any actix runtime.
    pub fn current() -> Option<Self> {
        let arbiter = Arbiter::try_current()?;
        let name = thread::current().name().unwrap_or("unnamed").into();
        Some(Self { inner: Arc::new(Inner { name, arbiter, own: None }), pace: None })
    }

    /// The same thread, on which stages that are spawned from now on take their turns as `pace` says. With one host for all
    /// stages and paused time, it alone decides what happens in which order: a simulation.
    #[must_use]
    pub fn paced(&self, pace: Pace) -> Self {
        Self { inner: Arc::clone(&self.inner), pace: Some(pace) }
    }

    /// Starts tasks on the host's thread, at its pace.
    pub fn tasks(&self) -> Tasks {
        Tasks(self.pace.clone())
    }

    pub(crate) fn pace(&self) -> Option<&Pace> {
        self.pace.as_ref()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.inner.name
    }

    /// Runs `start` on the host's thread; drops it there or here if the host has ended.
    pub(crate) fn run(&self, start: impl FnOnce() + Send + 'static) {
        self.inner.arbiter.spawn_fn(start);
    }

    /// Ends the thread, drops the stages that still run on it ([`ExitStatus::Lost`](crate::ExitStatus)), and waits for it. Blocks:
    /// not for use inside async code, unless its stages have ended. Does nothing on a host that somebody else runs, or on
    /// its own thread.
    pub fn join(&self) {
        let Some(own) = &self.inner.own else { return };
        own.system.stop();
        let thread = own.thread.lock().take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!(host = self.name(), "host's thread panicked");
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.system.stop();
    }
}

/// A fixed number of hosts, handed out in turn.
pub struct Hosts {
    hosts: Vec<Host>,
    turn: AtomicUsize,
}

impl Hosts {
    /// `count` hosts, at least 1, named `name-0`, `name-1`, …
    ///
    /// # Errors
    /// As [`Host::new`].
    pub fn new(name: &str, count: usize) -> io::Result<Self> {
        let hosts = (0..count.max(1)).map(|index| Host::new(&format!("{name}-{index}"))).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { hosts, turn: AtomicUsize::new(0) })
    }

    /// One host, handed out each time.
    pub fn one(host: Host) -> Self {
        Self { hosts: vec![host], turn: AtomicUsize::new(0) }
    }

    /// The next one in turn.
    pub fn next(&self) -> &Host {
        &self.hosts[self.turn.fetch_add(1, Ordering::Relaxed) % self.hosts.len()]
    }

    /// All of them.
    pub fn all(&self) -> &[Host] {
        &self.hosts
    }
}

/// Runs a future on the calling thread as a host: [`Host::current`] works inside it, and stages can be spawned there. With a
/// runtime whose time is paused, a test owns every timer of its stages.
pub fn run_on<F: Future>(runtime: Runtime, future: F) -> F::Output {
    System::with_tokio_rt(|| runtime).block_on(future)
}
