//! One request to a schema registry, and what its answer means.

use std::{fs, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use ureq::{
    Agent,
    http::StatusCode,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::Settings;

/// Bytes of an answer; a schema is a few KB.
const ANSWER_MAX: u64 = 8 << 20;
/// What Confluent's API takes and gives.
const MEDIA: &str = "application/vnd.schemaregistry.v1+json";

/// A schema in an answer.
#[derive(Deserialize, Debug)]
pub(super) struct Found {
    pub(super) schema: String,
    #[serde(rename = "schemaType", default = "avro")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) references: Vec<Reference>,
}

/// A schema that a schema refers to.
#[derive(Deserialize, Debug)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) subject: String,
    pub(super) version: i64,
}

fn avro() -> String {
    "AVRO".to_owned() // left out for Avro, the first kind there was
}

#[derive(Deserialize)]
struct Refusal {
    error_code: i64,
    #[serde(default)]
    message: String,
}

/// What the registry has to say about a schema.
pub(super) enum Answer {
    Schema(Found),
    /// It does not have it; in its own words.
    Unknown(String),
}

pub(super) struct Client {
    agent: Agent,
    authorization: Option<String>,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let timeout = Duration::from_micros(settings.timeout.micros().unsigned_abs());
        let mut config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(3)
            .user_agent(concat!("karst/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &settings.ca_file {
            let certificates = certificates(path)?;
            config = config.tls_config(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build());
        }
        let authorization = settings
            .credentials
            .as_ref()
            .map(|(user, password)| format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
        Ok(Self { agent: Agent::new_with_config(config.build()), authorization })
    }

    /// # Errors
    /// The registry did not answer, or not as a registry does.
    pub(super) fn get(&self, url: &str) -> Result<Answer, String> {
        let mut request = self.agent.get(url).header("Accept", MEDIA);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let (status, body) = read(request.call())?;
        match status {
            StatusCode::OK => serde_json::from_str(&body).map(Answer::Schema).map_err(|_| not_a_registry(status)),
            // Only in the registry's own form: a proxy's 404, or a wrong path in the URL, is nobody's schema.
            StatusCode::NOT_FOUND => match serde_json::from_str::<Refusal>(&body) {
                Ok(refusal) if (40_401..=40_499).contains(&refusal.error_code) => Ok(Answer::Unknown(refusal.message)),
                _ => Err(not_a_registry(status)),
            },
            _ => Err(refused(status, &body)),
        }
    }

    /// Registers a schema and returns its id.
    pub(super) fn register(&self, url: &str, kind: &str, schema: &str) -> Result<u32, String> {
        #[derive(Deserialize)]
        struct Registered {
            id: u32,
        }
        let mut request = self.agent.post(url).header("Content-Type", MEDIA).header("Accept", MEDIA);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let body = serde_json::json!({ "schema": schema, "schemaType": kind }).to_string();
        let (status, body) = read(request.send(body))?;
        match status {
            StatusCode::OK => {
                serde_json::from_str::<Registered>(&body).map(|registered| registered.id).map_err(|_| not_a_registry(status))
            }
            _ => Err(refused(status, &body)),
        }
    }
}

/// The certificates of a PEM file; at least one.
pub(super) fn certificates(path: &str) -> Result<Vec<Certificate<'static>>, String> {
    let pem = fs::read(path).map_err(|error| format!("ca_file {path}: {error}"))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() { Err(format!("ca_file {path} holds no certificate")) } else { Ok(certificates) }
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(StatusCode, String), String> {
    let mut response = response.map_err(|error| format!("cannot be reached: {error}"))?;
    let status = response.status();
    let body = response.body_mut().with_config().limit(ANSWER_MAX).read_to_string();
    body.map(|body| (status, body)).map_err(|error| format!("its answer could not be read: {error}"))
}

fn refused(status: StatusCode, body: &str) -> String {
    let why = serde_json::from_str::<Refusal>(body).map(|refusal| format!(": {}", refusal.message)).unwrap_or_default();
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!("refuses user and password ({status}){why}"),
        _ => format!("answers {status}{why}"),
    }
}

fn not_a_registry(status: StatusCode) -> String {
    format!("answers {status}, but not as a schema registry does: is the path in the URL right?")
}

/// A subject as a segment of a path.
pub(super) fn escaped(segment: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    segment.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_subject_is_one_segment_of_the_path() {
        assert_eq!(super::escaped("a/b c-value.proto"), "a%2Fb%20c-value.proto");
    }
}
