//! The smallest pipeline.

use karst::prelude::*;

#[derive(Message)]
struct Click {
    user_id: String,
    page: String,
    #[message(event_time)]
    at: EventTime,
}

#[features(key = "id")]
#[allow(dead_code)]
struct User {
    id: String,
    last_page: String,
}

#[stream(source = "clicks")]
fn on_click(click: Click) -> Updates![User::id, User::last_page] {
    updates!(click.user_id, click.page)
}

#[test]
fn the_latest_event_of_an_entity_is_its_value() -> karst::Result<()> {
    let dir = tempfile::tempdir()?;
    karst::run(async {
        let clicks = MemorySource::json("clicks").late_arrival_deadline("30m");
        let engine = Engine::builder(dir.path()).source(clicks.clone()).resolver(on_click).start().await?;
        clicks.send(r#"{"user_id":"ada","page":"/new","at":2000000}"#).await?;
        clicks.send(r#"{"user_id":"ada","page":"/old","at":1000000}"#).await?;
        clicks.send(r#"{"user_id":"bob","page":"/","at":1000000}"#).await?;
        engine.drain().await?;
        let page = |user: &str| {
            let answer = engine.query(&QueryRequest::new().input("user.id", user).output(User::last_page));
            answer.get("user.last_page").cloned()
        };
        assert_eq!(page("ada"), Some(Value::Str("/new".into())), "event time decides, not arrival");
        assert_eq!(page("bob"), Some(Value::Str("/".into())));
        assert_eq!(page("eve"), None);
        engine.shutdown().await
    })
}
