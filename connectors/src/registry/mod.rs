//! Schemas from a registry that speaks Confluent's API: by id, kept for good once known.
//!
//! Whose fault it is:
//! - the registry says that it has no such schema → the record's, since the record names the id. Remembered for
//!   [`SchemaRegistry::unknown_for`], then asked again: a schema may be registered late, or restored;
//! - anything else (not reachable, too slow, 5xx, wrong credentials, an answer that is none) → a dependency is missing:
//!   [`Unavailable`], to be tried again. No record is ever blamed for it.

mod client;
mod stub;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use karst_types::TimeSpan;
use parking_lot::RwLock;

use crate::{Unavailable, settings::IntoTimeSpan};
use client::{Answer, Client};
pub use stub::{StubMode, StubRegistry};

/// Schemas that one schema may refer to, directly or not.
const REFERENCES_MAX: usize = 256;

/// How to reach a schema registry. Clones share what has been learned.
///
/// ```
/// use karst_connectors::SchemaRegistry;
/// let registry = SchemaRegistry::new("https://registry.example.com").basic_auth("karst", "secret").timeout("2s");
/// ```
#[derive(Clone)]
pub struct SchemaRegistry {
    settings: Settings,
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Settings {
    urls: Vec<String>,
    credentials: Option<(String, String)>,
    ca_file: Option<String>,
    timeout: TimeSpan,
    unknown_for: TimeSpan,
    problems: Vec<String>,
}

#[derive(Default)]
struct Shared {
    client: OnceLock<Result<Client, String>>,
    schemas: RwLock<HashMap<u32, Entry>>,
    /// Which URL is asked; moves on when it fails.
    url: AtomicUsize,
    /// Failures in a row.
    failures: AtomicUsize,
}

enum Entry {
    Known(Arc<RegisteredSchema>),
    /// Since when, and in words.
    Unknown(Duration, String),
}

/// A schema as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// `AVRO`, `PROTOBUF` or `JSON`.
    pub kind: String,
    /// The schema itself.
    pub text: String,
    /// The schemas that it refers to, each after those that it refers to itself: name, text.
    pub references: Vec<(String, String)>,
}

impl SchemaRegistry {
    /// A registry at this URL, such as `http://localhost:8081`. User and password may stand in it; they are never printed.
    pub fn new(url: impl AsRef<str>) -> Self {
        let settings = Settings {
            urls: Vec::new(),
            credentials: None,
            ca_file: None,
            timeout: TimeSpan::from_secs(5),
            unknown_for: TimeSpan::from_secs(30),
            problems: Vec::new(),
        };
        Self { settings, shared: Arc::default() }.url(url)
    }
    /// Adds URLs of the same registry, by commas or spaces: when one fails, the next is asked.
    #[must_use]
    pub fn url(mut self, urls: impl AsRef<str>) -> Self {
        for url in urls.as_ref().split([',', ' ']).filter(|url| !url.is_empty()) {
            match split_url(url) {
                Ok((url, credentials)) => {
                    self.settings.urls.push(url);
                    self.settings.credentials = self.settings.credentials.or(credentials);
                }
                Err(problem) => self.settings.problems.push(problem),
            }
        }
        self
    }
    /// User and password; the password is never printed.
    #[must_use]
    pub fn basic_auth(mut self, username: impl Into<String>, password: impl Into<String>) -> Self {
        self.settings.credentials = Some((username.into(), password.into()));
        self
    }
    /// A PEM file with the certificates to trust; default: those that Mozilla trusts.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<String>) -> Self {
        self.settings.ca_file = Some(path.into());
        self
    }
    /// How long one request may take in all. Default 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: impl IntoTimeSpan) -> Self {
        match timeout.into_time_span() {
            Ok(timeout) => self.settings.timeout = timeout,
            Err(why) => self.settings.problems.push(format!("timeout: {why}")),
        }
        self
    }
    /// How long an id that the registry does not know stays unknown before it is asked for again. Default 30 s.
    #[must_use]
    pub fn unknown_for(mut self, span: impl IntoTimeSpan) -> Self {
        match span.into_time_span() {
            Ok(span) => self.settings.unknown_for = span,
            Err(why) => self.settings.problems.push(format!("unknown_for: {why}")),
        }
        self
    }

    /// Everything that is wrong with the settings.
    pub(crate) fn problems(&self) -> Vec<String> {
        let Settings { urls, ca_file, timeout, unknown_for, problems, .. } = &self.settings;
        let mut problems = problems.clone();
        if urls.is_empty() && problems.is_empty() {
            problems.push("no URL, such as http://localhost:8081".to_owned());
        }
        // A request must end before a stage that waits for it counts as stuck.
        if *timeout < TimeSpan::from_millis(10) || *timeout > TimeSpan::from_secs(20) {
            problems.push("timeout must lie between 10ms and 20s".to_owned());
        }
        if *unknown_for < TimeSpan::ZERO {
            problems.push("unknown_for must not be negative".to_owned());
        }
        // Read now: what is wrong with a file of ours is no fault of the registry's, to be waited for.
        problems.extend(ca_file.as_ref().and_then(|path| client::certificates(path).err()));
        problems.into_iter().map(|problem| format!("schema_registry: {problem}")).collect()
    }

    /// `schema registry http://localhost:8081`
    pub(crate) fn called(&self) -> String {
        format!("schema registry {}", self.settings.urls.join(", "))
    }

    /// What is known of a schema, without asking: `None` if nothing is, `Err` in words if the registry has no such schema.
    pub fn known(&self, id: u32) -> Option<Result<Arc<RegisteredSchema>, String>> {
        match self.shared.schemas.read().get(&id)? {
            Entry::Known(schema) => Some(Ok(Arc::clone(schema))),
            Entry::Unknown(_, why) => Some(Err(why.clone())),
        }
    }

    /// Whether the registry is to be asked for this id at `now` (the clock's `elapsed()`).
    pub(crate) fn wants(&self, id: u32, now: Duration) -> bool {
        match self.shared.schemas.read().get(&id) {
            None => true,
            Some(Entry::Known(_)) => false,
            Some(Entry::Unknown(since, _)) => {
                let stays = Duration::from_micros(self.settings.unknown_for.micros().max(0).unsigned_abs());
                now.saturating_sub(*since) > stays
            }
        }
    }

    /// Asks for a schema, once, at one of the URLs. `Ok` is progress: the schema is known or known to be unknown, or another
    /// URL is to be tried next.
    ///
    /// # Errors
    /// [`Unavailable`] when none of the URLs has answered.
    pub(crate) fn fetch(&self, id: u32, now: Duration) -> impl Future<Output = Result<(), Unavailable>> + Send + 'static {
        let this = self.clone();
        async move {
            let (urls, failures) = (this.settings.urls.len().max(1), &this.shared.failures);
            let url = this.settings.urls.get(this.shared.url.load(Ordering::Relaxed) % urls).cloned().unwrap_or_default();
            let (asks, asked) = (this.clone(), url.clone());
            // Blocking, but rare: once per schema. Not on the arbiter, which other partitions share.
            let answer = tokio::task::spawn_blocking(move || asks.ask(&asked, id)).await;
            let entry = match answer.unwrap_or_else(|gone| Err(format!("asking was cut off: {gone}"))) {
                Ok(Ok(schema)) => {
                    metrics::counter!("karst_schema_registry_requests_total", "answer" => "schema").increment(1);
                    tracing::info!(id, url, kind = schema.kind, "schema fetched");
                    Entry::Known(Arc::new(schema))
                }
                Ok(Err(why)) => {
                    metrics::counter!("karst_schema_registry_requests_total", "answer" => "unknown").increment(1);
                    Entry::Unknown(now, format!("schema registry {url}: {why}"))
                }
                Err(why) => {
                    metrics::counter!("karst_schema_registry_requests_total", "answer" => "failure").increment(1);
                    this.shared.url.fetch_add(1, Ordering::Relaxed);
                    let failed = failures.fetch_add(1, Ordering::Relaxed) + 1;
                    if failed % urls == 0 {
                        return Err(Unavailable(format!("schema registry {url}: {why} (asked for schema {id})")));
                    }
                    return Ok(());
                }
            };
            failures.store(0, Ordering::Relaxed);
            this.shared.schemas.write().insert(id, entry);
            Ok(())
        }
    }

    fn client(&self) -> Result<&Client, String> {
        let make = || Client::new(&self.settings);
        self.shared.client.get_or_init(make).as_ref().map_err(Clone::clone)
    }

    /// The schema with everything it refers to. Outside: whether the registry answered; inside: whether it has it.
    fn ask(&self, url: &str, id: u32) -> Result<Result<RegisteredSchema, String>, String> {
        let client = self.client()?;
        let found = match client.get(&format!("{url}/schemas/ids/{id}"))? {
            Answer::Unknown(why) => return Ok(Err(format!("there is no schema {id}, or none any more: {why}"))),
            Answer::Schema(found) => found,
        };
        let mut references: Vec<(String, String)> = Vec::new();
        // Depth first; what was begun is put behind what it refers to.
        let mut open: Vec<(client::Reference, Option<String>)> =
            found.references.into_iter().rev().map(|reference| (reference, None)).collect();
        let mut asked = 0;
        while let Some((reference, text)) = open.pop() {
            if references.iter().any(|(name, _)| *name == reference.name) {
                continue;
            }
            if let Some(text) = text {
                references.push((reference.name, text));
                continue;
            }
            asked += 1;
            if asked > REFERENCES_MAX {
                return Ok(Err(format!("schema {id} refers to more than {REFERENCES_MAX} others, or to itself")));
            }
            let subject = client::escaped(&reference.subject);
            match client.get(&format!("{url}/subjects/{subject}/versions/{}", reference.version))? {
                Answer::Unknown(why) => {
                    return Ok(Err(format!(
                        "schema {id} refers to \"{}\" version {}, which is not there: {why}",
                        reference.subject, reference.version
                    )));
                }
                Answer::Schema(inner) => {
                    open.push((reference, Some(inner.schema)));
                    open.extend(inner.references.into_iter().rev().map(|reference| (reference, None)));
                }
            }
        }
        Ok(Ok(RegisteredSchema { kind: found.kind, text: found.schema, references }))
    }

    /// Registers a schema under a subject and returns its id. Blocks; for tools, demos and tests.
    ///
    /// # Errors
    /// [`Unavailable`], also where the registry refuses the schema: the text says which.
    pub fn register(&self, subject: &str, kind: &str, schema: &str) -> Result<u32, Unavailable> {
        let url = self.settings.urls.first().cloned().unwrap_or_default();
        let client = self.client().map_err(Unavailable)?;
        client
            .register(&format!("{url}/subjects/{}/versions", client::escaped(subject)), kind, schema)
            .map_err(|why| Unavailable(format!("schema registry {url}: {why} (registering under \"{subject}\")")))
    }
}

/// Without user and password, which are split off, and without a slash at its end.
fn split_url(url: &str) -> Result<(String, Option<(String, String)>), String> {
    let wrong = || "expected a URL such as http://localhost:8081".to_owned(); // which may hold a password: not quoted
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let (credentials, host) = match rest.rsplit_once('@') {
        Some((credentials, host)) => {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            (Some((user.to_owned(), password.to_owned())), host)
        }
        None => (None, rest),
    };
    if !["http", "https"].contains(&scheme) || host.is_empty() || host.starts_with('/') {
        return Err(wrong());
    }
    Ok((format!("{scheme}://{}", host.trim_end_matches('/')), credentials))
}

impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchemaRegistry({})", self.settings.urls.join(", "))
    }
}

#[cfg(test)]
mod settings_tests {
    use super::*;

    #[test]
    fn user_and_password_are_taken_out_of_the_url_and_are_never_printed() {
        let registry = SchemaRegistry::new("http://ada:s3cret@localhost:8081/apis/ccompat/v7/");
        assert_eq!(registry.settings.urls, ["http://localhost:8081/apis/ccompat/v7"]);
        assert_eq!(registry.settings.credentials, Some(("ada".into(), "s3cret".into())));
        assert!(!format!("{registry:?}").contains("s3cret"));
        let wrong = SchemaRegistry::new("ada:s3cret@localhost");
        assert!(!wrong.problems().is_empty() && !wrong.problems()[0].contains("s3cret"));
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        assert_eq!(SchemaRegistry::new("http://r:1").problems(), Vec::<String>::new());
        assert_eq!(SchemaRegistry::new("http://r:1").timeout("1h").problems().len(), 1);
        assert_eq!(SchemaRegistry::new("").problems().len(), 1);
        assert_eq!(SchemaRegistry::new("http://r:1").ca_file("/no/such/file").timeout("soon").problems().len(), 2);
    }
}
