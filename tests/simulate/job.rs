//! The job that is simulated: latest values and windows of users and of pages, from one source.

use karst::{EngineBuilder, prelude::*};

use crate::choices::Choices;

#[derive(Message)]
pub struct Click {
    user: String,
    page: String,
    serial: i64,
    amount: i64,
    act: String,
    #[message(event_time)]
    at: EventTime,
}

#[features(key = "id")]
#[allow(dead_code)]
pub struct User {
    id: String,
    page: String,
    serial: i64,
    amount: i64,
    #[windowed("10m", "1h", "all", count)]
    clicks: Windowed<i64>,
    #[windowed("1h", sum(amount), tumbling)]
    spent: Windowed<i64>,
    #[windowed("1d", max(amount))]
    most: Windowed<i64>,
}

#[features(key = "id")]
#[allow(dead_code)]
pub struct Page {
    id: String,
    user: String,
    serial: i64,
    #[windowed("1h", "all", count)]
    seen: Windowed<i64>,
}

type OfUser = Updates![User::id, User::page, User::serial, User::amount];
type OfPage = Updates![Page::id, Page::user, Page::serial];

fn write_user(click: &Click) -> Option<OfUser> {
    (click.act != "look" && click.act != "scroll")
        .then(|| updates!(click.user.clone(), click.page.clone(), click.serial, click.amount))
}

fn poisonous(click: &Click) {
    assert!(click.act != "poison", "nobody can take record {}", click.serial);
}

/// With another resolver behind it, which panics.
#[stream(source = "clicks")]
fn on_user_and(click: &Click) -> Option<Updates![User::id, User::page, User::serial, User::amount]> {
    write_user(click)
}

#[stream(source = "clicks")]
fn on_user(click: &Click) -> Option<Updates![User::id, User::page, User::serial, User::amount]> {
    poisonous(click);
    write_user(click)
}

/// What an attempt that failed has taken must be there again.
#[stream(source = "clicks")]
fn taking(click: Click) -> Option<Updates![User::id, User::page, User::serial, User::amount]> {
    poisonous(&click);
    write_user(&click)
}

fn not_scrolled(click: &Click) -> Option<&Click> {
    (click.act != "scroll").then_some(click)
}

#[stream(source = "clicks", parse = not_scrolled)]
fn on_page(click: &Click) -> Result<Updates![Page::id, Page::user, Page::serial], String> {
    poisonous(click);
    if click.act == "fail" {
        return Err(format!("record {} was made to fail", click.serial));
    }
    let wrote: OfPage = updates!(click.page.clone(), click.user.clone(), click.serial);
    Ok(wrote)
}

pub fn resolvers(builder: EngineBuilder, choices: &Choices) -> EngineBuilder {
    let builder = match (choices.by_value, choices.pages) {
        (true, _) => builder.resolver(taking),
        (false, true) => builder.resolver(on_user_and),
        (false, false) => builder.resolver(on_user),
    };
    if choices.pages { builder.resolver(on_page) } else { builder }
}
