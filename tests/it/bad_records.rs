//! Records that cannot be used, each with a good one behind it; and what must become of them.

use std::collections::BTreeMap;

use karst::{
    BrokerTime, Reason, StreamResolver,
    features::{MessageSlot, ResolverError, StreamDeclaration, UpdateWriter},
    prelude::*,
};
use serde_json::json;

/// Of dead letters as much is kept of a value; the whole length is told.
const KEPT_BYTES: usize = 1 << 20;

#[derive(Message)]
pub(crate) struct Reading {
    sensor: Option<String>,
    value: f64,
    count: Option<i64>,
    #[message(event_time)]
    at: Option<EventTime>,
}

#[features(key = "id")]
#[allow(dead_code)]
pub(crate) struct Sensor {
    id: String,
    last_value: f64,
}

/// By hand: its key may be missing.
pub(crate) struct OnReading;

impl StreamResolver for OnReading {
    type Message = Reading;
    type Row = (Option<String>, f64);
    fn declaration(&self) -> StreamDeclaration {
        StreamDeclaration::of::<Self>("on_reading", "readings", ["sensor.id", "sensor.last_value"])
    }
    fn resolve(&self, message: MessageSlot<'_, Reading>, out: &mut UpdateWriter<'_, Self::Row>) -> Result<(), ResolverError> {
        let Reading { sensor, value, count, .. } = message.get();
        out.write(&(sensor.clone(), value + count.unwrap_or(0) as f64))
    }
}

pub(crate) struct Bad {
    pub(crate) what: &'static str,
    pub(crate) value: Option<Vec<u8>>,
    /// `None`: a tombstone.
    pub(crate) reason: Option<Reason>,
}

pub(crate) fn list() -> Vec<Bad> {
    use Reason::*;
    let bad = |what, value: &[u8], reason| Bad { what, value: Some(value.to_vec()), reason: Some(reason) };
    let text = |what, value: &str, reason| bad(what, value.as_bytes(), reason);
    let nested = |depth: usize| format!("{}1{}", r#"{"sensor":["#.repeat(depth), "]}".repeat(depth));
    let at = |at: &str| format!(r#"{{"sensor":"x","value":1,"at":{at}}}"#);
    let number = |number: &str| format!(r#"{{"sensor":"x","value":{number}}}"#);
    let mut cut_character = r#"{"sensor":"ä","value":1}"#.as_bytes().to_vec();
    cut_character.remove(12); // the second byte of ä
    let long = format!(r#"{{"sensor":"{}","value":1}}"#, "x".repeat(10 << 20));
    vec![
        text("truncated", r#"{"sensor":"x","val"#, Malformed),
        text("truncated in a string", r#"{"sensor":"x"#, Malformed),
        text("empty", "", Empty),
        text("blank", " \n\t", Empty),
        text("garbage behind the document", r#"{"sensor":"x","value":1}}"#, Malformed),
        text("two documents", r#"{"sensor":"x","value":1}{"sensor":"x","value":1}"#, Malformed),
        bad("not UTF-8", b"{\"sensor\":\"\xff\",\"value\":1}", NotUtf8),
        bad("half a character", &cut_character, NotUtf8),
        bad("binary", &[0, 159, 146, 150], NotUtf8),
        bad("UTF-16", b"\xff\xfe{\0}\0", NotUtf8),
        text("200 deep", &nested(200), SchemaMismatch),
        text("200 deep, truncated", &r#"{"sensor":["#.repeat(200), Malformed),
        text("a hundred thousand deep", &"[".repeat(100_000), Malformed),
        text("10 MB", &long, TooLarge),
        text("an array", r#"["x",1]"#, SchemaMismatch),
        text("a number", "7", SchemaMismatch),
        text("null", "null", SchemaMismatch),
        text("a text for a number", r#"{"sensor":"x","value":"1"}"#, SchemaMismatch),
        text("a number for a text", r#"{"sensor":7,"value":1}"#, SchemaMismatch),
        text("a field is missing", r#"{"sensor":"x"}"#, SchemaMismatch),
        text("a field twice", r#"{"sensor":"x","value":1,"value":2}"#, SchemaMismatch),
        text("NaN", &number("NaN"), Malformed),
        text("infinity", &number("Infinity"), Malformed),
        text("1e400", &number("1e400"), SchemaMismatch),
        text("2^64 for a whole number", r#"{"sensor":"x","value":1,"count":18446744073709551616}"#, SchemaMismatch),
        text("2^63 for a whole number", r#"{"sensor":"x","value":1,"count":9223372036854775808}"#, SchemaMismatch),
        text("a null key", r#"{"sensor":null,"value":1}"#, MissingKey),
        text("no key", r#"{"value":1}"#, MissingKey),
        text("a key of 5,000 bytes", &format!(r#"{{"sensor":"{}","value":1}}"#, "k".repeat(5_000)), MissingKey),
        Bad { what: "a null tombstone", value: None, reason: None },
        text("year 0", &at(r#""0000-01-01T00:00:00Z""#), EventTimeOutOfRange),
        text("year 0 as a number", &at("-62167219200000000"), EventTimeOutOfRange),
        text("year 9999", &at(r#""9999-12-30T00:00:00Z""#), EventTimeOutOfRange),
        text("year 9999 as a number", &at("253370764800000000"), EventTimeOutOfRange),
        text("i64::MAX", &at("9223372036854775807"), EventTimeOutOfRange),
        text("i64::MIN", &at("-9223372036854775808"), EventTimeOutOfRange),
        text("beyond i64", &at("9223372036854775808"), EventTimeOutOfRange),
        text("not a time", &at(r#""yesterday""#), SchemaMismatch),
    ]
}

pub(crate) fn now(nth: usize) -> BrokerTime {
    BrokerTime::from_secs(1_700_000_000 + nth as i64)
}

/// The record to follow the bad one with this number: of a sensor of its own.
pub(crate) fn good(nth: usize) -> String {
    json!({ "sensor": format!("s{nth}"), "value": nth, "at": now(nth).0 }).to_string()
}

/// What became of the list.
pub(crate) fn check(engine: &Engine, list: &[Bad]) -> karst::Result<()> {
    let handle = engine.handle();
    let letters = handle.dead_letters("readings", 1_000)?;
    let by_offset: BTreeMap<i64, _> = letters.iter().map(|stored| (stored.letter.offset.0, &stored.letter)).collect();
    for (nth, bad) in list.iter().enumerate() {
        let (what, letter) = (bad.what, by_offset.get(&(2 * nth as i64)));
        let Some(reason) = bad.reason else {
            assert!(letter.is_none(), "{what}: counted, not kept");
            continue;
        };
        let letter = letter.unwrap_or_else(|| panic!("{what}: no dead letter"));
        assert_eq!(letter.reason, reason, "{what}: {}", letter.error);
        let value = bad.value.as_deref().unwrap();
        assert_eq!(letter.value.as_deref(), Some(&value[..value.len().min(KEPT_BYTES)]), "{what}");
        assert_eq!((letter.value_len, letter.key.as_deref()), (value.len() as u64, Some(&b"key"[..])), "{what}");
        assert_eq!(letter.broker_time, now(nth), "{what}");
        assert!(!letter.error.is_empty() && letter.error.len() < 400, "{what}: {}", letter.error);
        assert!(["parse_stage", "stream_resolver"].contains(&letter.stage.as_str()), "{what}: {}", letter.stage);
    }
    let tombstones = list.iter().filter(|bad| bad.reason.is_none()).count() as u64;
    let dead = list.len() as u64 - tombstones;
    assert_eq!(letters.len() as u64, dead);

    let expected = (0..list.len()).map(|nth| (format!("s{nth}"), Value::Float(nth as f64))).collect();
    let rows = handle.scan("sensor")?.into_iter().map(|(id, cells)| match (&id, &cells[..]) {
        (Value::Str(id), [(_, value)]) => (id.to_string(), value.clone()),
        _ => panic!("{id:?}: {cells:?}"),
    });
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), expected, "every good record is applied, and nothing else");
    let sums = handle.status().outcomes();
    assert!(sums.conserved(), "{sums:?}");
    assert_eq!((sums.records, sums.applied), (2 * list.len() as u64, list.len() as u64));
    assert_eq!((sums.dead_letters, sums.tombstones, sums.late, sums.skipped), (dead, tombstones, 0, 0));
    let mut by_reason = BTreeMap::<Reason, u64>::new();
    list.iter().filter_map(|bad| bad.reason).for_each(|reason| *by_reason.entry(reason).or_default() += 1);
    let counted: BTreeMap<Reason, u64> = handle.status().sources[0].partitions[0].reasons.iter().copied().collect();
    assert_eq!(counted, by_reason);
    let health = handle.health();
    assert!(health.healthy, "{:?}", health.problems);
    assert!(handle.topology().stages.iter().all(|stage| stage.restarts == 0), "nothing panicked");
    Ok(())
}
