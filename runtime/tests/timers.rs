//! Work that a stage finds by itself (`pull`), its ticks, and fairness between the stages of a host.

mod common;

use std::{sync::Arc, time::Duration};

use common::{Batch, LONG, batch, virtual_time};
use karst_runtime::{ExitStatus, Host, Mailbox, Stage, StageError, StageHandle, StageSpec, VirtualClock, spawn};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Pulls a number every second, ticks when told to, and notes everything with the second in which it happened.
struct Source {
    log: Arc<Mutex<Vec<(u64, String)>>>,
    start: Instant,
    pulled: u32,
    every: Option<Duration>,
}

impl Source {
    fn note(&self, what: impl Into<String>) {
        self.log.lock().push((self.start.elapsed().as_secs(), what.into()));
    }
}

impl Stage for Source {
    type Message = Batch;
    type Control = &'static str;
    async fn handle(&mut self, batch: &mut Batch) -> Result<(), StageError> {
        self.note(format!("handle {}", batch.0[0].number));
        Ok(())
    }
    async fn control(&mut self, control: &'static str) -> Result<(), StageError> {
        self.note(control);
        Ok(())
    }
    async fn poison(&mut self, _: &mut Batch, _: &str) -> Result<(), StageError> {
        Ok(())
    }
    async fn pull(&mut self) -> Result<(), StageError> {
        tokio::time::sleep(Duration::from_secs(10)).await;
        self.pulled += 1;
        match self.pulled {
            2 => Err(StageError::unavailable("no broker")),
            3 => panic!("pull"),
            pulled => {
                self.note(format!("pull {pulled}"));
                Ok(())
            }
        }
    }
    async fn tick(&mut self) -> Result<(), StageError> {
        self.note("tick");
        Ok(())
    }
    fn tick_interval(&self) -> Option<Duration> {
        self.every
    }
    async fn stopped(&mut self) -> Result<(), StageError> {
        self.note("stopped");
        Ok(())
    }
}

type Log = Arc<Mutex<Vec<(u64, String)>>>;

fn source(every: Option<Duration>) -> (Mailbox<Batch, &'static str>, StageHandle, Log) {
    let log = Log::default();
    let start = Instant::now();
    let seen = Arc::clone(&log);
    let spec = StageSpec::new("source", "source", Arc::new(VirtualClock::default())).restart(common::patient());
    let (mailbox, handle) = spawn(&Host::current().expect("inside virtual_time"), spec, move || {
        Ok(Source { log: Arc::clone(&seen), start, pulled: 0, every })
    });
    (mailbox, handle, log)
}

fn told(log: &Log) -> Vec<String> {
    log.lock().iter().map(|(second, what)| format!("{second} {what}")).collect()
}

#[test]
fn a_stage_that_pulls_works_without_messages_and_fails_like_any_other() {
    virtual_time(async {
        let (_mailbox, handle, log) = source(None);
        // 10: pulls 1. 20: no broker, rests 0.1 s. 30.1: panics, is rebuilt after 0.1 s with its count at 0. 40.2: pulls 1.
        tokio::time::sleep(Duration::from_secs(45)).await;
        assert_eq!(told(&log), ["10 pull 1", "40 pull 1"]);
        assert_eq!(handle.restarts(), 1);
        assert_eq!(handle.stop(LONG).await, ExitStatus::Drained);
        assert_eq!(told(&log)[2..], ["45 stopped"], "a pull does not hold up the stop");
    });
}

#[test]
fn a_pull_gives_way_to_control_and_data_at_once() {
    virtual_time(async {
        let (mailbox, _handle, log) = source(None);
        tokio::time::sleep(Duration::from_secs(5)).await;
        mailbox.control("rewind").await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        mailbox.send(batch("1")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(told(&log), ["5 rewind", "9 handle 1", "19 pull 1"]);
    });
}

#[test]
fn ticks_come_at_their_interval_when_idle_and_under_load() {
    virtual_time(async {
        let (mailbox, _handle, log) = source(Some(Duration::from_secs(3)));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(told(&log), ["3 tick", "6 tick", "9 tick"]);
        // A lane that is never empty, for ten seconds.
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            mailbox.send(batch("1")).await.unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let ticks = log.lock().iter().filter(|(second, what)| *second >= 10 && what == "tick").count();
        assert_eq!(ticks, 3, "12, 15 and 18");
    });
}

#[test]
fn a_flood_at_one_stage_does_not_keep_its_neighbour_or_its_timers_waiting() {
    virtual_time(async {
        let flooded = common::Lab::new(|spec| spec.capacity(10_000));
        let neighbour = common::Lab::new(|spec| spec);
        for number in 0..10_000 {
            flooded.mailbox.try_send(batch(&number.to_string())).unwrap();
        }
        neighbour.mailbox.try_send(batch("1")).unwrap();
        while neighbour.world.out().is_empty() {
            tokio::task::yield_now().await;
        }
        let handled = flooded.world.out().len();
        assert!(handled < 100, "{handled} of the flood came first");
        assert_eq!(flooded.handle.stop(LONG).await, ExitStatus::Drained);
        assert_eq!(flooded.world.out().len(), 10_000);
    });
}

/// Fails in every hook that is not `handle`, once each.
struct Clumsy {
    failures: Arc<Mutex<Vec<&'static str>>>,
}

impl Clumsy {
    fn stumble(&self, hook: &'static str) {
        let mut failures = self.failures.lock();
        if !failures.contains(&hook) {
            failures.push(hook);
            drop(failures);
            panic!("{hook}");
        }
    }
}

impl Stage for Clumsy {
    type Message = Batch;
    type Control = ();
    async fn started(&mut self) -> Result<(), StageError> {
        self.stumble("started");
        Ok(())
    }
    async fn handle(&mut self, _: &mut Batch) -> Result<(), StageError> {
        Ok(())
    }
    async fn control(&mut self, (): ()) -> Result<(), StageError> {
        Ok(())
    }
    async fn poison(&mut self, _: &mut Batch, _: &str) -> Result<(), StageError> {
        Ok(())
    }
    async fn pull(&mut self) -> Result<(), StageError> {
        self.stumble("pull");
        Ok(()) // at once, always: the rudest source there can be
    }
    async fn tick(&mut self) -> Result<(), StageError> {
        self.stumble("tick");
        Ok(())
    }
    fn tick_interval(&self) -> Option<Duration> {
        self.stumble("tick_interval");
        Some(Duration::from_millis(1))
    }
    async fn stopped(&mut self) -> Result<(), StageError> {
        self.stumble("stopped");
        Ok(())
    }
}

#[test]
fn a_panic_in_any_other_hook_is_caught_too_and_a_pull_that_never_waits_starves_nobody() {
    // Real time, because virtual time moves only when nobody is busy, and this source always is.
    let host = Host::new("clumsy").expect("a thread");
    let failures = Arc::<Mutex<Vec<&'static str>>>::default();
    let spec = StageSpec::new("clumsy", "clumsy", Arc::new(VirtualClock::default())).restart(common::patient());
    let seen = Arc::clone(&failures);
    let (_mailbox, handle) = spawn(&host, spec, move || Ok(Clumsy { failures: Arc::clone(&seen) }));
    let neighbour = common::Lab::on(&host, "neighbour", |spec| spec);
    neighbour.mailbox.try_send(batch("1")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(neighbour.handle.stop(LONG)), ExitStatus::Drained);
    assert_eq!(neighbour.world.out(), [1]);
    while failures.lock().len() < 4 {
        std::thread::yield_now();
    }
    let status = runtime.block_on(handle.stop(LONG));
    assert_eq!(status, ExitStatus::Failed { cause: "stopped".into(), left: karst_runtime::Left::default() });
    let mut failures = failures.lock().clone();
    failures.sort_unstable();
    assert_eq!(failures, ["pull", "started", "stopped", "tick", "tick_interval"]);
}
