// Message writes Deserialize; deriving it too makes two.
use karst::prelude::*;

#[derive(Message, karst::serde::Deserialize)]
#[serde(crate = "karst::serde")]
struct Click {
    user_id: String,
}

fn main() {}
