//! What the macros write, used as a user uses it.

use std::sync::Arc;

use karst::features::{
    Catalog, EventBatch, FeatureClass, FeatureSet, IntoStreamResolver, Mistakes, OutputType, Ran, Registry, StreamResolver,
    WindowedFeature, bind,
};
use karst::prelude::*;
use karst::types::{
    BrokerTime, FieldSchema, Offset, PartitionId, Records, SourceId, Updates, Value, ValueType, message::Messages,
    update::Cause,
};

/// A click on a page.
#[derive(Message, Debug, PartialEq)]
#[message(check = "check_click")]
#[serde(rename_all = "camelCase")]
struct Click {
    user_id: String,
    page: Str,
    referrer: Option<String>,
    #[serde(rename = "n", default)]
    count: i64,
    #[message(event_time = "ms")]
    at: Option<EventTime>,
}

fn check_click(click: &Click) -> Result<(), Invalid> {
    if click.count >= 0 { Ok(()) } else { Err(Invalid::new("n", "a count", click.count)) }
}

/// Somebody who clicks.
#[features(key = "id", max_staleness = "30d", owner = "web", tags = ["pii"])]
pub struct UserFeatures {
    /// Where they were seen last.
    #[feature(max_staleness = "1d", tags = ["a", "b"])]
    last_page: Str,
    id: String,
    #[feature(name = "click_count", description = "how often", owner = "data")]
    clicks: Option<i64>,
    r#type: bool,
}
use UserFeatures as User;

/// Remembers the page.
#[stream(source = "clicks")]
fn on_click(click: &Click) -> Updates![User::id, User::clicks, User::last_page] {
    updates!(click.user_id.clone(), Some(click.count), click.page.clone())
}

mod by_value {
    use super::*;

    #[stream(source = "clicks", name = "moves")]
    pub(super) fn takes(Click { user_id, page, .. }: Click) -> Option<Updates![super::User::last_page, super::User::id]> {
        if page == "/" { None } else { Some(updates!(page, user_id)) }
    }
}

#[stream(source = "clicks")]
fn several(click: &Click) -> Result<Vec<Updates![User::id, User::r#type]>, String> {
    if click.count > 10 {
        return Err(format!("{} clicks", click.count));
    }
    Ok((0..click.count).map(|nth| updates!(format!("{}-{nth}", click.user_id), true)).collect())
}

/// What a click says of its page; not a message, and not `Deserialize`.
#[derive(Debug, PartialEq)]
struct Visit {
    user: String,
    page: Str,
}

fn get_visit(click: &Click) -> Option<Visit> {
    (click.page != "/").then(|| Visit { user: click.user_id.clone(), page: click.page.clone() })
}

/// The forms of a parse function, each with the same resolver behind it.
mod parses {
    use super::*;

    pub(super) fn always(click: &Click) -> Visit {
        Visit { user: click.user_id.clone(), page: click.page.clone() }
    }
    pub(super) fn by_value(Click { user_id: user, page, .. }: Click) -> Option<Visit> {
        (page != "/").then_some(Visit { user, page })
    }
    pub(super) fn or_error(click: &Click) -> Result<Option<Visit>, String> {
        if click.count > 10 { Err(format!("{} clicks", click.count)) } else { Ok(get_visit(click)) }
    }
    pub(super) fn of_key_k(click: &Click, record: &Record) -> Result<Visit, &'static str> {
        if record.key() == Some(b"k") { Ok(always(click)) } else { Err("another key") }
    }
    pub(super) fn part(click: &Click) -> Option<&Str> {
        (click.page != "/").then_some(&click.page)
    }

    macro_rules! resolver {
        ($name:ident $parse:path) => {
            #[stream(source = "clicks", parse = $parse)]
            pub(super) fn $name(visit: Visit) -> Updates![User::id, User::last_page] {
                updates!(visit.user, visit.page)
            }
        };
    }
    resolver!(to_visit get_visit);
    resolver!(to_always always);
    resolver!(to_by_value self::by_value);
    resolver!(to_or_error or_error);
    resolver!(to_of_key_k of_key_k);

    #[stream(source = "clicks", parse = part)]
    pub(super) fn to_part(page: &Str, record: &Record) -> Updates![User::id, User::last_page] {
        updates!(page.to_string(), record.position().to_string().into())
    }

    /// By reference, though the parse function makes a message of its own.
    #[stream(source = "clicks", name = "visits", parse = get_visit)]
    pub(super) fn to_visit_ref(visit: &Visit, record: Record<'_>) -> Option<Updates![User::id, User::last_page]> {
        Some(updates!(visit.user.clone(), format!("{:?}", record.key()?).into()))
    }
}

fn click(json: &str) -> Click {
    serde_json::from_str(json).expect("the test writes a click")
}

#[test]
fn a_message_reads_its_fields_as_serde_does_and_its_event_time_in_its_unit() {
    let full = click(r#"{"userId":"ada","page":"/","referrer":"x","n":3,"at":1500}"#);
    assert_eq!((full.referrer.as_deref(), full.count, full.event_time()), (Some("x"), 3, Some(EventTime::from_millis(1500))));
    let sparse = click(r#"{"userId":"ada","page":"/"}"#);
    assert_eq!((sparse.referrer, sparse.count, sparse.at), (None, 0, None));
    assert_eq!(click(r#"{"userId":"ada","page":"/","at":null}"#).event_time(), None);
    let text = click(r#"{"userId":"ada","page":"/","at":"1970-01-01T00:00:01Z"}"#);
    assert_eq!(text.event_time(), Some(EventTime::from_secs(1)));
    let wrong = serde_json::from_str::<Click>(r#"[1]"#).unwrap_err().to_string();
    assert!(wrong.contains("invalid type: integer `1`"), "{wrong}");
    let wrong = serde_json::from_str::<Click>("7").unwrap_err().to_string();
    assert!(wrong.contains("expected struct Click"), "{wrong}");
    assert!(full.check().is_ok());
    let negative = click(r#"{"userId":"ada","page":"/","n":-1}"#).check().unwrap_err();
    assert_eq!(negative.to_string(), "field \"n\": expected a count, got -1");
}

#[test]
fn the_schema_has_the_names_on_the_wire() {
    let schema = Click::schema();
    assert_eq!((schema.name, schema.event_time), ("Click", Some("at")));
    assert_eq!(
        schema.fields,
        [
            FieldSchema::required("userId", "String"),
            FieldSchema::required("page", "Str"),
            FieldSchema::nullable("referrer", "String"),
            FieldSchema::nullable("n", "i64"),
            FieldSchema::nullable("at", "EventTime"),
        ]
    );
}

#[test]
fn a_class_is_the_same_as_if_written_by_hand() {
    let class = User::class();
    assert_eq!((class.name.as_str(), class.key().name.as_str()), ("user", "id"));
    assert_eq!(class.max_staleness, Some(TimeSpan::from_secs(30 * 86_400)));
    assert_eq!((class.owner.as_deref(), class.description.as_deref()), (Some("web"), Some("Somebody who clicks.")));
    assert_eq!(class.tags, ["pii"]);
    let features: Vec<_> = class.features().iter().map(|feature| (feature.name.as_str(), feature.type_name())).collect();
    let expected = [("id", "str"), ("last_page", "str"), ("click_count", "int?"), ("type", "bool")];
    assert_eq!(features, expected.map(|(name, ty)| (name, ty.to_owned())));
    let last_page = class.get("last_page").unwrap();
    assert_eq!(last_page.max_staleness, Some(TimeSpan::from_secs(86_400)));
    assert_eq!(last_page.description.as_deref(), Some("Where they were seen last."));
    assert_eq!(last_page.tags, ["a", "b"]);
    assert_eq!(class.get("click_count").unwrap().owner.as_deref(), Some("data"));
    assert_eq!((User::clicks.index(), User::clicks.to_string().as_str()), (2, "user.click_count"));
    assert_eq!(User::id.index(), 0);
}

#[test]
fn a_declaration_tells_where_it_stands() {
    let source = include_str!("declare.rs");
    let line_of = |text: &str| source.lines().position(|line| line.contains(text)).unwrap() as u32 + 1;
    let at = &User::class().get("click_count").unwrap().declared_at;
    assert!(at.file.ends_with("declare.rs"), "{at}");
    assert_eq!((at.line, at.column), (line_of("    clicks: Option<i64>"), 5));
    assert_eq!(User::class().declared_at.line, line_of("pub struct UserFeatures"));
    assert_eq!(on_click.declaration().declared_at.line, line_of("fn on_click"));
}

#[test]
fn a_resolver_declares_what_it_takes_and_writes() {
    let declaration = on_click.declaration();
    assert_eq!((declaration.name.as_str(), declaration.source.as_str()), ("on_click", "clicks"));
    assert_eq!(declaration.outputs, ["user.id", "user.click_count", "user.last_page"]);
    assert_eq!(
        declaration.output_types,
        Some(vec![
            OutputType { ty: ValueType::Str, nullable: false },
            OutputType { ty: ValueType::Int, nullable: true },
            OutputType { ty: ValueType::Str, nullable: false },
        ])
    );
    assert_eq!((declaration.by_value, declaration.description.as_deref()), (false, Some("Remembers the page.")));
    let declaration = by_value::takes.declaration();
    assert_eq!((declaration.name.as_str(), declaration.by_value), ("moves", true));
}

#[test]
fn a_resolver_can_be_called_like_the_function_that_it_is() {
    let click = click(r#"{"userId":"ada","page":"/","n":2}"#);
    assert_eq!(on_click::call(&click), ("ada".to_owned(), Some(2), "/".into()));
    assert_eq!(several::call(&click).unwrap().len(), 2);
    assert_eq!(by_value::takes::call(click), None);
}

#[test]
fn declared_by_macros_it_runs() -> Result<(), Mistakes> {
    let mut builder = Registry::builder();
    builder.add_source("clicks").add_resolver(&on_click).add_resolver(&several).add_resolver(&by_value::takes);
    let registry = builder.freeze()?;
    assert_eq!(registry.classes().len(), 1);
    let mut catalog = Catalog::new();
    catalog.reconcile(&registry)?;
    let slots = vec![
        Some(click(r#"{"userId":"ada","page":"/","n":2}"#)),
        Some(click(r#"{"userId":"bob","page":"/x","n":0}"#)),
        Some(click(r#"{"userId":"cyd","page":"/x","n":11}"#)),
    ];
    let causes: Vec<_> = (0..3).map(|offset| Some(Cause { offset: Offset(offset), event_time: EventTime(0) })).collect();
    let mut batch = Messages { slots };
    let mut records = Records::new("clicks".into(), PartitionId(0));
    (0..3).for_each(|offset| records.push(Offset(offset), BrokerTime(offset), Some(b"k"), Some(b"{}")));
    let failed = Ran::Failed { reason: karst::types::Reason::ResolverError, error: "11 clicks".to_owned() };
    for (mut resolver, expected) in [
        (bind(Arc::new(on_click), &catalog)?, [Ran::Wrote, Ran::Wrote, Ran::Wrote]),
        (bind(Arc::new(several), &catalog)?, [Ran::Wrote, Ran::Nothing, failed]),
        (bind(Arc::new(by_value::takes), &catalog)?, [Ran::Nothing, Ran::Wrote, Ran::Wrote]),
    ] {
        let (mut updates, mut ran) = (Updates::new(SourceId(0), PartitionId(0)), Vec::new());
        let mut batch = EventBatch { messages: &mut batch, records: &records, first: 0, causes: &causes };
        resolver.run(&mut batch, &mut updates, &mut ran);
        assert_eq!(ran, expected, "{}", resolver.declaration().name);
        let first = updates.get(0);
        let (_, cell) = karst::types::update::cells(first.cells).unwrap().next().unwrap();
        assert!(Value::decode(cell).is_some());
    }
    assert!(batch.slots.iter().all(Option::is_none), "the last one takes its messages");
    Ok(())
}

#[test]
fn a_parse_function_has_any_of_these_forms() -> Result<(), Mistakes> {
    use parses::*;

    let mut builder = Registry::builder();
    builder.add_source("clicks").add_set::<User>();
    let mut catalog = Catalog::new();
    catalog.reconcile(&builder.freeze()?)?;
    let mut records = Records::new("clicks".into(), PartitionId(0));
    (0..2).for_each(|offset| records.push(Offset(offset), BrokerTime(offset), Some(b"k"), Some(b"{}")));
    let causes: Vec<_> = (0..2).map(|offset| Some(Cause { offset: Offset(offset), event_time: EventTime(0) })).collect();
    let failed = |error: &str| Ran::Failed { reason: karst::types::Reason::ParseFailed, error: error.to_owned() };
    for (mut resolver, function, expected) in [
        (bind(Arc::new(to_visit.into_resolver()), &catalog)?, "get_visit", [Ran::Wrote, Ran::Skipped]),
        (bind(Arc::new(to_always.into_resolver()), &catalog)?, "always", [Ran::Wrote, Ran::Wrote]),
        (bind(Arc::new(to_by_value.into_resolver()), &catalog)?, "by_value", [Ran::Wrote, Ran::Skipped]),
        (
            bind(Arc::new(to_or_error.into_resolver()), &catalog)?,
            "or_error",
            [Ran::Wrote, failed("parse function or_error: 11 clicks")],
        ),
        (bind(Arc::new(to_of_key_k.into_resolver()), &catalog)?, "of_key_k", [Ran::Wrote, Ran::Wrote]),
        (bind(Arc::new(to_part.into_resolver()), &catalog)?, "part", [Ran::Wrote, Ran::Skipped]),
        (bind(Arc::new(to_visit_ref.into_resolver()), &catalog)?, "get_visit", [Ran::Wrote, Ran::Skipped]),
    ] {
        let declaration = resolver.declaration();
        assert_eq!(declaration.parse.as_ref().unwrap().function, function);
        assert_eq!((declaration.message.name, declaration.by_value), ("Click", function == "by_value"));
        assert!(declaration.declared_at.file.ends_with("declare.rs") && declaration.declared_at.line > 0);
        let slots = vec![
            Some(click(r#"{"userId":"ada","page":"/x","n":2,"referrer":"bob"}"#)),
            Some(click(r#"{"userId":"bob","page":"/","n":11}"#)),
        ];
        let (mut updates, mut ran) = (Updates::new(SourceId(0), PartitionId(0)), Vec::new());
        let mut messages = Messages { slots };
        resolver.run(
            &mut EventBatch { messages: &mut messages, records: &records, first: 0, causes: &causes },
            &mut updates,
            &mut ran,
        );
        assert_eq!(ran, expected, "{function}");
    }
    assert_eq!(
        to_visit_ref.into_resolver().declaration().description.as_deref(),
        Some("By reference, though the parse function makes a message of its own.")
    );
    assert_eq!(to_visit::call(Visit { user: "ada".into(), page: "/".into() }), ("ada".to_owned(), "/".into()));
    Ok(())
}

/// A card, and what happened to it of late.
#[features(key = "id")]
struct Card {
    id: String,
    status: String,
    amount: f64,
    #[feature(name = "shop")]
    merchant: Option<Str>,
    count: i32,
    /// Failures of late.
    #[windowed("10m", "30m", "1d", count, filter = status == "failed" && !(amount <= -1.5) || merchant.is_null(), owner = "risk")]
    failures: Windowed<i64>,
    #[windowed("1h", "all", sum(amount * 2 - count), default = 0, hop = "30s", retention = "400d")]
    spent: Windowed<f64>,
    #[windowed("1d", approx_percentile(amount, 0.95), exact)]
    high: Windowed<f64>,
    #[windowed("7d", max_by_n(merchant, by = amount, n = 3), name = "best")]
    dearest: Windowed<Vec<Str>>,
    #[windowed("1d", max(count), group_by = merchant, groups_max = 7, tumbling)]
    by_merchant: Windowed<Groups<String, i64>>,
    #[windowed(session = "30m", sum(self::risk::of(amount, status)))]
    risk: Windowed<f64>,
    #[windowed("all", any(count != -9223372036854775808), unbounded, retention = "infinity", tags = ["x"])]
    ever: Windowed<bool>,
}

mod risk {
    pub(super) fn of(amount: f64, status: Option<String>) -> Option<f64> {
        status.map(|status| amount * status.len() as f64)
    }
}

#[test]
fn windowed_features_are_the_same_as_if_written_by_hand() {
    use karst::features::{ResultType, Shape, function::call};
    use karst::types::{Aggregation, Expr};

    let expr = |text: &str| text.parse::<Expr>().unwrap();
    let of = |ty, shape| ResultType { ty, shape };
    let (int, float) = (of(ValueType::Int, Shape::One), of(ValueType::Float, Shape::One));
    let by_hand = [
        WindowedFeature::new("failures", Aggregation::Count)
            .windows(["10m", "30m", "1d"])
            .filter("status == \"failed\" && !(amount <= -1.5) || shop.is_null()")
            .result(int)
            .description("Failures of late.")
            .owner("risk"),
        WindowedFeature::new("spent", Aggregation::Sum)
            .windows(["1h", "all"])
            .input("amount * 2 - count")
            .default(0i64)
            .hop("30s")
            .retention("400d")
            .result(float),
        WindowedFeature::new("high", Aggregation::ApproxPercentile(0.95)).windows(["1d"]).input("amount").exact().result(float),
        WindowedFeature::new("best", Aggregation::MaxByN(3))
            .windows(["7d"])
            .input("shop")
            .by("amount")
            .result(of(ValueType::Str, Shape::List)),
        WindowedFeature::new("by_merchant", Aggregation::Max)
            .windows(["1d"])
            .input("count")
            .group_by("shop")
            .groups_max(7)
            .tumbling()
            .result(of(ValueType::Int, Shape::Groups { by: ValueType::Str })),
        WindowedFeature::new("risk", Aggregation::Sum)
            .session("30m")
            .input(call("self::risk::of", risk::of, [expr("amount"), expr("status")]))
            .result(float),
        WindowedFeature::new("ever", Aggregation::Any)
            .windows(["all"])
            .input("count != -9223372036854775808")
            .retention("infinity")
            .unbounded()
            .result(of(ValueType::Bool, Shape::One))
            .tags(["x"]),
    ];
    let class = Card::class();
    assert_eq!(class.windowed_features().len(), by_hand.len());
    for (written, by_hand) in class.windowed_features().iter().zip(by_hand) {
        assert_eq!(*written, by_hand.declared_at(written.declared_at.clone()));
    }
    let line = include_str!("declare.rs").lines().position(|line| line == "    spent: Windowed<f64>,").unwrap() + 1;
    assert_eq!(class.windowed_features()[1].declared_at.line as usize, line);
    assert_eq!((Card::dearest.fqn(), Card::dearest.over("7d")), ("card.best".to_owned(), "card.best[\"7d\"]".to_owned()));
    let names: Vec<&str> = class.features().iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["id", "status", "amount", "shop", "count"]);
    assert_eq!(Card::count.index(), 4);
    let mut builder = Registry::builder();
    builder.add_set::<Card>();
    assert!(builder.freeze().is_ok());
}

#[test]
fn a_type_that_only_the_aggregate_knows_is_checked_when_the_registry_is_frozen() {
    #[features(key = "id")]
    struct Shop {
        id: i64,
        price: f64,
        #[windowed("1h", sum(price + 1))]
        turnover: Windowed<i64>,
    }
    let class: &FeatureClass = Shop::class();
    let mut builder = Registry::builder();
    builder.add_class(class.clone());
    let told = builder.freeze().unwrap_err().to_string();
    assert!(told.contains("\"shop.turnover\": it is declared as int, but sum((price + 1)) makes float"), "{told}");
}
