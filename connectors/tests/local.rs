//! The file and the memory source.
#![allow(clippy::unwrap_used, clippy::type_complexity)]

use std::{io::Write, sync::Arc};

use karst_connectors::{
    Error, Fetched, FileSource, HealthState, MemorySource, Source, StartAt,
    testing::{ManualClock, assert_source_compliance, owned, read_count, read_to_end},
};
use karst_types::{BrokerTime, ByteSize, Clock, Offset, PartitionId, Retry};

const P0: PartitionId = PartitionId(0);

fn file(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    std::fs::File::create(&path).unwrap().write_all(content).unwrap();
    (folder, path)
}

async fn lines(content: &[u8]) -> (Vec<(i64, String)>, i64) {
    let (_folder, path) = file(content);
    let running = FileSource::json_lines("events", path).batch_records(3).start(ManualClock::new()).unwrap();
    let mut reader = running.reader(P0).unwrap();
    reader.seek(None).await.unwrap();
    let (records, end) = read_to_end(&mut *reader).await;
    let text = |value: &Option<Vec<u8>>| String::from_utf8(value.clone().unwrap()).unwrap();
    (records.iter().map(|record| (record.offset.0, text(&record.value))).collect(), end.0)
}

#[tokio::test]
async fn a_line_is_a_record_at_the_position_of_its_first_byte() {
    let cases: &[(&[u8], &[(i64, &str)])] = &[
        (b"", &[]),
        (b"a\nbb\n", &[(0, "a"), (2, "bb")]),
        (b"a\r\nbb\r\n", &[(0, "a"), (3, "bb")]),
        (b"a\nbb", &[(0, "a"), (2, "bb")]),
        (b"a\nbb\r", &[(0, "a"), (2, "bb")]),
        (b"a\n\nbb\n", &[(0, "a"), (2, ""), (3, "bb")]),
        (b"\n\r\na", &[(0, ""), (1, ""), (3, "a")]),
        (b"a\n\n\r\n\n", &[(0, "a")]),
        (b"\n\n", &[]),
        (b" \n", &[(0, " ")]),
    ];
    for (content, expected) in cases {
        let (found, end) = lines(content).await;
        let found: Vec<_> = found.iter().map(|(offset, text)| (*offset, text.as_str())).collect();
        assert_eq!(found, *expected, "{:?}", String::from_utf8_lossy(content));
        assert_eq!(end, content.len() as i64);
    }
}

#[tokio::test]
async fn lines_across_blocks_and_huge_lines_come_whole() {
    let mut content = Vec::new();
    let mut expected = Vec::new();
    for (index, len) in [10, 3 << 20, 0, 1 << 20, (1 << 20) - 1, 5, 20 << 20, 7].into_iter().enumerate() {
        expected.push((content.len() as i64, len.min(16 << 20)));
        content.extend(std::iter::repeat_n(b'a' + index as u8, len));
        content.push(b'\n');
    }
    let (found, end) = lines(&content).await;
    assert_eq!(found.iter().map(|(offset, text)| (*offset, text.len())).collect::<Vec<_>>(), expected);
    for (index, (_, text)) in found.iter().enumerate() {
        assert!(text.bytes().all(|byte| byte == b'a' + index as u8), "line {index} has its own bytes");
    }
    assert_eq!(end, content.len() as i64);
}

#[tokio::test]
async fn a_seek_into_a_line_starts_at_the_next() {
    let (_folder, path) = file(b"aaaa\nbb\ncc");
    let running = FileSource::json_lines("events", path).start(ManualClock::new()).unwrap();
    let mut reader = running.reader(P0).unwrap();
    for (from, start) in [(0, 0), (1, 5), (4, 5), (5, 5), (6, 8), (8, 8), (9, 10), (10, 10)] {
        assert_eq!(reader.seek(Some(Offset(from))).await.unwrap(), Offset(start), "from {from}");
        let (records, _) = read_to_end(&mut *reader).await;
        assert_eq!(records.first().map(|record| record.offset.0), (start < 10).then_some(start));
    }
    assert!(matches!(reader.seek(Some(Offset(11))).await, Err(Error::SourceRegressed { high: Offset(10), .. })));
    assert!(matches!(reader.seek(Some(Offset(-1))).await, Err(Error::SourceGap { low: Offset(0), .. })));
}

#[tokio::test]
async fn a_missing_file_is_a_clear_error_and_a_state_that_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let running = FileSource::json_lines("events", &path).start(ManualClock::new()).unwrap();
    let mut reader = running.reader(P0).unwrap();
    let error = reader.seek(None).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Backoff);
    assert_eq!(
        error.to_string(),
        format!("source \"events\" cannot read {}: No such file or directory (os error 2)", path.display())
    );
    assert!(matches!(running.health().state, HealthState::Waiting { why, .. } if why == error.to_string()));
    std::fs::write(&path, "a\n").unwrap();
    reader.seek(None).await.unwrap();
    assert_eq!(read_to_end(&mut *reader).await.0.len(), 1);
    assert_eq!(running.health().state, HealthState::Ok);
}

#[tokio::test]
async fn a_slow_reader_bounds_what_is_read_ahead() {
    let line = format!("{}\n", "x".repeat(999));
    let (_folder, path) = file(line.repeat(5_000).as_bytes());
    let source = FileSource::json_lines("events", path).buffer_bytes("64KiB").batch_records(10);
    let running = source.start(ManualClock::new()).unwrap();
    let mut reader = running.reader(P0).unwrap();
    reader.seek(None).await.unwrap();
    // Nobody reads, so the hand-off fills; with a limit, since the file is read on another thread.
    let full = async {
        while !reader.paused() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), full).await.expect("a full hand-off shows as paused");
    let (mut records, mut most) = (0, 0);
    while let Fetched::Records(batch) = reader.next().await.unwrap() {
        records += batch.len();
        most = most.max(running.health().partitions[0].buffered_bytes);
    }
    assert_eq!(records, 5_000);
    assert!(most <= (64 << 10) + 11 * 1040, "the limit is passed by one batch at most: {most}");
}

#[tokio::test]
async fn the_file_source_passes_the_suite() {
    let content: String = (0..500).map(|index| format!("{{\"index\": {index}}}\n")).collect();
    let expected: Vec<_> = content.lines().map(|line| Some(line.as_bytes().to_vec())).collect();
    let (_folder, path) = file(content.as_bytes());
    let source = FileSource::json_lines("events", path).batch_records(64).batch_bytes("500B");
    assert_source_compliance(&source, ManualClock::new(), P0, &expected).await;
}

#[tokio::test]
async fn the_memory_source_passes_the_suite() {
    let source = MemorySource::json("clicks").partitions(3).batch_records(7).batch_bytes("100B");
    let mut expected = vec![Some(b"".to_vec()), None, Some(vec![b'x'; 5000])];
    expected.extend((0..40).map(|index| Some(format!("{{\"index\": {index}}}").into_bytes())));
    for value in &expected {
        source.send_to(PartitionId(2), BrokerTime(7), Some(b"k"), value.as_deref()).await.unwrap();
    }
    assert_source_compliance(&source, ManualClock::new(), PartitionId(2), &expected).await;
}

#[tokio::test]
async fn memory_records_sent_before_the_start_are_stamped_by_it() {
    let clock = ManualClock::new();
    let source = MemorySource::json("clicks");
    source.send("{}").await.unwrap();
    let running = source.start(clock.clone()).unwrap();
    clock.advance(std::time::Duration::from_secs(5));
    source.send("{}").await.unwrap();
    source.send_to(P0, BrokerTime(3), Some(b"k"), None).await.unwrap();
    let mut reader = running.reader(P0).unwrap();
    reader.seek(None).await.unwrap();
    let times: Vec<_> = read_count(&mut *reader, 3).await.iter().map(|record| record.broker_time.0).collect();
    let now = clock.now().micros();
    assert_eq!(times, [now - 5_000_000, now, 3]);
}

#[tokio::test]
async fn a_memory_send_waits_for_the_reader() {
    let source = MemorySource::json("clicks").capacity(10).batch_records(4);
    let running = source.start(ManualClock::new()).unwrap();
    let mut reader = running.reader(P0).unwrap();
    reader.seek(None).await.unwrap();
    let sender = source.clone();
    let sending = tokio::spawn(async move {
        for index in 0..100 {
            sender.send(format!("{index}")).await.unwrap();
        }
        sender.finish();
    });
    let (mut records, mut finished) = (Vec::new(), false);
    while !finished {
        assert!(reader.lag().unwrap() <= 10, "no more than the capacity lies ahead");
        match reader.next().await.unwrap() {
            Fetched::Records(batch) => records.extend(owned(&batch)),
            Fetched::EndOfLog { finished: all, .. } => finished = all,
        }
    }
    sending.await.unwrap();
    assert_eq!(records.len(), 100);
    assert!(matches!(source.send("late").await, Err(Error::Send { .. })));
}

#[tokio::test]
async fn a_memory_log_is_bounded_and_retention_makes_a_gap() {
    let source = MemorySource::json("clicks").log_bytes(ByteSize(200));
    let mut sent = 0;
    while source.send("0123456789").await.is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 4, "50 bytes each, with what a record costs");
    source.truncate_front(P0, Offset(2));
    let running = source.start(ManualClock::new()).unwrap();
    let mut reader = running.reader(P0).unwrap();
    let error = reader.seek(Some(Offset(1))).await.unwrap_err();
    assert!(matches!(&error, Error::SourceGap { low: Offset(2), .. }), "{error}");
    assert_eq!(reader.seek(None).await.unwrap(), Offset(2));
}

#[tokio::test]
async fn latest_starts_behind_what_is_there() {
    let source = MemorySource::json("clicks").start_at(StartAt::Latest);
    source.send("old").await.unwrap();
    let running = source.start(ManualClock::new()).unwrap();
    let mut reader = running.reader(P0).unwrap();
    assert_eq!(reader.seek(None).await.unwrap(), Offset(1));
    source.send("new").await.unwrap();
    assert_eq!(read_count(&mut *reader, 1).await[0].value.as_deref(), Some(&b"new"[..]));
}

#[test]
fn all_wrong_settings_are_reported_at_start_together() {
    let source = MemorySource::json("clicks")
        .late_arrival_deadline("30 minutes")
        .disorder("-5m")
        .buffer_bytes("8MB")
        .max_record_bytes("64MiB")
        .batch_records(0);
    let clock: Arc<dyn Clock> = ManualClock::new();
    let Err(Error::Config { name, problems }) = source.start(clock) else { panic!("it started") };
    assert_eq!(name.as_str(), "clicks");
    assert_eq!(problems.len(), 5, "{problems:#?}");
    assert!(problems[0].starts_with("late_arrival_deadline: \"30 minutes\" is not a duration"), "{problems:#?}");
}
