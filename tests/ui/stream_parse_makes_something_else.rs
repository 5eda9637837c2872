// The parse function makes another message than the resolver takes.
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

fn get_page(event: &Event) -> Option<String> {
    event.click.as_ref().map(|click| click.page.clone())
}

#[stream(source = "events", parse = get_page)]
fn on_click(click: Click) -> Updates![User::id, User::last_page] {
    updates!(click.user_id, click.page)
}

#[stream(source = "events", parse = get_page)]
fn on_click_by_reference(click: &Click) -> Updates![User::id, User::last_page] {
    updates!(click.user_id.clone(), click.page.clone())
}

fn main() {}
