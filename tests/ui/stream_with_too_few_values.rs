// Fewer values than features.
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
fn on_click(click: &Click) -> Option<Updates![User::id, User::clicks]> {
    Some(updates!(click.user_id.clone()))
}

fn main() {}
