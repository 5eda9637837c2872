//! What a service would make of the features: a suspicion, by rules that a person can read.

use karst::{EngineHandle, EventTime, QueryRequest, Value};

use super::generate::Attack;

fn ask<const N: usize>(engine: &EngineHandle, now_ms: i64, class: &str, id: &str, names: [&str; N]) -> [f64; N] {
    let request = QueryRequest { now: Some(EventTime(now_ms * 1_000)), ..QueryRequest::new() };
    let request = request.input(format!("{class}.id"), id);
    let answer = engine.query(&names.iter().fold(request, |request, name| request.output(format!("{class}.{name}"))));
    let mut values = answer.data.iter().map(|value| match value.value {
        Value::Int(number) => number as f64,
        Value::Float(number) => number,
        _ => 0.0, // nothing there: no reason for a suspicion
    });
    names.map(|_| values.next().unwrap_or(0.0))
}

/// A card that is tried out: many small payments, at many merchants, many of them declined.
fn card_is_suspect(engine: &EngineHandle, now: i64, card: &str) -> bool {
    let names = ["small_payments[\"10m\"]", "merchants[\"1h\"]", "decline_ratio[\"1h\"]"];
    let [small, merchants, declined] = ask(engine, now, "card", card, names);
    small >= 8.0 && merchants >= 6.0 && declined >= 0.5
}

/// A user whose password is tried out.
fn user_is_suspect(engine: &EngineHandle, now: i64, user: &str) -> bool {
    let [failed, failed_today] = ask(engine, now, "user", user, ["failed_logins[\"10m\"]", "failed_logins[\"1d\"]"]);
    failed >= 8.0 && failed_today >= 8.0
}

/// Who is suspected, of all cards and users, at this instant. (An attack that ended ten minutes ago is no longer one.)
pub(crate) fn suspects(engine: &EngineHandle, now: i64, cards: u64) -> Vec<Attack> {
    let all = (0..cards).map(|nth| (format!("c{nth}"), format!("u{nth}")));
    let suspects = all.flat_map(|(card, user)| {
        let card = card_is_suspect(engine, now, &card).then_some(Attack::OnCard(card));
        let user = user_is_suspect(engine, now, &user).then_some(Attack::OnUser(user));
        [card, user]
    });
    suspects.flatten().collect()
}

/// What the features say of somebody under attack.
pub(crate) fn in_words(engine: &EngineHandle, now: i64, attack: &Attack) -> String {
    match attack {
        Attack::OnUser(user) => {
            let names = ["failed_logins[\"10m\"]", "failed_logins[\"1d\"]", "devices[\"1d\"]"];
            let [failed, today, devices] = ask(engine, now, "user", user, names);
            format!("user {user}: {failed} failed logins in 10 m, {today} in 1 d, from {devices} devices")
        }
        Attack::OnCard(card) => {
            let names = ["payments[\"10m\"]", "merchants[\"1h\"]", "decline_ratio[\"1h\"]", "mean_amount[\"7d\"]"];
            let [payments, merchants, declined, mean] = ask(engine, now, "card", card, names);
            let percent = declined * 100.0;
            format!(
                "card {card}: {payments} payments in 10 m, {merchants} merchants in 1 h, {percent:.0} % declined, mean of 7 d {mean:.2}"
            )
        }
    }
}
