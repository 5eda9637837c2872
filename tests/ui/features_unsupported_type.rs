// A type that no feature can have, and one that no key can have.
use karst::prelude::*;
use std::collections::HashMap;

#[features(key = "id")]
struct User {
    id: f64,
    pages: HashMap<String, u32>,
}

fn main() {}
