// Shapes that are no messages.
use karst::prelude::*;

#[derive(Message)]
enum Click {
    Left,
    Right,
}

#[derive(Message)]
struct Page(String);

#[derive(Message)]
struct Borrowed<'a> {
    page: &'a str,
}

fn main() {}
