// A resolver that takes more than its message.
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
fn on_click(click: &Click, pages: &[String]) -> Updates![User::id, User::last_page] {
    updates!(click.user_id.clone(), pages[0].clone())
}

#[stream(source = "clicks")]
fn on_click_too(click: &Click, record: &Record, page: &str) -> Updates![User::id, User::last_page] {
    updates!(click.user_id.clone(), format!("{page} {}", record.offset()))
}

fn main() {}
