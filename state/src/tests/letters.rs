//! Dead letters that go: which of them count as never forwarded.

use std::sync::Arc;

use karst_types::{Offset, Outcome, SourceId};

use super::{Driver, LANE, Log, StoppedClock, settings};
use crate::{LetterCounts, Store, StoreSettings};

const LOG: Log = Log { keys: 10 };

fn counts(store: &Store) -> LetterCounts {
    store.source_reader().dead_letter_counts().unwrap()
}

#[test]
fn letters_that_go_before_they_were_forwarded_are_counted_apart() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings { dead_letters: 20, ..settings(1) };
    let open = || Store::open(dir.path(), &settings, Arc::new(StoppedClock)).unwrap();
    let mut driver = Driver::new(open(), LOG);
    let send = |driver: &mut Driver| {
        for _ in 0..10 {
            driver.send(50);
            driver.commit_all();
        }
        counts(&driver.store)
    };
    let unwanted = send(&mut driver);
    assert!(unwanted.let_go > 0, "{unwanted:?}");
    assert_eq!(unwanted.let_go_unsent, 0, "nobody wants them forwarded");

    // Somebody does, and has acknowledged all but the last five. They stand in the queue in the order of their offsets.
    let reader = driver.store.source_reader();
    let all = unwanted.let_go + unwanted.kept;
    let dead = |offset: &i64| matches!(LOG.outcome(*offset), Outcome::Dead(_));
    assert_eq!(all, (0..500).filter(dead).count() as u64);
    assert_eq!(reader.letters_from(LANE.source, 0, usize::MAX, usize::MAX).unwrap().1, all);
    assert_eq!(reader.letter_cursor(LANE.source), None);
    reader.set_letter_cursor(LANE.source, all - 5).unwrap();
    reader.set_letter_cursor(SourceId(LANE.source.0 + 1), all).unwrap(); // another source's counts nothing here

    let later = send(&mut driver);
    let gone_since = later.let_go - (all - 5).min(later.let_go);
    assert!(gone_since > 5, "{later:?}");
    assert_eq!(later.let_go_unsent, gone_since);
    assert_eq!(reader.dead_letters(LANE, Offset(0), usize::MAX).unwrap().len() as u64, later.kept);

    drop((driver, reader));
    let store = open();
    assert_eq!((counts(&store), store.source_reader().letter_cursor(LANE.source)), (later, Some(all - 5)));
}
