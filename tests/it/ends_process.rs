//! Records that end the process: each is found, set aside after so many deaths, and nothing else is.
//!
//! The process that ends is a child, with a real state directory and a real log (a file); it is started until it comes to its end.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use karst::{EngineSettings, Reason, prelude::*};
use serde_json::json;

use crate::{
    tried::tried,
    world::{child, column, is_child, outcomes, small, until},
};

const SIGABRT: i32 = 6;
const RECORDS: usize = 3_000;
/// One ends the process by itself, the other overflows the stack.
const ENDING: [(usize, &str); 2] = [(1_234, "abort"), (1_235, "overflow")];

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

/// Which start of the child this is, from 1; 0 in the parent.
fn life() -> u32 {
    std::env::var("LIFE").map_or(0, |life| life.parse().unwrap())
}

static BYSTANDER_IN_HAND: AtomicBool = AtomicBool::new(false);

#[stream(source = "beats")]
fn on_beat(beat: Beat) -> Updates![Heart::id, Heart::said] {
    match beat.said.as_str() {
        "abort" => {
            while life() == 1 && !BYSTANDER_IN_HAND.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            std::process::abort();
        }
        "overflow" => drop(deeper(0)),
        "never" => loop {
            std::hint::spin_loop();
        },
        _ => {}
    }
    updates!(beat.id, beat.said)
}

#[allow(unconditional_recursion)]
fn deeper(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 512]);
    deeper(frame[0] + 1) + std::hint::black_box(frame[1])
}

/// In its first life it is still at its record when the process ends.
#[stream(source = "bystander")]
fn on_bystander(beat: Beat) -> Updates![Heart::id, Heart::said] {
    if life() == 1 {
        BYSTANDER_IN_HAND.store(true, Ordering::Release);
        loop {
            std::thread::park();
        }
    }
    updates!(beat.id, beat.said)
}

fn write(dir: &Path, name: &str, said: impl Iterator<Item = String>) {
    let lines = said.enumerate().map(|(nth, said)| json!({ "id": format!("h{}", nth % 50), "said": said }).to_string() + "\n");
    fs::write(dir.join(name), lines.collect::<String>()).unwrap();
}

async fn start(dir: &Path, settings: EngineSettings) -> karst::Result<Engine> {
    let beats = FileSource::json_lines("beats", dir.join("beats")).batch_records(100);
    let bystander = FileSource::json_lines("bystander", dir.join("bystander"));
    let builder = Engine::builder(dir.join("state")).settings(settings).source(beats).source(bystander);
    builder.resolver(on_beat).resolver(on_bystander).start().await
}

/// Starts the child of `test` until it comes to its end; how often it did not.
fn deaths_of(test: &str, dir: &Path) -> u32 {
    for life in 1..10 {
        let environment = [("DIR", dir.to_str().unwrap()), ("LIFE", &life.to_string())];
        let output = child(test, &environment).output().unwrap();
        if output.status.success() {
            return life - 1;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(SIGABRT), "life {life}: {said}");
    }
    panic!("it ends the process for ever");
}

/// What the child does: everything, and then a graceful stop.
fn run_to_the_end(settings: EngineSettings, while_it_runs: impl AsyncFn(&Path, &Engine)) {
    let dir = std::env::var("DIR").unwrap();
    karst::run(async {
        let engine = start(dir.as_ref(), settings).await?;
        while_it_runs(dir.as_ref(), &engine).await;
        engine.drain().await?;
        engine.shutdown().await
    })
    .unwrap();
}

/// Those of the letters of the beats: line and stage; all with the reason `ends_process`.
fn letters(engine: &Engine, dir: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(dir.join("beats")).unwrap();
    let letters = engine.handle().dead_letters("beats", 100).unwrap();
    let line = |offset: i64| text[..offset as usize].lines().count();
    letters
        .into_iter()
        .map(|stored| {
            assert_eq!(stored.letter.reason, Reason::EndsProcess);
            assert!(stored.letter.error.contains("times in a row while its resolvers ran on it"), "{}", stored.letter.error);
            (line(stored.letter.offset.0), stored.letter.stage)
        })
        .collect()
}

#[test]
fn a_record_that_ends_the_process_is_put_aside_after_so_many_deaths_and_all_others_are_applied_once() {
    // Many threads, so that no two partitions share one.
    let settings = EngineSettings { deaths_before_aside: 2, workers: 8, ..small() };
    if is_child() {
        return run_to_the_end(settings, async |_, _| {});
    }
    let dir = tempfile::tempdir().unwrap();
    let said = |nth: usize| match ENDING.iter().find(|(ending, _)| *ending == nth) {
        Some((_, how)) => (*how).to_owned(),
        None => format!("beat {nth}"),
    };
    write(dir.path(), "beats", (0..RECORDS).map(said));
    write(dir.path(), "bystander", std::iter::once("looking on".to_owned()));
    let own = "ends_process::a_record_that_ends_the_process_is_put_aside_after_so_many_deaths_and_all_others_are_applied_once";
    let deaths = deaths_of(own, dir.path());
    // Once in its batch, then twice alone; the second was in the same batch, and is suspect already.
    assert_eq!(deaths, 5);
    tried("a_record_that_ends_the_process_is_put_aside_after_so_many_deaths_and_all_others_are_applied_once", deaths as usize);

    karst::run(async {
        let engine = start(dir.path(), settings).await?;
        engine.drain().await?;
        let sums = outcomes(&engine);
        assert_eq!((sums.records, sums.applied, sums.dead_letters), (RECORDS as u64 + 1, RECORDS as u64 - 1, 2));
        let expected: Vec<_> = ENDING.iter().map(|(nth, _)| (*nth, "stream_resolver".to_owned())).collect();
        assert_eq!(letters(&engine, dir.path()), expected);
        assert_eq!(engine.handle().dead_letters("bystander", 9)?.len(), 0, "who only looked on is not to blame");
        let mut beats = vec![0; 50];
        (0..RECORDS).filter(|nth| ENDING.iter().all(|(ending, _)| ending != nth)).for_each(|nth| beats[nth % 50] += 1);
        beats[0] += 1; // the bystander's
        for (nth, expected) in beats.into_iter().enumerate() {
            let answer = engine.query(&karst::QueryRequest::new().input("heart.id", format!("h{nth}")).output("heart.beats"));
            assert_eq!(answer.data[0].value, Value::Int(expected), "h{nth}");
        }
        assert!(engine.handle().health().healthy);
        engine.shutdown().await
    })
    .unwrap();
}

#[test]
fn a_resolver_that_never_returns_is_named_and_its_record_put_aside_once_the_process_has_ended_itself_over_it() {
    let settings = EngineSettings { deaths_before_aside: 1, stuck_after_s: 1, stuck_abort_after_s: 3, workers: 8, ..small() };
    if is_child() {
        return run_to_the_end(settings, async |dir, engine| {
            let handle = engine.handle();
            let stuck = |handle: &karst::EngineHandle| {
                handle.health().problems.into_iter().find(|problem| problem.what.contains("stream_resolver beats[0]"))
            };
            let applied = || outcomes(engine).records == 200;
            until("it is stuck, or done", || stuck(&handle).is_some() || applied()).await;
            if let Some(problem) = stuck(&handle) {
                fs::write(dir.join("named"), format!("{problem:?}")).unwrap();
            }
        });
    }
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "beats", (0..200).map(|nth| if nth == 150 { "never".to_owned() } else { "beat".to_owned() }));
    write(dir.path(), "bystander", std::iter::empty());
    let own = "ends_process::a_resolver_that_never_returns_is_named_and_its_record_put_aside_once_the_process_has_ended_itself_over_it";
    assert_eq!(deaths_of(own, dir.path()), 2, "once in its batch, once alone");
    let named = fs::read_to_string(dir.path().join("named")).unwrap();
    assert!(named.contains("no progress"), "{named}");
    karst::run(async {
        let engine = start(dir.path(), settings).await?;
        engine.drain().await?;
        assert_eq!(letters(&engine, dir.path()), [(150, "stream_resolver".to_owned())]);
        assert_eq!(outcomes(&engine).applied, 199);
        assert_eq!(column(&engine.handle(), "heart", "said").len(), 50);
        engine.shutdown().await
    })
    .unwrap();
}
