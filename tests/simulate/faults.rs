//! What is done to a running engine, moment by moment: its end, panics, disks that fail, turns that are held back. Everything is
//! drawn from the seed, and noted in the trace.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use karst::{
    runtime::Pace,
    types::{
        KillPoint,
        kill_point::{self, Place},
    },
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    choices::{Choices, DiskFull, Harm, Once, PaceChoices, What},
    disk::{self, Log},
    random::Random,
    trace::Trace,
};

/// A thing that is held back for this long never goes on.
const FOR_EVER: Duration = Duration::from_secs(1_000_000);

/// Clones are the same.
#[derive(Clone)]
pub struct Faults(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    ended: Notify,
    trace: Trace,
    dir: PathBuf,
}

/// What was done.
#[derive(Clone, Copy, Default, Debug)]
pub struct Done {
    pub panics: u64,
    pub disk_faults: u64,
    pub commits: u64,
    pub turns: u64,
    pub held: u64,
}

struct State {
    random: Random,
    harm: Harm,
    pace: PaceChoices,
    /// Of all incarnations.
    done: Done,
    /// Moments until the engine ends.
    end_in: Option<u64>,
    has_ended: bool,
    /// While it is opened, and when it is let be, nothing panics.
    calm: bool,
    /// Every shard has been built in this incarnation, and none has been hurt.
    whole: bool,
    hurt: bool,
    /// Of each shard, the log up to where it survives a loss of power.
    synced: HashMap<Place, Log>,
    now_ms: u64,
}

impl Faults {
    pub fn new(seed: u64, choices: &Choices, dir: &Path, trace: Trace) -> Self {
        let state = State {
            random: Random::new(seed ^ 0xfa_0175),
            harm: choices.harm.clone(),
            pace: choices.pace.clone(),
            done: Done::default(),
            end_in: None,
            has_ended: false,
            calm: true,
            whole: false,
            hurt: false,
            synced: HashMap::new(),
            now_ms: 0,
        };
        Self(Arc::new(Inner { state: Mutex::new(state), ended: Notify::new(), trace, dir: dir.to_owned() }))
    }

    /// A new incarnation, which ends after so many moments.
    pub fn begin(&self, end_in: Option<u64>) {
        let mut state = self.0.state.lock();
        (state.end_in, state.has_ended, state.whole, state.calm) = (end_in, false, false, true);
        state.hurt = false;
    }
    /// The engine is open.
    pub fn opened(&self) {
        self.0.state.lock().calm = false;
    }
    /// The incarnation is over: what of it is still there changes nothing any more.
    pub fn end(&self) {
        self.0.state.lock().has_ended = true;
    }
    /// From now on nothing is done to it.
    pub fn let_be(&self) {
        let mut state = self.0.state.lock();
        (state.calm, state.end_in, state.pace.held, state.pace.slow) = (true, None, 0, None);
        (state.harm.disk_one_in, state.harm.disk_full, state.harm.panics) = (0, None, 0);
    }
    /// Milliseconds since the beginning of the run.
    pub fn set_time(&self, now_ms: u64) {
        self.0.state.lock().now_ms = now_ms;
    }
    pub fn has_ended(&self) -> bool {
        self.0.state.lock().has_ended
    }
    /// Whether a shard may be stopped, or not know its history yet.
    pub fn is_whole(&self) -> bool {
        self.0.state.lock().whole
    }
    pub fn done(&self) -> Done {
        self.0.state.lock().done
    }
    /// Waits until the engine is to end.
    pub async fn ended(&self) {
        self.0.ended.notified().await;
    }

    /// After the engine is gone: what was not synced may be gone too.
    pub fn lose_power(&self) {
        let mut state = self.0.state.lock();
        let State { random, synced, .. } = &mut *state;
        disk::lose_power(&self.0.dir, synced, random, &self.0.trace);
    }

    /// Listens to the moments of this thread until it is dropped.
    pub fn listen(&self) -> Listening {
        let own = self.clone();
        kill_point::listen(Some(Rc::new(move |at, place| own.moment(at, place))));
        Listening
    }

    fn moment(&self, at: KillPoint, place: Place) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if state.has_ended {
            return Err(io::Error::other("the engine has ended"));
        }
        self.0.trace.note(at.name(), number(place));
        state.whole |= at == KillPoint::Announced && !state.hurt;
        if at == KillPoint::SyncAfter {
            state.synced.insert(place, disk::log_of(&self.0.dir, place));
        }
        state.done.commits += u64::from(matches!(at, KillPoint::CommitAfter | KillPoint::FactsAfter));
        let once = state.once(at);
        if let Some(left) = &mut state.end_in {
            *left = left.saturating_sub(1);
        }
        if state.end_in == Some(0) || once == Some(What::End) {
            self.0.trace.note("the end", 0);
            state.has_ended = true;
            self.0.ended.notify_one();
            return Err(io::Error::other("the engine has ended"));
        }
        if state.wants_panic(at) || once == Some(What::Panic) {
            state.done.panics += 1;
            (state.hurt, state.whole) = (true, false);
            self.0.trace.note("panic", state.done.panics);
            drop(state);
            std::panic::panic_any(Injected);
        }
        if place != Place::Elsewhere && (state.wants_disk_fault(place) || once == Some(What::DiskFault)) {
            state.done.disk_faults += 1;
            (state.hurt, state.whole) = (true, false);
            self.0.trace.note("disk fault", number(place));
            return Err(io::Error::other("no space left on device (simulated)"));
        }
        Ok(())
    }

    /// The pace of the engine's stages.
    pub fn pace(&self) -> Pace {
        let own = self.clone();
        Arc::new(move |id| {
            let mut state = own.0.state.lock();
            if state.has_ended {
                return Some(FOR_EVER);
            }
            let wait = state.wait(id);
            state.done.turns += 1;
            state.done.held += u64::from(wait.is_some());
            own.0.trace.note(id, wait.map_or(u64::MAX, |wait| wait.as_millis() as u64));
            wait
        })
    }
}

impl State {
    /// What is to be done at one moment alone.
    fn once(&mut self, at: KillPoint) -> Option<What> {
        let Once { what, nth, .. } = self.harm.once.as_mut().filter(|once| once.at == at && !self.calm)?;
        *nth -= 1;
        let what = (*nth == 0).then_some(*what)?;
        self.harm.once = None;
        Some(what)
    }

    fn wants_panic(&mut self, at: KillPoint) -> bool {
        let opens = matches!(at, KillPoint::FileWritten | KillPoint::FileReplaced) || at <= KillPoint::OpenMade;
        let may = !self.calm && !opens && self.harm.panic_one_in > 0 && self.done.panics < self.harm.panics;
        may && !std::thread::panicking() && self.random.below(self.harm.panic_one_in) == 0
    }

    fn wants_disk_fault(&mut self, place: Place) -> bool {
        let full = self.harm.disk_full.is_some_and(|full: DiskFull| {
            (full.from_ms..full.to_ms).contains(&self.now_ms) && full.shard.is_none_or(|shard| place == Place::Shard(shard))
        });
        let now_and_then = self.harm.disk_one_in > 0 && self.done.disk_faults < self.harm.disk_faults;
        full || (now_and_then && self.random.below(self.harm.disk_one_in) == 0)
    }

    fn wait(&mut self, id: &str) -> Option<Duration> {
        if let Some((slow, ms)) = self.pace.slow
            && id.contains(slow)
        {
            return Some(Duration::from_millis(ms));
        }
        let held = self.random.chance(self.pace.held);
        held.then(|| Duration::from_millis(self.random.below(self.pace.wait_ms + 1)))
    }
}

fn number(place: Place) -> u64 {
    match place {
        Place::Elsewhere => 0,
        Place::Shard(shard) => 1 + u64::from(shard),
        Place::SourceShard => 1_000,
    }
}

/// What an injected panic carries.
pub struct Injected;

/// Ends the listening.
pub struct Listening;

impl Drop for Listening {
    fn drop(&mut self) {
        kill_point::listen(None);
    }
}
