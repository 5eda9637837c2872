//! Compares what the engine has with what was drawn.

use karst::{EngineHandle, QueryRequest, Reason, Value};

use crate::{
    payments::User,
    w1::{USERS, W1Totals, latest_digest},
};

/// Everything that differs, in words.
pub(crate) fn differences(engine: &EngineHandle, expected: &W1Totals) -> Vec<String> {
    let status = engine.status();
    let got = status.outcomes();
    let dead = |wanted: &[Reason]| -> u64 {
        let reasons = status.sources.iter().flat_map(|source| &source.partitions).flat_map(|partition| &partition.reasons);
        reasons.filter(|(reason, _)| wanted.contains(reason)).map(|(_, count)| count).sum()
    };
    let (users, latest) = latest(engine);
    let figures = [
        ("records", expected.events, got.records),
        ("applied", expected.kept, got.applied),
        ("late", expected.late, got.late),
        ("skipped", 0, got.skipped),
        ("dead letters", expected.malformed + expected.invalid, got.dead_letters),
        ("malformed", expected.malformed, dead(&[Reason::Malformed])),
        ("of a wrong schema or invalid", expected.invalid, dead(&[Reason::SchemaMismatch, Reason::Invalid])),
        ("users", expected.users, users),
        ("digest of latest values", expected.latest, latest),
    ];
    let wrong = figures.into_iter().filter(|(_, expected, got)| expected != got);
    wrong.map(|(what, expected, got)| format!("{what}: expected {expected}, got {got}")).collect()
}

/// Asks for every user: how many have values, and the digest of all of them.
fn latest(engine: &EngineHandle) -> (u64, u64) {
    let (mut users, mut digest) = (0, 0u64);
    for number in 0..USERS {
        let user = format!("user_{number:06}");
        let request = QueryRequest::new().input(User::id, &*user);
        let request =
            request.output(User::last_merchant).output(User::last_amount).output(User::last_status).output(User::last_ts);
        let answer = engine.query(&request);
        let values =
            ["user.last_merchant", "user.last_amount", "user.last_status", "user.last_ts"].map(|name| answer.get(name));
        if let [Some(Value::Str(merchant)), Some(Value::Float(amount)), Some(Value::Str(status)), Some(Value::Time(ts))] =
            values
        {
            let cents = (amount * 100.0).round() as i64;
            users += 1;
            digest = digest.wrapping_add(latest_digest(&user, ts.0 / 1000, cents, merchant, status));
        }
    }
    (users, digest)
}
