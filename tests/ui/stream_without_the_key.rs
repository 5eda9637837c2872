// The key of the class is not among the features.
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
fn on_click(click: &Click) -> Updates![User::last_page, User::clicks] {
    updates!(click.page.clone(), 1)
}

fn main() {}
