//! Online queries: every output is answered, with a value or with an error that names it.

use karst::{BrokerTime, ErrorCode, PartitionId, prelude::*};

use crate::world::small;

#[derive(Message)]
struct Visit {
    user: String,
    room: i64,
    page: Option<String>,
}

#[features(key = "id")]
#[allow(dead_code)]
struct User {
    id: String,
    last_page: Option<String>,
    #[feature(max_staleness = "1h")]
    last_room: i64,
}

#[features(key = "number")]
#[allow(dead_code)]
struct Room {
    number: i64,
    last_user: String,
}

#[stream(source = "visits")]
fn to_user(visit: &Visit) -> Updates![User::id, User::last_page, User::last_room] {
    updates!(visit.user.clone(), visit.page.clone(), visit.room)
}

#[stream(source = "visits")]
fn to_room(visit: &Visit) -> Updates![Room::number, Room::last_user] {
    updates!(visit.room, visit.user.clone())
}

const AT: BrokerTime = BrokerTime::from_secs(1_700_000_000);

/// Runs `check` on an engine that has seen two visits at [`AT`].
fn with_visits(check: impl FnOnce(&Engine)) {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("visits");
        let builder = Engine::builder(dir.path()).settings(small()).source(source.clone());
        let engine = builder.resolver(to_user).resolver(to_room).start().await?;
        for visit in [r#"{"user":"ada","room":7,"page":"/"}"#, r#"{"user":"bob","room":-1,"page":null}"#] {
            source.send_to(PartitionId(0), AT, None, Some(visit.as_bytes())).await?;
        }
        engine.drain().await?;
        check(&engine);
        engine.shutdown().await
    })
    .unwrap();
}

/// A query as of `seconds` after [`AT`].
fn after(seconds: i64) -> QueryRequest {
    QueryRequest { now: Some(EventTime(AT.0).plus(TimeSpan::from_secs(seconds))), ..QueryRequest::new() }
}

fn text(text: &str) -> Value {
    Value::Str(text.into())
}

#[test]
fn features_of_two_classes_and_a_whole_class_are_answered_in_the_order_of_the_query() {
    with_visits(|engine| {
        let request = after(1)
            .input("user.id", "ada")
            .input("room.number", 7)
            .output(Room::last_user)
            .output("user")
            .output("room.number");
        let answer = engine.query(&request);
        assert_eq!(answer.errors, []);
        let fields: Vec<&str> = answer.data.iter().map(|value| value.field.as_str()).collect();
        assert_eq!(fields, ["room.last_user", "user.id", "user.last_page", "user.last_room", "room.number"]);
        let values: Vec<Value> = answer.data.iter().map(|value| value.value.clone()).collect();
        assert_eq!(values, [text("ada"), text("ada"), text("/"), Value::Int(7), Value::Int(7)]);
        let page = &answer.data[2];
        assert_eq!((page.ts, page.source.as_str(), page.cache_hit), (Some(EventTime(AT.0)), "to_user", true));
        assert_eq!(page.pkey, Some(text("ada")));
        assert!(page.stored_at.is_some());
        assert_eq!((answer.data[1].source.as_str(), answer.data[1].ts), ("input", None));
    });
}

#[test]
fn a_stored_null_is_a_value_and_an_unknown_entity_is_an_error_of_its_feature() {
    with_visits(|engine| {
        let bob = engine.query(&after(1).input("user.id", "bob").output(User::last_page));
        assert_eq!((bob.get("user.last_page"), bob.data[0].error.is_none()), (Some(&Value::Null), true));
        let eve = engine.query(&after(1).input("user.id", "eve").output(User::last_page));
        assert_eq!((eve.get("user.last_page"), eve.data.len()), (None, 1));
        let error = eve.data[0].error.as_ref().unwrap();
        assert_eq!((error.code, error.feature.as_deref()), (ErrorCode::ResolverNotFound, Some("user.last_page")));
        assert_eq!(error.resolver.as_deref(), Some("to_user"));
    });
}

#[test]
fn a_misspelt_feature_is_an_error_that_suggests_the_right_one_and_spoils_no_other() {
    with_visits(|engine| {
        let answer = engine.query(&after(1).input("user.id", "ada").output("user.lastpage").output(User::last_room));
        assert_eq!(answer.get("user.last_room"), Some(&Value::Int(7)));
        let error = &answer.errors[0];
        assert_eq!(
            (answer.errors.len(), error.code, error.feature.as_deref()),
            (1, ErrorCode::ResolverNotFound, Some("user.lastpage"))
        );
        assert!(error.message.contains("did you mean \"user.last_page\"?"), "{}", error.message);
    });
}

#[test]
fn a_missing_key_and_a_query_for_nothing_are_invalid() {
    with_visits(|engine| {
        let answer = engine.query(&after(1).input("user.id", "ada").output(Room::last_user));
        assert_eq!((answer.errors[0].code, answer.data.len()), (ErrorCode::InvalidQuery, 0));
        assert!(answer.errors[0].message.contains("needs input \"room.number\""), "{}", answer.errors[0].message);
        let answer = engine.query(&after(1).input("user.id", "ada"));
        assert_eq!(answer.errors[0].code, ErrorCode::InvalidQuery);
        let answer = engine.query(&after(1).input("user.id", "ada").input("user.id", "bob").output(User::last_room));
        assert_eq!(answer.errors[0].code, ErrorCode::InvalidQuery);
    });
}

#[test]
fn a_key_of_the_wrong_type_is_told_with_both_types() {
    with_visits(|engine| {
        let answer = engine.query(&after(1).input("room.number", "seven").output(Room::last_user));
        assert_eq!((answer.errors.len(), answer.errors[0].code), (1, ErrorCode::ValidationFailed));
        assert!(answer.errors[0].message.contains("expected a key of type int, got str"), "{}", answer.errors[0].message);
        assert_eq!((answer.errors[0].feature.as_deref(), answer.get("room.last_user")), (Some("room.number"), None));
        let answer = engine.query(&after(1).input("user.id", Value::Null).output(User::last_room));
        assert_eq!(answer.errors[0].code, ErrorCode::ValidationFailed);
    });
}

#[test]
fn a_value_older_than_the_limit_is_an_error_and_the_query_may_move_the_limit() {
    with_visits(|engine| {
        let ask = |request: QueryRequest| {
            let answer = engine.query(&request.input("user.id", "ada").output(User::last_room).output(User::last_page));
            (answer.get("user.last_room").cloned(), answer.get("user.last_page").cloned())
        };
        let (room, page) = (Some(Value::Int(7)), Some(text("/")));
        assert_eq!(ask(after(3600)), (room.clone(), page.clone()), "at the limit it still holds");
        assert_eq!(ask(after(3601)), (None, page.clone()), "the declaration of last_room says 1h");
        let day = TimeSpan::from_secs(86_400);
        assert_eq!(ask(after(3601).max_staleness("user.last_room", day)), (room.clone(), page.clone()));
        assert_eq!(ask(after(3601).max_staleness("user", day)), (room.clone(), page.clone()), "of the whole class");
        assert_eq!(ask(after(2).max_staleness("user.last_page", TimeSpan::from_secs(1))), (room.clone(), None));
        assert_eq!(ask(after(-1000)), (room, page), "a value from the future is fresh");
        let stale = engine.query(&after(3601).input("user.id", "ada").output(User::last_room));
        let error = stale.data[0].error.as_ref().unwrap();
        assert!(error.message.contains("1h"), "{}", error.message);
    });
}

#[test]
fn a_given_value_answers_for_itself_and_committed_values_answer_after_the_drain() {
    with_visits(|engine| {
        let answer = engine.query(&after(1).input("user.id", "ada").input("user.last_page", "/given").output(User::last_page));
        assert_eq!((answer.get("user.last_page"), answer.data[0].source.as_str()), (Some(&text("/given")), "input"));
        let answer = engine.query(&after(1).committed_only().input("room.number", -1).output(Room::last_user));
        assert_eq!(answer.get("room.last_user"), Some(&text("bob")));
    });
}
