//! Actors that fail well: supervised, bounded mailboxes on actix; clocks; restart policy; health; and the two pure rules of
//! event time (log watermark, progress watermark, lateness).
//!
//! Must not know: sources, features, stores. Nobody outside this crate sees an actix type.
//!
//! Reading order: [`stage`] (what a stage is), [`mod@mailbox`] (how batches reach it), `supervisor` (what happens when it fails),
//! [`restart`], [`health`], [`host`], [`shutdown`]. The two types to start from are [`Stage`] and [`Mailbox`].
//! What is promised, and what is not, in sentences that the tests prove one by one: `docs/runtime-semantics.md`.
//!
//! ```
//! use std::sync::Arc;
//! use karst_runtime::{Host, Payload, Stage, StageError, StageSpec, SystemClock, spawn};
//!
//! #[derive(Debug)]
//! struct Words(Vec<String>);
//! impl Payload for Words {
//!     fn len(&self) -> usize { self.0.len() }
//!     fn singles(&mut self) -> Vec<Self> { self.0.drain(..).map(|word| Words(vec![word])).collect() }
//! }
//!
//! struct Shout;
//! impl Stage for Shout {
//!     type Message = Words;
//!     type Control = ();
//!     async fn handle(&mut self, words: &mut Words) -> Result<(), StageError> {
//!         for word in &words.0 { assert!(!word.is_empty()); }       // a panic is caught; the other words still pass
//!         Ok(())
//!     }
//!     async fn control(&mut self, (): ()) -> Result<(), StageError> { Ok(()) }
//!     async fn poison(&mut self, _word: &mut Words, _cause: &str) -> Result<(), StageError> { Ok(()) }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::new("shouting")?;
//! let spec = StageSpec::new("shout", "shout", Arc::new(SystemClock)).capacity(8);
//! let (mailbox, _handle) = spawn(&host, spec, || Ok(Shout));
//! mailbox.try_send(Words(vec!["hello".into(), String::new()]))?;
//! # Ok(()) }
//! ```

pub mod clock;
pub use clock::{SystemClock, VirtualClock};

pub mod watermark;
pub use watermark::LogWatermark;

pub mod progress_watermark;
pub use progress_watermark::PartitionState;

pub mod lateness;
pub use lateness::{Verdict, lateness, verdict};

pub mod error;
pub use error::{Closed, StageError, TrySendError};

pub mod stage;
pub use stage::{Payload, Stage, StageSpec};

pub mod mailbox;
pub use mailbox::{Inbox, Mailbox, mailbox};

pub mod credits;
pub use credits::{Budget, Credit, Credits, Share};

pub mod restart;
pub use restart::{Backoff, Escalated, RestartPolicy};

pub mod health;
pub use health::{HealthBoard, StageHealth, StageState};

pub mod host;
pub use host::{Host, Hosts, run_on};

pub mod handle;
pub use handle::StageHandle;

pub mod shutdown;
pub use shutdown::{ExitStatus, Left, drain};

mod current;
pub use current::{progress, told_to_stop, waiting_for};

pub mod pace;
pub use pace::{Pace, Tasks};

mod orders;
mod shell;
mod slot;
mod supervisor;

mod spawn;
pub use spawn::{spawn, spawn_on};

mod metrics;
pub use metrics::describe_metrics;
