// Options that do not exist, a unit that does not exist, a check that is no path: all are told at once.
use karst::prelude::*;

#[derive(Message)]
#[message(chek = "check", check = 7)]
#[serde(default)]
struct Click {
    #[message(event_tim)]
    at: EventTime,
    #[message(event_time = "minutes")]
    sent_at: EventTime,
}

fn main() {}
