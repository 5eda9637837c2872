//! What the tests with a schema registry declare, with a real registry and without; and how they write Avro by hand.

use karst::prelude::*;

#[derive(Message)]
pub(crate) struct Payment {
    card: String,
    amount: f64,
    #[message(event_time)]
    at: EventTime,
}

#[features(key = "id")]
#[allow(dead_code)]
pub(crate) struct Card {
    id: String,
    last_amount: f64,
}

#[stream(source = "payments")]
pub(crate) fn on_payment(payment: Payment) -> Updates![Card::id, Card::last_amount] {
    updates!(payment.card, payment.amount)
}

/// In Confluent's wire format.
pub(crate) fn framed(id: u32, parts: &[&[u8]]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), &parts.concat()].concat()
}
/// A text of up to 63 bytes, in Avro.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [&[2 * text.len() as u8][..], text.as_bytes()].concat()
}
