//! What a stage answers when it cannot go on, and what a sender learns from a mailbox.

use std::{error::Error, fmt::Write as _};

use karst_types::{Domain, Retry};

/// A stage could not handle what it was given. [`Retry`] alone decides what the supervisor does:
///
/// - [`Retry::Backoff`], a dependency fault: the stage and the message are kept; the same message is tried again after a
///   backoff, for as long as it takes. No restart is counted.
/// - [`Retry::Never`], a failure of the stage: it is rebuilt and the same message is tried again; past the restart intensity it
///   escalates. The message is not blamed: errors that are the record's own fault are the stage's to put aside.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StageError {
    domain: Domain,
    retry: Retry,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StageError {
    /// `message` says what could not be done, to which named thing: lowercase, no period.
    pub fn new(domain: Domain, retry: Retry, message: impl Into<String>) -> Self {
        Self { domain, retry, message: message.into(), source: None }
    }
    /// Something outside is not there now: try again.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Domain::External, Retry::Backoff, message)
    }
    /// The stage itself is broken: rebuild it.
    pub fn broken(message: impl Into<String>) -> Self {
        Self::new(Domain::Internal, Retry::Never, message)
    }
    /// Adds the error underneath; it is printed by [`StageError::chain`], not by `Display`.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
    /// Who is at fault.
    pub fn domain(&self) -> Domain {
        self.domain
    }
    /// Whether a later try may work.
    pub fn retry(&self) -> Retry {
        self.retry
    }
    /// The message and all that is underneath, joined by colons.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = self.source();
        while let Some(error) = next {
            let _ = write!(text, ": {error}");
            next = error.source();
        }
        text
    }
}

/// The stage has stopped for good, or is draining; what was to be sent came back with the error or was dropped by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("mailbox is closed")]
pub struct Closed;

/// Why a message was not taken. It is handed back.
#[derive(Debug, thiserror::Error)]
pub enum TrySendError<T> {
    /// The lane is full. Wait with `send`, or give up.
    #[error("mailbox is full")]
    Full(T),
    /// The stage has stopped for good, or is draining.
    #[error("mailbox is closed")]
    Closed(T),
}

impl<T> TrySendError<T> {
    /// What was to be sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }
}

/// What a caught panic said.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_every_cause_and_display_only_the_first() {
        let error = StageError::unavailable("could not reach registry \"flights\"").because(std::io::Error::other("timed out"));
        assert_eq!(error.to_string(), "could not reach registry \"flights\"");
        assert_eq!(error.chain(), "could not reach registry \"flights\": timed out");
        assert_eq!((error.domain(), error.retry()), (Domain::External, Retry::Backoff));
    }
}
