//! The flights of 2013 as records, in the order in which they become known. The rules stand in README.md.

use std::path::Path;

use karst::{BrokerTime, EventTime, TimeSpan};
use serde_json::{Value, json};

/// One record of the topic.
#[derive(Clone)]
pub(crate) struct Row {
    /// 0 EWR, 1 JFK, 2 LGA.
    pub(crate) partition: i32,
    /// When it becomes known: the record's Kafka timestamp.
    pub(crate) known: BrokerTime,
    /// `None` for a cancelled flight.
    pub(crate) departure: Option<EventTime>,
    pub(crate) carrier: String,
    pub(crate) number: u32,
    pub(crate) tailnum: Option<String>,
    pub(crate) origin: String,
    pub(crate) destination: String,
    pub(crate) departure_delay: Option<i64>,
    pub(crate) air_time: Option<i64>,
}

impl Row {
    /// The record's value.
    pub(crate) fn json(&self) -> Value {
        json!({
            "carrier": self.carrier,
            "number": self.number,
            "tailnum": self.tailnum,
            "origin": self.origin,
            "destination": self.destination,
            "departure_at": self.departure.map(|at| at.to_string()),
            "departure_delay_minutes": self.departure_delay,
            "air_time_minutes": self.air_time,
        })
    }
}

/// Reads `flights.csv`, sorted by `known`; ties stay in the order of the file.
pub(crate) fn read(path: &Path) -> Result<Vec<Row>, String> {
    let told = |error: csv::Error| format!("{}: {error}", path.display());
    let mut file = csv::Reader::from_path(path).map_err(told)?;
    let headings = file.headers().map_err(told)?.clone();
    let column = |name: &str| headings.iter().position(|heading| heading == name).ok_or(format!("no column \"{name}\""));
    let [time_hour, minute, dep_time, dep_delay, air_time, carrier, flight, tailnum, origin, dest] =
        ["time_hour", "minute", "dep_time", "dep_delay", "air_time", "carrier", "flight", "tailnum", "origin", "dest"]
            .map(column);
    let (time_hour, minute, dep_time, dep_delay, air_time) = (time_hour?, minute?, dep_time?, dep_delay?, air_time?);
    let (carrier, flight, tailnum, origin, dest) = (carrier?, flight?, tailnum?, origin?, dest?);

    let mut rows = Vec::with_capacity(336_776);
    for record in file.records() {
        let record = record.map_err(told)?;
        let text = |index: usize| Some(&record[index]).filter(|text| !text.is_empty() && *text != "NA");
        let whole = |index: usize| text(index).and_then(|text| text.parse::<i64>().ok());
        let wrong = || format!("{}: line {:?} is not a flight", path.display(), record.position().map(csv::Position::line));
        let hour = karst::types::time::parse_iso(&record[time_hour])?;
        let scheduled = hour.plus(minutes(whole(minute).ok_or_else(wrong)?));
        let cancelled = text(dep_time).is_none();
        let departure = (!cancelled).then(|| scheduled.plus(minutes(whole(dep_delay).unwrap_or(0))));
        let known = departure.map_or(scheduled, |departure| departure.plus(minutes(whole(air_time).unwrap_or(0))));
        rows.push(Row {
            partition: match &record[origin] {
                "EWR" => 0,
                "JFK" => 1,
                "LGA" => 2,
                _ => return Err(wrong()),
            },
            known: BrokerTime(known.0),
            departure,
            carrier: record[carrier].to_owned(),
            number: record[flight].parse().map_err(|_| wrong())?,
            tailnum: text(tailnum).map(str::to_owned),
            origin: record[origin].to_owned(),
            destination: record[dest].to_owned(),
            departure_delay: whole(dep_delay),
            air_time: whole(air_time),
        });
    }
    rows.sort_by_key(|row| row.known); // stable
    Ok(rows)
}

fn minutes(count: i64) -> TimeSpan {
    TimeSpan::from_secs(count * 60)
}
