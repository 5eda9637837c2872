//! Credits: at most *n* batches in flight between a source partition and the shards that apply them (`docs/semantics.md`,
//! Order and backpressure).
//!
//! A [`Credit`] travels with its batch, also when the batch is cut into parts: each part holds a clone, and the credit comes back
//! when the last one is dropped, on whatever thread, also by a panic.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::current;

/// A purse of credits. Clones share it.
///
/// ```
/// use karst_runtime::Credits;
/// let credits = Credits::new("flights[0] credits", 2);
/// let first = credits.try_acquire();
/// assert_eq!(credits.available(), 1);
/// drop(first);
/// assert_eq!(credits.available(), 2);
/// ```
#[derive(Clone)]
pub struct Credits {
    name: Arc<str>,
    total: usize,
    purse: Arc<Semaphore>,
}

impl Credits {
    /// `total` credits, at least 1. The name is what the health of a waiting stage says that it is blocked on.
    pub fn new(name: impl Into<Arc<str>>, total: usize) -> Self {
        assert!(total > 0, "a purse holds at least one credit");
        Self { name: name.into(), total, purse: Arc::new(Semaphore::new(total)) }
    }

    /// Waits for a credit. First come, first served; cancel safe (a cancelled wait loses its place, and nothing else).
    pub async fn acquire(&self) -> Credit {
        if let Some(credit) = self.try_acquire() {
            return credit;
        }
        let _blocked = current::blocked_on(&self.name);
        let permit = Arc::clone(&self.purse).acquire_owned().await.expect("the purse is never closed");
        Credit::new(permit)
    }

    /// A credit, if one is there and nobody waits for it.
    pub fn try_acquire(&self) -> Option<Credit> {
        Arc::clone(&self.purse).try_acquire_owned().ok().map(Credit::new)
    }

    /// Credits that can be had without waiting.
    pub fn available(&self) -> usize {
        self.purse.available_permits()
    }

    /// All credits.
    pub fn total(&self) -> usize {
        self.total
    }
}

impl fmt::Debug for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credits({}: {} of {})", self.name, self.available(), self.total)
    }
}

/// Bytes that may be in flight, of several partitions together. Clones are the same budget.
#[derive(Clone)]
pub struct Budget {
    name: Arc<str>,
    units: u32,
    purse: Arc<Semaphore>,
}

/// What is counted: so that a budget of terabytes is a number that a semaphore can hold.
const UNIT: usize = 1024;

impl Budget {
    /// `bytes` in whole KiB, at least one. The name is what the health of a waiting stage says that it is blocked on.
    pub fn new(name: impl Into<Arc<str>>, bytes: usize) -> Self {
        let units = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize)) as u32;
        Self { name: name.into(), units, purse: Arc::new(Semaphore::new(units as usize)) }
    }

    /// Waits until so many bytes are free. More than there are at all count as all of them: then nothing else is in flight. First
    /// come, first served; cancel safe.
    pub async fn take(&self, bytes: usize) -> Share {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units);
        let _blocked = (self.purse.available_permits() < units as usize).then(|| current::blocked_on(&self.name));
        Share(Arc::clone(&self.purse).acquire_many_owned(units).await.expect("the purse is never closed"))
    }

    /// Bytes that can be had without waiting.
    pub fn available(&self) -> usize {
        self.purse.available_permits() * UNIT
    }
}

/// Some bytes of a [`Budget`]. Dropping it gives them back.
#[derive(Debug)]
pub struct Share(#[allow(dead_code, reason = "held for its Drop")] OwnedSemaphorePermit);

/// The right to have one batch in flight. Dropping the last clone gives it back, and the bytes that go with it.
#[derive(Clone, Debug)]
pub struct Credit(Arc<Held>);

#[derive(Debug)]
struct Held {
    _permit: OwnedSemaphorePermit,
    share: OnceLock<Share>,
}

impl Credit {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Held { _permit: permit, share: OnceLock::new() }))
    }

    /// These bytes are given back together with the credit; of a credit that has some already, at once.
    #[must_use]
    pub fn with(self, share: Share) -> Self {
        let _ = self.0.share.set(share);
        self
    }
}
