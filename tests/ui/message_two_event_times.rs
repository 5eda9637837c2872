// Two fields want to be the event time.
use karst::prelude::*;

#[derive(Message)]
struct Click {
    user_id: String,
    #[message(event_time)]
    at: EventTime,
    #[message(event_time = "ms")]
    sent_at: EventTime,
}

fn main() {}
