// The key is not named.
use karst::prelude::*;

#[features]
struct User {
    id: String,
    last_page: String,
}

fn main() {}
