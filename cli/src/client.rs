//! The HTTP client of the commands that ask a running engine.

use serde_json::Value as Json;
use ureq::Agent;

use crate::{args::UrlArgs, report::Report};

/// Asks one server.
pub(crate) struct Client<'a> {
    agent: Agent,
    at: &'a UrlArgs,
}

/// What it said.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Result<Json, Report> {
        serde_json::from_str(&self.body).map_err(|error| {
            let hint = "is there another server at this address? see --url";
            Report::new("the answer is not JSON").detail(error).hint(hint)
        })
    }

    /// The report of a refusal, in the server's own words.
    pub(crate) fn refusal(&self) -> Report {
        let report = Report::new(format!("the server refused with status {}", self.status));
        match serde_json::from_str::<Json>(&self.body) {
            Ok(body) => {
                let errors = body["errors"].as_array().into_iter().flatten().filter_map(|error| error["message"].as_str());
                let mut details: Vec<&str> = errors.collect();
                if details.is_empty() {
                    details.extend(body["detail"].as_str());
                }
                details.into_iter().fold(report, |report, detail| report.detail(crate::table::escaped(detail)))
            }
            Err(_) => report.detail(crate::table::escaped(&self.body.chars().take(300).collect::<String>())),
        }
    }
}

impl<'a> Client<'a> {
    pub(crate) fn new(at: &'a UrlArgs) -> Result<Self, Report> {
        if !at.url.starts_with("http://") {
            return Err(Report::usage(format!("\"{}\" is not an address that karst can ask", at.url))
                .detail("expected http://HOST:PORT; TLS is not supported yet")
                .hint("for example --url http://127.0.0.1:8080"));
        }
        let agent = Agent::config_builder()
            .timeout_global(Some(at.timeout.to_duration()))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        Ok(Self { agent, at })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer, Report> {
        self.read(self.agent.get(self.url(path)).call())
    }

    pub(crate) fn post(&self, path: &str, body: &Json) -> Result<Answer, Report> {
        let request = self.agent.post(self.url(path)).header("Content-Type", "application/json");
        self.read(request.send(body.to_string()))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.at.url.trim_end_matches('/'))
    }

    fn read(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, Report> {
        let read = answer
            .and_then(|mut answer| Ok(Answer { status: answer.status().as_u16(), body: answer.body_mut().read_to_string()? }));
        read.map_err(|error| {
            Report::new(format!("no answer from {}", self.at.url))
                .detail(error)
                .hint("is `karst run` running? its first line tells the address; see --url and --timeout")
        })
    }
}
