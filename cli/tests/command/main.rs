//! The `karst` binary as a user meets it.
#![allow(missing_docs, clippy::unwrap_used)]

mod ends;
mod running;
mod runs;
mod told;

use std::{
    path::Path,
    process::{Command, Output},
};

fn karst() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_karst"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KARST_") || name.contains("KAFKA")) {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn check(config: &Path, more: &[&str]) -> Output {
    karst().arg("check").arg("--config").arg(config).args(more).output().unwrap()
}
