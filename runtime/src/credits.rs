//! Credits: at most *n* batches in flight between a source partition and the shards that apply them (`docs/semantics.md`,
//! Order and backpressure).
//!
//! A [`Credit`] travels with its batch, also when the batch is cut into parts: each part holds a clone, and the credit comes back
//! when the last one is dropped, on whatever thread, also by a panic.

use std::{fmt, sync::Arc};

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
        Credit(Arc::new(permit))
    }

    /// A credit, if one is there and nobody waits for it.
    pub fn try_acquire(&self) -> Option<Credit> {
        Arc::clone(&self.purse).try_acquire_owned().ok().map(|permit| Credit(Arc::new(permit)))
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

/// The right to have one batch in flight. Dropping the last clone gives it back.
#[derive(Clone, Debug)]
pub struct Credit(#[allow(dead_code, reason = "held for its Drop")] Arc<OwnedSemaphorePermit>);
