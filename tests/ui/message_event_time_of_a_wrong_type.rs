// An event time that is no time.
use karst::prelude::*;

#[derive(Message)]
struct Click {
    user_id: String,
    #[message(event_time)]
    at: String,
}

fn main() {}
