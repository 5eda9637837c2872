// Resolvers that do not say what they write.
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
fn on_click(_click: &Click) {}

#[stream(source = "clicks")]
fn on_page(click: &Click) -> (String, String) {
    (click.user_id.clone(), click.page.clone())
}

fn main() {}
