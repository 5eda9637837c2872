//! What must be there, computed from the records and from docs/semantics.md alone, by folding them into maps: no code of the engine
//! takes part. Everything is known as of each prefix of each log, so that any moment of a run can be compared.

use std::collections::BTreeMap;

use karst::{FutureEvents, LateLane, Outcomes, Reason, SourceSettings};

use crate::{
    choices::{Choices, MINUTE},
    workload::{Kind, Made},
};

const YEAR: i64 = 366 * 1_440 * MINUTE;

/// What one partition must lead to.
#[derive(Default)]
pub struct Partition {
    /// Offsets, rising.
    pub offsets: Vec<i64>,
    /// After the first `n` records.
    pub outcomes: Vec<Outcomes>,
    /// After the first `n` records, `disorder` taken off; rising.
    pub watermarks: Vec<Option<i64>>,
    /// Reason, by offset.
    pub letters: BTreeMap<i64, Reason>,
    pub corrected: u64,
}

impl Partition {
    /// Records up to an offset.
    pub fn through(&self, offset: Option<karst::Offset>) -> usize {
        offset.map_or(0, |offset| self.offsets.partition_point(|known| *known <= offset.0))
    }
}

/// What one record wrote to one entity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Write {
    /// First the order of values: event time, partition, offset.
    pub event_time: i64,
    pub partition: usize,
    pub offset: i64,
    pub serial: i64,
    pub amount: i64,
    pub user: u64,
    pub page: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Entity {
    User(u64),
    Page(u64),
}

impl Entity {
    pub fn class(self) -> &'static str {
        if matches!(self, Self::User(_)) { "user" } else { "page" }
    }
    pub fn key(self) -> String {
        match self {
            Self::User(user) => format!("u{user}"),
            Self::Page(page) => format!("p{page}"),
        }
    }
}

pub struct Oracle {
    pub partitions: Vec<Partition>,
    /// In the order of the logs of their partitions.
    pub writes: BTreeMap<Entity, Vec<Write>>,
    /// No window is asked for before this: the first whole minute that no watermark can pass.
    pub newest: i64,
}

impl Oracle {
    pub fn new(choices: &Choices, logs: &[Vec<Made>]) -> Self {
        let mut oracle = Self { partitions: Vec::new(), writes: BTreeMap::new(), newest: i64::MIN };
        for log in logs {
            let mut partition =
                Partition { outcomes: vec![Outcomes::default()], watermarks: vec![None], ..Partition::default() };
            let mut greatest: Option<i64> = None;
            for record in log {
                oracle.read(choices, &mut partition, &mut greatest, record);
            }
            let greatest = greatest.unwrap_or_default();
            oracle.newest = oracle.newest.max((greatest + MINUTE - 1).div_euclid(MINUTE) * MINUTE);
            oracle.partitions.push(partition);
        }
        oracle
    }

    fn read(&mut self, choices: &Choices, partition: &mut Partition, greatest: &mut Option<i64>, record: &Made) {
        let source = &choices.source;
        let mut sums = *partition.outcomes.last().expect("it begins with none");
        sums.records += 1;
        match judge(source, greatest, record) {
            Judged::Tombstone => sums.tombstones += 1,
            Judged::Dead(reason) => {
                sums.dead_letters += 1;
                partition.letters.insert(record.offset.0, reason);
            }
            Judged::Late => {
                sums.late += 1;
                match (source.late_lane, effect(choices, record.kind)) {
                    (LateLane::DeadLetter, _) | (LateLane::Correct, Effect::Dead(_)) => {
                        partition.letters.insert(record.offset.0, Reason::Late);
                    }
                    (LateLane::Correct, Effect::Writes { user, page }) => {
                        partition.corrected += 1;
                        self.write(record, user, page);
                    }
                    _ => {}
                }
            }
            Judged::InTime => match effect(choices, record.kind) {
                Effect::Nothing => sums.skipped += 1,
                Effect::Dead(reason) => {
                    sums.dead_letters += 1;
                    partition.letters.insert(record.offset.0, reason);
                }
                Effect::Writes { user, page } => {
                    sums.applied += 1;
                    self.write(record, user, page);
                }
            },
        }
        partition.offsets.push(record.offset.0);
        partition.outcomes.push(sums);
        partition.watermarks.push(greatest.map(|greatest| greatest - source.disorder.micros()));
    }

    fn write(&mut self, record: &Made, user: bool, page: bool) {
        let write = Write {
            event_time: record.event_time.0,
            partition: record.partition,
            offset: record.offset.0,
            serial: record.serial(),
            amount: record.amount,
            user: record.user,
            page: record.page,
        };
        for (_, entity) in [(user, Entity::User(record.user)), (page, Entity::Page(record.page))].iter().filter(|(is, _)| *is) {
            self.writes.entry(*entity).or_default().push(write);
        }
    }

    /// Windows of an entity at `now`, by the names that queries use. Steps of the tails as docs/windows.md gives them.
    pub fn windows(&self, entity: Entity, now: i64) -> Vec<(String, Option<i64>)> {
        let writes = self.writes.get(&entity).map_or(&[][..], Vec::as_slice);
        let after = |tail: i64| writes.iter().filter(move |write| tail < write.event_time && write.event_time <= now);
        let sliding = |length: i64, hop: i64| (now - length).div_euclid(hop) * hop;
        let count = |tail| Some(after(tail).count() as i64);
        let hour = 60 * MINUTE;
        let named: Vec<(&str, Option<i64>)> = match entity {
            Entity::User(_) => vec![
                ("clicks__600__", count(sliding(10 * MINUTE, MINUTE))),
                ("clicks__3600__", count(sliding(hour, MINUTE))),
                ("clicks__all__", count(i64::MIN)),
                ("spent__3600__", Some(after((now - 1).div_euclid(hour) * hour).map(|write| write.amount).sum())),
                ("most__86400__", after(sliding(24 * hour, hour)).map(|write| write.amount).max()),
            ],
            Entity::Page(_) => vec![("seen__3600__", count(sliding(hour, MINUTE))), ("seen__all__", count(i64::MIN))],
        };
        named.into_iter().map(|(name, value)| (format!("{}.{name}", entity.class()), value)).collect()
    }
}

enum Judged {
    Tombstone,
    Dead(Reason),
    Late,
    InTime,
}

fn judge(source: &SourceSettings, greatest: &mut Option<i64>, record: &Made) -> Judged {
    match record.kind {
        Kind::Tombstone => return Judged::Tombstone,
        Kind::Malformed => return Judged::Dead(Reason::Malformed),
        Kind::WrongType => return Judged::Dead(Reason::SchemaMismatch),
        _ => {}
    }
    let (event, broker) = (record.event_time.0, record.broker_time.0);
    let before = greatest.map(|greatest| greatest - source.disorder.micros());
    let most = broker + source.max_future_skew.micros();
    *greatest = Some(greatest.map_or(event.min(most), |greatest| greatest.max(event.min(most))));
    if !(0..=broker + YEAR).contains(&event) {
        return Judged::Dead(Reason::EventTimeOutOfRange);
    }
    if event > most && source.future_events == FutureEvents::DeadLetter {
        return Judged::Dead(Reason::Future);
    }
    let deadline = source.late_arrival_deadline;
    let late = !deadline.is_infinite() && before.is_some_and(|before| before - event > deadline.micros());
    if late { Judged::Late } else { Judged::InTime }
}

enum Effect {
    Nothing,
    Writes { user: bool, page: bool },
    Dead(Reason),
}

fn effect(choices: &Choices, kind: Kind) -> Effect {
    let pages = choices.pages;
    match kind {
        Kind::Poison => Effect::Dead(Reason::Panicked),
        Kind::Fail if pages => Effect::Dead(Reason::ResolverError),
        Kind::Look if pages => Effect::Writes { user: false, page: true },
        Kind::Scroll | Kind::Look => Effect::Nothing,
        _ => Effect::Writes { user: true, page: pages },
    }
}
