//! What is wrong in the declarations and the settings is told by `start`, all of it at once, before anything is made.

use karst::{
    Engine, EngineSettings, Error, Feature, FeatureClass, MemorySource, StreamResolver,
    features::{MessageSlot, ResolverError, StreamDeclaration, UpdateWriter},
    prelude::*,
};

#[derive(Message)]
struct Click {
    user_id: String,
}

#[derive(Message)]
struct View {
    user_id: String,
}

macro_rules! resolver {
    ($name:ident, $message:ty, $source:literal, $outputs:expr) => {
        struct $name;
        impl StreamResolver for $name {
            type Message = $message;
            type Row = (String, i64);
            fn declaration(&self) -> StreamDeclaration {
                StreamDeclaration::of::<Self>(stringify!($name).to_lowercase(), $source, $outputs)
            }
            fn resolve(
                &self,
                message: MessageSlot<'_, $message>,
                out: &mut UpdateWriter<'_, (String, i64)>,
            ) -> Result<(), ResolverError> {
                out.write(&(message.get().user_id.clone(), 1))
            }
        }
    };
}
resolver!(Sound, Click, "clicks", ["user.id", "user.clicks"]);
resolver!(Lost, Click, "click", ["user.id", "user.clicks"]);
resolver!(Misspelt, Click, "clicks", ["user.id", "user.clickz"]);
resolver!(Other, View, "clicks", ["user.id", "user.clicks"]);
resolver!(Untyped, Click, "clicks", ["user.id", "user.page"]);

fn user() -> FeatureClass {
    FeatureClass::new("user", Feature::new::<String>("id"))
        .feature(Feature::new::<i64>("clicks"))
        .feature(Feature::new::<String>("page"))
}

#[test]
fn all_mistakes_of_the_declarations_are_told_at_once_with_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (first, second) = (MemorySource::json("clicks"), MemorySource::json("clicks"));
    let builder = Engine::builder(&state).class(user()).source(first).source(second);
    let builder = builder.resolver(Sound).resolver(Lost).resolver(Misspelt).resolver(Other).resolver(Untyped);
    let Err(Error::Declarations(mistakes)) = karst::run(builder.start()) else { panic!("there are mistakes") };
    let told = mistakes.to_string();
    for part in [
        "source \"clicks\" is declared twice",
        "resolver \"lost\" reads source \"click\", which is not declared",
        "did you mean \"clicks\"?",
        "resolver \"misspelt\" writes feature \"user.clickz\", which is not declared",
        "did you mean \"user.clicks\"?",
        "resolver \"other\" takes messages of type View",
        "resolver \"untyped\" writes feature \"user.page\": expected values of type str, got int",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    assert!(
        mistakes.iter().all(|mistake| mistake.at.as_ref().is_some_and(|at| at.file.ends_with("declarations.rs"))),
        "{told}"
    );
    assert!(!state.exists(), "nothing is made before the declarations hold");
}

#[test]
fn all_mistakes_of_the_settings_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut settings = EngineSettings { credits: 0, mailbox: 5000, stuck_after_s: 0, ..EngineSettings::default() };
    settings.store.shards = 0;
    let Err(error) = karst::run(Engine::builder(&state).settings(settings).start()) else { panic!("they do not hold") };
    let told = error.to_string();
    for part in [
        "credits: expected 1 to 4096, got 0",
        "mailbox: expected 1 to 4096, got 5000",
        "stuck_after_s:",
        "shards: expected 1 to 1024",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    assert!(!state.exists());
}

#[test]
fn a_mistake_of_a_source_is_told_by_start() {
    let dir = tempfile::tempdir().unwrap();
    let clicks = MemorySource::json("clicks").late_arrival_deadline("soon").batch_records(0);
    let builder = Engine::builder(dir.path()).class(user()).source(clicks).resolver(Sound);
    let Err(error) = karst::run(builder.start()) else { panic!("\"soon\" is no deadline") };
    let told = error.to_string();
    assert!(told.contains("late_arrival_deadline") && told.contains("batch_records"), "{told}");
}

#[test]
fn a_sound_declaration_by_hand_runs() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let clicks = MemorySource::json("clicks");
        let engine = Engine::builder(dir.path()).class(user()).source(clicks.clone()).resolver(Sound).start().await?;
        clicks.send(r#"{"user_id":"ada"}"#).await?;
        engine.drain().await?;
        let answer = engine.query(&QueryRequest::new().input("user.id", "ada").output("user.clicks"));
        assert_eq!(answer.get("user.clicks"), Some(&Value::Int(1)));
        engine.shutdown().await
    })
    .unwrap();
}
