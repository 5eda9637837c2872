//! What must come out, computed without the engine: one pass over the rows with plain maps. (`oracle.py` computes the same a
//! second time, from the file alone.)

use std::collections::{BTreeMap, BTreeSet};

use karst::{EngineHandle, EventTime, LateLane, Outcomes, Reason, TimeSpan, Value};

use super::data::Row;

/// Ahead of the record's own time by more, an event does not move the watermark: the source's default.
const MAX_FUTURE_SKEW: TimeSpan = TimeSpan::from_secs(300);

pub(crate) type Order = (EventTime, i32, usize);
type Features = BTreeMap<&'static str, Value>;

/// The final values, and what became of the records.
#[derive(Default)]
pub(crate) struct Expected {
    pub(crate) aircraft: BTreeMap<String, (Order, Features)>,
    pub(crate) route: BTreeMap<String, (Order, Features)>,
    pub(crate) outcomes: Outcomes,
    /// The rows that were applied: their place in the order of values, and their index.
    pub(crate) kept: Vec<(Order, usize)>,
    /// Partition and offset of the late ones.
    pub(crate) late: BTreeSet<(i32, i64)>,
    lane: LateLane,
    /// How late each event is, in microseconds; zero for those in time.
    pub(crate) lateness: Vec<i64>,
}

/// Replays the rows.
pub(crate) fn expect(rows: &[Row], deadline: TimeSpan, lane: LateLane) -> Expected {
    let mut expected = Expected { lane, ..Expected::default() };
    let mut watermark = [None; 3];
    let mut offsets = [0; 3];
    for (index, row) in rows.iter().enumerate() {
        let partition = row.partition as usize;
        let known = EventTime(row.known.0);
        let event_time = row.departure.unwrap_or(known);
        let before: Option<EventTime> = watermark[partition];
        let reach = event_time.min(known.plus(MAX_FUTURE_SKEW));
        watermark[partition] = before.max(Some(reach));
        let order = (event_time, row.partition, offsets[partition]);
        offsets[partition] += 1;
        expected.outcomes.records += 1;
        let lateness = before.map_or(0, |before| (before.0 - event_time.0).max(0));
        expected.lateness.push(lateness);
        let late = !deadline.is_infinite() && lateness > deadline.micros();
        if late {
            expected.outcomes.late += 1;
            expected.late.insert((row.partition, order.2 as i64));
            if lane != LateLane::Correct {
                continue;
            }
        }
        let Some(departure) = row.departure else {
            expected.outcomes.skipped += u64::from(!late);
            continue;
        };
        expected.outcomes.applied += u64::from(!late);
        expected.kept.push((order, index));
        let text = |text: &str| Value::Str(text.into());
        let number = |number: Option<i64>| number.map_or(Value::Null, Value::Int);
        if let Some(tailnum) = &row.tailnum {
            let features = Features::from([
                ("last_flight", text(&format!("{}{}", row.carrier, row.number))),
                ("last_origin", text(&row.origin)),
                ("last_destination", text(&row.destination)),
                ("last_departure_at", Value::Time(departure)),
                ("last_departure_delay_minutes", number(row.departure_delay)),
            ]);
            keep(&mut expected.aircraft, tailnum.clone(), order, features);
        }
        let features = Features::from([
            ("last_carrier", text(&row.carrier)),
            ("last_departure_at", Value::Time(departure)),
            ("last_air_time_minutes", number(row.air_time)),
        ]);
        keep(&mut expected.route, format!("{}-{}", row.origin, row.destination), order, features);
    }
    expected
}

fn keep(values: &mut BTreeMap<String, (Order, Features)>, id: String, order: Order, features: Features) {
    match values.get(&id) {
        Some((kept, _)) if *kept > order => {}
        _ => _ = values.insert(id, (order, features)),
    }
}

/// Compares everything that the engine stored with what was expected; the differences, in words.
pub(crate) fn compare(engine: &EngineHandle, expected: &Expected) -> Vec<String> {
    let mut differences = Vec::new();
    let got = engine.status().outcomes();
    if got != expected.outcomes {
        differences.push(format!("outcomes: expected {:?}, got {got:?}", expected.outcomes));
    }
    differences.extend(compare_late(engine, expected).err());
    for (class, values) in [("aircraft", &expected.aircraft), ("route", &expected.route)] {
        let stored = match engine.scan(class) {
            Ok(stored) => stored,
            Err(error) => return vec![error.to_string()],
        };
        let stored: BTreeMap<String, BTreeMap<String, Value>> = stored
            .into_iter()
            .filter_map(|(key, cells)| match key {
                Value::Str(id) => Some((id.to_string(), cells.into_iter().collect())),
                _ => None,
            })
            .collect();
        if stored.len() != values.len() {
            differences.push(format!("{class}: expected {} entities, got {}", values.len(), stored.len()));
        }
        for (id, (_, features)) in values {
            let same = stored.get(id).is_some_and(|cells| {
                cells.len() == features.len() && features.iter().all(|(name, value)| cells.get(*name) == Some(value))
            });
            if !same {
                differences.push(format!("{class} {id}: expected {features:?}, got {:?}", stored.get(id)));
            }
        }
    }
    differences
}

/// The set of late events, by position, is that of the letters with reason `late`; only the lane `dead_letter` has any.
fn compare_late(engine: &EngineHandle, expected: &Expected) -> Result<(), String> {
    let mut letters = engine.dead_letters("flights", usize::MAX).map_err(|error| error.to_string())?;
    letters.retain(|stored| stored.letter.reason == Reason::Late);
    let got: BTreeSet<_> = letters.iter().map(|stored| (stored.partition.0, stored.letter.offset.0)).collect();
    let none = BTreeSet::new();
    let late = if expected.lane == LateLane::DeadLetter { &expected.late } else { &none };
    if got == *late && letters.len() == late.len() {
        return Ok(());
    }
    let few = |of: &BTreeSet<(i32, i64)>, without: &BTreeSet<_>| of.difference(without).take(5).copied().collect::<Vec<_>>();
    Err(format!(
        "late events kept as dead letters: expected {}, got {}; missing (partition, offset) {:?}, too many {:?}",
        late.len(),
        letters.len(),
        few(late, &got),
        few(&got, late),
    ))
}
