// Mistakes in the attribute itself: all are told at once, with what may have been meant.
use karst::prelude::*;

#[features(key = "id")]
struct User {
    id: String,
    amount: f64,
    status: String,
    #[windowed("10m", cuont)]
    a: Windowed<i64>,
    #[windowed("10m", mean)]
    b: Windowed<f64>,
    #[windowed("10m", mean(amuont))]
    c: Windowed<f64>,
    #[windowed("10m", count, filtre = status == "x")]
    d: Windowed<i64>,
    #[windowed("10m", count, filter = status.len() > 3)]
    e: Windowed<i64>,
    #[windowed("10m", last_n(amount))]
    f: Windowed<Vec<f64>>,
    #[windowed("10m", max_by_n(amount, status, 3))]
    g: Windowed<Vec<f64>>,
    #[windowed("10m")]
    h: Windowed<i64>,
    #[windowed("10m", count, sum(amount))]
    i: Windowed<i64>,
    #[windowed("10m", count)]
    j: i64,
    k: Windowed<i64>,
    #[windowed("10m", count, filter = id == "ada")]
    l: Windowed<i64>,
    #[windowed("10m", count, filter = amount % 2 == 0)]
    m: Windowed<i64>,
}

fn main() {}
