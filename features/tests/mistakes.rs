//! Every mistake of a declaration is told at once, with where it was made.

use karst_features::{
    Feature, FeatureClass, Location, MessageSlot, OutputType, Registry, RegistryBuilder, ResolverError, StreamDeclaration,
    StreamResolver, UpdateWriter, WindowedFeature,
};
use karst_types::{Aggregation, Message, MessageSchema, TimeSpan, ValueType};

macro_rules! message {
    ($name:ident) => {
        #[derive(serde::Deserialize)]
        struct $name {}
        impl Message for $name {
            fn schema() -> &'static MessageSchema {
                const SCHEMA: MessageSchema = MessageSchema { name: stringify!($name), fields: &[], event_time: None };
                &SCHEMA
            }
        }
    };
}
message!(Click);
message!(View);

/// A resolver with rows of (str, int) that does nothing: these tests are about declarations.
struct Resolver<M>(std::marker::PhantomData<fn(M)>, StreamDeclaration);

impl<M: Message> Resolver<M> {
    fn at(line: u32, name: &str, source: &str, outputs: &[&str]) -> Self {
        let declaration = StreamDeclaration::of::<Self>(name, source, outputs.iter().copied());
        Self(std::marker::PhantomData, declaration.declared_at(Location::at("resolvers.rs", line, 1)))
    }
}
impl<M: Message> StreamResolver for Resolver<M> {
    type Message = M;
    type Row = (String, i64);
    fn declaration(&self) -> StreamDeclaration {
        self.1.clone()
    }
    fn resolve(&self, _: MessageSlot<'_, M>, _: &mut UpdateWriter<'_, Self::Row>) -> Result<(), ResolverError> {
        Ok(())
    }
}

fn at(line: u32) -> Location {
    Location::at("classes.rs", line, 5)
}
fn feature(line: u32, name: &str, ty: ValueType) -> Feature {
    Feature::of_type(name, ty, false).declared_at(at(line))
}
fn user() -> FeatureClass {
    FeatureClass::new("user", feature(2, "id", ValueType::Str))
        .feature(feature(3, "clicks", ValueType::Int))
        .feature(feature(4, "last_page", ValueType::Str))
        .declared_at(at(1))
}
fn sound() -> RegistryBuilder {
    let mut builder = Registry::builder();
    builder.add_class(user()).add_source_at("clicks", Location::at("main.rs", 1, 1));
    builder.add_resolver(&Resolver::<Click>::at(1, "on_click", "clicks", &["user.id", "user.clicks"]));
    builder
}

#[track_caller]
fn check(builder: RegistryBuilder, expected: &str) {
    let told = builder.freeze().expect_err("there are mistakes").to_string();
    assert!(told == expected, "--- told:\n{told}\n--- expected:\n{expected}");
}

#[test]
fn sound_declarations_are_found_by_name() {
    let registry = sound().freeze().unwrap();
    let (class, feature) = registry.feature("user.clicks").unwrap();
    assert_eq!((class.name.as_str(), feature.ty), ("user", ValueType::Int));
    assert_eq!(registry.resolvers_of("clicks").map(|resolver| resolver.name.as_str()).collect::<Vec<_>>(), ["on_click"]);
    assert_eq!(registry.writers("user.clicks").count(), 1);
    assert_eq!(registry.writers("user.last_page").count(), 0);
    assert_eq!(registry.class("user").unwrap().key().name, "id");
    assert!(registry.feature("user.nope").is_none() && registry.resolver("nope").is_none());
}

#[test]
fn two_resolvers_that_take_a_message_that_cannot_be_copied_are_a_mistake() {
    let mut builder = sound();
    for (line, name) in [(5, "first"), (6, "second")] {
        let mut taker = Resolver::<Click>::at(line, name, "clicks", &["user.id", "user.clicks"]);
        taker.1 = taker.1.by_value();
        builder.add_resolver(&taker);
    }
    check(
        builder,
        "1 mistake in the declarations:
  1. resolver \"second\" takes Click by value, and so does resolver \"first\" of the same source \"clicks\" (at resolvers.rs:5:1); a message is decoded once, and Click cannot be copied
     at resolvers.rs:6:1
     hint: derive `Clone` for Click, or let one of them (or its parse function) take `&Click`",
    );
}

#[test]
fn the_same_declaration_twice_is_one_declaration() {
    let mut builder = sound();
    builder.add_class(user());
    assert_eq!(builder.freeze().unwrap().classes().len(), 1);
}

#[test]
fn all_mistakes_of_classes_are_told_at_once() {
    let mut builder = Registry::builder();
    builder
        .add_class(
            FeatureClass::new("User", Feature::of_type("id", ValueType::Float, false).declared_at(at(2)))
                .feature(feature(3, "a__b", ValueType::Int))
                .feature(feature(4, "a", ValueType::Int).max_staleness_text("1 day"))
                .feature(feature(5, "a", ValueType::Str))
                .max_staleness(TimeSpan::from_secs(-1))
                .declared_at(at(1)),
        )
        .add_class(FeatureClass::new("karst", Feature::new::<Option<i64>>("id").declared_at(at(8))).declared_at(at(7)))
        .add_class(user())
        .add_class(user().declared_at(at(9)));
    check(
        builder,
        "9 mistakes in the declarations:
  1. \"User\" cannot be the name of a feature class
     at classes.rs:1:5
     hint: names begin with a lower-case letter and go on with lower-case letters, digits and \"_\", at most 64 in all
  2. feature class \"User\": max_staleness: expected no negative span, got -1s
     at classes.rs:1:5
  3. \"id\" cannot be the key of feature class \"User\": its type is float
     at classes.rs:2:5
     hint: keys are str or int, and never null
  4. \"User.a__b\" cannot be the name of a feature
     at classes.rs:3:5
     hint: a double underscore is reserved for windows
  5. feature \"User.a\": max_staleness: \"1 day\" is not a duration: a unit is missing; expected whole numbers with the units w, d, h, m, s, ms, us, such as \"30m\", \"1h30m\" or \"infinity\"
     at classes.rs:4:5
  6. feature \"User.a\" is declared twice; first at classes.rs:4:5
     at classes.rs:5:5
  7. \"karst\" cannot be the name of a feature class
     at classes.rs:7:5
     hint: names that begin with \"karst\" are reserved
  8. \"id\" cannot be the key of feature class \"karst\": its type is int?
     at classes.rs:8:5
     hint: keys are str or int, and never null
  9. feature class \"user\" is declared twice; first at classes.rs:1:5
     at classes.rs:9:5
     hint: give one of them another name: `#[features(name = \"…\", …)]`",
    );
}

#[test]
fn all_mistakes_of_sources_and_resolvers_are_told_at_once() {
    let mut builder = sound();
    builder.add_class(
        FeatureClass::new("route", feature(12, "id", ValueType::Str))
            .feature(feature(13, "clicks", ValueType::Int))
            .declared_at(at(11)),
    );
    builder.add_source_at("clicks", Location::at("main.rs", 2, 1)).add_source_at("a b", Location::at("main.rs", 3, 1));
    for resolver in [
        Resolver::at(2, "on_click", "clicks", &["user.id", "user.clicks"]),
        Resolver::at(3, "slip", "click", &["user.id", "user.clics"]),
        Resolver::at(4, "no_key", "clicks", &["user.last_page", "user.clicks"]),
        Resolver::at(5, "twice", "clicks", &["user.id", "user.id"]),
        Resolver::at(6, "two_classes", "clicks", &["user.id", "route.clicks"]),
        Resolver::at(7, "wrong_type", "clicks", &["user.id", "user.last_page"]),
        Resolver::at(8, "nothing", "clicks", &[]),
    ] {
        builder.add_resolver::<Resolver<Click>>(&resolver);
    }
    builder.add_resolver(&Resolver::<View>::at(9, "on-view", "clicks", &["user.id", "user.clicks"]));
    check(
        builder,
        "15 mistakes in the declarations:
  1. source \"clicks\" is declared twice; first at main.rs:1:1
     at main.rs:2:1
  2. \"a b\" cannot be the name of a source
     at main.rs:3:1
     hint: names of sources consist of letters, digits, \"_\", \"-\" and \".\", at most 64 in all
  3. resolver \"on_click\" is declared twice; first at resolvers.rs:1:1
     at resolvers.rs:2:1
     hint: give one of them another name: `#[stream(name = \"…\", …)]`
  4. resolver \"slip\" reads source \"click\", which is not declared
     at resolvers.rs:3:1
     hint: did you mean \"clicks\"?
  5. resolver \"slip\" writes feature \"user.clics\", which is not declared
     at resolvers.rs:3:1
     hint: did you mean \"user.clicks\"?
  6. resolver \"no_key\" does not write \"user.id\", the key of feature class \"user\"
     at resolvers.rs:4:1
     hint: the key says whose values they are: add it to the outputs, or take it from the message by `keys(…)`
  7. resolver \"twice\" writes feature \"user.id\" twice
     at resolvers.rs:5:1
  8. resolver \"twice\" writes only the key of feature class \"user\", and no feature
     at resolvers.rs:5:1
  9. resolver \"two_classes\" writes only the key of feature class \"user\", and no feature
     at resolvers.rs:6:1
  10. resolver \"two_classes\" does not write \"route.id\", the key of feature class \"route\"
     at resolvers.rs:6:1
     hint: the key says whose values they are: add it to the outputs, or take it from the message by `keys(…)`
  11. resolver \"wrong_type\" writes feature \"user.last_page\": expected values of type str, got int
     at resolvers.rs:7:1
  12. resolver \"nothing\" declares 0 outputs, but its rows have 2 values
     at resolvers.rs:8:1
  13. resolver \"nothing\" declares no outputs
     at resolvers.rs:8:1
  14. \"on-view\" cannot be the name of a resolver
     at resolvers.rs:9:1
     hint: names begin with a lower-case letter and go on with lower-case letters, digits and \"_\", at most 64 in all
  15. resolver \"on-view\" takes messages of type View, but resolver \"on_click\" of the same source \"clicks\" takes Click (at resolvers.rs:1:1)
     at resolvers.rs:9:1
     hint: a source is decoded once: all of its resolvers take the same message type; make View of it for \"on-view\" by a parse function",
    );
}

#[test]
fn a_class_has_at_most_4096_features() {
    let class = (0..4096).fold(user(), |class, number| class.feature(feature(1, &format!("f{number}"), ValueType::Int)));
    let mut builder = Registry::builder();
    builder.add_class(class);
    check(
        builder,
        "1 mistake in the declarations:\n  1. feature class \"user\" has 4099 features; 4096 are allowed\n     at classes.rs:1:5",
    );
}

#[test]
fn resolvers_of_a_source_share_the_message_that_their_parse_functions_take() {
    let mut builder = sound();
    let mut view = Resolver::<View>::at(2, "on_view", "clicks", &["user.id", "user.clicks"]);
    view.1 = view.1.parse("get_user", "User");
    let mut user = Resolver::<Click>::at(3, "on_user", "clicks", &["user.id", "user.clicks"]);
    user.1 = user.1.parse("get_user", "User");
    builder.add_resolver(&user).add_resolver(&view);
    check(
        builder,
        "1 mistake in the declarations:
  1. resolver \"on_view\" takes messages of type View, but resolver \"on_click\" of the same source \"clicks\" takes Click (at resolvers.rs:1:1)
     at resolvers.rs:2:1
     hint: a source is decoded once: all of its resolvers take the same message type; make Click of it for \"on_click\" by a parse function",
    );
}

#[test]
fn keys_of_the_message_are_checked_like_outputs() {
    let mut builder = sound();
    builder.add_class(FeatureClass::new("page", feature(6, "id", ValueType::Int)).feature(feature(7, "n", ValueType::Int)));
    let int = OutputType { ty: ValueType::Int, nullable: true };
    let mut wrong = Resolver::<Click>::at(2, "wrong", "clicks", &["user.last_page", "page.n"]);
    wrong.1 = wrong.1.key("user.id", "user", int).key("page.id", "page", int).key("shop.id", "shop", int);
    let mut twice = Resolver::<Click>::at(3, "twice", "clicks", &["user.id", "user.clicks"]);
    twice.1 = twice.1.key("user.id", "user", OutputType { ty: ValueType::Str, nullable: false }).optional_key("page.id");
    let mut no_key = Resolver::<Click>::at(4, "no_key", "clicks", &["user.last_page", "user.clicks"]);
    no_key.1 = no_key.1.key("user.clicks", "n", int);
    for resolver in [wrong, twice, no_key] {
        builder.add_resolver(&resolver);
    }
    check(
        builder,
        "6 mistakes in the declarations:
  1. resolver \"wrong\" takes key \"user.id\" from field \"user\": expected a field of type str, got int?
     at resolvers.rs:2:1
  2. resolver \"wrong\" takes key \"shop.id\" from field \"shop\", which is not declared
     at resolvers.rs:2:1
     hint: there is \"page.id\", \"page.n\", \"user.clicks\", \"user.id\", \"user.last_page\"
  3. resolver \"twice\" takes key \"user.id\" from field \"user\", but has it already
     at resolvers.rs:3:1
     hint: name it once: among the outputs, or as one of the keys
  4. resolver \"twice\" says that \"page.id\" may be null, which is not a key that it has
     at resolvers.rs:3:1
  5. resolver \"no_key\" takes key \"user.clicks\" from field \"n\", which is not the key of its class
     at resolvers.rs:4:1
     hint: the key of feature class \"user\" is \"user.id\"
  6. resolver \"no_key\" does not write \"user.id\", the key of feature class \"user\"
     at resolvers.rs:4:1
     hint: the key says whose values they are: add it to the outputs, or take it from the message by `keys(…)`",
    );
}

#[test]
fn a_windowed_feature_follows_updates_and_is_never_written_by_a_resolver() {
    let count = |name: &str| WindowedFeature::new(name, Aggregation::Count).windows(["10m"]).declared_at(at(5));
    let mut builder = Registry::builder();
    let class = user().windowed(count("seen")).windowed(count("paged").filter("last_page == \"/\" && clicks > 1"));
    builder.add_class(class).add_source_at("clicks", Location::at("main.rs", 1, 1));
    builder.add_resolver(&Resolver::<Click>::at(1, "one", "clicks", &["user.id", "user.seen"]));
    builder.add_resolver(&Resolver::<Click>::at(2, "two", "clicks", &["user.id", "user.seen__600__"]));
    builder.add_resolver(&Resolver::<Click>::at(3, "three", "clicks", &["user.id", "user.clicks"]));
    check(
        builder,
        "3 mistakes in the declarations:\n  \
         1. resolver \"one\" writes \"user.seen\", which is a windowed feature\n     \
              at resolvers.rs:1:1\n     \
              hint: write the features that it is computed from; it follows them by itself\n  \
         2. resolver \"two\" writes \"user.seen__600__\", which is a windowed feature\n     \
              at resolvers.rs:2:1\n     \
              hint: write the features that it is computed from; it follows them by itself\n  \
         3. windowed feature \"user.paged\" needs updates that write \"user.clicks\" and \"user.last_page\", and no resolver writes them together\n     \
              at classes.rs:5:5\n     \
              hint: an update counts if it writes every feature that the expressions mention",
    );
}
