// A windowed feature follows what resolvers write, and is not written itself.
use karst::prelude::*;

#[derive(Message)]
struct Login {
    user_id: String,
    status: String,
}

#[features(key = "id")]
struct User {
    id: String,
    status: String,
    #[windowed("10m", count)]
    logins: Windowed<i64>,
}

#[stream(source = "logins")]
fn on_login(login: Login) -> Updates![User::id, User::logins] {
    updates!(login.user_id, 1)
}

fn main() {}
