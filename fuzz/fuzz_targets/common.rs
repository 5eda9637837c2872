//! What the targets share: messages, and one record through a decoder.

use karst_connectors::{DecodedRecord, Format, SourceSettings};
use karst_types::{BrokerTime, EventTime, Message, MessageSchema, Offset, PartitionId, Records, message::Messages};
use serde::Deserialize;

/// Of each kind of field something.
#[derive(Deserialize, Debug, Clone, PartialEq)]
pub struct Mixed {
    pub name: String,
    pub amount: f64,
    pub count: Option<i64>,
    #[serde(default)]
    pub small: Option<u8>,
    #[serde(default)]
    pub items: Vec<i32>,
    #[serde(default)]
    pub raw: Option<Vec<u8>>,
    #[serde(default)]
    pub at: Option<EventTime>,
    #[serde(default)]
    pub flag: bool,
}

impl Message for Mixed {
    fn schema() -> &'static MessageSchema {
        &MessageSchema { name: "Mixed", fields: &[], event_time: None }
    }
}

/// Decodes the values as one batch.
pub fn decode<M: Message>(format: impl Into<Format>, values: &[&[u8]]) -> Vec<Result<M, DecodedRecord>> {
    let mut records = Records::new("fuzz".into(), PartitionId(0));
    for (offset, value) in values.iter().enumerate() {
        records.push(Offset(offset as i64), BrokerTime(0), None, Some(value));
    }
    let mut decoded = format.into().decoder::<M>(&SourceSettings::new("fuzz")).decode(&records);
    let messages = decoded.messages.as_any_mut().downcast_mut::<Messages<M>>().expect("messages of the type asked for");
    assert_eq!((messages.slots.len(), decoded.events.len()), (values.len(), values.len()), "one result for each record");
    messages
        .slots
        .drain(..)
        .zip(decoded.events)
        .map(|(slot, event)| {
            if let DecodedRecord::Fault { error, .. } = &event {
                assert!(!error.is_empty() && error.len() < 2_000, "an error that can be kept: {error}");
            }
            slot.ok_or(event)
        })
        .collect()
}
