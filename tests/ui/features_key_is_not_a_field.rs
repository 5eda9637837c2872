// The key is not a field.
use karst::prelude::*;

#[features(key = "user_idd")]
struct User {
    user_id: String,
    last_page: String,
}

fn main() {}
