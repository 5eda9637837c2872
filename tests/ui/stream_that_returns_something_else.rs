// A return type around Updates that means nothing here.
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
fn on_click(click: &Click) -> Box<Updates![User::id, User::clicks]> {
    Box::new(updates!(click.user_id.clone(), 1))
}

fn main() {}
