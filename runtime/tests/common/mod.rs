//! A stage that does what its records say, and writes down what happens. Streams are written as text:
//! `batch("1 2! 3")` is a batch of three records. The mark after a number says what the handler does with it:
//!
//! | mark | behaviour |
//! |---|---|
//! | none | passes |
//! | `!` | panics before the handler has made its future, every time |
//! | `~` | panics after an await, every time |
//! | `?` | panics the first time only |
//! | `h` | never comes back |
//! | `u` | a dependency is not available the first two times |
//! | `w` | asks a dependency that never answers, until it is told to stop |
//! | `b` | says that the stage is broken, the first time |
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses its part")]

use std::{collections::HashMap, sync::Arc, time::Duration};

use karst_runtime::{
    Backoff, Host, Mailbox, Payload, RestartPolicy, Stage, StageError, StageHandle, StageSpec, VirtualClock, run_on, spawn,
    told_to_stop,
};
use parking_lot::Mutex;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub number: u32,
    pub mark: Option<char>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch(pub Vec<Record>);

pub fn batch(text: &str) -> Batch {
    let record = |word: &str| {
        let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
        Record { number: digits.parse().unwrap(), mark: word[digits.len()..].chars().next() }
    };
    Batch(text.split_whitespace().map(record).collect())
}

impl Payload for Batch {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn singles(&mut self) -> Vec<Self> {
        self.0.drain(..).map(|record| Batch(vec![record])).collect()
    }
}

/// What everybody sees; outlives the stage.
#[derive(Default)]
pub struct World {
    log: Mutex<Vec<String>>,
    tries: Mutex<HashMap<u32, u32>>,
    pub built_at: Mutex<Vec<tokio::time::Instant>>,
    /// Builds that fail from now on: `Some(true)` by a panic, `Some(false)` by an error.
    pub bad_builds: Mutex<Vec<bool>>,
    pub poison_panics: Mutex<u32>,
}

impl World {
    pub fn write(&self, line: impl Into<String>) {
        self.log.lock().push(line.into());
    }
    pub fn lines(&self) -> Vec<String> {
        self.log.lock().clone()
    }
    /// The lines that start with a word, without it.
    pub fn all(&self, word: &str) -> Vec<String> {
        self.lines().iter().filter_map(|line| line.strip_prefix(word)).map(|rest| rest.trim().to_owned()).collect()
    }
    /// The numbers that came out, in order.
    pub fn out(&self) -> Vec<u32> {
        self.all("out").iter().flat_map(|line| line.split(' ').map(|n| n.parse().unwrap()).collect::<Vec<_>>()).collect()
    }
    /// The numbers that were put aside, in order.
    pub fn poison(&self) -> Vec<u32> {
        self.all("poison").iter().map(|line| line.split(':').next().unwrap().parse().unwrap()).collect()
    }
    pub fn builds(&self) -> usize {
        self.all("built").len()
    }
    fn tried(&self, record: Record) -> u32 {
        let mut tries = self.tries.lock();
        let count = tries.entry(record.number).or_default();
        *count += 1;
        *count
    }
}

pub struct Probe {
    pub world: Arc<World>,
}

impl Probe {
    pub fn build(world: &Arc<World>) -> Result<Self, StageError> {
        world.built_at.lock().push(tokio::time::Instant::now());
        match world.bad_builds.lock().pop() {
            Some(true) => panic!("the factory panics"),
            Some(false) => return Err(StageError::broken("the factory fails")),
            None => {}
        }
        world.write("built");
        Ok(Self { world: Arc::clone(world) })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.world.write("dropped");
    }
}

impl Stage for Probe {
    type Message = Batch;
    type Control = String;

    fn handle(&mut self, batch: &mut Batch) -> impl Future<Output = Result<(), StageError>> {
        if let Some(record) = batch.0.iter().find(|record| record.mark == Some('!')) {
            panic!("sync {}", record.number);
        }
        async move {
            let mut out = Vec::new();
            for record in &batch.0 {
                let tried = self.world.tried(*record);
                match record.mark {
                    Some('~') => {
                        tokio::task::yield_now().await;
                        panic!("async {}", record.number);
                    }
                    Some('?') if tried == 1 => panic!("once {}", record.number),
                    Some('h') => std::future::pending().await,
                    Some('w') => {
                        told_to_stop().await;
                        return Err(StageError::unavailable(format!("no answer for {}", record.number)));
                    }
                    Some('u') if tried <= 2 => {
                        return Err(StageError::unavailable(format!("no registry for {}", record.number)));
                    }
                    Some('b') if tried == 1 => return Err(StageError::broken(format!("broken at {}", record.number))),
                    _ => out.push(record.number.to_string()),
                }
            }
            tokio::task::yield_now().await;
            if !out.is_empty() {
                self.world.write(format!("out {}", out.join(" ")));
            }
            Ok(())
        }
    }

    async fn control(&mut self, control: String) -> Result<(), StageError> {
        if control == "panic" {
            panic!("control");
        }
        self.world.write(format!("control {control}"));
        Ok(())
    }

    async fn poison(&mut self, batch: &mut Batch, cause: &str) -> Result<(), StageError> {
        let panics = std::mem::replace(&mut *self.world.poison_panics.lock(), 0);
        if panics > 0 {
            *self.world.poison_panics.lock() = panics - 1;
            panic!("poison panics");
        }
        assert_eq!(batch.len(), 1);
        self.world.write(format!("poison {}: {cause}", batch.0[0].number));
        Ok(())
    }

    async fn stopped(&mut self) -> Result<(), StageError> {
        self.world.write("stopped");
        Ok(())
    }
}

/// A stage under test, its world and its clock.
pub struct Lab {
    pub world: Arc<World>,
    pub clock: Arc<VirtualClock>,
    pub mailbox: Mailbox<Batch, String>,
    pub handle: StageHandle,
}

/// A policy that never gives up and rests for 100 ms, without jitter.
pub fn patient() -> RestartPolicy {
    let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_millis(100), jitter: 0.0 };
    RestartPolicy { intensity: 1_000_000, backoff, ..RestartPolicy::default() }
}

impl Lab {
    pub fn new(change: impl FnOnce(StageSpec) -> StageSpec) -> Self {
        Self::on(&Host::current().expect("inside virtual_time"), "probe", change)
    }

    pub fn on(host: &Host, id: &str, change: impl FnOnce(StageSpec) -> StageSpec) -> Self {
        terse_panics();
        let world = Arc::<World>::default();
        let clock = Arc::<VirtualClock>::default();
        let spec = change(StageSpec::new("probe", id, clock.clone()).capacity(16).restart(patient()));
        let (mailbox, handle) = spawn(host, spec, {
            let world = Arc::clone(&world);
            move || Probe::build(&world)
        });
        Self { world, clock, mailbox, handle }
    }

    pub async fn send(&self, batches: &[&str]) {
        for text in batches {
            self.mailbox.send(batch(text)).await.unwrap();
        }
    }

    /// Waits, in virtual time, until it holds.
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) {
        for _ in 0..1_000_000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("never came true; the log is {:#?}", self.world.lines());
    }
}

/// Panics are daily bread here: one line each, since a backtrace takes milliseconds.
fn terse_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
}

/// A single-threaded runtime whose time jumps to the next timer whenever nothing else can run.
pub fn paused() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()
}

/// Runs a test with every stage on the calling thread, in virtual time.
pub fn virtual_time<F: Future>(test: F) -> F::Output {
    run_on(paused().unwrap(), test)
}

pub const LONG: Duration = Duration::from_secs(3_600);
