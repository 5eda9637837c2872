//! Ten days of logins and card payments, made up but always the same, with attacks among them.

use std::collections::BTreeMap;

use serde_json::json;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// 2023-11-14T00:00:00Z, in milliseconds.
const START: i64 = 1_699_920_000_000;
const SPAN: i64 = 10 * 24 * HOUR;
pub(crate) const CARDS: u64 = 1_500;
const USERS: u64 = 1_000;
const MERCHANTS: u64 = 300;
const ATTACKS: i64 = 30;
/// By partitions of the topics; an entity that keys them is in one.
pub(crate) const LOGIN_PARTITIONS: i32 = 2;
pub(crate) const PAYMENT_PARTITIONS: i32 = 4;
const CATEGORIES: [&str; 5] = ["food", "fuel", "travel", "online", "other"];
const COUNTRIES: [&str; 6] = ["DE", "FR", "IT", "PL", "US", "BR"];

/// What happened, and when it becomes known. Times in milliseconds.
#[derive(Clone)]
pub(crate) struct Event {
    pub(crate) at: i64,
    pub(crate) arrives: i64,
    pub(crate) what: What,
}

#[derive(Clone)]
pub(crate) enum What {
    Login(Login),
    Payment(Payment),
}

#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) device: String,
    pub(crate) succeeded: bool,
}

#[derive(Clone)]
pub(crate) struct Payment {
    pub(crate) card: String,
    pub(crate) user: String,
    pub(crate) merchant: String,
    pub(crate) category: &'static str,
    pub(crate) country: &'static str,
    /// Negative ones are a mistake of the producer: such a record is a dead letter.
    pub(crate) cents: i64,
    pub(crate) declined: bool,
}

/// What an attack is against.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Attack {
    /// Somebody tries out passwords.
    OnUser(String),
    /// Somebody tries out a stolen card with small amounts.
    OnCard(String),
}

/// All events in the order in which they become known, and after how many of them which attack has just come to its end.
pub(crate) struct History {
    pub(crate) events: Vec<Event>,
    pub(crate) attacks: BTreeMap<usize, Attack>,
}

/// Xorshift: small, and good enough to scatter things.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len() as u64) as usize]
    }
}

fn user_of(card: u64) -> String {
    format!("u{}", card % USERS)
}

fn login(random: &mut Random) -> What {
    let user = random.below(USERS);
    let device = if random.one_in(20) { random.below(1_000) } else { 0 };
    What::Login(Login { user: format!("u{user}"), device: format!("u{user}-d{device}"), succeeded: !random.one_in(12) })
}

fn payment(random: &mut Random) -> What {
    // A few cards pay often.
    let card = if random.one_in(4) { random.below(CARDS / 50) } else { random.below(CARDS) };
    let cents = 100 + random.below(2_000) as i64 * if random.one_in(30) { 50 } else { 4 };
    What::Payment(Payment {
        card: format!("c{card}"),
        user: user_of(card),
        merchant: format!("m{}", random.below(MERCHANTS)),
        category: random.of(&CATEGORIES),
        country: if random.one_in(10) { random.of(&COUNTRIES) } else { COUNTRIES[(card % 6) as usize] },
        cents: if random.one_in(1_000) { -cents } else { cents },
        declined: random.one_in(25),
    })
}

/// A dozen tries within six minutes.
fn attack(random: &mut Random, from: i64, on: &Attack) -> Vec<Event> {
    let event = |nth: i64| {
        let at = from + nth * 30_000 + random.below(20_000) as i64;
        let what = match on {
            Attack::OnUser(user) => {
                let device = format!("stranger-{}", random.below(3));
                What::Login(Login { user: user.clone(), device, succeeded: nth == 11 })
            }
            Attack::OnCard(card) => What::Payment(Payment {
                card: card.clone(),
                user: user_of(card[1..].parse().unwrap_or(0)),
                merchant: format!("m{}", (random.below(10) + nth as u64 * 10) % MERCHANTS),
                category: "online",
                country: random.of(&COUNTRIES),
                cents: 50 + random.below(400) as i64,
                declined: nth % 5 != 0,
            }),
        };
        Event { at, arrives: at, what }
    };
    (0..12).map(event).collect()
}

/// About `count` events.
pub(crate) fn history(count: i64) -> History {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut events: Vec<Event> = (0..count)
        .map(|nth| {
            let arrives = START + nth * SPAN / count;
            let delay = match random.below(200) {
                0 => random.below(5 * HOUR as u64), // some are late by any measure
                1..40 => random.below(2 * MINUTE as u64),
                _ => 0,
            };
            let what = if random.one_in(4) { login(&mut random) } else { payment(&mut random) };
            Event { at: arrives - delay as i64, arrives, what }
        })
        .collect();
    let mut ends = Vec::new();
    for nth in 0..ATTACKS {
        let from = START + (2 * nth + 1) * SPAN / (2 * ATTACKS);
        // Each against somebody else, so that no attack is seen in the traces of an earlier one.
        let on = match nth % 3 {
            0 => Attack::OnUser(format!("u{}", 100 + nth)),
            _ => Attack::OnCard(format!("c{}", 700 + nth)),
        };
        let tries = attack(&mut random, from, &on);
        ends.extend(tries.iter().map(|event| event.arrives).max().map(|end| (end, on)));
        events.extend(tries);
    }
    events.sort_by_key(|event| event.arrives); // stable
    let attacks = ends.into_iter().map(|(end, on)| (events.partition_point(|event| event.arrives <= end), on)).collect();
    History { events, attacks }
}

impl Event {
    pub(crate) fn topic(&self) -> &'static str {
        match self.what {
            What::Login(_) => "logins",
            What::Payment(_) => "payments",
        }
    }
    /// What orders the records of an entity: the user's logins, the card's payments.
    pub(crate) fn key(&self) -> &str {
        match &self.what {
            What::Login(login) => &login.user,
            What::Payment(payment) => &payment.card,
        }
    }
    pub(crate) fn partition(&self) -> i32 {
        let number: i32 = self.key()[1..].parse().unwrap_or(0);
        match self.what {
            What::Login(_) => number % LOGIN_PARTITIONS,
            What::Payment(_) => number % PAYMENT_PARTITIONS,
        }
    }
    pub(crate) fn json(&self) -> String {
        let at = self.at;
        match &self.what {
            What::Login(Login { user, device, succeeded }) => {
                json!({ "user": user, "device": device, "succeeded": succeeded, "at": at })
            }
            What::Payment(Payment { card, user, merchant, category, country, cents, declined }) => json!({
                "card": card, "user": user, "merchant": merchant, "category": category, "country": country,
                "amount": *cents as f64 / 100.0, "declined": declined, "at": at,
            }),
        }
        .to_string()
    }
}
