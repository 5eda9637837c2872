//! Every mistake of a windowed feature is told at once, with where it was made; sound ones are found by their names.

use karst_features::{
    Feature, FeatureClass, Location, Registry, ResultType, Shape, WindowedFeature, windowed::GROUPS_UNBOUNDED,
};
use karst_types::{Aggregation, Expr, TimeSpan, Value, ValueType, WindowLength, expr::Function};

fn at(line: u32) -> Location {
    Location::at("classes.rs", line, 5)
}
fn feature(name: &str, ty: ValueType) -> Feature {
    Feature::of_type(name, ty, true).declared_at(at(2))
}
fn windowed(line: u32, name: &str, aggregation: Aggregation) -> WindowedFeature {
    WindowedFeature::new(name, aggregation).declared_at(at(line)).windows(["10m", "1d"])
}
fn user(features: impl IntoIterator<Item = WindowedFeature>) -> FeatureClass {
    let class = FeatureClass::new("user", Feature::of_type("id", ValueType::Str, false).declared_at(at(2)))
        .feature(feature("status", ValueType::Str))
        .feature(feature("amount", ValueType::Int))
        .feature(feature("score", ValueType::Float))
        .feature(feature("photo", ValueType::Bytes))
        .declared_at(at(1));
    features.into_iter().fold(class, FeatureClass::windowed)
}
fn freeze(features: impl IntoIterator<Item = WindowedFeature>) -> Result<Registry, String> {
    let mut builder = Registry::builder();
    builder.add_class(user(features));
    builder.freeze().map_err(|mistakes| mistakes.to_string())
}

/// What is told, without the count before and the place behind each.
#[track_caller]
fn check<const N: usize>(features: impl IntoIterator<Item = WindowedFeature>, expected: [&str; N]) {
    let mut builder = Registry::builder();
    builder.add_class(user(features));
    let told = builder.freeze().expect_err("there are mistakes");
    let told: Vec<String> = told
        .iter()
        .map(|mistake| {
            assert!(mistake.at.is_some());
            mistake.hint.iter().fold(mistake.what.clone(), |what, hint| format!("{what}; {hint}"))
        })
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn all_mistakes_are_told_at_once_with_where_each_was_made() {
    let told = freeze([
        windowed(10, "failed", Aggregation::Count).filter("statsu == \"failed\"").hop("7m"),
        windowed(11, "failed", Aggregation::Mean).input("status"),
    ])
    .unwrap_err();
    assert_eq!(
        told,
        "5 mistakes in the declarations:\n  \
         1. windowed feature \"user.failed\": hop 7m does not divide the window \"10m\"\n     \
              at classes.rs:10:5\n     \
              hint: a window is a whole number of hops: its tail moves by them\n  \
         2. windowed feature \"user.failed\": hop 7m does not divide the window \"1d\"\n     \
              at classes.rs:10:5\n     \
              hint: a window is a whole number of hops: its tail moves by them\n  \
         3. windowed feature \"user.failed\": filter `(statsu == \"failed\")`: \"statsu\" is not a feature of \"user\" that updates write\n     \
              at classes.rs:10:5\n     \
              hint: did you mean \"status\"?\n  \
         4. windowed feature \"user.failed\": another windowed feature has this name\n     \
              at classes.rs:11:5\n  \
         5. windowed feature \"user.failed\": mean(status) cannot be made of str values\n     \
              at classes.rs:11:5\n     \
              hint: it takes int or float"
    );
}

#[test]
fn types_follow_the_rules_of_the_aggregations() {
    let result = |aggregation, input: &str| {
        let feature = windowed(1, "x", aggregation).input(input);
        let class = user([feature]);
        class.windowed_features()[0].result_type(&class).map(|result| result.to_string())
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(result(Aggregation::Sum, "amount"), some("int"));
    assert_eq!(result(Aggregation::Sum, "amount * 0.5"), some("float"));
    assert_eq!(result(Aggregation::Mean, "amount"), some("float"));
    assert_eq!(result(Aggregation::Max, "status"), some("str"));
    assert_eq!(result(Aggregation::LastN(3), "status"), some("list of str"));
    assert_eq!(result(Aggregation::ApproxCountDistinct, "photo"), some("int"));
    assert_eq!(result(Aggregation::Any, "amount > 3"), some("bool"));
    for (aggregation, input) in
        [(Aggregation::Mean, "status"), (Aggregation::Max, "photo"), (Aggregation::All, "amount"), (Aggregation::Last, "null")]
    {
        assert_eq!(result(aggregation, input), None, "{aggregation} of {input}");
    }
    let of = |ty, shape| ResultType { ty, shape };
    check(
        [
            windowed(1, "a", Aggregation::Sum).input("score").result(of(ValueType::Int, Shape::One)),
            windowed(1, "b", Aggregation::Max).input("photo"),
            windowed(1, "c", Aggregation::LastN(2)).input("status").result(of(ValueType::Str, Shape::One)),
            windowed(1, "d", Aggregation::Sum).input("amount + status"),
            windowed(1, "e", Aggregation::Count).filter("amount"),
            windowed(1, "f", Aggregation::Count).group_by("score"),
            windowed(1, "g", Aggregation::MinByN(2)).input("status").by("photo"),
            windowed(1, "h", Aggregation::LastN(2)).input("amount").group_by("status"),
            windowed(1, "i", Aggregation::Count).group_by("status").result(of(ValueType::Int, Shape::One)),
            windowed(1, "j", Aggregation::Sum).input("id"),
            windowed(1, "k", Aggregation::Sum).input("a"),
        ],
        [
            "windowed feature \"user.a\": it is declared as int, but sum(score) makes float; declare it as Windowed<f64>",
            "windowed feature \"user.b\": max(photo) cannot be made of bytes values; it takes values that have an order: all but bytes",
            "windowed feature \"user.c\": it is declared as str, but last_n(status, 2) makes list of str; declare it as Windowed<Vec<String>>",
            "windowed feature \"user.d\": input `(amount + status)`: int + str cannot be computed",
            "windowed feature \"user.e\": filter `amount`: expected a condition, which is true or false, got int",
            "windowed feature \"user.f\": group_by `score`: expected str, int or bool, got float",
            "windowed feature \"user.g\": by `photo`: expected values that have an order, got bytes",
            "windowed feature \"user.h\": a list for each group cannot be kept; take min, max, first or last, or leave group_by out",
            "windowed feature \"user.i\": it is declared as int, but count makes int per str; declare it as Windowed<Groups<String, i64>>",
            "windowed feature \"user.j\": input `id`: \"id\" is not a feature of \"user\" that updates write; the key is the same in all updates of an entity",
            "windowed feature \"user.k\": input `a`: \"a\" is not a feature of \"user\" that updates write; it is a windowed feature itself; a window is made of what resolvers write",
        ],
    );
}

#[test]
fn windows_hops_and_numbers_are_checked() {
    let none = || WindowedFeature::new("a", Aggregation::Count).declared_at(at(1));
    check([none()], ["windowed feature \"user.a\": it has no windows; name at least one, such as \"10m\", \"1d\" or \"all\""]);
    check(
        [none().windows(["500ms", "1d", "24h", "0s", "10 m"])],
        [
            "windowed feature \"user.a\": windows: \"500ms\" is no window: expected a whole number of seconds, at least one",
            "windowed feature \"user.a\": windows: \"0s\" is no window: expected a whole number of seconds, at least one",
            "windowed feature \"user.a\": windows: \"10 m\" is not a duration: a unit is missing; expected whole numbers with the units w, d, h, m, s, ms, us, such as \"30m\", \"1h30m\" or \"infinity\"",
            "windowed feature \"user.a\": the window \"1d\" stands twice",
        ],
    );
    let mut by_hand = none();
    by_hand.windows = vec![WindowLength::Span(TimeSpan::from_millis(1)), WindowLength::Span(TimeSpan::ZERO)];
    by_hand.hop = Some(TimeSpan::ZERO);
    check(
        [by_hand],
        [
            "windowed feature \"user.a\": \"1ms\" is no window: expected a whole number of seconds, at least one",
            "windowed feature \"user.a\": \"0s\" is no window: expected a whole number of seconds, at least one",
            "windowed feature \"user.a\": hop: expected a whole number of seconds, at least one, got 0s",
        ],
    );
    check(
        [none().windows(["365d"]).hop("1m")],
        [
            "windowed feature \"user.a\": the window \"52w1d\" is 525600 hops of 1m long; 50000 are allowed; a greater hop keeps and merges fewer tiles",
        ],
    );
    check(
        [windowed(1, "a", Aggregation::Count).hop("2m"), windowed(2, "b", Aggregation::Count).hop("5m")],
        [
            "windowed feature \"user.b\": its hop 5m is no multiple of the hop 2m of \"user.a\" in the same class; tiles are rolled up into greater ones: set `hop` so that each divides the next, such as 1m, 5m, 1h",
        ],
    );
    check(
        [
            windowed(1, "a", Aggregation::LastN(0)).input("amount"),
            windowed(1, "b", Aggregation::ApproxTopK(1001)).input("amount"),
            windowed(1, "c", Aggregation::ApproxPercentile(95.0)).input("amount"),
            windowed(1, "d", Aggregation::Sum),
            windowed(1, "e", Aggregation::MaxByN(2)).input("amount"),
            windowed(1, "f", Aggregation::Count).by("amount"),
            windowed(1, "g", Aggregation::Mean).input("amount").default("none"),
            windowed(1, "h", Aggregation::LastN(1)).input("amount").default(0i64),
        ],
        [
            "windowed feature \"user.a\": last_n(amount, 0): expected an n from 1 to 1000, got 0",
            "windowed feature \"user.b\": approx_top_k(amount, 1001): expected a k from 1 to 1000, got 1001",
            "windowed feature \"user.c\": approx_percentile(amount, 95): expected a share from 0 to 1, got 95; the median is 0.5",
            "windowed feature \"user.d\": sum needs an input: the values to aggregate",
            "windowed feature \"user.e\": max_by_n(amount, 2) needs a `by`: the values to order by",
            "windowed feature \"user.f\": `by` is for min_by_n and max_by_n",
            "windowed feature \"user.g\": default: expected a value of type float, got str",
            "windowed feature \"user.h\": default: a list of int takes none",
        ],
    );
}

#[test]
fn kinds_of_windows_have_their_rules() {
    let count = |name: &str| WindowedFeature::new(name, Aggregation::Count).declared_at(at(1));
    check(
        [
            count("a").windows(["1h", "all"]).tumbling().exact(),
            count("b").windows(["1h"]).session("30m").hop("1m"),
            count("c").session("0s").group_by("status"),
            count("d").windows(["1h"]).retention("-1h"),
            count("e").session("90s").retention("infinity").unbounded(),
            count("f").session("30m").retention("400d"),
        ],
        [
            "windowed feature \"user.a\": exact is for sliding windows: tumbling ones are exact already",
            "windowed feature \"user.a\": \"all\" does not tumble: it has no length",
            "windowed feature \"user.b\": sessions have no windows: the gap ends them; leave the windows out",
            "windowed feature \"user.b\": hop is for windows: sessions are exact, and have no hops",
            "windowed feature \"user.c\": session: expected a gap above zero that ends, got 0s",
            "windowed feature \"user.c\": sessions cannot be grouped; make the group a part of the entity's key",
            "windowed feature \"user.d\": retention: expected no negative span, got -1h",
            "windowed feature \"user.e\": retention: expected at most 6d22h40m for sessions with a gap of 1m30s, got infinity; the sessions of an entity are one row, which is written whole",
            "windowed feature \"user.f\": retention: expected at most 29w5d8h for sessions with a gap of 30m, got 57w1d; the sessions of an entity are one row, which is written whole",
        ],
    );
    let registry = freeze([count("visit").session("30m")]).unwrap();
    assert_eq!(registry.windowed("user.visit").unwrap().unwrap().fqns().collect::<Vec<_>>(), ["user.visit__all__"]);
}

#[test]
fn state_without_bound_is_refused_until_it_is_said_to_be_meant() {
    let grouped = |name: &str| WindowedFeature::new(name, Aggregation::Count).declared_at(at(1)).group_by("status");
    let all = || grouped("a").windows(["all"]);
    assert!(freeze([all()]).is_ok(), "100 groups are a bound");
    let hint = "; bound it (groups_max, retention), or say that it is meant: `unbounded`";
    check(
        [
            all().groups_max(GROUPS_UNBOUNDED),
            grouped("b").windows(["1h"]).groups_max(GROUPS_UNBOUNDED).retention("31d").filter("amount > 0"),
            windowed(1, "c", Aggregation::Count).retention("infinity"),
            grouped("d").windows(["1h"]).groups_max(0).filter("amount > 1"),
        ],
        [
            &format!(
                "windowed feature \"user.a\": its state grows without bound: the window \"all\" keeps every group that ever was, and their number has no bound{hint}"
            ),
            &format!(
                "windowed feature \"user.b\": its state grows without bound: a long retention keeps the groups of every tile, and their number has no bound{hint}"
            ),
            &format!(
                "windowed feature \"user.c\": its state grows without bound: an infinite retention keeps every tile for ever{hint}"
            ),
            "windowed feature \"user.d\": groups_max: expected at least 1",
        ],
    );
    let meant = all().groups_max(GROUPS_UNBOUNDED).unbounded();
    assert!(freeze([meant, windowed(1, "c", Aggregation::Count).retention("infinity").unbounded()]).is_ok());
    assert!(freeze([grouped("b").windows(["1h"]).groups_max(GROUPS_UNBOUNDED).retention("30d")]).is_ok());
    check(
        [all(), grouped("b").windows(["1h"]).groups_max(7)],
        [
            "windowed feature \"user.b\" has groups_max 7, but \"user.a\", which aggregates the same and so shares its groups, has 100",
        ],
    );
}

#[test]
fn a_window_is_found_by_any_of_its_names_and_a_near_miss_is_helped() {
    let registry = freeze([WindowedFeature::new("failed", Aggregation::Count).windows(["10m", "all"])]).unwrap();
    let found = |name: &str| registry.windowed(name).map(|named| named.map(|named| named.fqns().collect::<Vec<_>>().join(" ")));
    for name in ["user.failed__600__", "user.failed[\"10m\"]", "user.failed('10m')", "user.failed[\"600s\"]"] {
        assert_eq!(found(name), Some(Ok("user.failed__600__".to_owned())), "{name}");
    }
    assert_eq!(found("user.failed"), Some(Ok("user.failed__600__ user.failed__all__".to_owned())));
    assert_eq!(found("user.failed[\"11m\"]"), Some(Err("\"user.failed\" has the windows \"10m\", \"all\"".to_owned())));
    assert!(found("user.failed__601__").unwrap().is_err() && found("user.failed[]").unwrap().is_err());
    assert_eq!((found("user.status"), found("user.faild"), found("failed"), found("usr.failed")), (None, None, None, None));
    assert_eq!(registry.suggest("user.faild[\"10m\"]").unwrap(), "did you mean \"user.failed[\"10m\"]\"?");
    assert_eq!(registry.suggest("user.faild__600__").unwrap(), "did you mean \"user.failed__600__\"?");
    assert_eq!(registry.suggest("user.faild").unwrap(), "did you mean \"user.failed\"?");
}

#[test]
fn a_windowed_feature_cannot_be_named_like_another_feature_or_like_a_window() {
    check(
        [windowed(9, "amount", Aggregation::Count), windowed(9, "x__600__", Aggregation::Count)],
        [
            "windowed feature \"user.amount\": another feature has this name; it is declared at classes.rs:2:5",
            "\"user.x__600__\" cannot be the name of a windowed feature; a double underscore is reserved for windows",
        ],
    );
}

#[test]
fn what_is_aggregated_is_told_in_one_way_however_it_was_written() {
    let score = Function::new("risk::score", ValueType::Float, |_| Value::Float(0.0));
    let call = Expr::Call(score, vec![Expr::Feature("amount".to_owned())]);
    for (feature, expected) in [
        (windowed(1, "a", Aggregation::Count).filter("status==\"failed\""), "count where (status == \"failed\")"),
        (
            windowed(1, "a", Aggregation::MaxByN(3)).input("status").by(call).group_by("amount").tumbling(),
            "max_by_n(status, by = risk::score(amount), n = 3) per amount tumbling",
        ),
        (windowed(1, "a", Aggregation::ApproxPercentile(0.95)).input("score").hop("5m"), "approx_percentile(score, 0.95)"),
        (windowed(1, "a", Aggregation::Sum).input("amount + 1").session("90s"), "sum((amount + 1)) session 1m30s"),
    ] {
        assert_eq!(feature.aggregate(), expected);
    }
}

#[test]
fn the_default_hop_is_made_finer_where_it_does_not_divide_the_window() {
    let feature = |windows: &[&'static str]| windowed(1, "a", Aggregation::Count).windows(windows.iter().copied());
    let hops = |windows: &[&'static str]| feature(windows).hops().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(hops(&["10m", "90s", "2h1m", "25h", "30d", "all"]), ["1m", "30s", "1m", "1h", "1d", "1d"]);
    let class = user([feature(&["10m", "30m", "90s"]), feature(&["30d"]).session("1h")]);
    assert_eq!(class.hops(), [TimeSpan::from_secs(30), TimeSpan::from_secs(60)]);
}

#[test]
fn a_whole_number_is_the_default_of_a_float() {
    let class = user([windowed(1, "a", Aggregation::Mean).input("amount").default(0i64), windowed(1, "b", Aggregation::Count)]);
    let [mean, count] = class.windowed_features() else { panic!("two") };
    assert_eq!((mean.default_value(&class), mean.nullable()), (Value::Float(0.0), false));
    assert_eq!((count.default_value(&class), count.nullable()), (Value::Null, false));
}
