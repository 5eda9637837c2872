//! Windows of the flights against SQL: what the engine answers is written down and compared, by DuckDB, with queries over the CSV
//! file (`examples/flights/windows.py`). `make sql`, or
//!
//! ```sh
//! KARST_TEST_DUCKDB=$(scripts/venv.sh tests/sql/requirements.txt) cargo test --workspace --test sql
//! ```
//!
//! Without KARST_TEST_DUCKDB, the path of a Python that has it, they are skipped, which is said; with CI=true that is a failure.
#![allow(clippy::unwrap_used)] // in helpers of tests, as in tests

#[allow(dead_code)]
#[path = "../../examples/flights/data.rs"]
mod data;
#[path = "../../examples/flights/declare.rs"]
mod declare;

mod answers;
mod flights;
