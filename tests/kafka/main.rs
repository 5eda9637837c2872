//! The engine on a real Apache Kafka, with the flights of 2013 and an oracle of its own: `make test-kafka`, or
//!
//! ```sh
//! KARST_TEST_KAFKA=$(scripts/kafka.sh start) cargo test --workspace --test kafka
//! ```
//!
//! Without KARST_TEST_KAFKA they are skipped, which is said; with CI=true that is a failure.
#![allow(clippy::unwrap_used)] // in helpers of tests, as in tests

#[allow(dead_code)]
#[path = "../../examples/flights/data.rs"]
mod data;
#[path = "../../examples/flights/declare.rs"]
#[allow(dead_code)] // these tests need not all of its resolvers
mod declare;
#[path = "../../examples/flights/oracle.rs"]
mod oracle;

#[path = "../it/bad_records.rs"]
mod bad_records;
#[path = "../it/gate.rs"]
mod gate;
#[path = "../support/tried.rs"]
mod tried;

mod backpressure;
mod bad_input;
mod flights;
mod gone;
mod letters;
mod restarts;
mod secure;
mod trouble;
mod watermarks;
mod world;
