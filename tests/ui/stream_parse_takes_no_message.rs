// The parse function takes something that no source can hold.
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

fn get_click(click: &Click) -> Option<Click> {
    Some(click.clone())
}

#[stream(source = "events", parse = get_click)]
fn on_click(click: Click) -> Updates![User::id, User::last_page] {
    updates!(click.user_id, click.page)
}

fn main() {}
