// A resolver that takes no message.
use karst::prelude::*;
#[derive(Message)]
struct Click {
    user_id: String,
    page: String,
}

#[features(key = "id")]
struct User {
    id: String,
    last_page: String,
    clicks: i64,
}

#[stream(source = "clicks")]
fn on_click() -> Updates![User::id, User::last_page] {
    updates!(String::new(), String::new())
}

fn main() {}
