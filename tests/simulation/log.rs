//! The input, and what must come out of it.

use std::collections::BTreeMap;

use karst_state::WatermarkState;
use karst_types::EventTime;

use crate::random::Random;

pub const PARTITIONS: usize = 2;
pub const EVENTS: i64 = 160; // per partition
const BOUND: i64 = 5;
const DEADLINE: i64 = 6;

pub type Key = u64;

pub struct Event {
    pub time: i64,
    /// Entities that it changes: one or two.
    pub keys: Vec<Key>,
    pub amount: i64,
    /// A dead letter, until it is replayed.
    pub bad: bool,
}

pub type Log = Vec<Event>;

pub fn logs(random: &mut Random) -> Vec<Log> {
    let log = |random: &mut Random| {
        let mut clock = 100;
        (0..EVENTS)
            .map(|_| {
                clock += random.one_of(&[0, 1, 1, 2, 3]);
                let time = clock - random.one_of(&[0, 0, 0, 2, 4, 9, 14]);
                let keys = (0..random.one_of(&[1, 1, 2])).map(|_| random.below(9)).collect();
                Event { time, keys, amount: 1 + random.below(49) as i64, bad: random.chance(10) }
            })
            .collect()
    };
    (0..PARTITIONS).map(|_| log(random)).collect()
}

/// Judges an event by the watermark before it.
pub fn is_late(event: &Event, watermark: &WatermarkState) -> bool {
    watermark.max_event_time.is_some_and(|max| event.time < max.0 - BOUND - DEADLINE)
}

/// The watermark after an event.
pub fn advance(watermark: &mut WatermarkState, event: &Event) {
    watermark.max_event_time = watermark.max_event_time.max(Some(EventTime(event.time)));
}

/// Sums by key, and (in time, late) by partition, computed the plain way. A bad event counts as what it is in its place, since it
/// is replayed in the end; it moves no watermark.
pub fn oracle(logs: &[Log]) -> (BTreeMap<Key, i64>, Vec<(i64, i64)>) {
    let mut totals = BTreeMap::new();
    let mut outcomes = Vec::new();
    for log in logs {
        let (mut watermark, mut counts) = (WatermarkState::default(), (0, 0));
        for event in log {
            if is_late(event, &watermark) {
                counts.1 += 1;
            } else {
                counts.0 += 1;
                event.keys.iter().for_each(|key| *totals.entry(*key).or_default() += event.amount);
            }
            if !event.bad {
                advance(&mut watermark, event);
            }
        }
        outcomes.push(counts);
    }
    (totals, outcomes)
}
