//! Named moments at which a test may end the process as a power switch would, to show that nothing is lost by it.
//!
//! They are there in every build, so that what is tested is what runs. Unarmed, a moment costs one relaxed load, and there is
//! one per batch, commit or file, never one per event. Nothing is read here: the command arms a moment at its start, from
//! `KARST_KILL_AT`. A simulation listens instead ([`listen`]): it may panic at a moment, or make the disk fail there.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

macro_rules! moments {
    ($($(#[$doc:meta])* $moment:ident = $name:literal),+ $(,)?) => {
        /// A moment, in the order in which a process comes by them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum KillPoint {
            $($(#[$doc])* $moment,)+
        }
        impl KillPoint {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$moment),+];
            /// As it is called in `KARST_KILL_AT`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$moment => $name),+
                }
            }
        }
    };
}

moments! {
    /// A new state directory says that its shards are being made.
    OpenMarked = "open_marked",
    /// It has its identity, and no shard yet.
    OpenIdentified = "open_identified",
    /// A shard's database is open, and unchecked.
    OpenShard = "open_shard",
    /// A shard is checked and its log synced.
    OpenChecked = "open_checked",
    /// All shards are there, and the directory still says that they are being made.
    OpenMade = "open_made",
    /// The new content of a file (identity, catalog, windows) is written beside the old one.
    FileWritten = "file_written",
    /// It has replaced the old one.
    FileReplaced = "file_replaced",
    /// A value is looked at by a compaction.
    Compacting = "compacting",
    /// Every shard knows the new epoch of a partition, and nothing of it has been read.
    Announced = "announced",
    /// A batch has come from the source.
    Fetched = "fetched",
    /// It has been handed to the parse stage.
    HandedOn = "handed_on",
    /// It is decoded and judged.
    Judged = "judged",
    /// Its resolvers have run.
    ResolvedBatch = "resolved",
    /// One shard has its part, the next one has not.
    RoutedOne = "routed_one",
    /// All shards have theirs, the source shard has not.
    RoutedAll = "routed_all",
    /// A shard has applied a lane message in memory.
    Applied = "applied",
    /// A commit is taken out of its shard, and not yet handed to the thread that writes.
    Frozen = "frozen",
    /// A commit of a shard is about to be written.
    CommitBefore = "commit_before",
    /// It is written, and nobody knows.
    CommitAfter = "commit_after",
    /// A commit of the source shard (outcomes, watermarks, dead letters) is about to be written.
    FactsBefore = "facts_before",
    /// It is written, and nobody knows.
    FactsAfter = "facts_after",
    /// The write-ahead log is about to be synced.
    SyncBefore = "sync_before",
    /// It is synced.
    SyncAfter = "sync_after",
    /// The memtable is about to be flushed.
    FlushBefore = "flush_before",
    /// It is flushed.
    FlushAfter = "flush_after",
    /// A shard has been told that its commit is written.
    CommitTold = "commit_told",
    /// The broker is about to be told how far everything is committed.
    GroupBefore = "group_before",
    /// It has been told.
    GroupAfter = "group_after",
    /// A shard has drained at a graceful stop, and is about to make its last commit.
    StopDrained = "stop_drained",
    /// The last commit of a shard is made.
    StopCommitted = "stop_committed",
}

struct Armed {
    at: KillPoint,
    /// Times that it is still passed.
    left: AtomicU64,
}

static IS_ARMED: AtomicBool = AtomicBool::new(false);
static ARMED: OnceLock<Armed> = OnceLock::new();

/// Whose disk is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// Of no shard.
    Elsewhere,
    /// A shard of feature values.
    Shard(u16),
    /// The shard of facts about sources.
    SourceShard,
}

/// Is told of every moment that its thread comes by. It may panic. An error makes the disk fail at moments that ask for it
/// ([`at_disk`]); elsewhere it means nothing.
pub type Listener = Rc<dyn Fn(KillPoint, Place) -> io::Result<()>>;

thread_local! {
    static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

/// Listens to the moments of the calling thread alone; `None` ends that.
pub fn listen(listener: Option<Listener>) {
    IS_ARMED.store(true, Ordering::Release);
    LISTENER.set(listener);
}

/// Arms a moment, once in the life of a process: `commit_before`, or `commit_before:17` to end at the 17th time.
///
/// # Errors
/// In words, if there is no such moment, the number is none, or one was armed before.
pub fn arm(wanted: &str) -> Result<(), String> {
    let (at, left) = parse(wanted)?;
    ARMED.set(Armed { at, left: AtomicU64::new(left) }).map_err(|_| "a moment is armed already".to_owned())?;
    IS_ARMED.store(true, Ordering::Release);
    Ok(())
}

fn parse(wanted: &str) -> Result<(KillPoint, u64), String> {
    let (name, nth) = wanted.split_once(':').unwrap_or((wanted, "1"));
    let at = KillPoint::ALL.iter().find(|point| point.name() == name).ok_or_else(|| {
        let names: Vec<&str> = KillPoint::ALL.iter().map(|point| point.name()).collect();
        format!("there is no moment \"{name}\"; there are {}", names.join(", "))
    })?;
    match nth.parse() {
        Ok(nth @ 1..) => Ok((*at, nth)),
        _ => Err(format!("expected a whole number from 1 behind \"{name}:\", got \"{nth}\"")),
    }
}

/// The process has come to a moment: if it is the armed one, it ends here, without unwinding, flushing or closing anything.
#[inline]
pub fn here(at: KillPoint) {
    if IS_ARMED.load(Ordering::Relaxed) {
        end_if_armed(at);
        let _ = tell(at, Place::Elsewhere);
    }
}

/// The same where the disk of a shard is about to work, or just has: it may be said to fail.
///
/// # Errors
/// What the listener says; never without one.
#[inline]
pub fn at_disk(at: KillPoint, place: Place) -> io::Result<()> {
    if IS_ARMED.load(Ordering::Relaxed) {
        end_if_armed(at);
        return tell(at, place);
    }
    Ok(())
}

#[cold]
fn tell(at: KillPoint, place: Place) -> io::Result<()> {
    // While a thread ends there is nobody left to be told.
    let listener = LISTENER.try_with(|listener| listener.borrow().clone()).ok().flatten();
    listener.map_or(Ok(()), |listener| listener(at, place))
}

#[cold]
fn end_if_armed(at: KillPoint) {
    let Some(armed) = ARMED.get().filter(|armed| armed.at == at) else { return };
    if armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_named_with_how_often_it_is_passed() {
        assert_eq!(parse("commit_before"), Ok((KillPoint::CommitBefore, 1)));
        assert_eq!(parse("compacting:17"), Ok((KillPoint::Compacting, 17)));
        assert!(parse("commit:1").unwrap_err().contains("there are open_marked, "));
        for wrong in ["applied:0", "applied:", "applied:-1", "applied:x"] {
            assert!(parse(wrong).unwrap_err().contains("a whole number from 1"), "{wrong}");
        }
    }

    #[test]
    fn unarmed_nothing_happens() {
        KillPoint::ALL.iter().for_each(|at| here(*at));
        assert!(at_disk(KillPoint::SyncBefore, Place::Shard(3)).is_ok());
    }

    #[test]
    fn a_listener_hears_its_own_thread_and_may_make_a_disk_fail() {
        let heard = Rc::<RefCell<Vec<_>>>::default();
        let own = Rc::clone(&heard);
        listen(Some(Rc::new(move |at, place| {
            own.borrow_mut().push((at, place));
            if place == Place::SourceShard { Err(io::Error::other("no space left on device")) } else { Ok(()) }
        })));
        here(KillPoint::Fetched);
        assert!(at_disk(KillPoint::FactsBefore, Place::SourceShard).is_err());
        std::thread::spawn(|| here(KillPoint::Judged)).join().unwrap();
        listen(None);
        here(KillPoint::ResolvedBatch);
        let expected = [(KillPoint::Fetched, Place::Elsewhere), (KillPoint::FactsBefore, Place::SourceShard)];
        assert_eq!(*heard.borrow(), expected);
    }
}
