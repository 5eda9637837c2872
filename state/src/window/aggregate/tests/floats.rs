//! Sums, means and variances of floats, against whole numbers of 128 bits: the values are whole multiples of a power of two.

use super::*;

/// Multiples (of up to 45 bits, around a common centre, so that they often cancel or hardly differ) and the unit's exponent.
fn multiples() -> impl Strategy<Value = (Vec<i64>, i32)> {
    let centre = prop_oneof![Just(0i64), -(1i64 << 44)..1 << 44];
    let spread = prop_oneof![Just(2i64), Just(1 << 20), Just(1 << 44)];
    (centre, spread, -200i32..200).prop_flat_map(|(centre, spread, exponent)| {
        (proptest::collection::vec((centre - spread)..(centre + spread), 0..60), Just(exponent))
    })
}

/// Within 1e-12 of itself, and of `noise`.
fn close(result: &Value, expected: Option<f64>, noise: f64) -> bool {
    match (result, expected) {
        (Value::Null, None) => true,
        (Value::Float(result), Some(expected)) => (result - expected).abs() <= expected.abs() * 1e-12 + noise,
        _ => false,
    }
}

fn squared(value: Value) -> Value {
    match value {
        Value::Float(number) => Value::Float(number * number),
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn sums_and_variances_are_right_to_twelve_digits_where_values_cancel((multiples, exponent) in multiples(), shape: u64) {
        let unit = 2f64.powi(exponent);
        let float = |multiple: i64| Value::Float(multiple as f64 * unit);
        let mut events: Vec<_> = multiples.iter().map(|multiple| event(float(*multiple), Value::Null, Value::Null, 0, 0)).collect();
        events.push(event(Value::Float(f64::NAN), Value::Null, Value::Null, 0, 0));
        events.push(event(Value::Null, Value::Null, Value::Null, 0, 0));
        let (n, sum) = (multiples.len() as i128, multiples.iter().map(|multiple| i128::from(*multiple)).sum::<i128>());
        let squares: i128 = multiples.iter().map(|multiple| i128::from(*multiple).pow(2)).sum();
        let variance = |divisor: i128| (divisor > 0).then(|| (n * squares - sum * sum) as f64 / (n * divisor) as f64 * unit * unit);
        let noise = squares as f64 / n.max(1) as f64 * unit * unit * 1e-30;
        for (aggregation, expected, noise) in [
            (Aggregation::Sum, Some(sum as f64 * unit), 0.0),
            (Aggregation::Mean, (n > 0).then(|| sum as f64 * unit / n as f64), 0.0),
            (Aggregation::Var, variance(n - 1), noise),
            (Aggregation::VarPop, variance(n), noise),
            (Aggregation::Std, variance(n - 1), noise),
            (Aggregation::StdPop, variance(n), noise),
        ] {
            let result = result(&Aggregate::new(aggregation, Some(ValueType::Float), None), &events, shape);
            let root = matches!(aggregation, Aggregation::Std | Aggregation::StdPop);
            let result = if root { squared(result) } else { result };
            prop_assert!(close(&result, expected, noise), "{aggregation}: {result:?}, not {expected:?}");
        }
    }

    #[test]
    fn no_value_makes_a_sum_panic(events in events(ValueType::Float, ValueType::Int, 20), shape: u64) {
        for aggregation in [Aggregation::Sum, Aggregation::Mean, Aggregation::Std] {
            result(&Aggregate::new(aggregation, Some(ValueType::Float), None), &events, shape);
        }
    }
}

#[test]
fn infinity_stays_and_two_of_both_signs_are_no_number() {
    let sum = |values: &[f64]| {
        let events: Vec<_> = values.iter().map(|value| event(Value::Float(*value), Value::Null, Value::Null, 0, 0)).collect();
        match result(&Aggregate::new(Aggregation::Sum, Some(ValueType::Float), None), &events, 7) {
            Value::Float(sum) => sum,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(sum(&[1.0, f64::INFINITY, 2.0]), f64::INFINITY);
    assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY, 1.0]).is_nan());
}

#[test]
fn values_that_are_all_the_same_have_no_deviation() {
    let events: Vec<_> = (0..1000).map(|_| event(Value::Float(1e9 + 0.1), Value::Null, Value::Null, 0, 0)).collect();
    assert_eq!(result(&Aggregate::new(Aggregation::Std, Some(ValueType::Float), None), &events, 3), Value::Float(0.0));
}
