//! The declaration of a Kafka source, and what becomes of it: a checked set of librdkafka options.
//!
//! A value comes from the builder, else from the environment. Everything that is wrong is reported at once. Secrets are in no
//! `Debug` and in no error.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

use crate::{Error, Format, Result, SchemaRegistry, SourceSettings, settings::source_setters};

type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A source that reads a Kafka topic: every partition of it, without joining a consumer group (`docs/semantics.md`, Delivery:
/// the positions are in Karst's own store; the group's offsets are advice for lag tools).
///
/// Every setting that is not made here is looked up in the environment, as `{NAME}_KAFKA_…` (`NAME` is the source's name in
/// upper case, anything but letters and digits as `_`), then, except for the topic, as `KAFKA_…`:
/// `KAFKA_BOOTSTRAP_SERVER` (a list, by commas or spaces), `_TOPIC`, `_SECURITY_PROTOCOL`, `_SASL_MECHANISM`,
/// `_SASL_USERNAME`, `_SASL_PASSWORD`, `_SSL_KEYSTORE_LOCATION`, `_SSL_KEYSTORE_PASSWORD`, `_SSL_CA_FILE`,
/// `_CLIENT_ID_PREFIX`, `_GROUP_ID_PREFIX`, `_DEAD_LETTER_QUEUE_TOPIC`, `_ADDITIONAL_KAFKA_ARGS` (a JSON object), and for
/// formats with a schema registry `_SCHEMA_REGISTRY_URL`, `_USERNAME`, `_PASSWORD`, `_CA_FILE`.
///
/// ```
/// use karst_connectors::KafkaSource;
/// let flights = KafkaSource::new("flights").bootstrap_server("localhost:9092").late_arrival_deadline("6h");
/// ```
///
/// Memory: at most [`buffer_bytes`](SourceSettings::buffer_bytes) per partition, or its share of half of
/// [`memory`](SourceSettings::memory) if that is less, plus half of `buffer_bytes` once for what librdkafka has
/// prefetched, plus one fetch response in flight (`fetch.max.bytes`, at most `buffer_bytes`, but at least 1 MiB).
#[derive(Clone)]
pub struct KafkaSource {
    pub(super) settings: SourceSettings,
    servers: Vec<String>,
    given: BTreeMap<&'static str, String>,
    args: BTreeMap<String, String>,
    msk_iam_auth: bool,
    read_headers: bool,
    environment: Environment,
}

// Names of settings: the key of `given`, and with a prefix the name in the environment.
const TOPIC: &str = "TOPIC";
const SERVERS: &str = "BOOTSTRAP_SERVER";
const PROTOCOL: &str = "SECURITY_PROTOCOL";
const MECHANISM: &str = "SASL_MECHANISM";
const USERNAME: &str = "SASL_USERNAME";
const PASSWORD: &str = "SASL_PASSWORD";
const KEYSTORE: &str = "SSL_KEYSTORE_LOCATION";
const KEYSTORE_PASSWORD: &str = "SSL_KEYSTORE_PASSWORD";
const CA_FILE: &str = "SSL_CA_FILE";
const CLIENT_PREFIX: &str = "CLIENT_ID_PREFIX";
const GROUP_PREFIX: &str = "GROUP_ID_PREFIX";
const DEAD_LETTERS: &str = "DEAD_LETTER_QUEUE_TOPIC";
const ARGS: &str = "ADDITIONAL_KAFKA_ARGS";
const REGISTRY_URL: &str = "SCHEMA_REGISTRY_URL";
const REGISTRY_USERNAME: &str = "SCHEMA_REGISTRY_USERNAME";
const REGISTRY_PASSWORD: &str = "SCHEMA_REGISTRY_PASSWORD";
const REGISTRY_CA_FILE: &str = "SCHEMA_REGISTRY_CA_FILE";

/// What goes to librdkafka as it is.
const PASSED: [(&str, &str); 7] = [
    (PROTOCOL, "security.protocol"),
    (MECHANISM, "sasl.mechanisms"),
    (USERNAME, "sasl.username"),
    (PASSWORD, "sasl.password"),
    (KEYSTORE, "ssl.keystore.location"),
    (KEYSTORE_PASSWORD, "ssl.keystore.password"),
    (CA_FILE, "ssl.ca.location"),
];

/// Options that Karst's guarantees rest on, and where to turn instead.
const OWNED: [(&str, &str); 11] = [
    (
        "enable.auto.commit",
        "Karst commits a position together with the values made from it; the group's offsets are only advice",
    ),
    ("enable.auto.offset.store", "Karst keeps the positions itself"),
    ("auto.offset.reset", "a gap in the log must stop the partition, not be skipped; for a first start use .start_at(…)"),
    ("enable.partition.eof", "Karst must know when it has caught up"),
    ("allow.auto.create.topics", "a misspelt topic must be an error, not a new topic"),
    ("bootstrap.servers", "use .bootstrap_server(…)"),
    ("metadata.broker.list", "use .bootstrap_server(…)"),
    ("client.id", "use .client_id_prefix(…)"),
    ("group.id", "use .group_id_prefix(…)"),
    ("group.instance.id", "Karst does not join the consumer group"),
    ("log.queue", "the log goes through tracing"),
];

macro_rules! setter {
    ($(#[$doc:meta])* $name:ident, $key:expr) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, value: impl Into<String>) -> Self {
            self.given.insert($key, value.into());
            self
        }
    };
}

impl KafkaSource {
    /// A source that reads the topic of the same name; JSON records, unless told otherwise.
    pub fn new(name: &str) -> Self {
        Self {
            settings: SourceSettings::new(name),
            servers: Vec::new(),
            given: BTreeMap::new(),
            args: BTreeMap::new(),
            msk_iam_auth: false,
            read_headers: true,
            environment: Arc::new(|name| std::env::var(name).ok()),
        }
    }

    /// Adds bootstrap servers: `"host:9092"`, or several by commas or spaces.
    #[must_use]
    pub fn bootstrap_server(mut self, servers: impl AsRef<str>) -> Self {
        self.servers.extend(split(servers.as_ref()));
        self
    }
    /// Adds bootstrap servers.
    #[must_use]
    pub fn bootstrap_servers<S: AsRef<str>>(mut self, servers: impl IntoIterator<Item = S>) -> Self {
        servers.into_iter().for_each(|server| self.servers.extend(split(server.as_ref())));
        self
    }
    setter!(/// The topic, if it is not named like the source.
        topic, TOPIC);
    setter!(/// `PLAINTEXT` (default), `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
        security_protocol, PROTOCOL);
    setter!(/// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`; `GSSAPI` and `OAUTHBEARER` only where librdkafka is built for them.
        sasl_mechanism, MECHANISM);
    setter!(/// The user.
        sasl_username, USERNAME);
    setter!(/// The password; never printed.
        sasl_password, PASSWORD);
    setter!(/// A PKCS#12 key store with the client's certificate and key.
        ssl_keystore_location, KEYSTORE);
    setter!(/// The password of the key store; never printed.
        ssl_keystore_password, KEYSTORE_PASSWORD);
    setter!(/// A PEM file with the certificates to trust; default: the system's.
        ssl_ca_file, CA_FILE);
    setter!(/// `client.id` is this and the name of the source. Default `karst/`.
        client_id_prefix, CLIENT_PREFIX);
    setter!(/// The group to which offsets are committed for lag tools is this and the name of the source. Default `karst/`.
        group_id_prefix, GROUP_PREFIX);
    setter!(/// The topic to which dead letters are sent too, at least once (`docs/semantics.md`, Outcomes and dead letters). They
        /// are kept in the state directory in any case.
        dead_letter_queue_topic, DEAD_LETTERS);

    /// An option of librdkafka, as it is: `("retry.backoff.ms", "250")`.
    #[must_use]
    pub fn additional_kafka_arg(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.args.insert(name.into(), value.into());
        self
    }
    /// Options of librdkafka, as they are.
    #[must_use]
    pub fn additional_kafka_args<K: Into<String>, V: Into<String>>(mut self, args: impl IntoIterator<Item = (K, V)>) -> Self {
        self.args.extend(args.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }
    /// AWS IAM for MSK. Not there yet: an error at start that says what to use instead.
    #[must_use]
    pub fn msk_iam_auth(mut self, on: bool) -> Self {
        self.msk_iam_auth = on;
        self
    }
    /// Whether the headers of records are read. Default: yes. librdkafka takes about 130 ns per record to find out that there are
    /// none; without them dead letters have no headers either.
    #[must_use]
    pub fn read_headers(mut self, on: bool) -> Self {
        self.read_headers = on;
        self
    }
    /// Where settings that are not made come from, instead of the process's environment.
    #[must_use]
    pub fn environment(mut self, lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.environment = Arc::new(lookup);
        self
    }
    source_setters!(settings);

    fn looked_up(&self, setting: &str) -> Option<String> {
        let name: String = self
            .settings
            .name
            .as_str()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        let own = (self.environment)(&format!("{name}_KAFKA_{setting}"));
        own.or_else(|| if setting == TOPIC { None } else { (self.environment)(&format!("KAFKA_{setting}")) })
    }

    /// The format, with the schema registry that the environment names if none was given.
    pub(super) fn resolved_format(&self) -> Format {
        let mut format = self.settings.format.clone();
        format.set_registry(&mut || {
            let get = |setting| self.looked_up(setting).filter(|value| !value.is_empty());
            let registry = SchemaRegistry::new(get(REGISTRY_URL)?);
            let registry = match get(REGISTRY_USERNAME) {
                Some(username) => registry.basic_auth(username, get(REGISTRY_PASSWORD).unwrap_or_default()),
                None => registry,
            };
            Some(get(REGISTRY_CA_FILE).into_iter().fold(registry, SchemaRegistry::ca_file))
        });
        format
    }

    fn value(&self, setting: &'static str) -> Option<String> {
        self.given.get(setting).cloned().or_else(|| self.looked_up(setting)).filter(|value| !value.is_empty())
    }

    /// Everything put together and checked. Touches no network.
    ///
    /// # Errors
    /// [`Error::Config`] with all problems.
    pub fn resolve(&self) -> Result<KafkaConfig> {
        let mut problems = self.settings.clone().with_format(self.resolved_format()).problems();
        let name = self.settings.name.as_str();
        let servers = if self.servers.is_empty() {
            self.looked_up(SERVERS).map(|list| split(&list).collect()).unwrap_or_default()
        } else {
            self.servers.clone()
        };
        if servers.is_empty() {
            let variable = format!("{}_KAFKA_{SERVERS}", name.to_ascii_uppercase());
            problems.push(format!("no bootstrap server: call .bootstrap_server(\"host:9092\"), or set {variable}"));
        }
        problems.extend(servers.iter().filter_map(|server| wrong_server(server)));
        let topic = self.value(TOPIC).unwrap_or_else(|| name.to_owned());
        if topic.is_empty() || topic.len() > 249 || !topic.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            problems.push(format!("topic {topic:?} is no name of a topic: up to 249 letters, digits, '.', '_' and '-'"));
        }

        let letters = self.value(DEAD_LETTERS);
        if letters.as_ref() == Some(&topic) {
            problems.push(format!("dead_letter_queue_topic is the topic that is read, {topic:?}: its letters would come back"));
        }

        let mut options = self.defaults();
        options.insert("bootstrap.servers".into(), servers.join(","));
        for (setting, prefix, option) in [(CLIENT_PREFIX, "karst/", "client.id"), (GROUP_PREFIX, "karst/", "group.id")] {
            let prefix = self.value(setting).unwrap_or_else(|| prefix.to_owned());
            options.insert(option.into(), format!("{prefix}{name}"));
        }
        let args = self.all_args(&mut problems);
        for (setting, option) in PASSED {
            let Some(value) = self.value(setting) else { continue };
            if args.contains_key(option) || (setting == MECHANISM && args.contains_key("sasl.mechanism")) {
                problems
                    .push(format!("{option} is given twice: by {} and in additional_kafka_args", setting.to_ascii_lowercase()));
            }
            options.insert(option.into(), value);
        }
        for (option, value) in args {
            match OWNED.iter().find(|(owned, _)| *owned == option) {
                Some((_, why)) => problems.push(format!("additional_kafka_args must not set {option}: {why}")),
                None => _ = options.insert(if option == "sasl.mechanism" { "sasl.mechanisms".into() } else { option }, value),
            }
        }
        self.check_security(&options, &mut problems);
        for (option, value) in &options {
            if let Some(problem) = wrong_option(option, value) {
                problems.push(problem);
            }
        }
        if !problems.is_empty() {
            return Err(Error::Config { name: self.settings.name.clone(), problems });
        }
        Ok(KafkaConfig {
            topic,
            brokers: servers.join(","),
            dead_letter_queue_topic: letters,
            read_headers: self.read_headers,
            options,
        })
    }

    /// What Karst sets; each can be overridden by `additional_kafka_args` unless it is owned.
    fn defaults(&self) -> BTreeMap<String, String> {
        let buffer = self.settings.buffer_bytes.0;
        let options = [
            ("enable.auto.commit", "false".to_owned()),
            ("enable.auto.offset.store", "false".to_owned()),
            ("auto.offset.reset", "error".to_owned()), // a gap is told, never jumped over
            ("check.crcs", "true".to_owned()),         // librdkafka's default is false
            ("allow.auto.create.topics", "false".to_owned()),
            ("enable.partition.eof", "true".to_owned()),
            ("isolation.level", "read_committed".to_owned()),
            // What a pause throws away and has to be fetched again. Default 64 MiB.
            ("queued.max.messages.kbytes", (buffer / 2 / 1024).clamp(1024, 65_536).to_string()),
            ("queued.min.messages", "100000".to_owned()),
            ("fetch.message.max.bytes", (buffer / 4).clamp(64 << 10, 1 << 20).to_string()),
            ("fetch.max.bytes", buffer.clamp(1 << 20, 50 << 20).to_string()),
            // How long librdkafka stands still when its queue is full; its default of 1 s leaves the engine idle.
            ("fetch.queue.backoff.ms", "5".to_owned()),
            ("fetch.wait.max.ms", "100".to_owned()),
            // A topic that a starting broker does not know yet counts for librdkafka as one that is not there, and goes on doing so
            // for this long after it is known again (default 30 s). Meanwhile it asks for no leader that it lacks.
            ("topic.metadata.propagation.max.ms", "1000".to_owned()),
            ("socket.keepalive.enable", "true".to_owned()),
            ("reconnect.backoff.ms", "100".to_owned()),
            ("reconnect.backoff.max.ms", "10000".to_owned()),
        ];
        options.into_iter().map(|(option, value)| (option.to_owned(), value)).collect()
    }

    fn all_args(&self, problems: &mut Vec<String>) -> BTreeMap<String, String> {
        let mut args = BTreeMap::new();
        if let Some(json) = self.looked_up(ARGS) {
            match serde_json::from_str::<BTreeMap<String, serde_json::Value>>(&json) {
                Ok(given) => args.extend(given.into_iter().map(|(option, value)| match value {
                    serde_json::Value::String(text) => (option, text),
                    other => (option, other.to_string()),
                })),
                Err(_) => {
                    problems.push(format!("KAFKA_{ARGS}: expected a JSON object such as {{\"retry.backoff.ms\": \"250\"}}"))
                }
            }
        }
        args.extend(self.args.clone());
        args
    }

    fn check_security(&self, options: &BTreeMap<String, String>, problems: &mut Vec<String>) {
        if self.msk_iam_auth {
            problems.push("msk_iam_auth is not supported yet; use SASL_SSL with SCRAM-SHA-512, which MSK offers, too".into());
        }
        let option = |name: &str| options.get(name).map(String::as_str);
        let protocol = option("security.protocol").unwrap_or("PLAINTEXT").to_ascii_uppercase();
        if !["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&protocol.as_str()) {
            problems.push(format!("security_protocol {protocol:?}: expected PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"));
        }
        let mechanism = option("sasl.mechanisms").map(str::to_ascii_uppercase);
        if let Some(mechanism) = mechanism.as_deref() {
            let known = ["PLAIN", "GSSAPI", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
            let built = built_with();
            if !known.contains(&mechanism) {
                problems.push(format!("sasl_mechanism {mechanism:?}: expected one of {}", known.join(", ")));
            } else if mechanism == "GSSAPI" && !built.contains("sasl_gssapi") {
                problems.push(
                    "sasl_mechanism GSSAPI (Kerberos): this librdkafka is built without libsasl2; use SCRAM-SHA-512".into(),
                );
            } else if mechanism == "OAUTHBEARER" && option("sasl.oauthbearer.method").is_none() {
                problems.push(
                    "sasl_mechanism OAUTHBEARER: Karst has no token provider yet; use SCRAM-SHA-512, or librdkafka's own provider \
                     through additional_kafka_args (sasl.oauthbearer.method and its companions)"
                        .into(),
                );
            } else if !protocol.starts_with("SASL_") {
                problems
                    .push(format!("sasl_mechanism {mechanism} has no effect with security_protocol {protocol}: use SASL_SSL"));
            }
        }
        if protocol.starts_with("SASL_") {
            if mechanism.is_none() {
                problems.push(format!("security_protocol {protocol} needs a sasl_mechanism"));
            } else if mechanism.as_deref().is_some_and(|mechanism| mechanism == "PLAIN" || mechanism.starts_with("SCRAM")) {
                for (name, setting) in [("sasl.username", "sasl_username"), ("sasl.password", "sasl_password")] {
                    if option(name).is_none() {
                        problems.push(format!("security_protocol {protocol} needs a {setting}"));
                    }
                }
            }
        }
        for (name, setting) in [("ssl.ca.location", "ssl_ca_file"), ("ssl.keystore.location", "ssl_keystore_location")] {
            let Some(path) = option(name) else { continue };
            if path.ends_with(".jks") {
                problems.push(format!(
                    "{setting} {path:?}: librdkafka reads PKCS#12 (keytool -importkeystore -deststoretype PKCS12)"
                ));
            } else if !Path::new(path).exists() {
                problems.push(format!("{setting} {path:?}: there is no such file"));
            }
        }
    }
}

/// What the linked librdkafka can do.
fn built_with() -> String {
    ClientConfig::new().create_native_config().and_then(|config| config.get("builtin.features")).unwrap_or_default()
}

fn split(servers: &str) -> impl Iterator<Item = String> {
    servers.split([',', ' ', '\n', '\t']).filter(|server| !server.is_empty()).map(str::to_owned)
}

fn wrong_server(server: &str) -> Option<String> {
    let address = server.rsplit_once("://").map_or(server, |(_, address)| address);
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(port)) if port > 0 => None,
        _ => Some(format!("bootstrap server {server:?}: expected host:port, such as localhost:9092")),
    }
}

/// What librdkafka has against one option. Its words are used only where they cannot hold a secret.
fn wrong_option(option: &str, value: &str) -> Option<String> {
    if matches!(option, "security.protocol" | "sasl.mechanisms") {
        return None; // judged in our own words
    }
    let error = ClientConfig::new().set(option, value).create_native_config().err()?;
    let rdkafka::error::KafkaError::ClientConfig(_, words, ..) = error else {
        return Some(format!("option {option} cannot be set")); // a NUL byte in it
    };
    Some(match words.as_str() {
        _ if is_secret(option) => format!("option {option}: its value is refused"),
        unknown if unknown.contains(value) || unknown.starts_with("No such") => words,
        _ => format!("{words}: {value:?}"),
    })
}

fn is_secret(option: &str) -> bool {
    ["password", "secret", "pem", "token", "jaas", "oauthbearer.config"].iter().any(|part| option.contains(part))
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(key, value): (&&str, &String)| (key.to_ascii_lowercase(), shown(&key.to_ascii_lowercase(), value));
        f.debug_struct("KafkaSource")
            .field("settings", &self.settings)
            .field("bootstrap_servers", &self.servers)
            .field("given", &self.given.iter().map(shown).collect::<BTreeMap<_, _>>())
            .field("additional_kafka_args", &self.args.keys())
            .finish_non_exhaustive()
    }
}

fn shown(option: &str, value: &str) -> String {
    if is_secret(option) { "(hidden)".to_owned() } else { value.to_owned() }
}

/// A checked configuration.
#[derive(Clone)]
pub struct KafkaConfig {
    /// The topic.
    pub topic: String,
    /// The bootstrap servers, by commas.
    pub brokers: String,
    /// Where dead letters are forwarded to.
    pub dead_letter_queue_topic: Option<String>,
    /// Whether the headers of records are read.
    pub read_headers: bool,
    options: BTreeMap<String, String>,
}

impl KafkaConfig {
    /// The value of a librdkafka option; secrets are hidden.
    pub fn option(&self, name: &str) -> Option<String> {
        self.options.get(name).map(|value| shown(name, value))
    }

    /// What a producer to the same brokers needs.
    pub(super) fn producer(&self) -> ClientConfig {
        const COMMON: [&str; 9] =
            ["bootstrap.servers", "client.id", "security.", "sasl.", "ssl.", "socket.", "reconnect.", "broker.", "enable.ssl."];
        let mut config = ClientConfig::new();
        let common = self.options.iter().filter(|(option, _)| COMMON.iter().any(|prefix| option.starts_with(prefix)));
        common.for_each(|(option, value)| _ = config.set(option, value));
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }

    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        self.options.iter().for_each(|(option, value)| _ = config.set(option, value));
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.options.iter().map(|(option, value)| (option, shown(option, value)))).finish()
    }
}
