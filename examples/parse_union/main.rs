//! Login and click events in one topic, each for a resolver of its own: `cargo run --example parse_union`.
//!
//! The topic is one of an embedded Kafka broker. The exit status is 0 only if the features equal an independent computation.
#![allow(clippy::print_stdout)] // it talks to a person

mod declare;
mod oracle;
mod pipeline;

use std::process::ExitCode;

const EVENTS: u64 = 10_000;

fn main() -> ExitCode {
    match karst::run(pipeline::run(EVENTS)) {
        Ok(pipeline::Report { expected, got, resolvers }) => {
            for resolver in resolvers {
                println!("{resolver:?}");
            }
            let right = expected == got;
            let (users, pages) = (expected.clicks.len(), expected.visitors.len());
            println!(
                "{}: {} applied, {} skipped, {} dead letters; {users} users and {pages} pages",
                if right { "as expected" } else { "WRONG" },
                got.applied,
                got.skipped,
                got.dead
            );
            if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
