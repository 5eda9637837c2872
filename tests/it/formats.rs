//! Records of other formats than JSON, through the whole engine.

use karst::{Engine, Format, MemorySource, Outcomes, Reason, Value, prelude::*};

use crate::world::{column, outcomes, small};

#[features(key = "word")]
struct Word {
    word: String,
    seen: bool,
}

#[stream(source = "words")]
fn on_word(word: String) -> Updates![Word::word, Word::seen] {
    updates!(word, true)
}

#[features(key = "length")]
struct Blob {
    length: i64,
    first: i64,
}

#[stream(source = "blobs")]
fn on_blob(bytes: Vec<u8>) -> Updates![Blob::length, Blob::first] {
    updates!(bytes.len() as i64, bytes.first().copied().map_or(-1, i64::from))
}

#[tokio::test(flavor = "current_thread")]
async fn a_resolver_may_take_a_text_or_bytes_as_its_message() {
    let dir = tempfile::tempdir().unwrap();
    let words = MemorySource::new("words").format(Format::text());
    let blobs = MemorySource::new("blobs").format(Format::bytes());
    words.send("ada").await.unwrap();
    words.send(b"\xff").await.unwrap();
    blobs.send(b"\xff\x00").await.unwrap();
    let engine = Engine::builder(dir.path()).settings(small()).source(words).source(blobs).resolver(on_word).resolver(on_blob);
    let engine = engine.start().await.unwrap();
    engine.drain().await.unwrap();
    assert_eq!(column(&engine.handle(), "word", "seen"), [("ada".to_owned(), Value::Bool(true))].into());
    assert_eq!(column(&engine.handle(), "blob", "first"), [("Int(2)".to_owned(), Value::Int(255))].into());
    let sums = outcomes(&engine);
    assert_eq!(sums, Outcomes { records: 3, applied: 2, dead_letters: 1, ..Outcomes::default() });
    assert_eq!(engine.handle().dead_letters("words", 10).unwrap()[0].letter.reason, Reason::NotUtf8);
    engine.shutdown().await.unwrap();
}
