// The parse function finds a part of the message, and the resolver wants to own it.
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

fn get_click(event: &Event) -> Option<&Click> {
    event.click.as_ref()
}

#[stream(source = "events", parse = get_click)]
fn on_click(click: Click) -> Updates![User::id, User::last_page] {
    updates!(click.user_id, click.page)
}

fn main() {}
