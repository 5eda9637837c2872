//! Sessions of a store on disk against a naive oracle that keeps every event: random disorder, late events that join sessions, commits,
//! kills, evictions, roll-overs, and questions at any instant.

use karst_types::{EntityKey, ShardId, window::session_hops};

use super::{
    windows::{DAY, Event, HOUR, MINUTE, World, aggregates, compact, naive, random, rows_under},
    *,
};
use crate::{ClassSessions, SessionDeclaration, WindowValue};

/// As the pages say: a session that has ended, and clocks that are behind, are waited for so long.
const SLACK: i64 = 10 * MINUTE;

/// Every aggregate with one gap; their numbers are 10 more for each further gap.
fn declared(gaps: &[(i64, i64)]) -> Vec<SessionDeclaration> {
    let of = |nth: usize, gap: i64, retention: i64| {
        aggregates().into_iter().map(move |mut aggregate| {
            aggregate.slot += 10 * nth as u16;
            SessionDeclaration { aggregate, gap: TimeSpan::from_micros(gap), retention: TimeSpan::from_micros(retention) }
        })
    };
    gaps.iter().enumerate().flat_map(|(nth, (gap, retention))| of(nth, *gap, *retention)).collect()
}

fn world(gaps: &[(i64, i64)]) -> World {
    World::with_sessions(Vec::new(), declared(gaps))
}

fn read(world: &World, key: u64, slot: u16, now: i64, committed: bool) -> WindowValue {
    let store = world.store.as_ref().unwrap();
    let layout = store.windows().sessions_of(CLASS).unwrap();
    let entity = EntityKey { class: CLASS, bytes: key.to_string().into_bytes() };
    store.reader().sessions(layout, &entity, &[slot], EventTime(now), committed).unwrap().remove(0)
}

/// The events of the session that is open at an instant, with their offsets.
fn open_session(events: &[(i64, Event)], gap: i64, as_of: i64) -> Vec<(i64, Event)> {
    // The newest tile counts whole from its first event on.
    let fine = session_hops(TimeSpan::from_micros(gap)).0;
    let tile = |time: i64| karst_types::window::tile_end(EventTime(time), fine);
    let begun = events.iter().any(|(_, event)| event.time <= as_of && tile(event.time) == tile(as_of));
    let counts = |event: &Event| event.time <= as_of || begun && tile(event.time) == tile(as_of);
    let mut events: Vec<_> = events.iter().filter(|(_, event)| counts(event)).copied().collect();
    events.sort_by_key(|(offset, event)| (event.time, *offset));
    let mut next = as_of;
    let mut session: Vec<_> = events
        .into_iter()
        .rev()
        .take_while(|(_, event)| {
            let joins = next - event.time < gap;
            next = event.time;
            joins
        })
        .collect();
    session.reverse();
    session
}

fn check(world: &World, key: u64, now: i64, context: &str) {
    let events: Vec<_> =
        (0i64..).zip(&world.log[..world.next]).filter(|(_, event)| event.key == key).map(|(at, event)| (at, *event)).collect();
    for session in &world.sessions {
        let (slot, gap, retention) = (session.aggregate.slot, session.gap.micros(), session.retention.micros());
        let place = || format!("{context}: key {key} slot {slot} gap {} now {now} watermark {}", session.gap, world.watermark);
        let WindowValue::Value { value, as_of } = read(world, key, slot, now, false) else {
            assert!(now < world.watermark.saturating_sub(retention + gap.max(SLACK)), "{}: expired", place());
            continue;
        };
        let coarse = session_hops(session.gap).1.micros();
        let rounded = as_of.0 == now.div_euclid(coarse) * coarse && now < world.watermark.saturating_sub(SLACK);
        assert!(as_of.0 == now || rounded, "{}: as of {as_of:?}", place());
        let open = open_session(&events, gap, as_of.0);
        assert_eq!(value, naive(slot % 10, &open), "{}", place());
    }
}

/// A life of a store: bursts of events and pauses, some of them late, within what is kept.
fn live(seed: u64, gaps: &[(i64, i64)], days: i64) {
    let (mut world, mut random) = (world(gaps), random(seed));
    let kept = gaps.iter().map(|(gap, retention)| retention + gap.max(&SLACK)).min().unwrap();
    let start = 1_357_000_000_000_000 / HOUR * HOUR;
    let mut time = start;
    while time < start + days * DAY {
        let pause = if random(6) == 0 { 3 * HOUR } else { 9 * MINUTE };
        time += random(pause as u64) as i64;
        for _ in 0..random(4) {
            let disorder = match random(20) {
                0..2 => random(kept as u64) as i64,
                2 => -(random(2 * HOUR as u64) as i64),
                3..9 => random(30 * MINUTE as u64) as i64,
                _ => 0,
            };
            let at = (time - disorder).max(world.watermark.saturating_sub(kept).saturating_add(1));
            let at = if random(3) == 0 { (at / MINUTE + 1) * MINUTE } else { at };
            let amount = (random(8) > 0).then(|| random(1000) as i64 - 300);
            world.log.push(Event { key: random(3), time: at, amount, city: random(5) as i64 });
        }
        match random(12) {
            0..4 => world.send(random(9) as usize),
            4..6 => {
                // Time goes on with what is committed.
                world.send(usize::MAX / 2);
                world.commit();
                let watermark = time - random(HOUR as u64) as i64;
                world.advance(watermark);
            }
            6 => world.commit(),
            7 if random(4) == 0 => world.store.as_ref().unwrap().shrink_hot(ShardId(0), 0),
            8 if random(3) == 0 => world.open(),
            _ => {}
        }
        if random(3) == 0 {
            let now = match random(4) {
                0 => world.watermark.max(start),
                1 => time / HOUR * HOUR,
                2 => time - random(2 * kept as u64) as i64,
                _ => time + random(HOUR as u64) as i64,
            };
            check(&world, random(3), now, &format!("seed {seed}"));
        }
    }
    world.send(usize::MAX / 2);
    world.commit();
    world.open();
    (0..3).for_each(|key| check(&world, key, time, &format!("seed {seed}, at the end")));
}

#[test]
fn sessions_are_right_at_any_instant_over_disorder_joins_commits_kills_and_evictions() {
    for seed in 0..20 {
        live(seed, &[(30 * MINUTE, 0), (7 * MINUTE + 1, 0), (20_000_000, 0)], 4);
    }
}

#[test]
fn retained_sessions_answer_for_the_past() {
    for seed in 100..115 {
        live(seed, &[(30 * MINUTE, DAY), (90_000_000, 2 * DAY), (5 * HOUR, DAY)], 5);
    }
}

fn event(key: u64, time: i64) -> Event {
    Event { key, time, amount: Some(1), city: 0 }
}

#[test]
fn a_late_event_joins_two_sessions_also_when_both_are_rolled_up() {
    let mut world = world(&[(30 * MINUTE, DAY)]);
    let count = |world: &World, now: i64| read(world, 1, 0, now, false);
    let told = |count: i64, now: i64| WindowValue::Value { value: Value::Int(count), as_of: EventTime(now) };
    world.log.extend([event(1, DAY), event(1, DAY + 20 * MINUTE), event(1, DAY + 60 * MINUTE), event(1, DAY + 61 * MINUTE)]);
    world.send(9);
    let end = DAY + 90 * MINUTE;
    assert_eq!(count(&world, end), told(2, end), "two sessions, 40 minutes apart");
    world.commit_all();
    world.advance(DAY + 12 * HOUR);
    world.log.extend([event(1, DAY + 12 * HOUR), event(1, DAY + 40 * MINUTE)]);
    world.send(9);
    assert_eq!(count(&world, end), told(5, end), "one of five");
    assert_eq!(count(&world, DAY + 12 * HOUR), told(1, DAY + 12 * HOUR));
    let closed = DAY + 91 * MINUTE;
    assert_eq!(count(&world, closed), told(0, closed), "30 minutes after the last");
}

#[test]
fn a_session_that_does_not_end_keeps_its_beginning_in_one_segment() {
    let mut world = world(&[(30 * MINUTE, 0)]);
    for minute in 0..5_000 {
        world.log.push(event(1, DAY + minute * MINUTE));
        world.send(1);
        world.advance(DAY + minute * MINUTE);
    }
    world.commit_all();
    let now = DAY + 4_999 * MINUTE;
    check(&world, 1, now, "without a pause");
    let core = world.store.as_ref().unwrap().core(ShardId(0));
    let key = crate::keys::row(ClassSessions::stored(CLASS), b"1");
    let stored = core.with_rocks(|rocks| rocks.get(&key).map(|row| row.unwrap().len())).unwrap();
    assert!(stored < 10_000, "{stored} bytes");
    // Late, but within the session.
    world.log.push(event(1, DAY + 7 * MINUTE + 1));
    world.send(1);
    check(&world, 1, now, "one more at its beginning");
}

#[test]
fn what_is_too_old_for_all_that_is_kept_changes_nothing() {
    let mut world = world(&[(30 * MINUTE, HOUR)]);
    world.log.extend([event(1, 10 * DAY), event(1, 11 * DAY)]);
    world.send(1);
    world.advance(11 * DAY);
    world.send(1);
    world.log.push(event(1, 10 * DAY + MINUTE));
    world.send(1);
    assert_eq!(read(&world, 1, 0, 10 * DAY + 2 * MINUTE, false), WindowValue::Expired);
    let now = 11 * DAY + MINUTE;
    assert_eq!(read(&world, 1, 0, now, false), WindowValue::Value { value: Value::Int(1), as_of: EventTime(now) });
    assert_eq!(read(&world, 2, 0, 10 * DAY, false), WindowValue::Expired, "also of somebody who never came");
}

#[test]
fn compaction_drops_rows_whose_sessions_are_all_over_and_no_others() {
    let mut world = world(&[(30 * MINUTE, HOUR)]);
    let stored = ClassSessions::stored(CLASS);
    world.log.extend((0..50).map(|key| event(key, DAY + key as i64 * MINUTE)));
    world.send(99);
    world.commit_all();
    world.advance(DAY + 90 * MINUTE);
    compact(&world);
    assert_eq!(rows_under(&world, stored), 50);
    // Those that had ended more than an hour and 30 minutes ago.
    world.advance(DAY + 150 * MINUTE);
    compact(&world);
    assert_eq!(rows_under(&world, stored), 49 - 30);
    world.open(); // so that nothing is in memory
    (0..50).for_each(|key| check(&world, key, DAY + 150 * MINUTE, "after compaction"));
    world.advance(3 * DAY);
    compact(&world);
    assert_eq!(rows_under(&world, stored), 0);
}

#[test]
fn sessions_that_are_declared_anew_go_on_and_new_ones_begin_empty() {
    let mut world = world(&[(30 * MINUTE, HOUR)]);
    world.log.extend((0..9).map(|nth| event(1, DAY + nth * MINUTE)));
    world.send(9);
    world.commit_all();
    world.sessions.remove(1);
    world.sessions.extend(declared(&[(30 * MINUTE, HOUR), (HOUR, 0)]).into_iter().skip(4));
    world.open();
    let now = DAY + 8 * MINUTE;
    for slot in [0, 2, 3] {
        let all: Vec<_> = (0i64..).zip(world.log.iter().copied()).collect();
        let expected = WindowValue::Value { value: naive(slot, &all), as_of: EventTime(now) };
        assert_eq!(read(&world, 1, slot, now, false), expected);
    }
    assert_eq!(read(&world, 1, 1, now, false), WindowValue::Unknown);
    assert_eq!(read(&world, 1, 10, now, false), WindowValue::Value { value: Value::Int(0), as_of: EventTime(now) });
    world.log.push(event(1, DAY + 9 * MINUTE));
    world.send(1);
    world.commit_all();
    let now = DAY + 9 * MINUTE;
    for (slot, count) in [(0, 10), (10, 1)] {
        assert_eq!(read(&world, 1, slot, now, true), WindowValue::Value { value: Value::Int(count), as_of: EventTime(now) });
    }
}
