//! The real `karst` on a real Apache Kafka and a real disk, ended again and again: by SIGKILL at random moments, at every named
//! moment of its path (`karst_types::kill_point`), and in the middle of a graceful stop. After every round everything that it holds
//! equals an oracle that shares no code with it.
//!
//! ```sh
//! KARST_TEST_KAFKA=$(scripts/kafka.sh start) cargo test --workspace --test crash     # or: make crash KILLS=500
//! ```
//!
//! KARST_CRASH_KILLS says how often it is ended, KARST_CRASH_SEED with which choices, KARST_CRASH_BIN which `karst` instead of the one
//! built with the test. Without KARST_TEST_KAFKA it is skipped, which is
//! said.
#![allow(unreachable_pub, clippy::unwrap_used)] // modules of a test binary
#![allow(clippy::disallowed_methods)] // it deals with processes: their time is the wall clock

mod backlog;
mod check;
mod oracle;
mod process;
mod random;
mod rounds;
mod soak;
mod workload;

use std::{fs::OpenOptions, io::Write};

use crate::rounds::{Options, Tally};

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}: expected a whole number, got {text:?}")),
        Err(_) => default,
    }
}

fn kafka() -> Option<String> {
    let servers = std::env::var("KARST_TEST_KAFKA").ok();
    if servers.is_none()
        && let Some(path) = std::env::var_os("KARST_TEST_SKIPPED")
    {
        let mut skipped = OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(skipped, "crash: KARST_TEST_KAFKA names no broker").unwrap();
    }
    servers
}

#[test]
fn a_graceful_stop_under_load_ends_in_time_and_nothing_is_read_again() {
    let Some(servers) = kafka() else { return };
    rounds::stop_under_load(&servers, number("KARST_CRASH_SEED", 1));
}

#[test]
#[allow(clippy::print_stdout)] // the figures
fn far_behind_on_a_hundred_partitions_memory_stays_within_what_was_configured() {
    let Some(servers) = kafka() else { return };
    let backlog::Figures { line, peak, peak_max } = backlog::run(&servers);
    println!("{line}");
    assert!(peak <= peak_max, "{line}");
}

/// Not of the suite: `make soak MINUTES=60`.
#[test]
#[allow(clippy::print_stdout)] // the figures
fn for_as_long_as_it_is_asked_load_faults_and_queries_go_together() {
    let minutes = number("KARST_SOAK_MINUTES", 0);
    let Some(servers) = kafka().filter(|_| minutes > 0) else { return };
    let Tally { verdict, line } = soak::run(&servers, minutes, number("KARST_CRASH_SEED", 1));
    println!("{line}");
    assert!(verdict.is_clean(), "{line}\n{}", verdict.told.join("\n"));
}

#[test]
#[allow(clippy::print_stdout)] // the figures
fn however_it_is_ended_nothing_is_lost_and_nothing_counts_twice() {
    let Some(servers) = kafka() else { return };
    let kills = number("KARST_CRASH_KILLS", 60);
    let options = Options { servers, kills, seed: number("KARST_CRASH_SEED", 1) };
    let Tally { verdict, line } = rounds::run(&options);
    println!("{line}");
    assert!(verdict.is_clean(), "{line}\n{}", verdict.told.join("\n"));
}
