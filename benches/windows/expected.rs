//! What the windows of a case must hold, counted while its events are drawn; and what an engine holds.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::PathBuf,
};

use karst::{EngineHandle, EventTime, QueryRequest, Value};

use crate::{
    cases::Case,
    process,
    w1::{self, W1Totals},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const MINUTE_MS: i64 = 60_000;
/// Users whose windows are added up: all of up to 100,000, of more every hundredth.
const ASKED_MAX: u32 = 100_000;

/// The longest windows of all users that are asked together.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Longest {
    pub(crate) count: u64,
    pub(crate) cents: i64,
}

/// What must come out.
pub(crate) struct Expected {
    /// The instant that is asked for: the last whole hour that time has come to.
    pub(crate) now: EventTime,
    pub(crate) longest: Longest,
    #[allow(dead_code)] // who asks for windows alone needs no more
    pub(crate) totals: W1Totals,
}

fn stride(case: &Case) -> u32 {
    (case.users() / ASKED_MAX).max(1)
}

/// The file of events, made if it is not there; and what must come out, if they are read from so many partitions.
pub(crate) fn input(case: &Case, events: u64, partitions: u32) -> Result<(PathBuf, Expected)> {
    let path = process::input_dir()?.join(format!("w1-{events}-{:?}.jsonl", case.draw).replace(['(', ')'], "-"));
    if !path.exists() {
        let unfinished = path.with_extension("unfinished");
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
        w1::generate_with(events, 1, case.draw, &mut out, |_, _, _| ())?;
        out.flush()?;
        fs::rename(&unfinished, &path)?; // last, so that half a file is never found
    }
    let mut kept = Vec::new();
    let asked = stride(case);
    let totals = w1::generate_with(events, partitions, case.draw, &mut std::io::sink(), |user, ts, cents| {
        if user.is_multiple_of(asked) {
            kept.push((ts, cents));
        }
    })?;
    let now = kept.iter().map(|(ts, _)| *ts).max().unwrap_or(0).div_euclid(60 * MINUTE_MS) * 60 * MINUTE_MS + 60 * MINUTE_MS;
    let within = |ts: i64| ts > now - case.longest_minutes * MINUTE_MS && ts <= now;
    let within = kept.iter().filter(|(ts, _)| within(*ts));
    let (count, cents) = within.fold((0, 0), |(count, sum), (_, cents)| (count + 1, sum + cents));
    Ok((path, Expected { now: EventTime(now * 1000), longest: Longest { count, cents }, totals }))
}

/// Counts and sums over the longest window, of all users together; and errors, if any.
pub(crate) fn found(engine: &EngineHandle, case: &Case, now: EventTime) -> (Longest, Vec<String>) {
    let (mut count, mut cents, mut wrong) = (0, 0.0, Vec::new());
    let outputs = [format!("{}.payments", case.class), format!("{}.spent", case.class)]
        .map(|name| format!("{name}[\"{}\"]", case.longest));
    for user in (0..case.users()).step_by(stride(case) as usize) {
        let request = QueryRequest { now: Some(now), ..QueryRequest::new() };
        let request = request.input(format!("{}.id", case.class), format!("user_{user:06}"));
        let answer = engine.query(&outputs.iter().fold(request, |request, output| request.output(output)));
        let errors = answer.errors.iter().chain(answer.data.iter().filter_map(|value| value.error.as_ref()));
        wrong.extend(errors.take(1).map(|error| format!("user {user}: {}", error.message)));
        for value in &answer.data {
            match &value.value {
                Value::Int(number) => count += *number as u64,
                Value::Float(amount) => cents += amount * 100.0,
                _ => {}
            }
        }
    }
    wrong.truncate(5);
    (Longest { count, cents: cents.round() as i64 }, wrong)
}
