//! The engine as a whole, through its front door: a file for each behaviour. No broker, no ports, no fixed paths.
#![allow(clippy::unwrap_used)] // in helpers of tests, as in tests

mod backpressure;
mod bad_input;
mod bad_records;
mod breaker;
mod classes;
mod declarations;
mod diagram;
mod disk_full;
mod ends_process;
mod formats;
mod future;
mod gaps;
mod gate;
mod gauges;
mod hello;
mod late;
mod late_resolvers;
mod lost_batch;
mod old_formats;
mod one_event;
mod order;
mod own_source;
mod parse;
mod parse_union;
mod plan;
mod progress;
mod query;
mod registry;
mod replay;
mod restart;
mod slow_shard;
mod subscribe;
mod supervision;
#[path = "../support/tried.rs"]
mod tried;
mod two_resolvers;
mod watermarks;
mod windows;
mod world;
