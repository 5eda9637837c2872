//! The engine itself, simulated: every stage, shard, writer and RocksDB is the real one, on one thread whose time is paused. The seed
//! decides whose turn it is, what is read, what fails, and when the engine ends; the broker is simulated, and so is what a disk loses.
//! At every step, and at the end, all that the engine says is compared with an oracle that folds the logs into maps.
//!
//! `make simulate SEEDS=100000 FROM=0` tries many seeds. One that is wrong is printed with the command that replays it, step by step.
//! (The *protocol* alone, with every shortcut that must be caught, is `tests/simulation`.)

#![allow(unreachable_pub, clippy::print_stdout, clippy::expect_used)] // a test binary: pub is as far as it goes, and it prints

mod broker;
mod choices;
mod clock;
mod disk;
mod faults;
mod finale;
mod job;
mod look;
mod oracle;
#[path = "../simulation/random.rs"]
mod random;
mod report;
mod run;
mod trace;
mod workload;

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread::{self, available_parallelism},
};

use parking_lot::Mutex;

use choices::{Choices, Once, What};
use faults::Injected;
use karst::types::KillPoint;
use report::{Report, Sums};

fn number(name: &str) -> Option<u64> {
    let parse = |text: String| text.parse().unwrap_or_else(|_| panic!("{name}: expected a whole number, got {text:?}"));
    std::env::var(name).ok().map(parse)
}

/// In memory where there is such a thing: a run opens some dozens of databases.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory for the state")
}

fn run(seed: u64, loud: bool) -> Report {
    run_with(seed, Choices::of(seed), loud)
}

fn run_with(seed: u64, choices: Choices, loud: bool) -> Report {
    let dir = scratch();
    run::run(seed, choices, &dir.path().join("state"), loud)
}

/// Panics that a run is about are not printed.
fn hush() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if !panic.payload().is::<Injected>() && !text.starts_with("nobody can take record") {
            before(panic);
        }
    }));
}

#[test]
fn whatever_is_done_to_the_engine_it_equals_the_oracle_at_every_step_and_at_the_end() {
    hush();
    if let Some(seed) = number("KARST_SIM_SEED") {
        let report = run(seed, true);
        println!("seed={seed}{}", report.sums);
        assert!(report.wrong.is_empty(), "seed {seed}: {:#?}", report.wrong);
        return;
    }
    let (from, seeds) = (number("KARST_SIM_FROM").unwrap_or(0), number("KARST_SIM_SEEDS").unwrap_or(2_000));
    let next = AtomicU64::new(from);
    let (sums, wrong) = (Mutex::new(Sums::default()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= from + seeds {
                return;
            }
            let report = run(seed, false);
            sums.lock().add(&report.sums);
            if !report.wrong.is_empty() {
                println!("\nseed {seed} is wrong: {}\n  replay it with: make simulate SEED={seed}", report.wrong.join("\n  "));
                wrong.lock().push(seed);
            }
        }
    };
    // A run never leaves its thread.
    let threads =
        number("KARST_SIM_THREADS").map_or_else(|| available_parallelism().map_or(1, usize::from), |count| count as usize);
    thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(work)));
    let (sums, wrong) = (sums.into_inner(), wrong.into_inner());
    println!("\nsimulate seeds={seeds} wrong={} from={from}{sums}", wrong.len());
    assert!(wrong.is_empty(), "wrong seeds: {wrong:?}");
}

/// What a seed may miss: each moment of the path, one after the other.
#[test]
fn a_panic_a_disk_fault_or_the_end_at_each_moment_changes_nothing() {
    hush();
    let mut done = Sums::default();
    for at in KillPoint::ALL {
        for (what, nth) in
            [What::Panic, What::DiskFault, What::End].into_iter().flat_map(|what| (1..=3).map(move |nth| (what, nth)))
        {
            let once = Once { at: *at, nth, what };
            let report = run_with(nth, Choices::only(once), false);
            assert!(report.wrong.is_empty(), "{once:?}: {:#?}", report.wrong);
            done.add(&report.sums);
        }
    }
    println!("\nsimulate moments={}{done}", KillPoint::ALL.len());
    // Not every moment comes: some are of opening, stopping, flushing.
    assert!(done.panics > 40 && done.disk_faults > 10 && done.crashes > 40, "too little was done: {done}");
}

#[test]
fn a_seed_always_runs_the_same() {
    hush();
    let from = number("KARST_SIM_FROM").unwrap_or(0);
    for seed in from..from + 20 {
        let (first, second) = (run(seed, false), run(seed, false));
        assert_eq!((first.trace, first.sums), (second.trace, second.sums), "seed {seed}");
        assert_ne!(first.trace, run(seed + 1, false).trace);
    }
}
