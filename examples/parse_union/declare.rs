//! The declarations: one topic with two kinds of event, a parse function for each, and a resolver behind it.

use karst::prelude::*;

/// The parent message contains one of the child messages.
#[derive(Message)]
pub(crate) struct UserEventMessage {
    pub(crate) login_event: Option<UserLoginEvent>,
    pub(crate) click_event: Option<UserClickEvent>,
    #[message(event_time = "ms")]
    pub(crate) at: EventTime,
}

#[derive(Message)]
pub(crate) struct UserLoginEvent {
    pub(crate) user_id: String,
    pub(crate) succeeded: bool,
}

#[derive(Message)]
pub(crate) struct UserClickEvent {
    pub(crate) user_id: String,
    pub(crate) page: Page,
}

#[derive(Message)]
pub(crate) struct Page {
    pub(crate) url: String,
}

#[features(key = "id")]
pub(crate) struct User {
    id: String,
    last_login_succeeded: bool,
    last_page: String,
    /// Where the last click came from: topic, partition, offset.
    last_click_record: String,
}

#[features(key = "url", name = "page")]
pub(crate) struct WebPage {
    url: String,
    last_visitor: String,
}

pub(crate) fn get_login_event(event: &UserEventMessage) -> Option<&UserLoginEvent> {
    event.login_event.as_ref()
}

/// An error makes the record a dead letter; `None` only skips the resolver.
pub(crate) fn get_click_event(event: &UserEventMessage) -> Result<Option<&UserClickEvent>, String> {
    match (&event.login_event, &event.click_event) {
        (Some(login), Some(_)) => Err(format!("both a login and a click of {}", login.user_id)),
        (_, click) => Ok(click.as_ref()),
    }
}

/// The key comes from the message, so that the resolver need not return it.
#[stream(source = "user_events", parse = get_login_event, keys(user_id = User::id))]
pub(crate) fn resolve_logins(login: &UserLoginEvent) -> Updates![User::last_login_succeeded] {
    updates!(login.succeeded)
}

/// Two classes at once, one of them keyed by a field inside a field; and it asks for the record.
#[stream(source = "user_events", parse = get_click_event, keys(user_id = User::id, page.url = WebPage::url))]
pub(crate) fn resolve_clicks(
    click: &UserClickEvent,
    record: &Record,
) -> Updates![User::last_page, User::last_click_record, WebPage::last_visitor] {
    updates!(click.page.url.clone(), record.position().to_string(), click.user_id.clone())
}
