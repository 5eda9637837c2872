//! What the benchmark declares: the features, the resolver. As a user would write it; nothing is tuned.

use karst::{Str, prelude::*};

use crate::payment::Payment;

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
