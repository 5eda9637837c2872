// The argument is not a message.
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

struct Page;

#[stream(source = "clicks")]
fn on_click(_page: &Page) -> Updates![User::id, User::clicks] {
    updates!(String::new(), 1)
}

fn main() {}
