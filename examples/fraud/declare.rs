//! What is asked of logins and card payments: failed logins, and the velocities by which fraud is told.

use karst::prelude::*;

#[derive(Message)]
pub(crate) struct Login {
    user: Str,
    device: Str,
    succeeded: bool,
    #[message(event_time = "ms")]
    at: EventTime,
}

#[derive(Message)]
#[message(check = "Payment::check_amount")]
pub(crate) struct Payment {
    card: Str,
    user: Str,
    merchant: Str,
    category: Str,
    country: Str,
    amount: f64,
    declined: bool,
    #[message(event_time = "ms")]
    at: EventTime,
}

impl Payment {
    fn check_amount(&self) -> Result<(), Invalid> {
        if self.amount > 0.0 { Ok(()) } else { Err(Invalid::new("amount", "a positive number", self.amount)) }
    }
}

/// The mean of it is a ratio.
fn share(is_one: bool) -> f64 {
    f64::from(u8::from(is_one))
}

/// Written by both sources: its windows are as far as the slower of them.
#[features(key = "id")]
#[allow(dead_code)] // a declaration: nobody makes one
pub(crate) struct User {
    id: Str,
    last_device: Str,
    last_login_succeeded: bool,
    last_card: Str,
    last_spent: f64,
    #[windowed("10m", "30m", "1d", count, filter = !last_login_succeeded)]
    failed_logins: Windowed<i64>,
    #[windowed("1d", approx_count_distinct(last_device))]
    devices: Windowed<i64>,
    #[windowed("1d", "7d", approx_count_distinct(last_card))]
    cards: Windowed<i64>,
    #[windowed("1d", sum(last_spent))]
    spent: Windowed<f64>,
}

#[features(key = "id")]
#[allow(dead_code)]
pub(crate) struct Card {
    id: Str,
    last_merchant: Str,
    last_category: Str,
    last_country: Str,
    last_amount: f64,
    last_declined: bool,
    last_payment_at: EventTime,
    #[windowed("10m", "1h", "1d", "7d", count)]
    payments: Windowed<i64>,
    /// To the event, at both edges.
    #[windowed("10m", count, filter = last_amount < 5.0, exact)]
    small_payments: Windowed<i64>,
    #[windowed("10m", "1h", "1d", sum(last_amount))]
    spent: Windowed<f64>,
    #[windowed("1d", "7d", mean(last_amount))]
    mean_amount: Windowed<f64>,
    #[windowed("7d", std(last_amount))]
    std_amount: Windowed<f64>,
    #[windowed("7d", approx_percentile(last_amount, 0.5))]
    median_amount: Windowed<f64>,
    #[windowed("1d", "7d", max(last_amount))]
    max_amount: Windowed<f64>,
    #[windowed("1h", "1d", approx_count_distinct(last_merchant))]
    merchants: Windowed<i64>,
    #[windowed("1h", "1d", mean(share(last_declined)))]
    decline_ratio: Windowed<f64>,
    #[windowed("7d", approx_top_k(last_country, 3))]
    top_countries: Windowed<Vec<Str>>,
    #[windowed("1d", sum(last_amount), group_by = last_category)]
    spent_by_category: Windowed<Groups<Str, f64>>,
    #[windowed("7d", max_by_n(last_merchant, by = last_amount, n = 3))]
    largest_at: Windowed<Vec<Str>>,
    /// The time since the last payment is `now` less the first of these.
    #[windowed("all", last_n(last_payment_at, 2))]
    last_payments_at: Windowed<Vec<EventTime>>,
    /// Of the calendar day (UTC), not of 24 hours.
    #[windowed("1d", sum(last_amount), tumbling)]
    spent_today: Windowed<f64>,
}

#[features(key = "id")]
#[allow(dead_code)]
pub(crate) struct Merchant {
    id: Str,
    last_card: Str,
    last_declined: bool,
    #[windowed("1h", "1d", count)]
    payments: Windowed<i64>,
    #[windowed("1d", approx_count_distinct(last_card))]
    cards: Windowed<i64>,
    #[windowed("1h", "1d", mean(share(last_declined)))]
    decline_ratio: Windowed<f64>,
}

#[stream(source = "logins")]
pub(crate) fn on_login(login: Login) -> Updates![User::id, User::last_device, User::last_login_succeeded] {
    updates!(login.user, login.device, login.succeeded)
}

/// A payment tells something of its card, of who paid, and of the merchant.
#[stream(source = "payments", keys(card = Card::id, user = User::id, merchant = Merchant::id))]
pub(crate) fn on_payment(
    payment: &Payment,
) -> Updates![
    Card::last_merchant,
    Card::last_category,
    Card::last_country,
    Card::last_amount,
    Card::last_declined,
    Card::last_payment_at,
    User::last_card,
    User::last_spent,
    Merchant::last_card,
    Merchant::last_declined,
] {
    updates!(
        payment.merchant.clone(),
        payment.category.clone(),
        payment.country.clone(),
        payment.amount,
        payment.declined,
        payment.at,
        payment.card.clone(),
        payment.amount,
        payment.card.clone(),
        payment.declined,
    )
}
