//! Windows of a store on disk against a naive oracle that keeps every event: random disorder, commits, kills, evictions, roll-overs,
//! archives, and questions at any instant.

use karst_types::{
    Aggregation, EntityKey, Expr, ShardId, ValueType, WindowKind, WindowLength, entity::key_hash, window::tile_end,
};

use super::*;
use crate::{
    AggregateDeclaration, ClassSessions, ClassWindows, SessionDeclaration, WindowDeclaration, WindowRead, WindowValue, Windows,
};

pub(super) const MINUTE: i64 = 60_000_000;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Event {
    pub(super) key: u64,
    pub(super) time: i64,
    pub(super) amount: Option<i64>,
    pub(super) city: i64,
}

fn span(micros: i64) -> WindowLength {
    WindowLength::Span(TimeSpan::from_micros(micros))
}

fn window(length: WindowLength, retention: i64) -> WindowDeclaration {
    WindowDeclaration {
        length,
        kind: WindowKind::Sliding,
        hop: None,
        retention: TimeSpan::from_micros(retention),
        exact: false,
    }
}

pub(super) fn aggregates() -> Vec<AggregateDeclaration> {
    let of = |slot: u16, aggregation, feature: Option<u16>| AggregateDeclaration {
        slot,
        aggregation,
        input: feature.map(|feature| (Expr::Feature(FeatureSlot(feature)), ValueType::Int)),
        by: None,
        filter: None,
        group_by: None,
        exact: false,
    };
    vec![
        of(0, Aggregation::Count, None),
        of(1, Aggregation::Sum, Some(0)),
        of(2, Aggregation::Max, Some(0)),
        of(3, Aggregation::LastN(3), Some(1)),
    ]
}

/// What the aggregate with this slot is of these events, in the order of their offsets.
pub(super) fn naive(slot: u16, events: &[(i64, Event)]) -> Value {
    let amounts = || events.iter().filter_map(|(_, event)| event.amount);
    match slot {
        0 => Value::Int(events.len() as i64),
        1 => Value::Int(amounts().sum()),
        2 => amounts().max().map_or(Value::Null, Value::Int),
        _ => {
            if events.is_empty() {
                return Value::Null;
            }
            let mut last = events.to_vec();
            last.sort_by_key(|(offset, event)| std::cmp::Reverse((event.time, *offset)));
            Value::List(last.iter().take(3).map(|(_, event)| Value::Int(event.city)).collect())
        }
    }
}

pub(super) struct World {
    dir: tempfile::TempDir,
    declared: Vec<WindowDeclaration>,
    pub(super) sessions: Vec<SessionDeclaration>,
    aggregates: Vec<AggregateDeclaration>,
    pub(super) store: Option<Store>,
    shard: Option<ShardWriter>,
    epoch: u64,
    lane_seq: u64,
    pub(super) log: Vec<Event>,
    pub(super) next: usize,
    pub(super) watermark: i64,
}

impl World {
    fn new(declared: Vec<WindowDeclaration>) -> Self {
        Self::with_sessions(declared, Vec::new())
    }

    pub(super) fn with_sessions(declared: Vec<WindowDeclaration>, sessions: Vec<SessionDeclaration>) -> Self {
        let exact = declared.iter().any(|window| window.exact);
        let mut world = Self {
            dir: tempfile::tempdir().unwrap(),
            declared,
            sessions,
            aggregates: aggregates().into_iter().map(|aggregate| AggregateDeclaration { exact, ..aggregate }).collect(),
            store: None,
            shard: None,
            epoch: 0,
            lane_seq: 0,
            log: Vec::new(),
            next: 0,
            watermark: i64::MIN,
        };
        world.open();
        world
    }

    /// A start, perhaps after a kill: what was not committed is sent again.
    pub(super) fn open(&mut self) {
        (self.shard, self.store) = (None, None);
        // A handful of events is a flood: most commits leave the rows for a later one.
        let settings = StoreSettings { commit_events: 16, ..settings(1) };
        let store = Store::open_with_windows(self.dir.path(), &settings, Arc::new(StoppedClock)).unwrap();
        let tiles = (!self.declared.is_empty()).then(|| Arc::new(ClassWindows::new(CLASS, &self.aggregates, &self.declared)));
        let sessions = (!self.sessions.is_empty()).then(|| Arc::new(ClassSessions::new(CLASS, &self.sessions)));
        store.declare_windows(Windows::new(tiles).with_sessions(sessions)).unwrap();
        let mut shard = store.shard_writer(ShardId(0)).unwrap();
        self.epoch += 1;
        self.lane_seq = 0;
        let applied = shard.reset_lane(LANE, self.epoch).applied;
        self.next = applied.map_or(0, |offset| offset.0 as usize + 1);
        (self.shard, self.store) = (Some(shard), Some(store));
        self.advance(self.watermark);
    }

    fn layout(&self) -> Arc<ClassWindows> {
        Arc::clone(self.store.as_ref().unwrap().windows().of(CLASS).unwrap())
    }

    pub(super) fn advance(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
        self.store.as_ref().unwrap().windows().advance(CLASS, EventTime(self.watermark));
    }

    pub(super) fn send(&mut self, events: usize) {
        let through = (self.next + events).min(self.log.len());
        if through == self.next {
            return;
        }
        let mut updates = Updates::new(LANE.source, LANE.partition);
        for (offset, event) in self.log.iter().enumerate().take(through).skip(self.next) {
            let cause = Cause { offset: Offset(offset as i64), event_time: EventTime(event.time) };
            let cells = |out: &mut Vec<u8>| {
                event.amount.encode(out);
                event.city.encode(out);
            };
            updates.push(CLASS, cause, &[FeatureSlot(0), FeatureSlot(1)], |out| event.key.to_string().encode_key(out), cells);
        }
        self.lane_seq += 1;
        let head = LaneHead {
            source: LANE.source,
            partition: LANE.partition,
            epoch: self.epoch,
            lane_seq: self.lane_seq,
            through: Offset(through as i64 - 1),
        };
        let mut batch = ShardBatch { head, updates, stored_at: ProcessingTime(0), watermark: None, credit: None };
        assert!(matches!(self.shard.as_mut().unwrap().apply(&mut batch).unwrap(), Applied::Applied { .. }));
        self.next = through;
    }

    pub(super) fn commit(&mut self) {
        let commits = self.store.as_ref().unwrap().commit_writer(ShardId(0));
        let shard = self.shard.as_mut().unwrap();
        if let Some(frozen) = shard.freeze() {
            let done = commits.write(frozen).unwrap();
            shard.committed(&done);
        }
    }

    /// Until there is nothing left to be written.
    pub(super) fn commit_all(&mut self) {
        while self.shard.as_ref().unwrap().has_uncommitted() {
            self.commit();
        }
    }

    fn read(&self, key: u64, slot: u16, window: &WindowDeclaration, now: i64, committed: bool) -> WindowValue {
        let wanted = WindowRead { slot, length: window.length, kind: window.kind, hop: window.hop(), exact: window.exact };
        let bytes = key.to_string().into_bytes();
        assert_eq!(key_hash(&bytes), EntityKey { class: CLASS, bytes: bytes.clone() }.hash());
        let entity = EntityKey { class: CLASS, bytes };
        let reader = self.store.as_ref().unwrap().reader();
        reader.windows(&self.layout(), &entity, &[wanted], EventTime(now), committed).unwrap().remove(0)
    }

    /// Every aggregate of a key over every window at `now` is what the naive computation says.
    fn check(&self, key: u64, now: i64, context: &str) {
        for window in &self.declared {
            let hop = window.hop().micros();
            for slot in 0..4 {
                let place = || {
                    format!("{context}: key {key} slot {slot} window {} now {now} watermark {}", window.length, self.watermark)
                };
                let got = self.read(key, slot, window, now, false);
                let WindowValue::Value { value, as_of } = got else {
                    // Of all time only what is newer than the tile at the bottom can be told apart.
                    let reach = if window.retention == TimeSpan::ZERO {
                        self.watermark
                    } else {
                        self.watermark - window.retention.micros()
                    };
                    assert!(now.div_euclid(hop) * hop < reach, "{}: {got:?}", place());
                    continue;
                };
                let rounded = now.div_euclid(hop) * hop;
                assert!(as_of.0 == now || (as_of.0 == rounded && now < self.watermark), "{}: as of {as_of:?}", place());
                let tail = match (window.length, window.kind) {
                    (WindowLength::Span(span), _) if window.exact => as_of.0 - span.micros(),
                    (WindowLength::All, _) => i64::MIN,
                    (WindowLength::Span(span), WindowKind::Tumbling) => tile_end(as_of, span).0 - span.micros(),
                    (WindowLength::Span(span), _) => (as_of.0 - span.micros()).div_euclid(hop) * hop,
                };
                // The finest tile at the head counts whole.
                let head = if window.exact { as_of.0 } else { tile_end(as_of, TimeSpan::from_micros(MINUTE)).0 };
                let within = |event: &Event| event.key == key && event.time > tail && event.time <= head;
                let events: Vec<(i64, Event)> = (0i64..)
                    .zip(&self.log[..self.next])
                    .filter(|(_, event)| within(event))
                    .map(|(offset, event)| (offset, *event))
                    .collect();
                assert_eq!(value, naive(slot, &events), "{}", place());
            }
        }
    }
}

/// Numbers below a bound.
pub(super) fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(state) % below
    }
}

/// A life of a store: events around a time that goes on, some of them late and some in the future.
fn live(seed: u64, declared: Vec<WindowDeclaration>, days: i64) {
    live_with(seed, declared, days, (3 * DAY) as u64, 1);
}

/// `very_late` of 20 events are late by up to `latest`.
fn live_with(seed: u64, declared: Vec<WindowDeclaration>, days: i64, latest: u64, very_late: u64) {
    let mut world = World::new(declared);
    let mut random = random(seed);
    let start = 1_357_000_000_000_000 / HOUR * HOUR;
    let mut time = start;
    while time < start + days * DAY {
        time += (random(40 * MINUTE as u64) as i64) * (1 + 30 * i64::from(random(10) == 0));
        for _ in 0..random(4) {
            let disorder = match random(20) {
                nth if nth < very_late => random(latest) as i64,
                19 => -(random(2 * HOUR as u64) as i64),
                10..16 => random(HOUR as u64) as i64,
                _ => 0,
            };
            let at = time - disorder;
            let at = if random(3) == 0 { at / MINUTE * MINUTE } else { at };
            let amount = (random(8) > 0).then(|| random(1000) as i64 - 300);
            world.log.push(Event { key: random(3), time: at, amount, city: random(5) as i64 });
        }
        match random(12) {
            0..4 => world.send(random(9) as usize),
            4..6 => {
                world.send(usize::MAX / 2);
                let watermark = time - random(2 * HOUR as u64) as i64;
                world.advance(watermark);
            }
            6 => world.commit(),
            7 if random(4) == 0 => {
                world.store.as_ref().unwrap().shrink_hot(ShardId(0), 0);
            }
            8 if random(3) == 0 => world.open(),
            _ => {}
        }
        if random(5) == 0 {
            let now = match random(4) {
                0 => world.watermark.max(start),
                1 => time / HOUR * HOUR,
                2 => (time - random(days as u64 * DAY as u64) as i64) / DAY * DAY,
                _ => time + random(DAY as u64) as i64,
            };
            world.check(random(3), now, &format!("seed {seed}"));
        }
    }
    world.send(usize::MAX / 2);
    world.commit();
    world.open();
    (0..3).for_each(|key| world.check(key, time, &format!("seed {seed}, at the end")));
}

#[test]
fn windows_are_right_at_any_instant_over_disorder_commits_kills_and_evictions() {
    for seed in 0..20 {
        live(
            seed,
            vec![window(span(10 * MINUTE), 0), window(span(HOUR), 0), window(span(DAY), 0), window(span(3 * DAY), 0)],
            6,
        );
    }
}

#[test]
fn windows_of_all_time_keep_what_is_older_than_their_tiles() {
    for seed in 100..120 {
        live(seed, vec![window(span(HOUR), 0), window(WindowLength::All, 0)], 6);
    }
}

#[test]
fn retained_windows_answer_for_the_past_from_the_archive() {
    for seed in 200..215 {
        live(seed, vec![window(span(HOUR), 10 * DAY), window(span(DAY), 10 * DAY), window(WindowLength::All, 10 * DAY)], 6);
    }
}

pub(super) fn compact(world: &World) {
    let core = world.store.as_ref().unwrap().core(ShardId(0));
    let compacted = core.with_rocks(|rocks| {
        rocks.flush()?;
        rocks.compact();
        Ok(())
    });
    compacted.unwrap();
}

/// Rows on disk under a class.
pub(super) fn rows_under(world: &World, class: ClassId) -> usize {
    let mut rows = 0;
    let count = |key: &[u8], _: &[u8]| {
        rows += usize::from(crate::keys::of_row(key).unwrap().0 == class);
        Ok(true)
    };
    world.store.as_ref().unwrap().core(ShardId(0)).with_rocks(|rocks| rocks.scan(b"s", b"s", count)).unwrap();
    rows
}

/// Rows of tiles on disk, live and archived.
fn rows_of_tiles(world: &World) -> (usize, usize) {
    (rows_under(world, ClassWindows::live_of(CLASS)), rows_under(world, world.layout().archive()))
}

#[test]
fn compaction_drops_rows_whose_tiles_have_all_expired_and_no_others() {
    let mut world = World::new(vec![window(span(HOUR), DAY)]);
    let event = |key, time| Event { key, time, amount: Some(1), city: 0 };
    for key in 0..50 {
        world.log.extend([event(key, DAY), event(key, DAY + 2 * HOUR + key as i64 * MINUTE)]);
    }
    world.send(99);
    world.advance(DAY + 4 * HOUR);
    world.log.extend((0..50).map(|key| event(key, DAY + 4 * HOUR)));
    world.send(1000);
    world.commit_all();
    compact(&world);
    let before = rows_of_tiles(&world);
    assert!(before.0 == 50 && before.1 >= 50, "{before:?}");
    world.advance(3 * DAY);
    compact(&world);
    assert_eq!(rows_of_tiles(&world), (0, 0));
    world.log.push(event(7, 3 * DAY));
    world.send(1);
    world.commit_all();
    compact(&world);
    assert_eq!(rows_of_tiles(&world), (1, 0));
    world.check(7, 3 * DAY, "after compaction");
}

#[test]
fn compaction_keeps_what_a_long_window_reaches_also_where_nothing_was_rolled_up() {
    let mut world = World::new(vec![window(span(HOUR), 0), window(span(DAY), 0)]);
    world.log.extend((0..20).map(|key| Event { key, time: DAY + 3 * HOUR, amount: Some(1), city: 0 }));
    world.send(20);
    world.commit_all();
    for hours in [20, 26] {
        world.advance(DAY + hours * HOUR);
        world.open(); // so that nothing is in memory
        world.advance(DAY + hours * HOUR);
        compact(&world);
        (0..20).for_each(|key| world.check(key, DAY + hours * HOUR, "untouched since"));
    }
    assert_eq!(rows_of_tiles(&world).0, 20);
}

#[test]
fn windows_that_are_declared_anew_keep_what_was_collected_for_those_before() {
    let mut world = World::new(vec![window(span(HOUR), 0)]);
    let start = 1_357_000_000_000_000 / DAY * DAY;
    let event = |minute: i64| Event { key: 1, time: start + minute * MINUTE, amount: Some(minute), city: minute };
    world.log = (0..300).map(|nth| event(nth * 2)).collect();
    world.send(150);
    world.advance(start + 4 * HOUR);
    world.commit_all();
    // A longer window, and one aggregate less: what is known of the last hours counts on.
    world.declared = vec![window(span(10 * MINUTE), 0), window(span(HOUR), 0), window(span(DAY), 0)];
    world.aggregates.remove(1);
    world.open();
    assert_eq!(world.next, 150);
    let now = start + 5 * HOUR;
    for slot in [0, 2, 3] {
        let window = &world.declared[1];
        let expected = (0i64..).zip(&world.log[..150]).filter(|(_, event)| event.time > now - HOUR && event.time <= now);
        let expected: Vec<_> = expected.map(|(offset, event)| (offset, *event)).collect();
        assert_eq!(
            world.read(1, slot, window, now, false),
            WindowValue::Value { value: naive(slot, &expected), as_of: EventTime(now) }
        );
    }
    assert_eq!(world.read(1, 1, &world.declared[0], now, false), WindowValue::Unknown);
    world.send(1000);
    world.advance(start + 9 * HOUR);
    // It comes back: empty, since nobody kept it.
    world.commit_all();
    world.aggregates = aggregates();
    world.open();
    world.log.push(event(601));
    world.send(1);
    let now = start + 601 * MINUTE;
    let sum = |world: &World| world.read(1, 1, &world.declared[1], now, false);
    assert_eq!(sum(&world), WindowValue::Value { value: Value::Int(601), as_of: EventTime(now) });
    let count = world.read(1, 0, &world.declared[1], now, false);
    assert_eq!(
        count,
        WindowValue::Value { value: Value::Int(30), as_of: EventTime(now) },
        "28 to 58 of the hour before, and the last"
    );
}

#[test]
fn what_comes_months_late_goes_to_the_archive_and_counts() {
    let retention = 400 * DAY;
    for seed in 600..606 {
        let declared =
            vec![window(span(DAY), retention), window(span(7 * DAY), retention), window(WindowLength::All, retention)];
        live_with(seed, declared, 60, (50 * DAY) as u64, 9);
    }
}

/// The watermark is another thread's: it may jump between the roll-over of a row and its archiving.
#[test]
fn nothing_is_archived_that_was_not_rolled_up_however_far_the_watermark_has_jumped() {
    use crate::window::row;
    let world = World::new(vec![window(span(DAY), 400 * DAY), window(WindowLength::All, 400 * DAY)]);
    let layout = world.layout();
    let mut row = row::build(&layout, EventTime(20 * DAY));
    let mut updates = Updates::new(LANE.source, LANE.partition);
    for day in 1..20i64 {
        let cause = Cause { offset: Offset(day), event_time: EventTime(day * DAY) };
        let cells = |out: &mut Vec<u8>| (0..2).for_each(|_| 1i64.encode(out));
        updates.push(CLASS, cause, &[FeatureSlot(0), FeatureSlot(1)], |out| "1".encode_key(out), cells);
    }
    updates.iter().for_each(|update| _ = row::add(&mut row, &layout, &update, &mut crate::window::layout::Scratch::default()));
    for level in 1..layout.levels().len() {
        let limit = row::archivable(&row, &layout, level, EventTime(100 * DAY)).unwrap();
        assert!(limit <= row::rolled(&row, level), "level {level}: {limit}");
    }
}

#[test]
fn a_single_short_window_expires_its_tiles() {
    for seed in 300..320 {
        live(seed, vec![window(span(10 * MINUTE), 0)], 3);
    }
}

#[test]
fn exact_windows_are_right_to_the_event_at_both_edges() {
    let exact = |length| WindowDeclaration { exact: true, ..window(length, 0) };
    for seed in 500..515 {
        live(seed, vec![exact(span(10 * MINUTE)), exact(span(HOUR)), exact(span(DAY)), window(span(HOUR), 0)], 4);
    }
}

#[test]
fn tumbling_windows_begin_anew_at_each_multiple_of_their_length() {
    let tumbling = WindowDeclaration { kind: WindowKind::Tumbling, ..window(span(HOUR), 0) };
    for seed in 400..415 {
        live(seed, vec![tumbling, WindowDeclaration { length: span(DAY), ..tumbling }], 4);
    }
}

#[test]
fn a_window_of_which_not_all_groups_fit_is_counted_when_it_is_read() {
    use crate::window::{layout::Scratch, read, row};
    let by_city = Some((Expr::Feature(FeatureSlot(1)), 2));
    let grouped = AggregateDeclaration { group_by: by_city, ..aggregates().remove(0) };
    let hour = window(span(HOUR), 0);
    let layout = ClassWindows::new(CLASS, &[grouped], &[hour]);
    let wanted = WindowRead { slot: 0, length: hour.length, kind: hour.kind, hop: hour.hop(), exact: false };
    for (cities, expected) in [(2i64, 0), (3, 1)] {
        let mut updates = Updates::new(LANE.source, LANE.partition);
        for city in 0..cities {
            // Each in a tile of its own: only the window has too many.
            let cause = Cause { offset: Offset(city), event_time: EventTime(DAY + city * MINUTE) };
            let cells = |out: &mut Vec<u8>| city.encode(out);
            updates.push(CLASS, cause, &[FeatureSlot(1)], |out| "1".encode_key(out), cells);
        }
        let mut row = row::build(&layout, EventTime(DAY));
        updates.iter().for_each(|update| _ = row::add(&mut row, &layout, &update, &mut Scratch::default()));
        let mut overflowed = 0;
        let now = EventTime(DAY + 10 * MINUTE);
        read::read(&layout, Some(&row), &mut |_, _| Ok(None), &wanted, now, &mut overflowed).unwrap();
        assert_eq!(overflowed, expected, "{cities} cities");
    }
}
