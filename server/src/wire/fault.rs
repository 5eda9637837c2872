//! What goes wrong with a request, as the client sees it: a status and a body that says what and where.

use serde::Serialize;

use super::WireError;

/// A request that is refused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// The HTTP status.
    #[serde(skip)]
    pub status: u16,
    /// In words: what is wrong, where, and what was expected.
    pub detail: String,
    /// The same, by feature; empty for what is not about a query's content.
    pub errors: Vec<WireError>,
    /// An id that stands in the server's log too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

impl Fault {
    /// A refusal with this status.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), errors: Vec::new(), trace: None }
    }

    /// 400, as a parse error.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let errors = vec![WireError::request("PARSE_FAILED", detail.clone())];
        Self { status: 400, detail, errors, trace: None }
    }

    /// 400, for mistakes in a query that could be read; `errors` is not empty.
    pub fn query(errors: Vec<WireError>) -> Self {
        let detail = match &errors[..] {
            [one] => one.message.clone(),
            many => {
                let first = many.first().map_or("", |error| error.message.as_str());
                format!("{} errors; the first: {first}", many.len())
            }
        };
        Self { status: 400, detail, errors, trace: None }
    }

    /// Adds the id of the request.
    #[must_use]
    pub fn traced(mut self, trace: String) -> Self {
        self.trace = Some(trace);
        self
    }
}
