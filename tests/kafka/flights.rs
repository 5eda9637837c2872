//! All 336,776 flights, from three partitions, against the oracle.

use karst::TimeSpan;

use crate::world::{check, drain, kafka, rows, start};

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
