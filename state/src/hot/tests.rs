//! The hot set alone.

use karst_types::{EventTime, FeatureSlot, FeatureValue, Offset, PartitionId, SourceId, Updates, update::Cause};

use super::*;

fn update(key: &str, offset: i64, value: i64) -> Updates {
    let mut updates = Updates::new(SourceId(0), PartitionId(0));
    let cause = Cause { offset: Offset(offset), event_time: EventTime(offset) };
    updates.push(ClassId(0), cause, &[FeatureSlot(0)], |out| key.encode_key(out), |out| value.encode(out));
    updates
}

fn put(hot: &HotSet, dirty: &mut Marked, key: &str, offset: i64) {
    let updates = update(key, offset, offset);
    let update = updates.get(0);
    if !hot.update(1, |_| update, ProcessingTime(0), dirty, &mut NothingBeside).rows.is_empty() {
        hot.change_or_insert(&update, dirty, || row::build(&update, ProcessingTime(0)), |_| false);
    }
}

fn value(hot: &HotSet, key: &str) -> Option<i64> {
    let hash = karst_types::entity::key_hash(key.as_bytes());
    hot.read(ClassId(0), key.as_bytes(), hash, row::Row::trusted).map(|row| {
        let cell = row.get(FeatureSlot(0)).unwrap();
        cell.version.offset.0
    })
}

#[test]
fn a_dirty_row_or_one_in_flight_is_never_evicted() {
    let hot = HotSet::new(0);
    let mut dirty = Marked::default();
    (0..100).for_each(|number| put(&hot, &mut dirty, &format!("key {number}"), number));
    assert_eq!((hot.evict(10_000), dirty.len()), (0, 100));
    let copied = hot.copy_out(&dirty);
    assert_eq!((copied.rows.len(), hot.evict(10_000)), (100, 0));
    let in_flight = std::mem::take(&mut dirty);
    put(&hot, &mut dirty, "key 7", 200);
    hot.landed(&in_flight);
    assert_eq!(hot.evict(10_000), 99, "all but the one that was written again");
    assert_eq!((value(&hot, "key 7"), value(&hot, "key 8")), (Some(200), None));
    let copied = hot.copy_out(&dirty);
    assert_eq!(copied.key(copied.rows[0]), b"s\0\0key 7");
    hot.landed(&dirty);
    assert_eq!((hot.evict(10_000), hot.len(), hot.bytes()), (1, 0, 0));
}

#[test]
fn rows_that_are_read_stay_longest() {
    let hot = HotSet::new(usize::MAX);
    let mut dirty = Marked::default();
    (0..1000).for_each(|number| put(&hot, &mut dirty, &number.to_string(), number));
    hot.copy_out(&dirty);
    hot.landed(&dirty);
    let full = hot.bytes();
    hot.set_budget(full / 2);
    assert_eq!(hot.evict(1000), 0, "the first round only takes the marks away");
    assert!((0..100).all(|number| value(&hot, &number.to_string()).is_some()));
    hot.evict(10_000);
    assert!(hot.bytes() <= full / 2 && hot.len() > 300, "{} of {full} bytes", hot.bytes());
    assert!((0..100).filter(|number| value(&hot, &number.to_string()).is_some()).count() >= 95);
}

#[test]
fn places_are_used_again_and_long_keys_are_kept_whole() {
    let hot = HotSet::new(0);
    let long = "k".repeat(300);
    for round in 0..5 {
        let mut dirty = Marked::default();
        put(&hot, &mut dirty, &long, round);
        put(&hot, &mut dirty, "", round);
        assert_eq!((value(&hot, &long), value(&hot, "")), (Some(round), Some(round)));
        hot.copy_out(&dirty);
        hot.landed(&dirty);
        hot.evict(10_000);
        assert_eq!((hot.len(), hot.bytes()), (0, 0));
    }
    assert!(hot.parts.iter().all(|part| part.read().entries.len() <= 2));
}

#[test]
fn readers_see_whole_rows_while_the_writer_writes() {
    let hot = HotSet::new(usize::MAX);
    let mut dirty = Marked::default();
    put(&hot, &mut dirty, "ada", 1);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = 0;
            while last < 20_000 {
                let seen = value(&hot, "ada").unwrap();
                assert!(seen >= last, "values never go back");
                last = seen;
            }
        });
        (2..=20_000).for_each(|number| put(&hot, &mut dirty, "ada", number));
        reader.join().unwrap();
    });
    assert_eq!(dirty.len(), 1);
}
