// Two classes in one row: each needs its key, and a feature besides.
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
fn without_a_key(click: &Click) -> Updates![User::id, User::last_page, Page::last_user] {
    updates!(click.user_id.clone(), click.page.clone(), click.user_id.clone())
}

#[stream(source = "clicks")]
fn with_a_key_alone(click: &Click) -> Updates![User::id, User::last_page, Page::id] {
    updates!(click.user_id.clone(), click.page.clone(), click.page.clone())
}

#[stream(source = "clicks")]
fn with_a_feature_that_may_be_null(click: &Click) -> Updates![User::id, User::last_page?] {
    updates!(click.user_id.clone(), Some(click.page.clone()))
}

fn main() {}
