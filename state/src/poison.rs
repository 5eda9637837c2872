//! The mark of a shard whose write failed.
//!
//! After a failed write or sync nobody knows what is on the disk, and a later success proves nothing (Rebello et al., "Can
//! Applications Recover from fsync Failures?", ATC 2020). So the shard stops: it takes no more updates, serves what is
//! committed (not the hot set, which holds values that are not), and is opened again from its log when its writer is rebuilt.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(crate) struct Poison {
    set: AtomicBool,
    cause: Mutex<Option<String>>,
}

impl Poison {
    /// Marks the shard; the first cause is kept.
    pub(crate) fn set(&self, cause: String) {
        self.cause.lock().get_or_insert(cause);
        self.set.store(true, Ordering::Release);
    }
    /// Whether it is marked. Cheap enough to be asked on every read.
    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }
    /// The cause, if it is marked.
    pub(crate) fn cause(&self) -> Option<String> {
        if self.is_set() { self.cause.lock().clone() } else { None }
    }
    /// Takes the mark away: the shard was opened again.
    pub(crate) fn clear(&self) {
        let mut cause = self.cause.lock();
        self.set.store(false, Ordering::Release);
        *cause = None;
    }
}
