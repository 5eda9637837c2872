// The type of the field is not that of the results: told where the type stands, as far as the types alone can tell.
use karst::prelude::*;

#[features(key = "id")]
struct User {
    id: String,
    amount: f64,
    status: Option<String>,
    #[windowed("10m", count)]
    a: Windowed<f64>,
    #[windowed("10m", mean(amount))]
    b: Windowed<i64>,
    #[windowed("10m", max(status))]
    c: Windowed<f64>,
    #[windowed("10m", last_n(status, 3))]
    d: Windowed<String>,
    #[windowed("10m", count, group_by = status)]
    e: Windowed<i64>,
    #[windowed("10m", count, group_by = status)]
    f: Windowed<Groups<i64, i64>>,
    #[windowed("10m", min(amount))]
    g: Windowed<Option<f64>>,
}

fn main() {}
