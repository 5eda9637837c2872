//! A log that is not what it was: the partition stands still, says so, and nothing is skipped or applied by a guess.

use karst::{BrokerTime, EngineHandle, Error, Offset, PartitionId, QueryRequest, prelude::*};
use serde_json::json;

use crate::world::{outcomes, small, until};

#[derive(Message)]
struct Beat {
    id: String,
    said: String,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Heart {
    id: String,
    said: String,
    #[windowed("all", count)]
    beats: Windowed<i64>,
}

#[stream(source = "beats")]
fn on_beat(beat: Beat) -> Updates![Heart::id, Heart::said] {
    updates!(beat.id, beat.said)
}

async fn start(dir: &std::path::Path, source: &MemorySource) -> karst::Result<Engine> {
    let source = source.clone().batch_records(7);
    Engine::builder(dir).settings(small()).source(source).resolver(on_beat).start().await
}

/// Records `from..to` of both partitions, each saying `said` and its number.
async fn send(source: &MemorySource, said: &str, from: i64, to: i64) -> karst::Result<()> {
    for number in from..to {
        for partition in 0..2 {
            let value = json!({ "id": format!("p{partition}"), "said": format!("{said} {number}") }).to_string();
            source.send_to(PartitionId(partition), BrokerTime::from_secs(number), None, Some(value.as_bytes())).await?;
        }
    }
    Ok(())
}

fn problem(handle: &EngineHandle, partition: &str) -> Option<karst::Problem> {
    handle.health().problems.into_iter().find(|problem| problem.what == format!("partition {partition}"))
}

/// What the partition said last, and how many of its records count.
fn heart(engine: &Engine, partition: i32) -> (String, i64) {
    let request = QueryRequest::new().input("heart.id", format!("p{partition}")).output("heart.said").output("heart.beats");
    let answer = engine.query(&request);
    let value = |nth: usize| answer.data[nth].value.clone();
    match (value(0), value(1)) {
        (karst::Value::Str(said), karst::Value::Int(beats)) => (said.to_string(), beats),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_gap_stops_its_partition_alone_until_somebody_accepts_the_loss() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("beats").partitions(2);
        send(&source, "beat", 0, 100).await?;
        let engine = start(dir.path(), &source).await?;
        engine.drain().await?;
        engine.shutdown().await?;

        send(&source, "beat", 100, 200).await?;
        source.truncate_front(PartitionId(1), Offset(150)); // retention was faster
        for _ in 0..2 {
            // The second time after a restart: nobody has decided.
            let engine = start(dir.path(), &source).await?;
            let handle = engine.handle();
            until("the gap is named", || problem(&handle, "beats[1]").is_some()).await;
            let told = problem(&handle, "beats[1]").unwrap();
            assert!(told.why.contains("beats[1]@100") && told.why.contains("from 100 up to 149"), "{told:?}");
            assert!(told.hint.contains("karst source accept-gap beats --partition 1"), "{told:?}");
            until("the other partition goes on", || outcomes(&engine).records == 300).await;
            assert_eq!((heart(&engine, 0), heart(&engine, 1)), (("beat 199".into(), 200), ("beat 99".into(), 100)));
            let stages = handle.topology().stages;
            assert!(stages.iter().all(|stage| stage.restarts == 0 && stage.healthy), "it stands still and is not restarted");
            assert!(handle.status().sources[0].partitions[1].halted.is_some());
            drop(handle);
            engine.shutdown().await?;
        }

        let engine = start(dir.path(), &source).await?;
        let handle = engine.handle();
        until("the gap is named", || problem(&handle, "beats[1]").is_some()).await;
        assert!(matches!(handle.accept_gap("beat", PartitionId(1)), Err(Error::UnknownSource { .. })));
        assert!(matches!(handle.accept_gap("beats", PartitionId(0)), Err(Error::NoGap { .. })));
        let accepted = handle.accept_gap("beats", PartitionId(1))?;
        assert_eq!((accepted.first, accepted.last), (Offset(100), Offset(149)));
        engine.drain().await?;
        assert_eq!(heart(&engine, 1), ("beat 199".into(), 150), "the hundred before the gap and the fifty behind it");
        assert!(handle.health().healthy && handle.status().outcomes().conserved());
        assert!(matches!(handle.accept_gap("beats", PartitionId(1)), Err(Error::NoGap { .. })));
        drop(handle);
        engine.shutdown().await?;
        // What was committed behind the gap needs no further word.
        let engine = start(dir.path(), &source).await?;
        engine.drain().await?;
        assert!(engine.handle().health().healthy);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn another_log_of_the_same_name_is_told_apart_and_nothing_of_it_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("beats").partitions(2);
        send(&source, "beat", 0, 100).await?;
        let engine = start(dir.path(), &source).await?;
        engine.drain().await?;
        engine.shutdown().await?;

        // Made anew, and grown beyond the stored positions already.
        let anew = MemorySource::json("beats").partitions(2);
        send(&anew, "other", 0, 300).await?;
        let engine = start(dir.path(), &anew).await?;
        let handle = engine.handle();
        until("both are named", || ["beats[0]", "beats[1]"].iter().all(|name| problem(&handle, name).is_some())).await;
        let told = problem(&handle, "beats[0]").unwrap();
        assert!(told.why.contains("the log is another one: at beats[0]@99"), "{told:?}");
        assert!(matches!(handle.accept_gap("beats", PartitionId(0)), Err(Error::NoGap { .. })), "there is nothing to accept");
        assert_eq!((outcomes(&engine).records, heart(&engine, 0)), (200, ("beat 99".into(), 100)));
        drop(handle);
        engine.shutdown().await?;

        // The old log is back, and is read on where it was.
        send(&source, "beat", 100, 120).await?;
        let engine = start(dir.path(), &source).await?;
        engine.drain().await?;
        assert_eq!((outcomes(&engine).records, heart(&engine, 1)), (240, ("beat 119".into(), 120)));
        assert!(engine.handle().health().healthy);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_log_that_is_shorter_than_what_was_read_is_told_and_waits_for_a_decision() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("beats").partitions(2);
        send(&source, "beat", 0, 100).await?;
        let engine = start(dir.path(), &source).await?;
        engine.drain().await?;
        engine.shutdown().await?;
        let shorter = MemorySource::json("beats").partitions(2);
        send(&shorter, "beat", 0, 40).await?;
        let engine = start(dir.path(), &shorter).await?;
        let handle = engine.handle();
        until("it is named", || problem(&handle, "beats[1]").is_some()).await;
        let told = problem(&handle, "beats[1]").unwrap();
        assert!(told.why.contains("the log went backwards") && told.why.contains("ends at 40"), "{told:?}");
        assert!(matches!(handle.accept_gap("beats", PartitionId(1)), Err(Error::NoGap { .. })));
        assert_eq!(outcomes(&engine).records, 200);
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn where_a_source_begins_is_decided_once_also_if_nothing_was_committed_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    karst::run(async {
        let source = MemorySource::json("beats").partitions(2);
        send(&source, "before", 0, 10).await?;
        let latest = source.clone().start_at(karst::StartAt::Latest);
        let engine = start(dir.path(), &latest).await?;
        engine.drain().await?;
        drop(engine); // nothing of it was committed: there was nothing to read
        send(&source, "beat", 10, 15).await?;
        let engine = crate::world::once_unlocked(async || start(dir.path(), &latest).await).await?;
        engine.drain().await?;
        assert_eq!(
            heart(&engine, 0),
            ("beat 14".into(), 5),
            "it begins where it was begun, and not behind what came meanwhile"
        );
        assert_eq!(outcomes(&engine).records, 10);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_file_whose_last_line_was_written_to_its_end_later_is_no_other_log() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("beats.jsonl");
    let line = |number: i64| json!({ "id": "p0", "said": format!("beat {number}") }).to_string();
    karst::run(async {
        let begin = async || {
            let source = FileSource::json_lines("beats", &file).batch_records(7);
            let state = dir.path().join("state");
            Engine::builder(state).settings(small()).source(source).resolver(on_beat).start().await
        };
        let mut text: String = (0..20).map(|number| line(number) + "\n").collect();
        // The writer was caught in the middle of a line: what was there was read, and is a dead letter.
        let (seen, rest) = (line(20)[..10].to_owned(), line(20)[10..].to_owned());
        text += &seen;
        std::fs::write(&file, &text).unwrap();
        let engine = begin().await?;
        engine.drain().await?;
        assert_eq!((outcomes(&engine).applied, outcomes(&engine).dead_letters), (20, 1));
        engine.shutdown().await?;

        text += &rest;
        text += "\n";
        text += &line(21);
        text += "\n";
        std::fs::write(&file, &text).unwrap();
        let engine = begin().await?;
        engine.drain().await?;
        assert!(engine.handle().health().healthy, "{:?}", engine.handle().health());
        assert_eq!((outcomes(&engine).applied, outcomes(&engine).dead_letters), (21, 1), "each place of the file counts once");
        assert_eq!(heart(&engine, 0), ("beat 21".into(), 21));
        engine.shutdown().await?;

        // A finished line that is another one is another log.
        std::fs::write(&file, text.replace("beat 21", "Beat 12")).unwrap();
        let engine = begin().await?;
        let handle = engine.handle();
        until("it is named", || problem(&handle, "beats[0]").is_some()).await;
        assert!(problem(&handle, "beats[0]").unwrap().why.contains("the log is another one"));
        drop(handle);
        engine.shutdown().await
    })
    .unwrap();
}
