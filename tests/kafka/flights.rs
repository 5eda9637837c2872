//! All 336,776 flights, from three partitions, against the oracle.

use karst::{LateLane, TimeSpan};

use crate::{
    oracle,
    world::{check, check_against, drain, kafka, letters, records, rows, start, until},
};

#[test]
fn a_year_of_flights_equals_the_oracle() {
    let Some(kafka) = kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let engine = start(dir.path(), kafka.source(kafka.flights())).await?;
        drain(&engine).await?;
        let sums = engine.handle().status().outcomes();
        assert_eq!((sums.records, sums.applied, sums.late, sums.skipped), (336_776, 328_521, 0, 8_255));
        check(&engine, rows(), TimeSpan::INFINITY);
        let status = engine.handle().status();
        assert_eq!((status.sources[0].partitions.len(), status.lag()), (3, 0));
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn with_a_deadline_of_six_hours_848_flights_are_late() {
    let Some(kafka) = kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let engine = start(dir.path(), kafka.source(kafka.flights()).late_arrival_deadline("6h")).await?;
        drain(&engine).await?;
        let sums = engine.handle().status().outcomes();
        assert_eq!((sums.records, sums.applied, sums.late, sums.skipped), (336_776, 327_673, 848, 8_255));
        check(&engine, rows(), "6h".parse().unwrap());
        engine.shutdown().await
    })
    .unwrap();
}

/// Late events as a set, by position: from a deadline that leaves no time at all, which most of the year misses, to one that nothing misses.
#[test]
fn the_late_flights_are_those_of_the_oracle_at_any_deadline() {
    let Some(kafka) = kafka() else { return };
    let mut counts = Vec::new();
    for deadline in ["0s", "1s", "45m", "90m", "2h30m", "4h", "1d", "infinity"] {
        let deadline: TimeSpan = deadline.parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let expected = oracle::expect(rows(), deadline, LateLane::DeadLetter);
        karst::run(async {
            let source = kafka.source(kafka.flights()).late_arrival_deadline(deadline).late_lane(LateLane::DeadLetter);
            let engine = start(dir.path(), source).await?;
            drain(&engine).await?;
            check_against(&engine, &expected);
            assert_eq!(letters(&engine), expected.late, "at {deadline}");
            engine.shutdown().await
        })
        .unwrap();
        counts.push(expected.late.len());
    }
    assert!(counts.is_sorted_by(|one, next| one >= next) && counts[0] > 200_000 && counts.last() == Some(&0), "{counts:?}");
}

/// Late events as a set, by position, in the lane that keeps them; in the lane `correct` by their number, by their lateness, and
/// by the values that they corrected. A stop in the middle changes none of these.
#[test]
fn the_late_flights_are_those_of_the_oracle_in_every_lane_with_a_stop_in_the_middle() {
    let Some(kafka) = kafka() else { return };
    let deadline: TimeSpan = "2h".parse().unwrap();
    for lane in [LateLane::DeadLetter, LateLane::Correct] {
        let dir = tempfile::tempdir().unwrap();
        let expected = oracle::expect(rows(), deadline, lane);
        assert!(expected.late.len() > 10_000, "enough to tell: {}", expected.late.len());
        karst::run(async {
            let source = || kafka.source(kafka.flights()).late_arrival_deadline(deadline).late_lane(lane);
            let engine = start(dir.path(), source()).await?;
            let handle = engine.handle();
            until("a third is read", || records(&handle) > 100_000).await;
            drop(handle);
            engine.shutdown().await?;
            let engine = start(dir.path(), source()).await?;
            drain(&engine).await?;
            check_against(&engine, &expected);

            let [lateness] = &engine.handle().lateness()[..] else { panic!("one source") };
            assert_eq!((lateness.late(), lateness.events().events()), (expected.late.len() as u64, rows().len() as u64));
            for candidate in lateness.candidates() {
                let late = expected.lateness.iter().filter(|micros| **micros > candidate.deadline.micros()).count();
                assert_eq!(candidate.late, late as u64, "as a deadline, {}", candidate.deadline);
            }
            if lane == LateLane::DeadLetter {
                assert_eq!(letters(&engine), expected.late);
                assert_eq!(lateness.corrected(), 0);
            } else {
                assert!(letters(&engine).is_empty());
                assert!(lateness.corrected() > 0 && lateness.corrected() <= lateness.late());
            }
            engine.shutdown().await
        })
        .unwrap();
    }
}
