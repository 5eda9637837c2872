// One row with features of two classes.
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

#[features(key = "id")]
struct Page {
    id: String,
    last_user: String,
}

#[stream(source = "clicks")]
fn on_click(click: &Click) -> Updates![User::id, User::last_page, Page::last_user] {
    updates!(click.user_id.clone(), click.page.clone(), click.user_id.clone())
}

fn main() {}
