//! The catalog against declarations that change.

use super::*;
use crate::{Feature, FeatureClass, Registry};

fn user(features: &[(&str, ValueType)]) -> FeatureClass {
    features.iter().fold(FeatureClass::new("user", Feature::new::<String>("id")), |class, (name, ty)| {
        class.feature(Feature::of_type(*name, *ty, true))
    })
}
fn registry(classes: &[FeatureClass], sources: &[&str]) -> Registry {
    let mut builder = Registry::builder();
    classes.iter().for_each(|class| _ = builder.add_class(class.clone()));
    sources.iter().for_each(|source| _ = builder.add_source(*source));
    builder.freeze().unwrap()
}

#[test]
fn ids_are_given_once_and_survive_a_change_of_order_and_a_removal() {
    let mut catalog = Catalog::new();
    let one = registry(&[user(&[("a", ValueType::Int), ("b", ValueType::Str)])], &["clicks", "views"]);
    assert_eq!(catalog.reconcile(&one).unwrap().lines.len(), 6);
    assert!(catalog.reconcile(&one).unwrap().is_empty());
    let b = catalog.feature_id("user.b").unwrap();

    let route = FeatureClass::new("route", Feature::new::<i64>("id"));
    let two = registry(&[route, user(&[("c", ValueType::Bool), ("b", ValueType::Str)])], &["views", "other"]);
    let changes = catalog.reconcile(&two).unwrap();
    assert_eq!(
        changes.to_string(),
        "source other: id 2; class route: id 1; feature route.id: slot 0 of class 1; feature user.c: slot 3 of class 0"
    );
    assert_eq!(catalog.feature_id("user.b"), Some(b));
    assert_eq!(catalog.feature_id("user.a").unwrap().slot, FeatureSlot(1));
    assert_eq!((catalog.source_id("clicks"), catalog.source_id("views")), (Some(SourceId(0)), Some(SourceId(1))));
    assert_eq!(catalog.fqn(b).as_deref(), Some("user.b"));
}

#[test]
fn a_catalog_reads_back_from_its_text() {
    let mut catalog = Catalog::new();
    let all = [
        ("a", ValueType::Int),
        ("b", ValueType::Bytes),
        ("c", ValueType::Time),
        ("d", ValueType::Float),
        ("e", ValueType::Bool),
    ];
    catalog.reconcile(&registry(&[user(&all)], &["clicks"])).unwrap();
    assert_eq!(Catalog::from_text(&catalog.to_text()), Ok(catalog));
    let text = "karst-catalog 1\nsource 0 clicks\nclass 0 user id\nfeature 0 0 str id\nfeature 0 1 int? clicks\n";
    assert_eq!(Catalog::from_text(text).unwrap().to_text(), text);
}

#[test]
fn a_damaged_catalog_is_refused_with_its_line() {
    let check = |lines: &str, expected: &str| {
        let error = Catalog::from_text(&format!("karst-catalog 1\n{lines}")).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check("source 1 clicks", "catalog line 2: expected id 0, got \"1\"");
    check("feature 0 0 str id", "catalog line 2: a feature stands before the first class");
    check("class 0 user id\nfeature 0 0 text id", "catalog line 3: \"text\" is not a type");
    check("class 0 user id\nfeature 0 0 str name", "catalog line 3: class 0 \"user\" has no feature \"id\", its key");
    check("class 0 user id\nfeature 0 0 str id\nfeature 0 1 str id", "catalog line 4: feature \"id\" stands twice");
    check("nonsense", "catalog line 2: expected a new source, class, feature or aggregate, got \"nonsense\"");
    assert_eq!(
        Catalog::from_text("karst-catalog 2\n").unwrap_err().to_string(),
        "catalog line 1: expected \"karst-catalog 1\", got \"karst-catalog 2\""
    );
    assert!(Catalog::from_text("").is_err());
}

#[test]
fn a_change_of_type_or_key_is_refused_and_changes_nothing() {
    let mut catalog = Catalog::new();
    catalog.reconcile(&registry(&[user(&[("a", ValueType::Int), ("b", ValueType::Int)])], &[])).unwrap();
    let before = catalog.clone();
    let other_types = registry(&[user(&[("new", ValueType::Int), ("a", ValueType::Str), ("b", ValueType::Time)])], &[]);
    let mistakes = catalog.reconcile(&other_types).unwrap_err();
    let whats: Vec<_> = mistakes.iter().map(|mistake| mistake.what.as_str()).collect();
    assert_eq!(
        whats,
        ["the type of feature \"user.a\" was int and is now str", "the type of feature \"user.b\" was int and is now time"]
    );
    assert!(mistakes.iter().all(|mistake| mistake.at.is_some() && mistake.hint.is_some()));
    assert_eq!(catalog, before);

    let other_key = registry(&[FeatureClass::new("user", Feature::new::<i64>("a"))], &[]);
    let mistakes = catalog.reconcile(&other_key).unwrap_err();
    assert_eq!(mistakes.iter().next().unwrap().what, "the key of feature class \"user\" was \"id\" and is now \"a\"");
    let other_key_type = registry(&[FeatureClass::new("user", Feature::new::<i64>("id"))], &[]);
    let mistakes = catalog.reconcile(&other_key_type).unwrap_err();
    assert_eq!(mistakes.iter().next().unwrap().what, "the type of feature \"user.id\" was str and is now int");
    assert_eq!(catalog, before);
}
#[test]
fn an_aggregate_keeps_its_slot_whatever_its_windows_and_features_are_called() {
    use karst_types::Aggregation::{Count, Max, Sum};
    let class = |features: Vec<WindowedFeature>| {
        let class = user(&[("a", ValueType::Int), ("b", ValueType::Str)]);
        registry(&[features.into_iter().fold(class, FeatureClass::windowed)], &[])
    };
    let feature = |name: &str, aggregation| WindowedFeature::new(name, aggregation).windows(["1h"]);
    let mut catalog = Catalog::new();
    let sum = || feature("total", Sum).input("a").filter("b == \"x  y\\n\"");
    catalog.reconcile(&class(vec![feature("n", Count), sum()])).unwrap();
    let changes = catalog
        .reconcile(&class(vec![feature("most", Max).input("b").group_by("a"), sum().windows(["1d"]), feature("m", Count)]))
        .unwrap();
    assert_eq!(changes.to_string(), "aggregate max(b) per a of user: slot 2 of class 0");
    let slot = |text: &str| catalog.aggregate_slot(ClassId(0), text);
    assert_eq!(slot("count"), Some(AggregateSlot(0)));
    assert_eq!(slot("sum(a) where (b == \"x  y\\n\")"), Some(AggregateSlot(1)));
    assert_eq!(slot("max(b)"), None);
    let text = catalog.to_text();
    assert!(text.ends_with(
        "feature 0 2 str? b\n\
         aggregate 0 0 - - - count\n\
         aggregate 0 1 int - - sum(a) where (b == \"x  y\\n\")\n\
         aggregate 0 2 str - int max(b) per a\n"
    ));
    assert_eq!(Catalog::from_text(&text), Ok(catalog));
    let refused = |line: &str| Catalog::from_text(&format!("{text}{line}")).unwrap_err().what;
    assert_eq!(refused("aggregate 0 3 - - - count"), "aggregate \"count\" has no text, or stands twice");
    assert_eq!(refused("aggregate 0 3 - - -"), "aggregate \"\" has no text, or stands twice");
    assert_eq!(refused("aggregate 0 9 - - - mean(a)"), "expected id 3, got \"9\"");
    assert_eq!(refused("aggregate 0 3 text - - mean(a)"), "\"text\" is not a type");
}

#[test]
fn an_aggregate_whose_function_gives_another_type_is_refused() {
    use karst_types::{Aggregation, Expr, Value, expr::Function};
    let class = |ty| {
        let f = Expr::Call(Function::new("f", ty, |_| Value::Null), vec![Expr::Feature("a".to_owned())]);
        let feature = WindowedFeature::new("most", Aggregation::Max).windows(["1h"]).input(f);
        registry(&[user(&[("a", ValueType::Int)]).windowed(feature)], &[])
    };
    let mut catalog = Catalog::new();
    catalog.reconcile(&class(ValueType::Int)).unwrap();
    let mistakes = catalog.reconcile(&class(ValueType::Str)).unwrap_err();
    assert_eq!(
        mistakes.iter().next().unwrap().what,
        "windowed feature \"user.most\": the types of input, by and group of max(f(a)) were int - - and are now str - -"
    );
}
