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

#[test]
fn an_engine_that_is_lent_to_a_closure_is_stopped_and_its_directory_free_whatever_came_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let builder = |clicks: &MemorySource| Engine::builder(dir.path()).source(clicks.clone()).resolver(on_click);
    let clicks = MemorySource::json("clicks");
    let failed: karst::Result<()> = builder(&clicks).run(async |engine| {
        clicks.send(r#"{"user_id":"ada","page":"/a","at":1000000}"#).await?;
        engine.drain().await?;
        Err(karst::Error::Settings(vec!["the work failed".to_owned()]))
    });
    assert!(failed.unwrap_err().to_string().contains("the work failed"));
    let got = builder(&clicks).run(async |engine| {
        engine.drain().await?;
        let error = |feature: String, key: Value| engine.get(feature, key).unwrap_err().message;
        assert!(error("user.last_pgae".into(), "ada".into_value()).contains("user.last_page"), "it is suggested");
        assert!(error("user".into(), "ada".into_value()).contains("user"));
        assert!(error(User::last_page.into(), Value::Int(7)).contains("user.id"), "a key of a wrong type");
        assert!(error(User::last_page.into(), "eve".into_value()).contains("user.last_page"), "never written");
        Ok(engine.get(User::last_page, "ada"))
    });
    assert_eq!(got.unwrap(), Ok("/a".into_value()));
}
