//! What each exact aggregate is by its definition, from all events at once.

use std::cmp::Ordering;

use super::*;

fn number(value: &Value) -> i128 {
    match value {
        Value::Int(number) => i128::from(*number),
        other => panic!("{other:?} is no whole number"),
    }
}

fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        (Value::Time(a), Value::Time(b)) => a.cmp(b),
        (Value::Str(a), Value::Str(b)) => a.as_str().cmp(b.as_str()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        _ => panic!("{a:?} and {b:?} are of two types"),
    }
}

fn is_nan(value: &Value) -> bool {
    matches!(value, Value::Float(number) if number.is_nan())
}

fn list(values: Vec<Value>) -> Value {
    if values.is_empty() { Value::Null } else { Value::List(values) }
}

/// Null where the aggregation is not one of the exact ones.
pub(super) fn expected(aggregation: Aggregation, ty: ValueType, events: &[Event]) -> Value {
    use Aggregation as A;
    let mut by_version: Vec<&Event> = events.iter().filter(|event| event.value != Value::Null).collect();
    by_version.sort_by_key(|event| event.version);
    let mut by_value: Vec<&Value> = by_version.iter().map(|event| &event.value).filter(|value| !is_nan(value)).collect();
    by_value.sort_by(|a, b| order(a, b));
    let values = |events: &[&Event], n: u16| list(events.iter().take(n.into()).map(|event| event.value.clone()).collect());
    let known_by = |event: &&Event| event.by != Value::Null && !is_nan(&event.by);
    let mut by_by: Vec<&Event> = by_version.iter().copied().filter(known_by).collect();
    by_by.sort_by(|a, b| order(&a.by, &b.by)); // stable: of equal ones the earlier stays first
    match aggregation {
        A::Count => Value::Int(events.len() as i64),
        A::Sum if ty == ValueType::Int => {
            let sum: i128 = by_value.iter().map(|value| number(value)).sum();
            i64::try_from(sum).map_or(Value::Null, Value::Int)
        }
        A::Mean if ty == ValueType::Int && by_value.is_empty() => Value::Null,
        A::Mean if ty == ValueType::Int => {
            Value::Float(by_value.iter().map(|value| number(value)).sum::<i128>() as f64 / by_value.len() as f64)
        }
        A::Min => by_value.first().copied().cloned().unwrap_or_default(),
        A::Max => by_value.last().copied().cloned().unwrap_or_default(),
        A::Any => Value::Bool(by_value.contains(&&Value::Bool(true))),
        A::All => Value::Bool(!by_value.contains(&&Value::Bool(false))),
        A::First => by_version.first().map(|event| event.value.clone()).unwrap_or_default(),
        A::Last => by_version.last().map(|event| event.value.clone()).unwrap_or_default(),
        A::FirstN(n) => values(&by_version, n),
        A::LastN(n) => {
            by_version.reverse();
            values(&by_version, n)
        }
        A::MinByN(n) => values(&by_by, n),
        A::MaxByN(n) => {
            by_by.sort_by(|a, b| order(&b.by, &a.by).then(a.version.cmp(&b.version)));
            values(&by_by, n)
        }
        other => panic!("{other} has no exact result"),
    }
}
