//! What is produced: clicks with all the faults that records have, in disorder, to a topic of three partitions.

use std::time::Duration;

use karst::{BrokerTime, KafkaProducer};

use crate::random::Random;

pub const PARTITIONS: usize = 3;
pub const USERS: i64 = 150;

const SECOND: i64 = 1_000_000;
/// 2026-01-01T00:00:00Z
const BEGIN: i64 = 1_767_225_600 * SECOND;

/// What is wrong with a record, if anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Click,
    /// Of another kind than the resolvers want.
    Scroll,
    /// Without a user.
    Anonymous,
    /// Its amount is no number.
    WrongAmount,
    Malformed,
    Tombstone,
}

/// A record, in few bytes; its place in the log is its place in the list of its partition.
#[derive(Clone, Copy, Debug)]
pub struct Produced {
    pub kind: Kind,
    pub user: u16,
    pub amount: i16,
    pub event_time: i64,
    pub broker_time: i64,
}

impl Produced {
    fn random(random: &mut Random, number: usize) -> Self {
        let kind = match random.within(0, 100) {
            0..4 => Kind::Tombstone,
            4..7 => Kind::Malformed,
            7..10 => Kind::WrongAmount,
            10..13 => Kind::Anonymous,
            13..18 => Kind::Scroll,
            _ => Kind::Click,
        };
        // The deadline of both sources is ten minutes.
        let broker_time = BEGIN + number as i64 * 2 * SECOND;
        let behind = match random.within(0, 100) {
            0..70 => random.within(0, 60),
            70..90 => random.within(60, 540),
            90..95 => random.within(540, 900),
            95..99 => random.within(3_600, 26 * 3_600),
            _ => -random.within(60, 600), // ahead, by more than the skew for some
        };
        let (user, amount) = (random.within(0, USERS) as u16, random.within(1, 100) as i16);
        Self { kind, user, amount, event_time: broker_time - behind * SECOND, broker_time }
    }

    pub fn user(&self) -> String {
        format!("u{}", self.user)
    }
    pub fn page(&self) -> String {
        format!("/{}", self.amount % 7)
    }

    fn value(&self) -> Option<String> {
        let Self { user, amount, event_time, .. } = self;
        let page = self.page();
        Some(match self.kind {
            Kind::Tombstone => return None,
            Kind::Malformed => format!(r#"{{"kind": "click", "user_id": "u{user}", "amo"#),
            Kind::WrongAmount => {
                format!(
                    r#"{{"kind": "click", "user_id": "u{user}", "page": "{page}", "amount": "many", "event_time": {event_time}}}"#
                )
            }
            Kind::Anonymous => {
                format!(
                    r#"{{"kind": "click", "user_id": null, "page": "{page}", "amount": {amount}, "event_time": {event_time}}}"#
                )
            }
            Kind::Scroll => format!(r#"{{"kind": "scroll", "user_id": "u{user}", "event_time": {event_time}}}"#),
            Kind::Click => {
                format!(
                    r#"{{"kind": "click", "user_id": "u{user}", "page": "{page}", "amount": {amount}, "event_time": {event_time}}}"#
                )
            }
        })
    }
}

/// Everything that was produced, by partition and offset.
pub type Book = [Vec<Produced>; PARTITIONS];

/// Writes records, and notes them.
pub struct Producer {
    producer: KafkaProducer,
    topic: String,
    random: Random,
    pub book: Book,
}

impl Producer {
    pub fn new(servers: &str, topic: &str, seed: u64) -> Self {
        let producer = KafkaProducer::new(servers).unwrap();
        Self { producer, topic: topic.to_owned(), random: Random::new(seed), book: Book::default() }
    }

    /// A few records at once, then a moment of nothing.
    pub fn burst(&mut self) -> Duration {
        // Now and then more than is read in a moment.
        let most = if self.random.within(0, 60) == 0 { 5_000 } else { 100 };
        for _ in 0..self.random.within(10, most) {
            let partition = self.random.within(0, PARTITIONS as i64) as usize;
            let record = Produced::random(&mut self.random, self.book[partition].len());
            let value = record.value();
            let (time, user) = (BrokerTime(record.broker_time), record.user());
            let value = value.as_deref().map(str::as_bytes);
            self.producer.send(&self.topic, partition as i32, time, Some(user.as_bytes()), value).unwrap();
            self.book[partition].push(record);
        }
        Duration::from_millis(self.random.within(10, 80) as u64)
    }

    /// All of it is in the log.
    pub fn flush(&self) {
        self.producer.flush(Duration::from_secs(60)).unwrap();
    }
    pub fn records(&self) -> usize {
        self.book.iter().map(Vec::len).sum()
    }
}
