//! Bytes from a disk: what is no state is refused, or at least makes nothing panic.

use super::{exact::types, *};

fn all(ty: ValueType) -> Vec<Aggregation> {
    use Aggregation as A;
    let all = [
        A::Count,
        A::Sum,
        A::Mean,
        A::Min,
        A::Max,
        A::Std,
        A::Any,
        A::All,
        A::First,
        A::Last,
        A::LastN(3),
        A::MinByN(2),
        A::MaxByN(3),
        A::ApproxCountDistinct,
        A::ApproxPercentile(0.5),
        A::ApproxTopK(3),
    ];
    all.into_iter().filter(|aggregation| aggregation.result(Some(ty)).is_some()).collect()
}

fn use_it(aggregate: &Aggregate, mut bytes: Vec<u8>, whole: &[u8], events: &[Event]) {
    if !aggregate.check(&bytes) {
        return;
    }
    aggregate.finish(&bytes);
    let mut other = whole.to_vec();
    match aggregate.fixed_len() {
        Some(_) => {
            aggregate.merge(&mut other, &bytes);
            aggregate.merge(&mut bytes, whole);
        }
        None => {
            aggregate.merge_variable(&mut other, &bytes);
            aggregate.merge_variable(&mut bytes, whole);
        }
    }
    events.iter().for_each(|event| add(aggregate, &mut bytes, event));
    aggregate.finish(&bytes);
    aggregate.finish(&other);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn bytes_that_are_no_state_are_refused_or_harmless(
        (ty, aggregation, events) in (types(), types()).prop_flat_map(|(ty, by)| {
            (Just(ty), proptest::sample::select(all(ty)), prop_oneof![4 => events(ty, by, 20), 1 => events(ty, by, 300)])
        }),
        groups_max in proptest::option::of(1u32..5),
        garbage in proptest::collection::vec(prop_oneof![0u8..10, any::<u8>()], 0..80),
        cut in any::<proptest::sample::Index>(),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), prop_oneof![0u8..10, any::<u8>()]), 1..4),
    ) {
        let aggregate = Aggregate::new(aggregation, Some(ty), groups_max);
        let whole = state(&aggregate, &events, &mut 0);
        prop_assert!(aggregate.check(&whole));
        use_it(&aggregate, garbage, &whole, &events);
        if !whole.is_empty() {
            let cut = cut.index(whole.len());
            // A list of entries that is cut between two of them is one.
            let lists = aggregate.fixed_len().is_none();
            prop_assert!(lists && (cut == 0 || groups_max.is_none()) || !aggregate.check(&whole[..cut]));
            use_it(&aggregate, whole[..cut].to_vec(), &whole, &events);
            let mut flipped = whole.clone();
            flips.iter().for_each(|(at, byte)| flipped[at.index(whole.len())] = *byte);
            use_it(&aggregate, flipped, &whole, &events);
        }
    }
}

#[test]
fn damaged_sketches_are_refused() {
    let int = |number| event(Value::Int(number), Value::Null, Value::Null, 0, 0);
    let many: Vec<_> = (0..3000).map(int).collect();
    let sketch = |aggregation| Aggregate::new(aggregation, Some(ValueType::Int), None);

    let distinct = sketch(Aggregation::ApproxCountDistinct);
    let registers = state(&distinct, &many, &mut 1);
    let too_high = [&[2], &[60; 4096][..]].concat();
    assert!(distinct.check(&registers) && !distinct.check(&registers[1..]) && !distinct.check(&too_high));
    assert!(!distinct.check(&[1, 9, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]), "hashes that fall");

    let percentile = sketch(Aggregation::ApproxPercentile(0.5));
    let bins = state(&percentile, &many, &mut 1);
    assert!(
        percentile.check(&bins)
            && !percentile.check(&bins[..bins.len() - 1])
            && !percentile.check(&[&bins[..], &bins[1..9]].concat())
    );

    let top = sketch(Aggregation::ApproxTopK(3));
    let counts = state(&top, &many, &mut 1);
    assert!(top.check(&counts) && !top.check(&counts[..counts.len() - 1]));
}
