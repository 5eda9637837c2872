// What `parse` is set to is not a function of the right shape, or no function at all.
use karst::prelude::*;
#[derive(Message)]
struct Event {
    #[serde(skip)]
    click: Option<Click>,
}

#[derive(Clone)]
struct Click {
    user_id: String,
    page: String,
}

#[features(key = "id")]
struct User {
    id: String,
    last_page: String,
}

const NUMBER: i64 = 7;

#[stream(source = "events", parse = "get_click")]
fn of_text(click: &Click) -> Updates![User::id, User::last_page] {
    updates!(click.user_id.clone(), click.page.clone())
}

#[stream(source = "events", parse = NUMBER)]
fn of_number(click: Click) -> Updates![User::id, User::last_page] {
    updates!(click.user_id, click.page)
}

#[stream(source = "events", parse = get_clic)]
fn of_nothing(click: Click) -> Updates![User::id, User::last_page] {
    updates!(click.user_id, click.page)
}

fn main() {}
