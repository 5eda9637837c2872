// A value that is not of the feature's type.
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
fn on_click(click: &Click) -> Updates![User::id, User::clicks] {
    updates!(click.user_id.clone(), click.page.clone())
}

fn main() {}
