//! Every aggregate against a naive computation over all events, in any order and through any tree of merges.

mod damage;
mod exact;
mod floats;
mod groups;
mod oracle;
mod sketches;

use karst_types::{EventTime, Offset, PartitionId, SourceId};
use proptest::prelude::*;

use super::*;

/// An event as the tests keep it.
#[derive(Clone, Debug)]
struct Event {
    value: Value,
    by: Value,
    group: Value,
    version: Version,
}

fn event(value: Value, by: Value, group: Value, time: i64, offset: usize) -> Event {
    let version = Version {
        event_time: EventTime(time),
        source: SourceId(offset as u16 % 2),
        partition: PartitionId(offset as i32 % 3),
        offset: Offset(offset as i64),
        index: offset as u32 % 5,
    };
    Event { value, by, group, version }
}

fn cell(value: &Value) -> Vec<u8> {
    let mut cell = Vec::new();
    value.encode(&mut cell);
    cell
}

/// Values of a type, the awkward ones often.
fn values(ty: ValueType) -> BoxedStrategy<Value> {
    match ty {
        ValueType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        ValueType::Int => prop_oneof![
            -3i64..4,
            any::<i64>(),
            prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(i64::MIN + 1), Just(i64::MAX - 1)]
        ]
        .prop_map(Value::Int)
        .boxed(),
        ValueType::Float => {
            let awkward =
                [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX, f64::MIN];
            prop_oneof![(-3i32..4).prop_map(f64::from), any::<f64>(), proptest::sample::select(awkward.to_vec())]
                .prop_map(Value::Float)
                .boxed()
        }
        ValueType::Time => prop_oneof![-3i64..4, any::<i64>()].prop_map(|micros| Value::Time(EventTime(micros))).boxed(),
        ValueType::Str => "[a-cäß]{0,3}".prop_map(|text| Value::Str(text.into())).boxed(),
        ValueType::Bytes => proptest::collection::vec(0u8..3, 0..3).prop_map(Value::Bytes).boxed(),
    }
}

fn nullable(ty: ValueType) -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Null), 7 => values(ty)]
}

/// Up to `count` events in some order, with values of `ty` and times that often are equal.
fn events(ty: ValueType, by: ValueType, count: usize) -> impl Strategy<Value = Vec<Event>> {
    let one = (nullable(ty), nullable(by), nullable(ValueType::Str), -5i64..5);
    let all = proptest::collection::vec(one, 0..count).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered.map(|(offset, (value, by, group, time))| event(value, by, group, time, offset)).collect::<Vec<_>>()
    });
    all.prop_shuffle()
}

fn add(aggregate: &Aggregate, state: &mut Vec<u8>, event: &Event) {
    let (value, by, group) = (cell(&event.value), cell(&event.by), cell(&event.group));
    let input = Input { value: &value, by: Some(&by), group: Some(&group), version: &event.version };
    match aggregate.fixed_len() {
        Some(_) => aggregate.add(state, &input),
        // As the shape of the state has it, so that both ways are taken.
        None if state.len() % 2 == 1 && aggregate.add_in_place(state, &input) => {}
        None => aggregate.add_variable(state, &input),
    }
}

fn identity(aggregate: &Aggregate) -> Vec<u8> {
    vec![0; aggregate.fixed_len().unwrap_or(0)]
}

/// The state after these events: some are added one by one, and the tiles that result are merged, as `shape` has it.
fn state(aggregate: &Aggregate, events: &[Event], shape: &mut u64) -> Vec<u8> {
    *shape = shape.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let choice = *shape >> 33;
    if events.len() < 2 || choice.is_multiple_of(4) {
        let mut state = identity(aggregate);
        events.iter().for_each(|event| add(aggregate, &mut state, event));
        return state;
    }
    let (a, b) = events.split_at((choice / 4) as usize % events.len());
    let (mut a, b) = (state(aggregate, a, shape), state(aggregate, b, shape));
    match aggregate.fixed_len() {
        Some(_) => aggregate.merge(&mut a, &b),
        None => aggregate.merge_variable(&mut a, &b),
    }
    a
}

/// The same, checked on the way.
fn result(aggregate: &Aggregate, events: &[Event], mut shape: u64) -> Value {
    let state = state(aggregate, events, &mut shape);
    assert!(aggregate.check(&state), "{state:?}");
    aggregate.finish(&state)
}

/// Bit for bit, so that NaN is itself and −0 is not 0.
fn same(a: &Value, b: &Value) -> bool {
    cell(a) == cell(b)
}
