//! What happened in a run, as one number: two runs that took different turns anywhere have different ones.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Clones add to the same trace.
#[derive(Clone)]
pub struct Trace(Arc<Inner>);

struct Inner {
    hash: AtomicU64,
    steps: AtomicU64,
    loud: bool,
}

impl Trace {
    /// A loud one prints what it is told.
    pub fn new(loud: bool) -> Self {
        Self(Arc::new(Inner { hash: AtomicU64::new(0xcbf2_9ce4_8422_2325), steps: AtomicU64::new(0), loud }))
    }

    pub fn note(&self, what: &str, number: u64) {
        let bytes = what.bytes().chain(number.to_le_bytes());
        let hash =
            bytes.fold(self.0.hash.load(Relaxed), |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        self.0.hash.store(hash, Relaxed);
        let step = self.0.steps.fetch_add(1, Relaxed);
        if self.0.loud {
            // Not println: a run may be in the middle of a panic that is caught.
            let _ = writeln!(std::io::stdout(), "{step:>7}  {what} {number}");
        }
    }

    pub fn hash(&self) -> u64 {
        self.0.hash.load(Relaxed)
    }
}
