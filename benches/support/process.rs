//! What a benchmark reads about its own process (Linux: /proc), and where it keeps its files.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// Clock ticks per second in /proc: a constant of Linux's interface, whatever the kernel's own.
const TICKS: f64 = 100.0;

/// CPU time of the process so far, all threads, user and system, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    cpu_fields(14)
}

/// The same of its child processes, and theirs, that have ended and were waited for.
#[allow(dead_code)] // not every benchmark has any
pub(crate) fn children_cpu_seconds() -> f64 {
    cpu_fields(16)
}

/// User and system time: the fields `first` and the one after it.
fn cpu_fields(first: usize) -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may hold anything; behind it the fields count from 3.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: f64 = fields.skip(first - 3).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS
}

/// The most memory that was resident since [`forget_peak`], in MB.
pub(crate) fn peak_mb() -> u64 {
    peak_mb_of("self")
}

/// The same of a process that is still there, by its number; 0 if it is not.
pub(crate) fn peak_mb_of(process: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    (kib << 10) / 1_000_000
}

/// Lets [`peak_mb`] count from now on. Where the kernel does not offer that, it counts from the start.
pub(crate) fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// `$KARST_CACHE`, or its default.
fn cache() -> PathBuf {
    let default = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/karst");
    env::var_os("KARST_CACHE").map_or_else(default, PathBuf::from)
}

/// The folder of generated input.
pub(crate) fn input_dir() -> io::Result<PathBuf> {
    let dir = cache().join("bench");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A state directory that is not there.
pub(crate) fn empty_state(name: &str) -> io::Result<PathBuf> {
    let dir = cache().join("state").join(format!("bench-{name}"));
    remove(&dir)?;
    Ok(dir)
}

/// Removes a state directory, if it is there.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
