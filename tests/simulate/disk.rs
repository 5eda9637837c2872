//! Loss of power: of each shard's write-ahead log, what was not synced is gone, from some byte on.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
};

use karst::types::kill_point::Place;

use crate::{random::Random, trace::Trace};

/// A log file and its length; of number 0 there is none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Log {
    number: u64,
    bytes: u64,
}

fn folder(dir: &Path, place: Place) -> PathBuf {
    let name = match place {
        Place::Shard(shard) => format!("{shard:03}"),
        _ => "source".to_owned(),
    };
    dir.join("shards").join(name)
}

fn path(folder: &Path, log: Log) -> PathBuf {
    folder.join(format!("{:06}.log", log.number))
}

/// The newest log of a shard.
pub fn log_of(dir: &Path, place: Place) -> Log {
    let Ok(entries) = fs::read_dir(folder(dir, place)) else { return Log::default() };
    let logs = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let number = entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok()?;
        Some(Log { number, bytes: entry.metadata().ok()?.len() })
    });
    logs.max_by_key(|log| log.number).unwrap_or_default()
}

/// Cuts the newest log of each shard anywhere behind what was synced of it. Tables and older logs are synced when they are made.
pub fn lose_power(dir: &Path, synced: &HashMap<Place, Log>, random: &mut Random, trace: &Trace) {
    let mut places: Vec<(&Place, &Log)> = synced.iter().collect();
    places.sort_unstable_by_key(|(place, _)| **place);
    for (place, safe) in places {
        let now = log_of(dir, *place);
        let floor = if safe.number == now.number { safe.bytes } else { 0 };
        // All of it, none of it, or something in between.
        let keep = match random.below(3) {
            0 => floor,
            1 => now.bytes,
            _ => floor + random.below(now.bytes - floor + 1),
        };
        trace.note("cut", now.bytes - keep);
        let file = OpenOptions::new().write(true).open(path(&folder(dir, *place), now));
        file.and_then(|file| file.set_len(keep)).unwrap_or_else(|error| panic!("could not cut a log of {place:?}: {error}"));
    }
}
