//! HTTP: online queries in the JSON format of Chalk's public protocol, health, metrics, topology.
//!
//! - Uses the root's public API alone; an answer is made on the request's own thread and never waits in a mailbox.
//! - Binds to loopback unless told otherwise: there is no authentication yet.
//! - Everything is bounded: body, outputs, time, connections. Every answer that is not a page or a metric is JSON, errors
//!   included, and an error says what is wrong and where.
//! - Nothing that a client sends ends the process, a worker, or another client's request.
//!
//! Reading order: [`settings`], [`server`], [`wire`], then the handlers: `online`, `pages`, `time`, `guard`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod settings;
pub use settings::ServerSettings;

pub mod error;
pub use error::{Error, Result};

pub mod server;
pub use server::{RunningServer, serve};

pub mod wire;

pub mod metrics;
pub use metrics::install as install_metrics;

mod backups;
mod guard;
mod letters;
mod online;
mod pages;
mod quickack;
mod sources;
mod subscribe;
mod time;
