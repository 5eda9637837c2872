//! How often a test has tried its fault, for the table of `scripts/faults.py`; a test that does not say so has tried it once.

use std::{env, fs::OpenOptions, io::Write};

/// Tells that `test`, a name without its path, has tried its fault so many times more. Nobody is told where nobody asks.
pub(crate) fn tried(test: &str, times: usize) {
    let Some(path) = env::var_os("KARST_TEST_TRIED") else { return };
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(format!("{test} {times}\n").as_bytes()).unwrap(); // in one write: tests run beside each other
}
