//! What must come out, computed without the engine: all events that count are kept, and looked through for every question.

use std::collections::{BTreeMap, BTreeSet};

use karst::{EventTime, Value};

use super::{
    expect::Expect,
    generate::{Event, Login, Payment, What},
};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// How late an event may be: `late_arrival_deadline` of both sources.
pub(crate) const DEADLINE: &str = "1h";
const DEADLINE_MS: i64 = HOUR;

type Values = Vec<(&'static str, Expect)>;

/// An event that counts, and its place in the order of its entity: time, partition, offset.
type Seen<T> = Vec<((i64, i32, i64), T)>;

/// Everything so far.
#[derive(Default)]
pub(crate) struct Oracle {
    cards: BTreeMap<String, Seen<Payment>>,
    merchants: BTreeMap<String, Seen<Payment>>,
    spenders: BTreeMap<String, Seen<Payment>>,
    logins: BTreeMap<String, Seen<Login>>,
    /// Of each partition: its greatest event time, and its next offset.
    partitions: BTreeMap<(&'static str, i32), (i64, i64)>,
    pub(crate) applied: u64,
    pub(crate) late: u64,
    pub(crate) dead: u64,
    /// The newest event time.
    pub(crate) newest: i64,
}

impl Oracle {
    /// Takes the next event in.
    pub(crate) fn add(&mut self, event: &Event) {
        let partition = event.partition();
        let (watermark, offset) = self.partitions.entry((event.topic(), partition)).or_insert((i64::MIN, 0));
        let order = (event.at, partition, *offset);
        *offset += 1;
        // What is invalid is a dead letter before it is judged, and moves no watermark.
        if matches!(&event.what, What::Payment(payment) if payment.cents <= 0) {
            self.dead += 1;
            return;
        }
        let late = *watermark != i64::MIN && *watermark - event.at > DEADLINE_MS;
        *watermark = event.at.max(*watermark);
        self.newest = event.at.max(self.newest);
        if late {
            self.late += 1;
            return;
        }
        self.applied += 1;
        match &event.what {
            What::Login(login) => insert(&mut self.logins, &login.user, order, login),
            What::Payment(payment) => {
                insert(&mut self.cards, &payment.card, order, payment);
                insert(&mut self.merchants, &payment.merchant, order, payment);
                insert(&mut self.spenders, &payment.user, order, payment);
            }
        }
    }

    pub(crate) fn card(&self, id: &str, now: i64) -> Values {
        let all = self.cards.get(id).map_or(&[][..], |seen| seen);
        let within = |span: i64| sliding(all, span, now);
        let day = within(DAY);
        let week = within(7 * DAY);
        let amounts = |of: &[&Payment]| of.iter().map(|payment| amount(payment)).collect::<Vec<f64>>();
        let small =
            all.iter().filter(|((at, ..), payment)| *at > now - 10 * MINUTE && *at <= now && payment.cents < 500).count();
        let today = all.iter().filter(|((at, ..), _)| *at > (now + DAY - 1) / DAY * DAY - DAY && *at <= now);
        let today: Vec<f64> = today.map(|(_, payment)| amount(payment)).collect();
        let mut categories: BTreeMap<&str, f64> = BTreeMap::new();
        day.iter().for_each(|payment| *categories.entry(payment.category).or_default() += amount(payment));
        let mut countries: BTreeMap<&str, i64> = BTreeMap::new();
        week.iter().for_each(|payment| *countries.entry(payment.country).or_default() += 1);
        let mut countries: Vec<_> = countries.into_iter().collect();
        countries.sort_by_key(|(country, count)| (-count, *country));
        // Of equal amounts the earlier stands first: the sort is stable.
        let mut largest = week.clone();
        largest.sort_by_key(|payment| std::cmp::Reverse(payment.cents));
        let times = all.iter().filter(|((at, ..), _)| *at <= now).rev().take(2);
        let mut values = vec![
            ("small_payments__600__", count(small)),
            ("mean_amount__86400__", Expect::Near(mean(&amounts(&day)))),
            ("mean_amount__604800__", Expect::Near(mean(&amounts(&week)))),
            ("std_amount__604800__", Expect::Near(std(&amounts(&week)))),
            ("median_amount__604800__", median(&amounts(&week))),
            ("max_amount__86400__", Expect::Near(amounts(&day).into_iter().reduce(f64::max))),
            ("max_amount__604800__", Expect::Near(amounts(&week).into_iter().reduce(f64::max))),
            ("top_countries__604800__", texts(countries.iter().take(3).map(|(country, _)| *country))),
            (
                "spent_by_category__86400__",
                Expect::Groups(categories.into_iter().map(|(name, sum)| (name.to_owned(), sum)).collect()),
            ),
            ("largest_at__604800__", texts(largest.iter().take(3).map(|payment| &*payment.merchant))),
            ("last_payments_at__all__", list(times.map(|((at, ..), _)| Value::Time(EventTime(at * 1_000))))),
            ("spent_today__86400__", Expect::Near(Some(today.iter().sum()))),
        ];
        for (span, payments, spent) in [
            (10 * MINUTE, "payments__600__", Some("spent__600__")),
            (HOUR, "payments__3600__", Some("spent__3600__")),
            (DAY, "payments__86400__", Some("spent__86400__")),
            (7 * DAY, "payments__604800__", None),
        ] {
            let within = within(span);
            values.push((payments, count(within.len())));
            values.extend(spent.map(|name| (name, Expect::Near(Some(amounts(&within).iter().sum())))));
        }
        for (span, merchants, ratio) in
            [(HOUR, "merchants__3600__", "decline_ratio__3600__"), (DAY, "merchants__86400__", "decline_ratio__86400__")]
        {
            let within = within(span);
            values.push((merchants, distinct(within.iter().map(|payment| &payment.merchant))));
            values.push((ratio, Expect::Near(declined(&within))));
        }
        values
    }

    pub(crate) fn merchant(&self, id: &str, now: i64) -> Values {
        let all = self.merchants.get(id).map_or(&[][..], |seen| seen);
        let [hour, day] = [HOUR, DAY].map(|span| sliding(all, span, now));
        vec![
            ("payments__3600__", count(hour.len())),
            ("payments__86400__", count(day.len())),
            ("cards__86400__", distinct(day.iter().map(|payment| &payment.card))),
            ("decline_ratio__3600__", Expect::Near(declined(&hour))),
            ("decline_ratio__86400__", Expect::Near(declined(&day))),
        ]
    }

    pub(crate) fn user(&self, id: &str, now: i64) -> Values {
        let logins = self.logins.get(id).map_or(&[][..], |seen| seen);
        let payments = self.spenders.get(id).map_or(&[][..], |seen| seen);
        let failed = |span| count(sliding(logins, span, now).iter().filter(|login| !login.succeeded).count());
        let cards = |span| distinct(sliding(payments, span, now).iter().map(|payment| &payment.card));
        vec![
            ("failed_logins__600__", failed(10 * MINUTE)),
            ("failed_logins__1800__", failed(30 * MINUTE)),
            ("failed_logins__86400__", failed(DAY)),
            ("devices__86400__", distinct(sliding(logins, DAY, now).iter().map(|login| &login.device))),
            ("cards__86400__", cards(DAY)),
            ("cards__604800__", cards(7 * DAY)),
            ("spent__86400__", Expect::Near(Some(sliding(payments, DAY, now).iter().map(|payment| amount(payment)).sum()))),
        ]
    }
}

fn insert<T: Clone>(into: &mut BTreeMap<String, Seen<T>>, id: &str, order: (i64, i32, i64), value: &T) {
    let seen = into.entry(id.to_owned()).or_default();
    let at = seen.partition_point(|(known, _)| *known < order);
    seen.insert(at, (order, value.clone()));
}

/// Those after floor(now - span, hop) and up to now; the hop is that of the documentation's table.
fn sliding<T>(all: &[((i64, i32, i64), T)], span: i64, now: i64) -> Vec<&T> {
    let hop = match span {
        ..=HOUR => MINUTE,
        _ => HOUR, // none here is between 1 h and 12 h
    };
    let tail = (now - span) / hop * hop;
    all.iter().filter(|((at, ..), _)| *at > tail && *at <= now).map(|(_, value)| value).collect()
}

fn amount(payment: &Payment) -> f64 {
    payment.cents as f64 / 100.0
}
fn count(count: usize) -> Expect {
    Expect::Exactly(Value::Int(count as i64))
}
fn distinct<'a>(all: impl Iterator<Item = &'a String>) -> Expect {
    count(all.collect::<BTreeSet<_>>().len())
}
/// An empty list is null.
fn list(values: impl Iterator<Item = Value>) -> Expect {
    let values: Vec<Value> = values.collect();
    Expect::Exactly(if values.is_empty() { Value::Null } else { Value::List(values) })
}
fn texts<'a>(all: impl Iterator<Item = &'a str>) -> Expect {
    list(all.map(|text| Value::Str(text.into())))
}
fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
fn std(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    Some((values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt())
}
/// Exact up to 128 values, then within a hundredth.
fn median(values: &[f64]) -> Expect {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let median = sorted.get(values.len().div_ceil(2).saturating_sub(1)).copied();
    match median {
        Some(median) if values.len() > 128 => Expect::About(median, 0.01),
        median => Expect::Near(median),
    }
}
fn declined(payments: &[&Payment]) -> Option<f64> {
    mean(&payments.iter().map(|payment| if payment.declined { 1.0 } else { 0.0 }).collect::<Vec<_>>())
}
