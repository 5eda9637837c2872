//! Aggregates by group, against the ungrouped oracle on the events of each group.

use std::collections::{BTreeMap, BTreeSet};

use karst_types::entity::key_hash;

use super::{exact::exact, *};

/// The events of each group that fits, by the cell of the group, and how many do not.
fn that_fit(events: &[Event], max: usize) -> (BTreeMap<String, Vec<Event>>, usize) {
    let name = |event: &Event| match &event.group {
        Value::Str(name) => Some(name.to_string()),
        _ => None,
    };
    let hashes: BTreeSet<u64> =
        events.iter().filter(|event| name(event).is_some()).map(|event| key_hash(&cell(&event.group))).collect();
    let chosen: BTreeSet<u64> = hashes.into_iter().take(max).collect();
    let (mut groups, mut others) = (BTreeMap::<_, Vec<Event>>::new(), 0);
    for event in events {
        match name(event) {
            Some(name) if chosen.contains(&key_hash(&cell(&event.group))) => {
                groups.entry(name).or_default().push(event.clone())
            }
            Some(_) => others += 1,
            None => {}
        }
    }
    (groups, others)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn each_group_that_fits_is_exact_and_the_events_of_the_others_are_counted(
        (ty, aggregation, events) in prop_oneof![Just(ValueType::Int), Just(ValueType::Str), Just(ValueType::Bool)]
            .prop_flat_map(|ty| (Just(ty), exact(ty), events(ty, ValueType::Int, 60))),
        max in prop_oneof![1u32..8, Just(1000)],
        shapes in any::<(u64, u64)>(),
    ) {
        let aggregate = Aggregate::new(aggregation, Some(ty), Some(max));
        let (mut one, mut two) = shapes;
        let state = state(&aggregate, &events, &mut one);
        prop_assert!(aggregate.check(&state));
        let mut backwards = events.clone();
        backwards.reverse();
        prop_assert_eq!(&state, &super::state(&aggregate, &backwards, &mut two), "the bytes do not depend on the order");

        let (groups, others) = that_fit(&events, max as usize);
        let expected = groups.into_iter().map(|(name, events)| (Value::Str(name.into()), oracle::expected(aggregation, ty, &events)));
        let expected = Value::Map(expected.collect());
        let result = aggregate.finish(&state);
        prop_assert!(same(&result, &expected), "{aggregation} of {ty}: {result:?}, not {expected:?}");
        prop_assert_eq!(aggregate.overflow(&state), others as u64);
        prop_assert_eq!(Value::decode(&cell(&result)).map(|(value, _)| value), Some(result));
    }
}

#[test]
fn groups_of_sketches_are_sketches() {
    let aggregate = Aggregate::new(Aggregation::ApproxCountDistinct, Some(ValueType::Int), Some(4));
    let one = |number: i64| event(Value::Int(number / 2), Value::Null, Value::Bool(number % 3 == 0), 0, 0);
    let events: Vec<_> = (0..60).map(one).collect();
    let expected = vec![(Value::Bool(false), Value::Int(30)), (Value::Bool(true), Value::Int(20))];
    assert_eq!(result(&aggregate, &events, 5), Value::Map(expected));
}
