//! The `karst` command, for the plain binary and for programs of one's own.
//!
//! The plain `karst` runs what `karst.toml` declares: classes, sources, and resolvers that copy fields of JSON messages into
//! features. A program that has resolvers in Rust gets the same commands, flags and settings:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     karst_cli::run(|engine| engine /* .source(…).resolver(…) */)
//! }
//! ```
//!
//! - Settings come from one file, the environment and flags, each overriding the one before; all that is wrong in any of
//!   them is told at once, with where it stands, before anything starts.
//! - Errors are `error:`, `detail:` and `hint:` lines on stderr; answers go to stdout.
//!
//! Reading order: [`args`], [`config`], [`dynamic`], then one file per command.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::process::ExitCode;

use clap::Parser;
use karst::EngineBuilder;

pub mod args;
pub mod config;
pub mod dynamic;
pub mod report;

mod client;
mod commands;
mod table;

use args::{Args, Command};

/// Parses the command line and does what it says. `app` adds a program's own declarations to those of the configuration.
///
/// Exit codes: 0 done, 1 it went wrong, 2 the command line or the configuration is wrong, 75 stopped before it was drained.
pub fn run(app: impl FnOnce(EngineBuilder) -> EngineBuilder) -> ExitCode {
    let args = Args::parse();
    let done = match args.command {
        Command::Run(args) => commands::run::run(&args, app),
        Command::Check(args) => commands::check::check(&args),
        Command::Plan(args) => commands::plan::plan(&args),
        Command::Query(args) => commands::query::query(&args),
        Command::Topology(args) => commands::pages::topology(&args),
        Command::Status(args) => commands::pages::status(&args),
        Command::Watermarks(args) => commands::time::watermarks(&args),
        Command::Late(args) => commands::time::late(&args),
        Command::DeadLetters(args) => commands::letters::letters(&args.what),
        Command::Backup(args) => commands::backup::backup(&args),
        Command::Restore(args) => commands::backup::restore(&args),
        Command::Source(args) => commands::source::source(&args.what),
        Command::Health(args) => commands::pages::health(&args),
    };
    match done {
        Ok(code) => code,
        Err(report) => report.print(),
    }
}
