//! Events that are dated too far ahead of their record: which ones these are depends on their records alone, and what becomes of
//! them changes nothing for the others.

use std::collections::BTreeSet;

use karst::{FutureEvents, LateLane, LetterFilter, Reason, prelude::*, state::LetterState, types::Outcome};

use crate::{
    late::{Ends, Log, Place, late_by_the_book, logs, read, source, start},
    world::{outcomes, stored},
};

/// `docs/semantics.md`, Event time, read word by word: more than five minutes ahead of the record.
fn ahead_by_the_book(logs: &[Log]) -> BTreeSet<Place> {
    let ahead = |(event, broker): &(Option<i64>, i64)| event.is_some_and(|event| event > broker + 300);
    let of = |(partition, log): (usize, &Log)| {
        let places = log.iter().enumerate().filter(|(_, record)| ahead(record)).map(|(index, _)| (partition, index));
        places.collect::<Vec<_>>()
    };
    logs.iter().enumerate().flat_map(of).collect()
}

fn letters(engine: &Engine) -> karst::Result<BTreeSet<Place>> {
    let letters = engine.handle().dead_letters("steps", usize::MAX)?;
    assert!(letters.iter().all(|stored| stored.letter.reason == Reason::Future));
    let places: BTreeSet<Place> =
        letters.iter().map(|stored| (stored.partition.0 as usize, stored.letter.offset.0 as usize)).collect();
    assert_eq!(places.len(), letters.len(), "each once");
    Ok(places)
}

#[test]
fn exactly_the_events_of_the_book_are_put_aside_and_which_are_late_does_not_change() {
    let logs = logs(5);
    let (ahead, late) = (ahead_by_the_book(&logs), late_by_the_book(&logs));
    assert!(ahead.len() > 4 && late.len() > 600, "logs that test something: {} and {}", ahead.len(), late.len());
    let records: u64 = logs.iter().map(|log| log.len() as u64).sum();
    for (batch, ends) in [(1, Ends::Never), (1024, Ends::Stops), (13, Ends::Crashes)] {
        let dir = tempfile::tempdir().unwrap();
        let kept = source(batch, LateLane::Drop);
        let put_aside = kept.clone().future_events(FutureEvents::DeadLetter);
        karst::run(async {
            let engine = read(dir.path(), &put_aside, &logs, ends, batch as u64).await?;
            assert_eq!(letters(&engine)?, ahead, "batches of {batch}, {ends:?}");
            let sums = outcomes(&engine);
            let (dead, late) = (ahead.len() as u64, late.len() as u64);
            assert_eq!((sums.records, sums.dead_letters, sums.late), (records, dead, late));
            assert_eq!(sums.applied, records - dead - late);

            // As declared, they fail again, by the same verdict.
            let all = LetterFilter { reason: Some(Reason::Future), limit: 1_000, ..LetterFilter::source("steps") };
            assert_eq!(engine.handle().replay(&all).await?.queued, dead);
            engine.drain().await?;
            assert_eq!((letters(&engine)?, outcomes(&engine)), (ahead.clone(), sums));
            let attempts = engine.handle().find_dead_letters(&all)?;
            assert!(attempts.iter().all(|found| found.stored.letter.attempt == 2));
            let error = &attempts[0].stored.letter.error;
            assert!(error.contains("more than max_future_skew (5m) ahead of its record"), "{error}");
            engine.shutdown().await?;

            // Declared otherwise, they are events like any other.
            let engine = start(dir.path(), &kept).await?;
            assert_eq!(engine.handle().replay(&all).await?.queued, dead);
            engine.drain().await?;
            assert_eq!(outcomes(&engine).applied, records - late);
            let found = engine.handle().find_dead_letters(&LetterFilter { replayed: true, ..all })?;
            assert!(found.iter().all(|found| found.stored.state == LetterState::Replayed(Outcome::Applied)));
            let walks = stored(&engine.handle(), "walk");
            assert!(ahead.iter().all(|(partition, index)| walks.contains_key(&format!("{partition}/{index}"))));
            engine.shutdown().await
        })
        .unwrap();
    }
}

#[test]
fn an_event_at_the_very_edge_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = source(10, LateLane::Drop).future_events(FutureEvents::DeadLetter);
        let logs = [vec![(Some(1_300), 1_000), (Some(1_301), 1_000)], vec![], vec![]];
        let engine = read(dir.path(), &source, &logs, Ends::Never, 1).await?;
        assert_eq!(letters(&engine)?, BTreeSet::from([(0, 1)]));
        engine.shutdown().await
    })
    .unwrap();
}
