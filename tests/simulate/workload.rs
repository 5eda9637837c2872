//! The records of a run: everything that can be wrong with one, in disorder, at offsets with gaps.

use karst::{BrokerTime, EventTime, Offset};

use crate::{
    choices::{Choices, MINUTE},
    random::Random,
};

pub const USERS: u64 = 5;
pub const PAGES: u64 = 3;

const SECOND: i64 = 1_000_000;
/// 2026-01-01T00:00:00Z
pub const BEGIN: i64 = 1_767_225_600 * SECOND;

/// What the resolvers are to make of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Every resolver writes.
    Click,
    /// The resolver of users wants none of it; that of pages writes.
    Look,
    /// Nobody writes.
    Scroll,
    /// The resolver of users writes, that of pages returns an error.
    Fail,
    /// The last resolver panics, each time.
    Poison,
    /// Its amount is no number.
    WrongType,
    Malformed,
    Tombstone,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Scroll => "scroll",
            Self::Fail => "fail",
            Self::Poison => "poison",
            _ => "click",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Made {
    pub kind: Kind,
    pub partition: usize,
    pub offset: Offset,
    pub broker_time: BrokerTime,
    pub event_time: EventTime,
    pub user: u64,
    pub page: u64,
    pub amount: i64,
}

impl Made {
    /// Which record it is: written with every value that it causes.
    pub fn serial(&self) -> i64 {
        self.partition as i64 * 1_000_000 + self.offset.0
    }
    pub fn user(&self) -> String {
        format!("u{}", self.user)
    }
    pub fn page(&self) -> String {
        format!("p{}", self.page)
    }
    pub fn value(&self) -> Option<String> {
        let Self { kind, amount, .. } = self;
        let (user, page, serial, at, kind_name) = (self.user(), self.page(), self.serial(), self.event_time.0, kind.name());
        let amount = if *kind == Kind::WrongType { "\"many\"".to_owned() } else { amount.to_string() };
        match kind {
            Kind::Tombstone => None,
            Kind::Malformed => Some(format!(r#"{{"user":"{user}","page":"{page}","ser"#)),
            _ => Some(format!(
                r#"{{"user":"{user}","page":"{page}","serial":{serial},"amount":{amount},"act":"{kind_name}","at":{at}}}"#
            )),
        }
    }
}

/// The logs of all partitions.
pub fn logs(seed: u64, choices: &Choices) -> Vec<Vec<Made>> {
    let mut random = Random::new(seed ^ 0x10_9500);
    let mut logs: Vec<Vec<Made>> = vec![Vec::new(); choices.partitions];
    let mut ends = vec![0; choices.partitions];
    // Now and then a partition stays empty.
    let empty = random.chance(15).then(|| random.below(choices.partitions as u64) as usize);
    let step = random.one_of(&[1, 5, 60]) * SECOND;
    let gaps = random.one_of(&[0, 0, 10, 50]);
    let bad = random.one_of(&[0, 3, 10]);
    let mut time = BEGIN;
    for _ in 0..choices.records {
        let partition = random.below(choices.partitions as u64) as usize;
        time += random.below(2 * step as u64) as i64;
        if Some(partition) == empty {
            continue;
        }
        if random.chance(gaps) {
            ends[partition] += 1 + random.below(4) as i64;
        }
        logs[partition].push(Made {
            kind: kind(&mut random, bad),
            partition,
            offset: Offset(ends[partition]),
            broker_time: BrokerTime(time),
            event_time: EventTime(time + shift(&mut random)),
            user: random.below(USERS),
            page: random.below(PAGES),
            amount: 1 + random.below(100) as i64,
        });
        ends[partition] += 1;
    }
    logs
}

fn kind(random: &mut Random, bad: u64) -> Kind {
    if random.chance(bad) {
        return random.one_of(&[Kind::Fail, Kind::Poison, Kind::WrongType, Kind::Malformed, Kind::Tombstone]);
    }
    match random.below(10) {
        0 => Kind::Scroll,
        1 => Kind::Look,
        _ => Kind::Click,
    }
}

/// Event time less broker time.
fn shift(random: &mut Random) -> i64 {
    match random.below(100) {
        0..60 => -(random.below(60) as i64) * SECOND,
        60..80 => -(random.below(600) as i64) * SECOND,
        80..90 => -(10 + random.below(20) as i64) * MINUTE,
        90..95 => -(random.below(30) as i64) * 60 * MINUTE,
        95..97 => random.below(300) as i64 * SECOND,
        97..99 => (5 + random.below(60) as i64) * MINUTE,
        _ => random.one_of(&[400 * 1_440 * MINUTE, -BEGIN - 400 * 1_440 * MINUTE]),
    }
}
