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

#[test]
fn it_is_whole_from_an_empty_disk_on_until_the_first_row_leaves() {
    let hot = HotSet::new(0);
    let mut dirty = Marked::default();
    assert!(!hot.is_whole(), "nobody has looked at the disk");
    hot.set_whole();
    put(&hot, &mut dirty, "ada", 1);
    hot.copy_out(&dirty);
    assert_eq!((hot.evict(10_000), hot.is_whole()), (0, true), "it is on its way to the disk, and here");
    hot.landed(&dirty);
    assert_eq!((hot.evict(10_000), hot.is_whole()), (1, false));
    hot.set_whole();
    hot.clear();
    assert!(!hot.is_whole());
}

#[test]
fn a_batch_finds_all_rows_whatever_their_parts_and_groups_and_those_beside_them() {
    struct Tiles;
    impl Beside<'_> for Tiles {
        fn class(&self, _: ClassId) -> Option<ClassId> {
            Some(ClassId(9))
        }
        fn change(&mut self, row: &mut Vec<u8>, _: usize, _: &UpdateRef<'_>) -> bool {
            row[0] += 1;
            true
        }
    }
    let (hot, mut dirty) = (HotSet::new(usize::MAX), Marked::default());
    let mut batch = Updates::new(SourceId(0), PartitionId(0));
    for offset in 0..3000i64 {
        let key = format!("key {}", offset % 700);
        let cause = Cause { offset: Offset(offset), event_time: EventTime(offset) };
        batch.push(ClassId(0), cause, &[FeatureSlot(0)], |out| key.encode_key(out), |out| offset.encode(out));
    }
    let missed = hot.update(batch.len(), |nth| batch.get(nth), ProcessingTime(0), &mut dirty, &mut Tiles);
    assert_eq!((missed.rows.len(), missed.beside.len()), (3000, 3000));
    for nth in 0..700 {
        let update = batch.get(nth);
        hot.change_or_insert(&update, &mut dirty, || row::build(&update, ProcessingTime(0)), |_| false);
        let tiles = UpdateRef { class: ClassId(9), ..update };
        hot.change_or_insert(&tiles, &mut dirty, || vec![0], |_| false);
    }
    for _ in 0..2 {
        let missed = hot.update(batch.len(), |nth| batch.get(nth), ProcessingTime(0), &mut dirty, &mut Tiles);
        assert_eq!((missed.rows.len(), missed.beside.len()), (0, 0));
    }
    for nth in 0..700 {
        let update = batch.get(nth);
        let seen = (0..3000).filter(|offset| offset % 700 == nth as i64).count() as u8;
        assert_eq!(hot.read(ClassId(9), update.key, update.hash, <[u8]>::to_vec), Some(vec![2 * seen]));
        assert_eq!(value(&hot, &format!("key {nth}")), (0..3000).rfind(|offset| offset % 700 == nth as i64));
    }
    assert_eq!(dirty.len(), 1400);
}
