// Options that do not exist, stand twice, or are not of their kind: all are told at once.
use karst::prelude::*;

#[features(key = "id", staleness = "1d", owner = 7)]
struct User {
    id: String,
    #[feature(max_stalenes = "1d")]
    last_page: String,
    #[feature(owner = "a", owner = "b", tags = "pii")]
    clicks: i64,
    #[feature]
    views: i64,
}

fn main() {}
