// One feature, or none, or one twice.
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
fn one(click: &Click) -> Updates![User::id] {
    updates!(click.user_id.clone())
}

#[stream(source = "clicks")]
fn none(click: &Click) -> Updates![] {
    todo!()
}

#[stream(source = "clicks")]
fn twice(click: &Click) -> Updates![User::id, User::id] {
    updates!(click.user_id.clone(), click.user_id.clone())
}

fn main() {}
