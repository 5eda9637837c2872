// No source, a wrong option, and functions that no resolver can be.
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

#[stream(sorce = "clicks")]
async fn on_click(click: &Click) -> Updates![User::id, User::clicks] {
    updates!(click.user_id.clone(), 1)
}

#[stream(source = "clicks", name = 7)]
unsafe fn generic<T>(click: &mut Click) -> Updates![User::id, User::clicks] {
    updates!(click.user_id.clone(), 1)
}

fn main() {}
