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

#[derive(Message)]
struct Card {
    id: String,
    amount: f64,
}

#[features(key = "id")]
#[allow(dead_code)]
struct Holder {
    id: String,
    amount: f64,
}

#[stream(source = "cards")]
fn on_card(card: Card) -> Updates![Holder::id, Holder::amount] {
    updates!(card.id, card.amount)
}

#[tokio::test(flavor = "current_thread")]
async fn a_document_that_does_not_hold_against_the_json_schema_is_a_dead_letter_that_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let cards = MemorySource::new("cards").format(Format::json().schema(r#"{"properties": {"amount": {"maximum": 100}}}"#));
    for amount in [1, 101, 2] {
        cards.send(format!(r#"{{"id": "ada", "amount": {amount}}}"#)).await.unwrap();
    }
    let engine = Engine::builder(dir.path()).settings(small()).source(cards).resolver(on_card).start().await.unwrap();
    engine.drain().await.unwrap();
    assert_eq!(column(&engine.handle(), "holder", "amount"), [("ada".to_owned(), Value::Float(2.0))].into());
    assert_eq!(outcomes(&engine), Outcomes { records: 3, applied: 2, dead_letters: 1, ..Outcomes::default() });
    let letter = engine.handle().dead_letters("cards", 10).unwrap().remove(0).letter;
    assert_eq!((letter.offset.0, letter.reason), (1, Reason::SchemaMismatch));
    assert!(letter.error.starts_with("field \"/amount\": value is greater than the maximum of 100"), "{}", letter.error);
    assert_eq!(letter.value.as_deref(), Some(&br#"{"id": "ada", "amount": 101}"#[..]), "the record as it came");
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn an_engine_with_a_broken_json_schema_does_not_start_and_names_source_and_setting() {
    let dir = tempfile::tempdir().unwrap();
    let cards = MemorySource::new("cards").format(Format::json().schema(r#"{"type": "text"}"#));
    let built = Engine::builder(dir.path()).settings(small()).source(cards).resolver(on_card).start().await;
    let error = built.err().unwrap().to_string();
    assert!(error.contains("cards") && error.contains("format json: schema") && error.contains("\"text\""), "{error}");
}
