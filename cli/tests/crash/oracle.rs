//! What must be there, computed from what was produced and from docs/semantics.md alone: no code of the engine takes part.

use std::collections::{BTreeMap, HashMap};

use crate::workload::{Book, Kind, PARTITIONS, Produced};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DEADLINE: i64 = 10 * MINUTE;
const SKEW: i64 = 5 * MINUTE;

/// Two sources read the one topic: they differ in what becomes of late events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reader {
    /// Source `clicks`, class `user`: late events are kept as dead letters.
    Clicks,
    /// Source `views`, class `visitor`: late events correct.
    Views,
}

impl Reader {
    pub const ALL: [Self; 2] = [Self::Clicks, Self::Views];
    pub fn source(self) -> &'static str {
        if self == Self::Clicks { "clicks" } else { "views" }
    }
    pub fn class(self) -> &'static str {
        if self == Self::Clicks { "user" } else { "visitor" }
    }
    fn disorder(self) -> i64 {
        if self == Self::Clicks { 30 * SECOND } else { 0 }
    }
}

/// As `/v1/status` counts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    pub records: u64,
    pub applied: u64,
    pub skipped: u64,
    pub late: u64,
    pub tombstones: u64,
    pub dead_letters: u64,
    /// Of `/v1/late`.
    pub events: u64,
    pub corrected: u64,
}

/// What one partition of one source must have led to.
#[derive(Default)]
pub struct Partition {
    read: usize,
    watermark: Option<i64>, // before `disorder` is taken off
    pub counts: Counts,
    /// Reason, by offset.
    pub letters: BTreeMap<usize, &'static str>,
    /// Offsets of records that wrote.
    pub wrote: Vec<usize>,
}

impl Partition {
    fn read(&mut self, reader: Reader, offset: usize, record: &Produced) {
        self.counts.records += 1;
        match record.kind {
            Kind::Tombstone => return self.counts.tombstones += 1,
            Kind::Malformed => return self.dead(offset, "malformed"),
            _ => {}
        }
        let before = self.watermark.map(|newest| newest - reader.disorder());
        let moves_to = record.event_time.min(record.broker_time + SKEW);
        self.watermark = Some(self.watermark.map_or(moves_to, |newest| newest.max(moves_to)));
        self.counts.events += 1;
        let late = before.is_some_and(|before| before - record.event_time > DEADLINE);
        if late {
            self.counts.late += 1;
            match (reader, record.kind) {
                (Reader::Clicks, _) | (Reader::Views, Kind::WrongAmount) => _ = self.letters.insert(offset, "late"),
                (Reader::Views, Kind::Click) => {
                    self.counts.corrected += 1;
                    self.wrote.push(offset);
                }
                _ => {}
            }
            return;
        }
        match record.kind {
            Kind::Click => {
                self.counts.applied += 1;
                self.wrote.push(offset);
            }
            Kind::WrongAmount => self.dead(offset, "invalid"),
            _ => self.counts.skipped += 1,
        }
    }

    fn dead(&mut self, offset: usize, reason: &'static str) {
        self.counts.dead_letters += 1;
        self.letters.insert(offset, reason);
    }
}

/// What one user must have in one class.
#[derive(Default)]
pub struct Entity {
    /// Greatest (event time, partition, offset), and the record.
    newest: Option<((i64, usize, usize), Produced)>,
    /// Event time and amount of all that was written.
    events: Vec<(i64, i64)>,
}

#[derive(Default)]
pub struct Oracle {
    pub partitions: BTreeMap<(Reader, usize), Partition>,
    pub entities: HashMap<(Reader, u16), Entity>,
    newest: i64,
}

impl Oracle {
    /// Takes in what was produced since it was asked last.
    pub fn read(&mut self, book: &Book) {
        for reader in Reader::ALL {
            for (partition, records) in book.iter().enumerate() {
                let state = self.partitions.entry((reader, partition)).or_default();
                for (offset, record) in records.iter().enumerate().skip(state.read) {
                    let wrote = state.wrote.len();
                    state.read(reader, offset, record);
                    if state.wrote.len() == wrote {
                        continue;
                    }
                    let entity = self.entities.entry((reader, record.user)).or_default();
                    let version = (record.event_time, partition, offset);
                    if entity.newest.is_none_or(|(newest, _)| newest < version) {
                        entity.newest = Some((version, *record));
                    }
                    entity.events.push((record.event_time, record.amount.into()));
                    self.newest = self.newest.max(record.event_time);
                }
                state.read = records.len();
            }
        }
    }

    /// The first whole hour at which everything has happened.
    pub fn now(&self) -> i64 {
        (self.newest + HOUR - 1).div_euclid(HOUR) * HOUR
    }

    pub fn counts(&self, reader: Reader) -> impl Iterator<Item = &Counts> {
        (0..PARTITIONS).filter_map(move |partition| Some(&self.partitions.get(&(reader, partition))?.counts))
    }
}

impl Entity {
    /// Values by feature, as a query at `now` must answer them.
    pub fn features(&self, reader: Reader, now: i64) -> BTreeMap<String, serde_json::Value> {
        // Steps of the tails as docs/windows.md gives them.
        let lengths = [("600", 10 * MINUTE, MINUTE), ("3600", HOUR, MINUTE), ("86400", 24 * HOUR, HOUR)];
        let within = |length: i64, hop: i64| {
            let tail = (now - length).div_euclid(hop) * hop;
            self.events.iter().filter(move |(time, _)| tail < *time && *time <= now).map(|(_, amount)| *amount)
        };
        let class = reader.class();
        let mut features = BTreeMap::new();
        for (name, length, hop) in lengths {
            features.insert(format!("{class}.count__{name}__"), within(length, hop).count().into());
            features.insert(format!("{class}.greatest__{name}__"), within(length, hop).max().into());
        }
        features.insert(format!("{class}.count__all__"), self.events.len().into());
        features.insert(format!("{class}.spent__all__"), self.events.iter().map(|(_, amount)| amount).sum::<i64>().into());
        if let Some((_, record)) = &self.newest {
            features.insert(format!("{class}.page"), record.page().into());
            features.insert(format!("{class}.amount"), record.amount.into());
        }
        features
    }
}
