// Functions are checked by their own types; what they take beyond that is checked by the registry.
use karst::prelude::*;

fn squared(amount: f64) -> f64 {
    amount * amount
}

fn first(amounts: &[f64]) -> f64 {
    amounts[0]
}

#[features(key = "id")]
struct User {
    id: String,
    amount: f64,
    #[windowed("10m", sum(squared(amount, amount)))]
    a: Windowed<f64>,
    #[windowed("10m", sum(first(amount)))]
    b: Windowed<f64>,
    #[windowed("10m", sum(cubed(amount)))]
    c: Windowed<f64>,
}

fn main() {}
