//! Parse functions: one source with several kinds of event, each decoded once, each resolver with its own kind.

use std::sync::atomic::{AtomicUsize, Ordering};

use karst::{Reason, ResolverStatus, prelude::*};

use crate::world::{column, outcomes, small};

/// The parent: one of the two is there.
#[derive(Message, Clone)]
#[message(check = "Event::count_decode")]
struct Event {
    login: Option<Login>,
    click: Option<Click>,
}

#[derive(Message, Clone)]
struct Login {
    user: String,
    ok: bool,
}

#[derive(Message, Clone)]
struct Click {
    user: String,
    page: String,
}

/// `check` runs once for each message that is decoded.
static DECODED: AtomicUsize = AtomicUsize::new(0);

impl Event {
    fn count_decode(&self) -> Result<(), Invalid> {
        DECODED.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[features(key = "id")]
#[allow(dead_code)]
struct User {
    id: String,
    last_page: String,
    last_position: String,
    logged_in: bool,
    logins: i64,
}

fn get_click(event: &Event) -> Option<&Click> {
    event.click.as_ref()
}

/// By value: it would take the message from the others, were it not run after them, and did it not get a copy.
fn take_login(event: Event) -> Result<Option<Login>, String> {
    match event.login {
        Some(login) if login.user.is_empty() => Err("a login without a user".to_owned()),
        login => Ok(login),
    }
}

#[stream(source = "events", parse = take_login)]
fn on_login(login: Login) -> Updates![User::id, User::logged_in] {
    updates!(login.user, login.ok)
}

/// By value as well.
fn take_user(event: Event) -> Option<Login> {
    event.login
}

#[stream(source = "events", parse = take_user)]
fn on_any_login(login: Login) -> Updates![User::id, User::logins] {
    updates!(login.user, 1)
}

#[stream(source = "events", parse = get_click)]
fn on_click(click: &Click) -> Option<Updates![User::id, User::last_page]> {
    (click.page != "/").then(|| updates!(click.user.clone(), click.page.clone()))
}

/// Sees every message, and asks for the record.
#[stream(source = "events")]
fn on_event(event: &Event, record: &Record) -> Option<Updates![User::id, User::last_position]> {
    Some(updates!(event.click.as_ref()?.user.clone(), record.position().to_string()))
}

const EVENTS: [&str; 6] = [
    r#"{"click":{"user":"ada","page":"/a"}}"#,
    r#"{"login":{"user":"bob","ok":true}}"#,
    r#"{"click":{"user":"ada","page":"/"}}"#,
    r#"{"login":{"user":"","ok":false}}"#,
    r#"{}"#,
    r#"{"login":{"user":"ada","ok":true},"click":{"user":"eve","page":"/e"}}"#,
];

#[test]
fn each_resolver_sees_its_own_kind_and_each_message_is_decoded_once() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("events");
        let builder = Engine::builder(dir.path()).settings(small()).source(source.clone());
        let engine = builder.resolver(on_login).resolver(on_click).resolver(on_any_login).resolver(on_event).start().await?;
        for event in EVENTS {
            source.send(event).await?;
        }
        engine.drain().await?;
        let handle = engine.handle();
        let text =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(id, page)| ((*id).to_owned(), Value::Str((*page).into()))).collect();
        assert_eq!(column(&handle, "user", "last_page"), text(&[("ada", "/a"), ("eve", "/e")]));
        assert_eq!(column(&handle, "user", "last_position"), text(&[("ada", "events[0]@2"), ("eve", "events[0]@5")]));
        let logged_in = ["ada", "bob"].map(|user| (user.to_owned(), Value::Bool(true)));
        assert_eq!(column(&handle, "user", "logged_in"), logged_in.into_iter().collect());
        let logins = ["ada", "bob"].map(|user| (user.to_owned(), Value::Int(1)));
        assert_eq!(column(&handle, "user", "logins"), logins.into_iter().collect());

        let sums = outcomes(&engine);
        assert_eq!((sums.records, sums.applied, sums.skipped, sums.dead_letters), (6, 4, 1, 1));
        let letters = handle.dead_letters("events", 10)?;
        assert_eq!((letters[0].letter.offset.0, letters[0].letter.reason), (3, Reason::ParseFailed));
        assert_eq!(letters[0].letter.error, "parse function take_login: a login without a user");

        let status = |name: &str, applied, nothing, skipped, failed| {
            let name = name.to_owned();
            ResolverStatus { name, applied, nothing, skipped, failed }
        };
        assert_eq!(
            handle.status().sources[0].resolvers,
            [
                status("on_click", 2, 1, 3, 0),
                status("on_event", 3, 3, 0, 0),
                status("on_login", 2, 0, 3, 1), // takes the message: after those that look at it, and a copy, since one comes after it
                status("on_any_login", 2, 0, 3, 0), // not asked about the record on which on_login failed
            ]
        );
        assert_eq!(DECODED.load(Ordering::Relaxed), EVENTS.len());
        engine.shutdown().await
    })
    .unwrap();
}
