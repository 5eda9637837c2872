//! What the windows must hold, computed without the engine: the flights that count, sorted, and looked through one by one.

use std::collections::BTreeMap;

use karst::{EngineHandle, Value};

use super::{
    data::Row,
    expect::{Checks, Expect},
    oracle::{Expected, Order},
};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
/// 2013-01-01T05:00:00Z: New York's first hour of the year.
const START: i64 = 1_357_016_400_000_000;
const HOURS: i64 = 365 * 24;
/// Above this many values a percentile is within 1 % of one.
const EXACT_MAX: usize = 128;

type Flights<'a> = BTreeMap<String, Vec<(Order, &'a Row)>>;

/// Asks for the windows at whole hours of 2013; how many values were compared, and what differs, in words.
pub(crate) fn compare(engine: &EngineHandle, rows: &[Row], expected: &Expected) -> (usize, Vec<String>) {
    let (mut origins, mut aircraft, mut routes) = (Flights::new(), Flights::new(), Flights::new());
    for (order, index) in &expected.kept {
        let row = &rows[*index];
        origins.entry(row.origin.clone()).or_default().push((*order, row));
        routes.entry(format!("{}-{}", row.origin, row.destination)).or_default().push((*order, row));
        if let Some(tailnum) = &row.tailnum {
            aircraft.entry(tailnum.clone()).or_default().push((*order, row));
        }
    }
    let mut checks = Checks::new(engine);
    for (flights, instants, class, values) in [
        (&mut origins, 400, "origin", origin as fn(&[(Order, &Row)], i64) -> Vec<(&'static str, Expect)>),
        (&mut aircraft, 2, "aircraft", of_aircraft),
        (&mut routes, 6, "route", route),
    ] {
        for (nth, (id, flights)) in flights.iter_mut().enumerate() {
            flights.sort_unstable_by_key(|(order, _)| *order);
            for instant in 0..instants {
                // Scattered over the year; those of aircraft at midnight, by which the windows of all time hop.
                let hour = (nth as i64 * 1_013 + instant * 7_919) % HOURS;
                let now = if class == "aircraft" { START / DAY * DAY + hour / 24 * DAY + DAY } else { START + hour * HOUR };
                checks.check(class, id, now, &values(flights, now));
            }
        }
    }
    (checks.compared, checks.differences)
}

/// The flights after `now` less `span`, up to `now`.
fn within<'a, 'r>(flights: &'a [(Order, &'r Row)], now: i64, span: i64) -> &'a [(Order, &'r Row)] {
    let before = |instant: i64| flights.partition_point(|((at, ..), _)| at.0 <= instant);
    &flights[before(now.saturating_sub(span))..before(now)]
}

fn origin(flights: &[(Order, &Row)], now: i64) -> Vec<(&'static str, Expect)> {
    let mut values = Vec::new();
    for (span, names) in [
        (HOUR, ["departures__3600__", "mean_delay__3600__", "p95_delay__3600__", "max_delay__3600__"]),
        (DAY, ["departures__86400__", "mean_delay__86400__", "p95_delay__86400__", "max_delay__86400__"]),
    ] {
        let flights = within(flights, now, span);
        let mut delays: Vec<i64> = flights.iter().filter_map(|(_, row)| row.departure_delay).collect();
        delays.sort_unstable();
        let mean = (!delays.is_empty()).then(|| delays.iter().sum::<i64>() as f64 / delays.len() as f64);
        let rank = (delays.len() as f64 * 0.95).ceil() as usize;
        let p95 = delays.get(rank.saturating_sub(1)).map(|delay| *delay as f64);
        values.push((names[0], Expect::Exactly(Value::Int(flights.len() as i64))));
        values.push((names[1], Expect::Near(mean)));
        values.push((
            names[2],
            match p95 {
                Some(p95) if delays.len() > EXACT_MAX => Expect::About(p95, 0.01),
                p95 => Expect::Near(p95),
            },
        ));
        values.push((names[3], Expect::Exactly(delays.last().map_or(Value::Null, |delay| Value::Int(*delay)))));
    }
    let day = within(flights, now, DAY);
    let mut tails: Vec<&str> = day.iter().filter_map(|(_, row)| row.tailnum.as_deref()).collect();
    tails.sort_unstable();
    tails.dedup();
    values.push(("aircraft__86400__", Expect::Exactly(Value::Int(tails.len() as i64))));
    let mut carriers: BTreeMap<&str, i64> = BTreeMap::new();
    day.iter().for_each(|(_, row)| *carriers.entry(&row.carrier).or_default() += 1);
    let mut carriers: Vec<_> = carriers.into_iter().collect();
    carriers.sort_by_key(|(carrier, count)| (-count, *carrier));
    let top: Vec<Value> = carriers.iter().take(5).map(|(carrier, _)| Value::Str((*carrier).into())).collect();
    values.push(("top_carriers__86400__", Expect::Exactly(if top.is_empty() { Value::Null } else { Value::List(top) })));
    values
}

fn of_aircraft(flights: &[(Order, &Row)], now: i64) -> Vec<(&'static str, Expect)> {
    let count = |span| Expect::Exactly(Value::Int(within(flights, now, span).len() as i64));
    let last = within(flights, now, i64::MAX).iter().rev().take(3);
    let last: Vec<Value> = last.map(|(_, row)| Value::Str(row.destination.as_str().into())).collect();
    let last = Expect::Exactly(if last.is_empty() { Value::Null } else { Value::List(last) });
    vec![("flights__86400__", count(DAY)), ("flights__604800__", count(7 * DAY)), ("last_destinations__all__", last)]
}

fn route(flights: &[(Order, &Row)], now: i64) -> Vec<(&'static str, Expect)> {
    let times: Vec<i64> = within(flights, now, 7 * DAY).iter().filter_map(|(_, row)| row.air_time).collect();
    let mean = (!times.is_empty()).then(|| times.iter().sum::<i64>() as f64 / times.len() as f64);
    vec![("mean_air_time__604800__", Expect::Near(mean))]
}
