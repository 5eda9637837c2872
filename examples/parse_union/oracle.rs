//! The events, made up but always the same, and what must become of them, by plain maps and without Karst.

use std::collections::BTreeMap;

use karst::{EngineHandle, Value};
use serde_json::json;

/// One event and where it goes.
pub(crate) struct Event {
    pub(crate) partition: i32,
    pub(crate) at_ms: i64,
    pub(crate) user: String,
    pub(crate) kind: Kind,
}

/// What an event is.
pub(crate) enum Kind {
    Login {
        succeeded: bool,
    },
    Click {
        url: String,
    },
    /// Neither: both resolvers are skipped.
    Heartbeat,
    /// A mistake of the producer, which a parse function notices.
    Both,
}

/// `count` events of a few dozen users, in three partitions, a little out of order.
pub(crate) fn events(count: u64) -> Vec<Event> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = move |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % bound
    };
    let event = |nth: u64| {
        let user = below(40);
        let kind = match below(100) {
            0 => Kind::Both,
            1..=10 => Kind::Heartbeat,
            11..=40 => Kind::Login { succeeded: below(5) > 0 },
            _ => Kind::Click { url: format!("/page/{}", below(12)) },
        };
        // No two events of one time: then partitions would decide, which this oracle does not want to know of.
        let at_ms = 1_700_000_000_000 + (nth as i64 / 8 * 8 + (7 - nth as i64 % 8)) * 10;
        Event { partition: (user % 3) as i32, at_ms, user: format!("u{user}"), kind }
    };
    (0..count).map(event).collect()
}

impl Event {
    pub(crate) fn json(&self) -> String {
        let Self { user, at_ms, .. } = self;
        let login = |succeeded: bool| json!({ "user_id": user, "succeeded": succeeded });
        let click = |url: &str| json!({ "user_id": user, "page": { "url": url } });
        match &self.kind {
            Kind::Login { succeeded } => json!({ "login_event": login(*succeeded), "at": at_ms }),
            Kind::Click { url } => json!({ "click_event": click(url), "at": at_ms }),
            Kind::Heartbeat => json!({ "at": at_ms }),
            Kind::Both => json!({ "login_event": login(true), "click_event": click("/both"), "at": at_ms }),
        }
        .to_string()
    }
}

/// What must be there in the end.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Expected {
    pub(crate) applied: u64,
    pub(crate) skipped: u64,
    pub(crate) dead: u64,
    /// By user: the last login.
    pub(crate) logins: BTreeMap<String, bool>,
    /// By user: the last page, and the record of that click.
    pub(crate) clicks: BTreeMap<String, (String, String)>,
    /// By page: the last visitor.
    pub(crate) visitors: BTreeMap<String, String>,
}

pub(crate) fn expect(topic: &str, events: &[Event]) -> Expected {
    let mut expected = Expected::default();
    let mut next_offset = [0u64; 3];
    let mut placed = Vec::new();
    for event in events {
        let offset = &mut next_offset[event.partition as usize];
        placed.push((event, format!("{topic}[{}]@{offset}", event.partition)));
        *offset += 1;
    }
    placed.sort_by_key(|(event, _)| event.at_ms);
    for (Event { user, kind, .. }, record) in placed {
        match kind {
            Kind::Login { succeeded } => {
                expected.applied += 1;
                expected.logins.insert(user.clone(), *succeeded);
            }
            Kind::Click { url } => {
                expected.applied += 1;
                expected.clicks.insert(user.clone(), (url.clone(), record));
                expected.visitors.insert(url.clone(), user.clone());
            }
            Kind::Heartbeat => expected.skipped += 1,
            Kind::Both => expected.dead += 1,
        }
    }
    expected
}

/// What the engine holds, in the same words.
pub(crate) fn got(engine: &EngineHandle) -> karst::Result<Expected> {
    let sums = engine.status().outcomes();
    let (applied, skipped, dead) = (sums.applied, sums.skipped, sums.dead_letters);
    let mut got = Expected { applied, skipped, dead, ..Expected::default() };
    let text = |value: &Value| match value {
        Value::Str(text) => text.to_string(),
        other => format!("{other:?}"),
    };
    for (user, cells) in engine.scan("user")? {
        let cells: BTreeMap<_, _> = cells.into_iter().collect();
        if let Some(Value::Bool(succeeded)) = cells.get("last_login_succeeded") {
            got.logins.insert(text(&user), *succeeded);
        }
        if let (Some(page), Some(record)) = (cells.get("last_page"), cells.get("last_click_record")) {
            got.clicks.insert(text(&user), (text(page), text(record)));
        }
    }
    for (url, cells) in engine.scan("page")? {
        got.visitors.extend(cells.iter().map(|(_, visitor)| (text(&url), text(visitor))));
    }
    Ok(got)
}
