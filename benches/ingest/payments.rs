//! What the benchmark declares: the message, the features, the resolver. As a user would write it; nothing is tuned.

use karst::{Str, prelude::*};

/// A card payment: five of the nine fields of a W1 event.
#[derive(Message)]
#[message(check = "Payment::check_amount")]
pub(crate) struct Payment {
    user_id: Str,
    merchant: Str,
    amount: f64,
    status: Status,
    #[message(event_time = "ms")]
    ts: EventTime,
}

impl Payment {
    fn check_amount(&self) -> Result<(), Invalid> {
        if self.amount > 0.0 { Ok(()) } else { Err(Invalid::new("amount", "a positive number", self.amount)) }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Approved,
    Declined,
    Refunded,
    Pending,
}

impl Status {
    const fn name(&self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Declined => "declined",
            Self::Refunded => "refunded",
            Self::Pending => "pending",
        }
    }
}

#[features(key = "id")]
#[allow(dead_code)] // read through their names
pub(crate) struct User {
    id: Str,
    last_merchant: Str,
    last_amount: f64,
    last_status: Str,
    last_ts: EventTime,
}

#[stream(source = "payments")]
pub(crate) fn on_payment(
    payment: Payment,
) -> Updates![User::id, User::last_merchant, User::last_amount, User::last_status, User::last_ts] {
    updates!(payment.user_id, payment.merchant, payment.amount, Str::const_new(payment.status.name()), payment.ts)
}
