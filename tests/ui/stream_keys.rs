// Keys that are taken from the message: of no class that is written, no key, no field, and unreadable.
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

#[stream(source = "clicks", keys(user_id = User::id, page = Page::id))]
fn another_class(click: &Click) -> Updates![User::last_page] {
    updates!(click.page.clone())
}

#[stream(source = "clicks", keys(user_id = User::clicks))]
fn no_key(click: &Click) -> Updates![User::last_page] {
    updates!(click.page.clone())
}

#[stream(source = "clicks", keys(user = User::id))]
fn no_field(click: &Click) -> Updates![User::last_page] {
    updates!(click.page.clone())
}

#[stream(source = "clicks", keys("user_id" = User::id))]
fn unreadable(click: &Click) -> Updates![User::last_page] {
    updates!(click.page.clone())
}

fn main() {}
