//! The aggregates whose result is exact, bit for bit.

use super::*;

pub(super) fn exact(ty: ValueType) -> impl Strategy<Value = Aggregation> {
    use Aggregation as A;
    let all = [A::Count, A::Sum, A::Mean, A::Min, A::Max, A::Any, A::All, A::First, A::Last];
    let mut all: Vec<_> = all.into_iter().filter(|aggregation| aggregation.result(Some(ty)).is_some()).collect();
    all.retain(|aggregation| ty != ValueType::Float || !matches!(aggregation, A::Sum | A::Mean));
    let n = 1u16..5;
    prop_oneof![
        4 => proptest::sample::select(all),
        1 => n.clone().prop_map(A::FirstN),
        1 => n.clone().prop_map(A::LastN),
        1 => n.clone().prop_map(A::MinByN),
        1 => n.prop_map(A::MaxByN),
    ]
}

pub(super) fn types() -> impl Strategy<Value = ValueType> {
    use ValueType::{Bool, Bytes, Float, Int, Str, Time};
    proptest::sample::select(vec![Bool, Int, Float, Time, Str, Bytes])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_order_and_any_tree_of_merges_gives_what_all_events_together_give(
        (ty, aggregation, events, shape) in (types(), types()).prop_flat_map(|(ty, by)| {
            (Just(ty), exact(ty), events(ty, by, 40), any::<u64>())
        })
    ) {
        let aggregate = Aggregate::new(aggregation, Some(ty), None);
        let (result, expected) = (result(&aggregate, &events, shape), oracle::expected(aggregation, ty, &events));
        prop_assert!(same(&result, &expected), "{aggregation} of {ty}: {result:?}, not {expected:?}");
    }
}

#[test]
fn a_count_needs_no_input() {
    let count = Aggregate::new(Aggregation::Count, None, None);
    let mut state = identity(&count);
    let version = event(Value::Null, Value::Null, Value::Null, 0, 0).version;
    count.add(&mut state, &Input { value: &[], by: None, group: None, version: &version });
    assert_eq!(count.finish(&state), Value::Int(1));
}

#[test]
fn a_fixed_state_may_be_kept_as_one_of_any_length() {
    let sum = Aggregate::new(Aggregation::Sum, Some(ValueType::Int), None);
    let (mut state, version) = (Vec::new(), event(Value::Null, Value::Null, Value::Null, 0, 0).version);
    sum.add_variable(&mut state, &Input { value: &cell(&Value::Int(3)), by: None, group: None, version: &version });
    let other = state.clone();
    sum.merge_variable(&mut state, &other);
    assert_eq!((sum.finish(&state), sum.finish(&[])), (Value::Int(6), Value::Int(0)));
}

proptest! {
    #[test]
    fn an_event_taken_in_in_place_is_taken_in_as_any_other_and_one_that_does_not_fit_leaves_no_trace(
        (ty, aggregation, events) in types().prop_flat_map(|ty| {
            use Aggregation as A;
            let sketches = [A::ApproxCountDistinct, A::ApproxPercentile(0.5), A::ApproxTopK(2)];
            let sketches: Vec<_> = sketches.into_iter().filter(|aggregation| aggregation.result(Some(ty)).is_some()).collect();
            (Just(ty), prop_oneof![exact(ty), proptest::sample::select(sketches)], events(ty, ty, 300))
        }),
        groups_max in proptest::option::of(1u32..5),
    ) {
        let aggregate = Aggregate::new(aggregation, Some(ty), groups_max);
        let (mut usual, mut in_place) = (Vec::new(), Vec::new());
        for event in &events {
            let (value, by, group) = (cell(&event.value), cell(&event.by), cell(&event.group));
            let input = Input { value: &value, by: Some(&by), group: Some(&group), version: &event.version };
            let before = in_place.clone();
            aggregate.add_variable(&mut usual, &input);
            if !aggregate.add_in_place(&mut in_place, &input) {
                prop_assert_eq!(&before, &in_place);
                aggregate.add_variable(&mut in_place, &input);
            }
            prop_assert_eq!(&usual, &in_place);
        }
    }
}
