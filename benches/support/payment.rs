//! The message of the benchmarks, as a user would declare it: nothing is tuned.

use karst::{Str, prelude::*};

/// A card payment: five of the nine fields of a W1 event.
#[derive(Message)]
#[message(check = "Payment::check_amount")]
pub(crate) struct Payment {
    pub(crate) user_id: Str,
    pub(crate) merchant: Str,
    pub(crate) amount: f64,
    pub(crate) status: Status,
    #[message(event_time = "ms")]
    pub(crate) ts: EventTime,
}

impl Payment {
    fn check_amount(&self) -> Result<(), Invalid> {
        if self.amount > 0.0 { Ok(()) } else { Err(Invalid::new("amount", "a positive number", self.amount)) }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Approved,
    Declined,
    Refunded,
    Pending,
}

impl Status {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Declined => "declined",
            Self::Refunded => "refunded",
            Self::Pending => "pending",
        }
    }
}
