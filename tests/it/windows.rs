//! Windowed features through the front door: declared by macro, written by a stream, asked for by name at any instant.

use karst::{ErrorCode, EventTime, MemorySource, Value, prelude::*};

use crate::world::{Random, small, until};

#[derive(Message, Clone)]
struct Login {
    user: String,
    status: String,
    attempts: i64,
    #[message(event_time)]
    at: EventTime,
}

#[features(key = "id")]
#[allow(dead_code)]
struct User {
    id: String,
    status: String,
    attempts: i64,
    #[windowed("10m", "30m", "1d", count, filter = status == "failed")]
    failed_logins: Windowed<i64>,
    #[windowed("10m", "1d", max(attempts))]
    most_attempts: Windowed<i64>,
    #[windowed("1d", "all", last_n(attempts * 10, 2))]
    latest: Windowed<Vec<i64>>,
    #[windowed("1h", sum(attempts), tumbling)]
    this_hour: Windowed<i64>,
}

#[stream(source = "logins")]
fn on_login(login: Login) -> Updates![User::id, User::status, User::attempts] {
    updates!(login.user, login.status, login.attempts)
}

#[features(key = "id")]
#[allow(dead_code)]
struct Visitor {
    id: String,
    status: String,
    attempts: i64,
    #[windowed(session = "20m", count)]
    visit: Windowed<i64>,
    #[windowed(session = "20m", last_n(attempts, 3), retention = "30d")]
    latest: Windowed<Vec<i64>>,
    #[windowed(session = "45m", sum(attempts), filter = status == "failed", default = 0)]
    failed: Windowed<i64>,
    #[windowed("10m", count)]
    ten_minutes: Windowed<i64>,
}

#[stream(source = "logins")]
fn on_visit(login: Login) -> Updates![Visitor::id, Visitor::status, Visitor::attempts] {
    updates!(login.user, login.status, login.attempts)
}

pub(crate) const MINUTE: i64 = 60_000_000;
/// 2023-11-14T22:00:00Z
const START: i64 = 1_699_999_200_000_000;

pub(crate) struct Told {
    user: u64,
    failed: bool,
    attempts: i64,
    pub(crate) at: i64,
}

pub(crate) fn told(seed: u64, count: usize) -> Vec<Told> {
    let mut random = Random::new(seed);
    let event = |nth: usize| Told {
        user: random.below(4),
        failed: random.below(3) > 0,
        attempts: random.below(9) as i64,
        // Minutes, out of order by up to twenty of them.
        at: START + (nth as i64 / 2 + 20 - random.below(20) as i64) * MINUTE,
    };
    (0..count).map(event).collect()
}

/// An engine with all of these classes.
pub(crate) async fn start(dir: &std::path::Path, source: &MemorySource) -> karst::Result<Engine> {
    let builder = Engine::builder(dir).settings(small()).source(source.clone());
    builder.resolver(on_login).resolver(on_visit).start().await
}

pub(crate) async fn send(source: &MemorySource, events: &[Told]) {
    for Told { user, failed, attempts, at } in events {
        let status = if *failed { "failed" } else { "ok" };
        let at = EventTime(*at);
        let json = format!(r#"{{"user":"u{user}","status":"{status}","attempts":{attempts},"at":"{at}"}}"#);
        source.send(json.as_bytes()).await.unwrap();
    }
}

/// Every window of a user at `now`, counted one by one.
fn naive(events: &[Told], user: u64, now: i64) -> Vec<(&'static str, Value)> {
    let within = |from: i64| {
        let mut of: Vec<(usize, &Told)> =
            events.iter().enumerate().filter(|(_, event)| event.user == user && event.at > from && event.at <= now).collect();
        of.sort_by_key(|(offset, event)| (event.at, *offset));
        of
    };
    let hop = |minutes: i64, span: i64| (now - span * MINUTE).div_euclid(minutes * MINUTE) * minutes * MINUTE;
    let failed = |from| Value::Int(within(from).iter().filter(|(_, event)| event.failed).count() as i64);
    let most = |from| within(from).iter().map(|(_, event)| event.attempts).max().map_or(Value::Null, Value::Int);
    let latest = |from| {
        let last: Vec<_> = within(from).iter().rev().take(2).map(|(_, event)| Value::Int(event.attempts * 10)).collect();
        if last.is_empty() { Value::Null } else { Value::List(last) }
    };
    let hour = (now + 60 * MINUTE - 1).div_euclid(60 * MINUTE) * 60 * MINUTE - 60 * MINUTE;
    let day = hop(60, 24 * 60);
    vec![
        ("user.failed_logins__600__", failed(hop(1, 10))),
        ("user.failed_logins__1800__", failed(hop(1, 30))),
        ("user.failed_logins__86400__", failed(day)),
        ("user.most_attempts__600__", most(hop(1, 10))),
        ("user.most_attempts__86400__", most(day)),
        ("user.latest__86400__", latest(day)),
        ("user.latest__all__", latest(i64::MIN)),
        ("user.this_hour__3600__", Value::Int(within(hour).iter().map(|(_, event)| event.attempts).sum())),
    ]
}

#[track_caller]
pub(crate) fn check(engine: &Engine, events: &[Told], now: i64) {
    for user in 0..4 {
        let expected = naive(events, user, now);
        let request = QueryRequest { now: Some(EventTime(now)), ..QueryRequest::new() }.input(User::id, format!("u{user}"));
        let request = expected.iter().fold(request, |request, (name, _)| request.output(*name));
        let answer = engine.handle().query(&request);
        assert!(answer.errors.is_empty(), "{:?}", answer.errors);
        let got: Vec<_> = answer.data.iter().map(|value| (value.field.as_str(), value.value.clone())).collect();
        assert_eq!(got, expected, "u{user} at {}", EventTime(now));
    }
}

#[test]
fn windows_equal_a_naive_count_at_any_minute_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let events = told(7, 4_000);
    let source = MemorySource::json("logins");
    karst::run(async {
        for (round, part) in [&events[..1_500], &events[1_500..]].into_iter().enumerate() {
            let engine =
                Engine::builder(dir.path()).settings(small()).source(source.clone()).resolver(on_login).start().await?;
            send(&source, part).await;
            engine.drain().await?;
            let known = &events[..if round == 0 { 1_500 } else { 4_000 }];
            let newest = known.iter().map(|event| event.at).max().unwrap();
            // From where time has come to; and on, while nothing more comes: values decay.
            for minute in [0, 1, 9, 10, 11, 29, 31, 61, 1_439, 1_441, 3_000] {
                check(&engine, known, newest + minute * MINUTE);
            }
            engine.shutdown().await?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_window_is_asked_for_by_its_length_and_the_bare_name_means_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("logins");
        let engine = Engine::builder(dir.path()).settings(small()).source(source.clone()).resolver(on_login).start().await?;
        send(&source, &told(1, 100)).await;
        engine.drain().await?;
        let ask = |output: &str| {
            let request = QueryRequest { now: Some(EventTime(START + 80 * MINUTE)), ..QueryRequest::new() };
            engine.handle().query(&request.input(User::id, "u1").output(output))
        };
        let fields = |output: &str| ask(output).data.into_iter().map(|value| value.field).collect::<Vec<_>>();
        assert_eq!(fields("user.failed_logins[\"10m\"]"), ["user.failed_logins__600__"]);
        assert_eq!(fields(&User::failed_logins.over("30m")), ["user.failed_logins__1800__"]);
        let all = ["user.failed_logins__600__", "user.failed_logins__1800__", "user.failed_logins__86400__"];
        assert_eq!(fields(&User::failed_logins.fqn()), all);
        assert_eq!(fields("user").len(), 3 + 8, "the key, what the stream writes, every window");
        let unknown = ask("user.failed_logins[\"11m\"]");
        assert!(unknown.errors[0].message.contains("11m"), "{:?}", unknown.errors);
        // Somebody who never came has empty windows, not missing ones.
        let request = QueryRequest::new().input(User::id, "nobody").output("user.failed_logins");
        assert!(engine.handle().query(&request).data.iter().all(|value| value.value == Value::Int(0)));
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn what_was_longer_ago_than_the_retention_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("logins");
        let engine = Engine::builder(dir.path()).settings(small()).source(source.clone()).resolver(on_login).start().await?;
        send(&source, &told(1, 6_000)).await;
        engine.drain().await?;
        let ask = || {
            let request = QueryRequest { now: Some(EventTime(START + 60 * MINUTE)), ..QueryRequest::new() };
            engine.handle().query(&request.input(User::id, "u1").output("user.failed_logins[\"10m\"]"))
        };
        until("the windows have moved on", || ask().data[0].error.is_some()).await;
        let error = ask().data[0].error.clone().unwrap();
        assert_eq!(error.code, ErrorCode::ResolverNotFound);
        assert!(error.message.contains("2023-11-14T23:00:00Z") && error.message.contains("retention"), "{}", error.message);
        engine.shutdown().await
    })
    .unwrap();
}

/// The events of a user's session that is open at `now`, the earliest first: `of` says which of them count.
fn open_visit(events: &[Told], user: u64, gap: i64, now: i64, of: impl Fn(&Told) -> bool) -> Vec<&Told> {
    let own = events.iter().enumerate().filter(|(_, event)| event.user == user && event.at <= now && of(event));
    let mut own: Vec<(i64, usize, &Told)> = own.map(|(offset, event)| (event.at, offset, event)).collect();
    own.sort_by_key(|(at, offset, _)| (*at, *offset));
    let mut next = now;
    let joins = |(at, ..): &&(i64, usize, &Told)| std::mem::replace(&mut next, *at) - at < gap;
    let mut visit: Vec<_> = own.iter().rev().take_while(joins).map(|(.., event)| *event).collect();
    visit.reverse();
    visit
}

/// Every session of every user at `now`, walked through one by one.
#[track_caller]
pub(crate) fn check_visits(engine: &Engine, known: &[Told], now: i64) {
    for user in 0..4 {
        let visit = open_visit(known, user, 20 * MINUTE, now, |_| true);
        let latest: Vec<_> = visit.iter().rev().take(3).map(|event| Value::Int(event.attempts)).collect();
        let failed = open_visit(known, user, 45 * MINUTE, now, |event| event.failed);
        let expected = [
            ("visitor.visit__all__", Value::Int(visit.len() as i64)),
            ("visitor.latest__all__", if latest.is_empty() { Value::Null } else { Value::List(latest) }),
            ("visitor.failed__all__", Value::Int(failed.iter().map(|event| event.attempts).sum())),
        ];
        let request = QueryRequest { now: Some(EventTime(now)), ..QueryRequest::new() }.input(Visitor::id, format!("u{user}"));
        let request = expected.iter().fold(request, |request, (name, _)| request.output(*name));
        let answer = engine.handle().query(&request);
        assert!(answer.errors.is_empty(), "{:?}", answer.errors);
        let got: Vec<_> = answer.data.iter().map(|value| (value.field.as_str(), value.value.clone())).collect();
        assert_eq!(got, expected, "u{user} at {}", EventTime(now));
    }
}

#[test]
fn sessions_equal_a_naive_walk_at_any_minute_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    // Pauses between bursts, so that there are sessions.
    let mut events = told(11, 3_000);
    events.iter_mut().enumerate().for_each(|(nth, event)| event.at += (nth as i64 / 60) * 37 * MINUTE);
    let source = MemorySource::json("logins");
    karst::run(async {
        for (round, part) in [&events[..1_700], &events[1_700..]].into_iter().enumerate() {
            let engine =
                Engine::builder(dir.path()).settings(small()).source(source.clone()).resolver(on_visit).start().await?;
            send(&source, part).await;
            engine.drain().await?;
            let known = &events[..if round == 0 { 1_700 } else { 3_000 }];
            let newest = known.iter().map(|event| event.at).max().unwrap();
            for minute in [0, 1, 9, 19, 20, 21, 44, 45, 46, 3_000] {
                check_visits(&engine, known, newest + minute * MINUTE);
            }
            engine.shutdown().await?;
        }
        Ok(())
    })
    .unwrap();
}
