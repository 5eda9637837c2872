//! Workload W1: card payments as JSON lines, the same bytes in every run for the same number of events.
//!
//! One event per line, about 209 bytes: users drawn from 100,000 by a Zipf law (exponent 1.05), spread evenly over 26 h
//! of event time; 20 % jittered by up to 2 min, 1 % late by 35 to 120 min; 0.2 % cut in half (malformed), 0.5 % with a
//! status nobody knows, 0.1 % with a negative amount. [`generate`] also counts, event by event and from the numbers that
//! it drew, not from the text it wrote, what any engine must find: [`W1Totals`].
//!
//! Plain std on purpose: a benchmark's input should change with nothing but this file (and the machine's `ln`, `exp` and
//! `cos`, so a digest of the file is only comparable on one machine; the totals move with it).

use std::{
    fmt,
    io::{self, Write},
};

/// Different users there are.
pub(crate) const USERS: usize = 100_000;
/// Exponent of the Zipf law by which users are drawn.
const ZIPF: f64 = 1.05;
/// Event time that the events are spread over, in milliseconds.
const SPAN_MS: f64 = 26.0 * 3_600_000.0;
/// 2023-11-14T00:00:00Z in milliseconds since the epoch.
const START_MS: i64 = 1_699_920_000_000;
const MINUTE_MS: i64 = 60_000;
/// The deadline by which [`W1Totals::kept`] is judged.
pub(crate) const DEADLINE_MS: i64 = 30 * MINUTE_MS;

/// What is in a generated file, counted while it was drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct W1Totals {
    /// Lines written.
    pub(crate) events: u64,
    /// Bytes written, line feeds included.
    pub(crate) bytes: u64,
    /// Lines that are no JSON.
    pub(crate) malformed: u64,
    /// Well-formed lines with an unknown status or a negative amount.
    pub(crate) invalid: u64,
    /// Well-formed lines with a known status and no negative amount.
    pub(crate) valid: u64,
    /// Valid events more than [`DEADLINE_MS`] behind the greatest event time of the well-formed events before them in their
    /// partition. (Whether the invalid ones count for that maximum changes no verdict: late means by 35 min or more, jitter at
    /// most 2.)
    pub(crate) late: u64,
    /// Invalid events that are as late: an engine that judges lateness before it validates counts these as late too.
    pub(crate) late_invalid: u64,
    /// Valid events that are not late: what reaches the state.
    pub(crate) kept: u64,
    /// Users with at least one kept event.
    pub(crate) users: u64,
    /// Sum of the amounts of the kept events, in cents.
    pub(crate) amount_cents: i64,
    /// A digest of the final state: over all users with a kept event, the wrapping sum of [`latest_digest`] of the one
    /// with the greatest event time (the last of several in the file).
    pub(crate) latest: u64,
}

impl fmt::Display for W1Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, bytes, malformed, invalid, valid, late, late_invalid, kept, users, amount_cents, latest } = self;
        write!(f, "events={events} bytes={bytes} malformed={malformed} invalid={invalid} valid={valid} late={late} ")?;
        write!(f, "late_invalid={late_invalid} kept={kept} users={users} amount_cents={amount_cents} latest={latest:016x}")
    }
}

/// What identifies a user's latest payment: `fnv1a64("<user> <ts> <cents> <merchant> <status>")`, for example of
/// `"user_000042 1699920001234 1999 merchant_0007 approved"`.
pub(crate) fn latest_digest(user: &str, ts_ms: i64, cents: i64, merchant: &str, status: &str) -> u64 {
    let mut state = 0xCBF2_9CE4_8422_2325_u64;
    for byte in format!("{user} {ts_ms} {cents} {merchant} {status}").bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    state
}

/// SplitMix64: 64 good bits per step, from one word of state.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// In `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
    /// In `[low, high)`.
    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.unit() * (high - low) as f64) as i64
    }
    /// Normal with mean 0 and deviation 1 (Box–Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// Users drawn by Zipf's law, in constant time (Vose's alias method), under shuffled names so that neighbours in rank are
/// no neighbours in key order.
struct Users {
    keep: Vec<f64>,
    alias: Vec<u32>,
    name: Vec<u32>,
}

impl Users {
    fn new(random: &mut Random) -> Self {
        let weights: Vec<f64> = (1..=USERS).map(|rank| (rank as f64).powf(-ZIPF)).collect();
        let mean = weights.iter().sum::<f64>() / USERS as f64;
        let mut keep: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
        let mut alias: Vec<u32> = (0..USERS as u32).collect();
        let (mut poor, mut rich): (Vec<usize>, Vec<usize>) = (0..USERS).partition(|&rank| keep[rank] < 1.0);
        while let (Some(small), Some(&large)) = (poor.pop(), rich.last()) {
            alias[small] = large as u32;
            keep[large] -= 1.0 - keep[small];
            if keep[large] < 1.0 {
                rich.pop();
                poor.push(large);
            }
        }
        let mut name: Vec<u32> = (0..USERS as u32).collect();
        for last in (1..USERS).rev() {
            name.swap(last, random.between(0, last as i64 + 1) as usize);
        }
        Self { keep, alias, name }
    }
    fn draw(&self, random: &mut Random) -> u32 {
        let slot = random.between(0, USERS as i64) as usize;
        // A slot left over by rounding keeps a weight near 1, which is right for it.
        let rank = if random.unit() < self.keep[slot] { slot } else { self.alias[slot] as usize };
        self.name[rank]
    }
}

/// What is left of a user's latest kept event.
#[derive(Clone, Copy)]
struct Latest {
    ts_ms: i64,
    cents: i64,
    merchant: u16,
    status: &'static str,
}

/// The partition of a user's events, of `partitions`.
pub(crate) fn partition_of(user: u32, partitions: u32) -> u32 {
    user % partitions
}

/// How users are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code)] // each benchmark that includes this file draws them its own way
pub(crate) enum Draw {
    /// Of 100,000, by Zipf's law.
    Zipf,
    /// Of so many, each as likely as the others.
    Even(usize),
    /// Of 100,000: every other event is of one user, the rest evenly of all.
    HotKey,
}

impl Draw {
    const fn users(self) -> usize {
        match self {
            Self::Zipf | Self::HotKey => USERS,
            Self::Even(users) => users,
        }
    }
}

/// Writes `events` events to `out` and returns what is in them, if they are read from a topic of `partitions` partitions (a
/// file is one). Deterministic; two million take a few seconds.
///
/// # Errors
/// What writing says.
#[allow(dead_code)]
pub(crate) fn generate(events: u64, partitions: u32, out: &mut impl Write) -> io::Result<W1Totals> {
    generate_with(events, partitions, Draw::Zipf, out, |_, _, _| ())
}

/// The same for users that are drawn otherwise; `kept` is called with the user, the time (in milliseconds) and the cents of each
/// event that is kept.
///
/// # Errors
/// What writing says.
pub(crate) fn generate_with(
    events: u64,
    partitions: u32,
    draw: Draw,
    out: &mut impl Write,
    mut kept: impl FnMut(u32, i64, i64),
) -> io::Result<W1Totals> {
    let mut random = Random(42);
    let users = Users::new(&mut random);
    let mut latest: Vec<Option<Latest>> = vec![None; draw.users()];
    let mut totals = W1Totals::default();
    let mut greatest = vec![i64::MIN; partitions as usize];
    let mut line = Vec::with_capacity(256);
    let step = SPAN_MS / events.max(1) as f64;

    for index in 0..events {
        let user = match draw {
            Draw::Zipf => users.draw(&mut random),
            Draw::HotKey if index % 2 == 0 => 7,
            _ => random.between(0, draw.users() as i64) as u32,
        };
        let merchant = random.between(0, 2_000) as u16;
        let mut cents = ((3.5 + random.normal()).exp() * 100.0) as i64 + 1;
        let mut status = match random.between(0, 100) {
            0..80 => "approved",
            80..90 => "declined",
            90..95 => "refunded",
            _ => "pending",
        };
        let mut ts_ms = START_MS + ((index + 1) as f64 * step) as i64;
        match random.unit() {
            share if share < 0.2 => ts_ms -= random.between(0, 2 * MINUTE_MS),
            share if share >= 0.99 => ts_ms -= random.between(35 * MINUTE_MS, 120 * MINUTE_MS),
            _ => {}
        }
        let defect = random.unit();
        let malformed = defect >= 0.998;
        let mut valid = !malformed;
        if defect < 0.001 {
            cents = -cents;
            valid = false;
        } else if defect < 0.006 {
            status = "bogus";
            valid = false;
        }
        let (id, id_rest, net, host) = (random.bits() >> 2, random.bits() >> 2, random.between(1, 255), random.between(1, 255));

        line.clear();
        let sign = if cents < 0 { "-" } else { "" };
        let (whole, part) = (cents.abs() / 100, cents.abs() % 100);
        write!(
            line,
            "{{\"transaction_id\":\"{id:016x}{id_rest:016x}\",\"user_id\":\"user_{user:06}\",\
             \"merchant\":\"merchant_{merchant:04}\",\"amount\":{sign}{whole}.{part:02},\"currency\":\"USD\",\
             \"status\":\"{status}\",\"country\":\"US\",\"ip\":\"10.0.{net}.{host}\",\"ts\":{ts_ms}}}"
        )?;
        if malformed {
            line.truncate(line.len() / 2);
        }
        line.push(b'\n');
        out.write_all(&line)?;

        totals.events += 1;
        totals.bytes += line.len() as u64;
        totals.malformed += u64::from(malformed);
        totals.invalid += u64::from(!malformed && !valid);
        if malformed {
            continue;
        }
        let greatest = &mut greatest[partition_of(user, partitions) as usize];
        let late = *greatest != i64::MIN && *greatest - ts_ms > DEADLINE_MS;
        *greatest = ts_ms.max(*greatest);
        if !valid {
            totals.late_invalid += u64::from(late);
            continue;
        }
        totals.valid += 1;
        if late {
            totals.late += 1;
            continue;
        }
        totals.kept += 1;
        kept(user, ts_ms, cents);
        totals.amount_cents += cents;
        let slot = &mut latest[user as usize];
        if slot.is_none_or(|before| before.ts_ms <= ts_ms) {
            *slot = Some(Latest { ts_ms, cents, merchant, status });
        }
    }
    out.flush()?;

    for (user, last) in latest.iter().enumerate() {
        if let Some(last) = last {
            totals.users += 1;
            let (user, merchant) = (format!("user_{user:06}"), format!("merchant_{:04}", last.merchant));
            totals.latest = totals.latest.wrapping_add(latest_digest(&user, last.ts_ms, last.cents, &merchant, last.status));
        }
    }
    Ok(totals)
}
