//! Sketches against exact computations: exact while small, within the stated error when not, and the same in any order.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn of(values: impl IntoIterator<Item = Value>) -> Vec<Event> {
    values.into_iter().map(|value| event(value, Value::Null, Value::Null, 0, 0)).collect()
}

fn sketch(aggregation: Aggregation, ty: ValueType) -> Aggregate {
    Aggregate::new(aggregation, Some(ty), None)
}

/// Numbers that follow no rule one could lean on.
fn scattered(count: u64, seed: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |number| karst_types::entity::key_hash(&(number ^ seed << 32).to_le_bytes()))
}

#[test]
fn distinct_values_are_exact_up_to_512_and_then_within_the_stated_error() {
    let distinct = sketch(Aggregation::ApproxCountDistinct, ValueType::Int);
    let estimate = |count: u64, seed: u64| {
        let events = of(scattered(count, seed).map(|number| Value::Int(number as i64)));
        match result(&distinct, &events, seed) {
            Value::Int(estimate) => estimate as f64,
            other => panic!("{other:?}"),
        }
    };
    for count in [0, 1, 511, 512] {
        assert_eq!(estimate(count, 1), count as f64);
    }
    for count in [513, 1000, 3000, 8000, 12_000, 100_000] {
        let errors: Vec<f64> = (0..20).map(|seed| estimate(count, seed) / count as f64 - 1.0).collect();
        let standard = (errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64).sqrt();
        let worst = errors.iter().fold(0.0f64, |worst, error| worst.max(error.abs()));
        assert!(standard < 0.022 && worst < 0.049, "{count}: standard error {standard}, worst {worst}");
    }
}

#[test]
fn not_and_minus_zero_are_one_value_each() {
    let values = [f64::NAN, -f64::NAN, 0.0, -0.0].map(Value::Float);
    let events = of(values);
    assert_eq!(result(&sketch(Aggregation::ApproxCountDistinct, ValueType::Float), &events, 1), Value::Int(2));
    let top = result(
        &sketch(Aggregation::ApproxTopK(2), ValueType::Float),
        &of(events.into_iter().map(|event| event.value).skip(1)),
        1,
    );
    assert_eq!(cell(&top), cell(&Value::List(vec![Value::Float(0.0), Value::Float(f64::NAN)])));
}

/// The value at the nearest rank: share × n, rounded up.
fn nearest_rank(values: &[f64], percent: u64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent as usize * sorted.len()).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Values around some size, of both signs, and a few that are anything.
fn floats(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<f64>> {
    let usual = (-300f64..300.0).prop_map(|log| (log / 60.0).exp().copysign(log));
    let one = prop_oneof![
        20 => usual,
        20 => 0f64..1000.0,
        2 => (0i32..5).prop_map(f64::from),
        1 => any::<f64>(),
        1 => proptest::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX])
    ];
    proptest::collection::vec(one, count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_percentile_is_exact_up_to_128_values_and_then_within_a_hundredth(
        values in prop_oneof![floats(0..129), floats(129..1500)],
        percent in prop_oneof![0u64..101, Just(50), Just(95), Just(99)],
        shapes in any::<(u64, u64)>(),
    ) {
        let percentile = sketch(Aggregation::ApproxPercentile(percent as f64 / 100.0), ValueType::Float);
        let mut events = of(values.iter().copied().map(Value::Float));
        let (mut one, mut two) = shapes;
        let state = state(&percentile, &events, &mut one);
        events.reverse();
        prop_assert_eq!(&state, &super::state(&percentile, &events, &mut two), "the bytes do not depend on the order");
        prop_assert!(percentile.check(&state));
        let result = match percentile.finish(&state) {
            Value::Null => None,
            Value::Float(result) => Some(result),
            other => panic!("{other:?}"),
        };
        let expected = nearest_rank(&values, percent);
        let (Some(result), Some(expected)) = (result, expected) else {
            prop_assert_eq!(result, expected);
            return Ok(());
        };
        let exact = values.iter().filter(|value| !value.is_nan()).count() <= 128;
        let of_its_sign = |value: &&f64| value.is_finite() && (**value < 0.0) == (expected < 0.0);
        let largest = values.iter().filter(of_its_sign).fold(0f64, |largest, value| largest.max(value.abs()));
        let error = (result - expected).abs();
        let right = if exact || expected.is_infinite() {
            result.to_bits() == expected.to_bits()
        } else {
            error <= 0.010_001 * expected.abs() + 1e-9 + largest * 1e-17
        };
        prop_assert!(right, "{result}, not {expected} of {} values", values.len());
    }

    #[test]
    fn the_most_frequent_values_are_exact_while_few_differ(
        values in proptest::collection::vec(nullable(ValueType::Str), 0..200), k in 1u16..5, shapes in any::<(u64, u64)>(),
    ) {
        let top = sketch(Aggregation::ApproxTopK(k), ValueType::Str);
        let mut counts = BTreeMap::<String, usize>::new();
        for value in &values {
            if let Value::Str(text) = value {
                *counts.entry(text.to_string()).or_default() += 1;
            }
        }
        prop_assume!(counts.len() <= 256);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let expected: Vec<_> = counts.into_iter().take(k.into()).map(|(text, _)| Value::Str(text.into())).collect();
        let mut events = of(values);
        let (mut one, mut two) = shapes;
        let state = state(&top, &events, &mut one);
        events.reverse();
        prop_assert_eq!(&state, &super::state(&top, &events, &mut two), "the bytes do not depend on the order");
        prop_assert_eq!(top.finish(&state), if expected.is_empty() { Value::Null } else { Value::List(expected) });
    }
}

#[test]
fn counts_of_frequent_values_are_too_low_by_no_more_than_the_bound() {
    let aggregate = sketch(Aggregation::ApproxTopK(5), ValueType::Int);
    for seed in 0..10 {
        // The value v is about as frequent as 1/v: a few are frequent and thousands are not.
        let values: Vec<i64> =
            scattered(30_000, seed).map(|number| (1e6f64.powf(number as f64 / u64::MAX as f64)) as i64).collect();
        let mut counts = BTreeMap::<i64, u64>::new();
        values.iter().for_each(|value| *counts.entry(*value).or_default() += 1);
        assert!(counts.len() > 5000);
        let state = state(&aggregate, &of(values.iter().copied().map(Value::Int)), &mut seed.clone());
        assert!(aggregate.check(&state));
        let lost = table::extra(&state);
        let bound = values.len() as u64 / 129;
        assert!(lost > 0 && lost <= bound, "{lost}, bound {bound}");
        let mut known = BTreeSet::new();
        for (count, value) in top_k::counts(&state) {
            let Value::Int(value) = cell::value(value) else { panic!("{value:?}") };
            assert!(count <= counts[&value] && counts[&value] <= count + lost, "{value}: {count}, of {}", counts[&value]);
            known.insert(value);
        }
        assert!(counts.iter().all(|(value, count)| *count <= lost || known.contains(value)));
        assert_eq!(aggregate.finish(&state), Value::List((1..=5).map(Value::Int).collect()), "1/v is clear enough");
    }
}
