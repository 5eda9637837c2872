// Shapes that are no feature classes.
use karst::prelude::*;

#[features(key = "id")]
enum User {
    Known,
}

#[features(key = "id")]
struct Pair(String, String);

#[features(key = "id")]
struct Generic<T> {
    id: T,
}

fn main() {}
