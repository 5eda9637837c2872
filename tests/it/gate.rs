//! Holds a shard from outside, as a disk that hangs would: a subscriber of `tracing` that does not return from what the shard
//! tells when a batch has come to it.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, OnceLock},
};

use tracing_subscriber::{Layer, layer::Context, prelude::*};

/// Holds whoever comes to hop `store_shard` at `shard 0`, while it is closed.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// The only one of this process, open. It sees all engines, so whoever closes it is alone in the process, or holds a lock.
    pub(crate) fn of_process() -> &'static Self {
        static GATE: OnceLock<Gate> = OnceLock::new();
        GATE.get_or_init(|| {
            let gate = Self::default();
            tracing_subscriber::registry().with(gate.clone()).init();
            gate
        })
    }
    /// Closes it for as long as the guard lives: a test that fails leaves it open.
    pub(crate) fn closed(&'static self) -> Closed {
        self.set_closed(true);
        Closed(self)
    }
    fn set_closed(&self, closed: bool) {
        *self.0.0.lock().unwrap() = closed;
        self.0.1.notify_all();
    }
}

impl<S: tracing::Subscriber> Layer<S> for Gate {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct At(bool, bool);
        impl tracing::field::Visit for At {
            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                self.0 |= field.name() == "hop" && value == "store_shard";
                self.1 |= field.name() == "place" && value == "shard 0";
            }
            fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn fmt::Debug) {}
        }
        let mut at = At(false, false);
        event.record(&mut at);
        if event.metadata().target() == "karst::hop" && at.0 && at.1 {
            drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |closed| *closed).unwrap());
        }
    }
}

/// See [`Gate::closed`].
pub(crate) struct Closed(&'static Gate);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.set_closed(false);
    }
}
