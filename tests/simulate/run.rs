//! One run: an engine that reads, is ended, is opened again, until everything is read; compared all the while.

use std::{path::Path, sync::Arc, time::Duration};

use karst::{
    Clock, Durability, Engine, Error, ProcessingTime, TimeSpan,
    runtime::{Host, run_on},
    types::Retry,
};

use crate::{
    broker::Broker,
    choices::Choices,
    clock::SimulatedClock,
    faults::Faults,
    finale, job,
    look::{Looks, World},
    oracle::Oracle,
    random::Random,
    report::{Lanes, Report},
    trace::Trace,
    workload::{self, BEGIN},
};

/// An incarnation that has not read everything after so much time never will.
const TIME_MAX: Duration = Duration::from_secs(1_800);

struct Run<'a> {
    dir: &'a Path,
    choices: Choices,
    oracle: Oracle,
    broker: Broker,
    faults: Faults,
    trace: Trace,
    random: Random,
    looks: Looks,
    lanes: Lanes,
    report: Report,
    /// When the next incarnation begins.
    now: Duration,
    first: ProcessingTime,
}

/// How an incarnation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    Crashed,
    /// Everything is read and right, or something is wrong.
    Done,
}

/// Everything that happens for this seed, in a directory that is not there yet.
pub fn run(seed: u64, choices: Choices, dir: &Path, loud: bool) -> Report {
    let trace = Trace::new(loud);
    let logs = workload::logs(seed, &choices);
    let mut random = Random::new(seed ^ 0x5eed);
    // The log is read as it is written, or a day later.
    let later = TimeSpan::from_secs(random.one_of(&[0, 86_400]));
    let oracle = Oracle::new(&choices, &logs);
    let broker = Broker::new(seed, &choices, logs, trace.clone());
    let faults = Faults::new(seed, &choices, dir, trace.clone());
    let looks = Looks::new(choices.partitions);
    if loud {
        println!("{choices:#?}");
    }
    let first = ProcessingTime(BEGIN).plus(later);
    let (lanes, report, now) = Default::default();
    let mut run = Run { dir, choices, oracle, broker, faults, trace, random, looks, lanes, report, now, first };
    let lanes = run.lanes.clone();
    let _recorder = metrics::set_default_local_recorder(&lanes);
    run.all();
    run.report
}

impl Run<'_> {
    fn all(&mut self) {
        let listening = self.faults.listen();
        let mut crashes = self.choices.harm.crashes;
        loop {
            self.report.sums.incarnations += 1;
            let end_in = (crashes > 0 && self.choices.harm.once.is_none()).then(|| 1 + self.random.below(400));
            let ending = self.incarnation(end_in);
            self.trace.note("incarnation over", self.now.as_millis() as u64);
            if ending == Ending::Done || !self.report.wrong.is_empty() {
                break;
            }
            crashes -= 1;
            self.report.sums.crashes += 1;
            let power = self.random.chance(self.choices.harm.power_percent);
            if power {
                self.report.sums.power_losses += 1;
                self.faults.lose_power();
            }
            let synced = self.choices.engine.store.durability == Durability::Power;
            self.looks.incarnation(power && !synced);
        }
        drop(listening);
        if self.report.wrong.is_empty() && self.choices.reads_history {
            finale::history(self.dir, &self.oracle, &self.choices, &mut self.report.sums, &mut self.report.wrong);
        }
        self.report.trace = self.trace.hash();
        let done = self.faults.done();
        let sums = &mut self.report.sums;
        (sums.panics, sums.disk_faults, sums.commits) = (done.panics, done.disk_faults, done.commits);
        (sums.turns, sums.held, sums.fetch_errors) = (done.turns, done.held, self.broker.errors());
        [sums.duplicates, sums.old_epochs, sums.gaps] = self.lanes.counts();
        sums.partitions_added = (self.choices.partitions - self.choices.partitions_at_first) as u64;
    }

    fn incarnation(&mut self, end_in: Option<u64>) -> Ending {
        self.faults.begin(end_in);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
        // What is left of the engine is dropped with its runtime, as it is.
        run_on(runtime, async {
            let begun = self.now;
            let now = self.first.plus(TimeSpan::from_micros(begun.as_micros() as i64));
            let clock: Arc<dyn Clock> = Arc::new(SimulatedClock::new(now, begun));
            let ending = match self.open(&clock).await {
                Some(engine) => self.live(engine, &clock).await,
                None => Ending::Crashed,
            };
            self.faults.end();
            self.now = clock.elapsed();
            ending
        })
    }

    /// `None`: the end came while it was opened.
    async fn open(&mut self, clock: &Arc<dyn Clock>) -> Option<Engine> {
        loop {
            self.faults.set_time(clock.elapsed().as_millis() as u64);
            let host = Host::current().expect("inside of run_on there is a host").paced(self.faults.pace());
            let builder = Engine::builder(self.dir).settings(self.choices.engine.clone()).clock(Arc::clone(clock)).host(host);
            let builder = job::resolvers(builder.source(self.broker.clone()), &self.choices);
            match builder.start().await {
                Ok(engine) if !self.faults.has_ended() => {
                    self.faults.opened();
                    return Some(engine);
                }
                _ if self.faults.has_ended() => return None,
                Err(Error::State(error)) if error.retry() == Retry::Backoff => {
                    // Whoever runs it tries again.
                    self.report.sums.refused_opens += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(other) => {
                    self.report.wrong.push(format!("it does not open: {other}"));
                    return None;
                }
                Ok(_) => unreachable!("an engine that has not ended was returned"),
            }
        }
    }

    async fn live(&mut self, engine: Engine, clock: &Arc<dyn Clock>) -> Ending {
        let handle = engine.handle();
        let begun = clock.elapsed();
        loop {
            let step = Duration::from_millis(1 + self.random.below(30));
            tokio::select! {
                biased;
                () = self.faults.ended() => {} // perhaps of an incarnation before
                () = tokio::time::sleep(step) => {}
            }
            if self.faults.has_ended() {
                return Ending::Crashed;
            }
            self.faults.set_time(clock.elapsed().as_millis() as u64);
            self.broker.grow();
            let is_whole = self.faults.is_whole();
            let world = World { engine: &handle, broker: &self.broker, oracle: &self.oracle, is_whole };
            self.looks.look(&world, &mut self.random, &mut self.report.sums, &mut self.report.wrong);
            if !self.report.wrong.is_empty() {
                return Ending::Done;
            }
            if self.broker.is_whole() && self.looks.is_drained(&self.oracle) {
                break;
            }
            if clock.elapsed() - begun > TIME_MAX {
                self.report.wrong.push(format!("not everything is read after {TIME_MAX:?}: {:?}", handle.status()));
                self.report.wrong.extend(handle.health().problems.iter().map(|problem| format!("{problem:?}")));
                return Ending::Done;
            }
        }
        let sums = &mut self.report.sums;
        let partitions = handle.status().sources.into_iter().flat_map(|source| source.partitions);
        sums.rewinds += partitions.map(|partition| partition.rewinds).sum::<u64>();
        sums.poisoned += handle.topology().stages.iter().map(|stage| stage.poisoned).sum::<u64>();
        let crashes_left = self.choices.harm.crashes > self.report.sums.crashes && self.choices.harm.once.is_none();
        if crashes_left && self.random.chance(50) {
            return Ending::Crashed; // it ends with nothing to do, and is compared when it was opened once more
        }
        self.faults.let_be();
        if tokio::time::timeout(TIME_MAX, engine.drain()).await.is_err() {
            self.report.wrong.push(format!("it is not drained: {:?}", handle.health()));
        }
        finale::compare(&handle, &self.oracle, &self.choices, &mut self.report.sums, &mut self.report.wrong);
        Ending::Done
    }
}
