//! Classes, sources and resolvers of the configuration file.
//!
//! What they mean together is checked by the same registry that checks declarations in Rust; its mistakes name lines of the
//! file.

use std::{collections::HashMap, path::Path};

use karst::{
    EngineBuilder, Feature, FeatureClass, FileSource, Format, KafkaSource, Registry, SchemaRegistry, Source, StartAt,
    TimeField, TimeSpan, ValueType,
    features::{Location, Mistakes},
    types::time::Unit,
};

use super::{
    document::{Document, Entry, Section, Text},
    windows,
};
use crate::dynamic::{DynamicResolver, EVENT_TIME, Output, UNIT};

/// A source of the file.
#[derive(Clone)]
pub enum DeclaredSource {
    /// `kind = "file"`
    File(Box<FileSource>),
    /// `kind = "kafka"`
    Kafka(Box<KafkaSource>),
}

/// What the file declares.
#[derive(Clone, Default)]
pub struct Declared {
    /// `[[class]]`
    pub classes: Vec<FeatureClass>,
    /// `[[source]]`
    pub sources: Vec<(DeclaredSource, Location)>,
    /// `[[resolver]]`
    pub resolvers: Vec<DynamicResolver>,
}

impl std::fmt::Debug for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = (self.classes.len(), self.sources.len(), self.resolvers.len());
        write!(f, "Declared({} classes, {} sources, {} resolvers)", counts.0, counts.1, counts.2)
    }
}

impl DeclaredSource {
    fn as_source(&self) -> &dyn Source {
        match self {
            Self::File(source) => &**source,
            Self::Kafka(source) => &**source,
        }
    }
    /// Its name.
    pub fn name(&self) -> &str {
        self.as_source().settings().name.as_str()
    }
    /// `file` or `kafka`.
    pub fn kind(&self) -> &'static str {
        self.as_source().kind()
    }
}

impl Declared {
    /// Adds everything to an engine.
    pub fn add_to(self, mut engine: EngineBuilder) -> EngineBuilder {
        for class in self.classes {
            engine = engine.class(class);
        }
        for (source, _) in self.sources {
            engine = match source {
                DeclaredSource::File(source) => engine.source(*source),
                DeclaredSource::Kafka(source) => engine.source(*source),
            };
        }
        self.resolvers.into_iter().fold(engine, EngineBuilder::resolver)
    }

    /// Whether it all goes together, by itself.
    ///
    /// # Errors
    /// Every mistake, with its line.
    pub fn registry(&self) -> Result<Registry, Mistakes> {
        let mut registry = Registry::builder();
        for class in &self.classes {
            registry.add_class(class.clone());
        }
        for (source, at) in &self.sources {
            registry.add_source_at(source.name(), at.clone());
        }
        for resolver in &self.resolvers {
            registry.add_resolver(resolver);
        }
        registry.freeze()
    }
}

/// Reads all declarations; problems go to the document.
pub fn read(document: &Document<'_>, root: &Section<'_, '_>, base: &Path) -> Declared {
    let classes: Vec<FeatureClass> =
        root.sections("class").into_iter().filter_map(|section| class(document, section)).collect();
    let types = classes
        .iter()
        .flat_map(|class| class.features().iter().map(|feature| (class.fqn(&feature.name), (feature.ty, feature.nullable))))
        .collect();
    let sources = root.sections("source").into_iter().filter_map(|section| source(document, section, base)).collect();
    let resolvers = root.sections("resolver").into_iter().filter_map(|section| resolver(section, &types)).collect();
    let declared = Declared { classes, sources, resolvers };
    if let Err(mistakes) = declared.registry() {
        for mistake in mistakes.iter() {
            let place = mistake.at.as_ref().map_or_else(|| "the declarations".to_owned(), ToString::to_string);
            document.problem_elsewhere(place, mistake.what.clone(), mistake.hint.clone());
        }
    }
    declared
}

fn class(document: &Document<'_>, section: Section<'_, '_>) -> Option<FeatureClass> {
    let name = section.required("name", "user");
    let key = section.required("key", "id");
    let max_staleness: Option<TimeSpan> = section.parsed("max_staleness");
    let (description, owner, tags) = (section.text("description"), section.text("owner"), section.texts("tags"));
    let features = section.section("features");
    if features.is_none() {
        section.problem("lacks [class.features], with lines such as: id = \"str\"", None);
    }
    let at = section.location();
    section.finish();
    let (name, key, features) = (name?, key?, features?);
    let (mut read, mut windowed) = (Vec::new(), Vec::new());
    for entry in features.entries() {
        match entry.section().filter(windows::is_one) {
            Some(section) => windowed.extend(windows::read(&entry, section)),
            None => read.extend(feature(&entry)),
        }
    }
    let Some(index) = read.iter().position(|feature| feature.name == key.text) else {
        let what = format!("the key \"{}\" of class \"{}\" is not among its features", key.text, name.text);
        let hint = Some(format!("add to [class.features]: {} = \"str\"", key.text));
        document.problem(key.at, what, hint);
        return None;
    };
    let key = read.remove(index);
    let class = read.into_iter().fold(FeatureClass::new(name.text, key), FeatureClass::feature).declared_at(at);
    let class = windowed.into_iter().fold(class, FeatureClass::windowed);
    let class = class.tags(tags.into_iter().map(|tag| tag.text));
    let class = max_staleness.into_iter().fold(class, FeatureClass::max_staleness);
    let class = description.into_iter().fold(class, |class, text| class.description(text.text));
    Some(owner.into_iter().fold(class, |class, text| class.owner(text.text)))
}

/// `name = "int?"` or `name = { type = "int?", … }`
fn feature(entry: &Entry<'_, '_>) -> Option<Feature> {
    let build = |ty: &str| {
        let read = value_type(ty);
        if read.is_none() {
            let types = "bool, int, float, time, str, bytes; with a ? behind it, it may be null";
            entry.problem(format!("{}: there is no type \"{ty}\"; there are {types}", entry.key));
        }
        read.map(|(ty, nullable)| Feature::of_type(entry.key, ty, nullable).declared_at(entry.location()))
    };
    if let Some(ty) = entry.text() {
        return build(ty);
    }
    let Some(section) = entry.section() else {
        entry.problem(format!(
            "{}: expected a type such as \"str\", or {{ type = \"str\", … }}, got {}",
            entry.key,
            entry.kind()
        ));
        return None;
    };
    let ty = section.required("type", "str");
    let max_staleness: Option<TimeSpan> = section.parsed("max_staleness");
    let (description, owner, tags) = (section.text("description"), section.text("owner"), section.texts("tags"));
    section.finish();
    let feature = build(&ty?.text)?.tags(tags.into_iter().map(|tag| tag.text));
    let feature = max_staleness.into_iter().fold(feature, Feature::max_staleness);
    let feature = description.into_iter().fold(feature, |feature, text| feature.description(text.text));
    Some(owner.into_iter().fold(feature, |feature, text| feature.owner(text.text)))
}

fn value_type(text: &str) -> Option<(ValueType, bool)> {
    let (name, nullable) = text.strip_suffix('?').map_or((text, false), |name| (name, true));
    let ty = match name {
        "bool" => ValueType::Bool,
        "int" => ValueType::Int,
        "float" => ValueType::Float,
        "time" => ValueType::Time,
        "str" => ValueType::Str,
        "bytes" => ValueType::Bytes,
        _ => return None,
    };
    Some((ty, nullable))
}

/// What every source can be set to; the same words as the setters in Rust. Their own checks say what is wrong.
macro_rules! common {
    ($section:ident, $base:expr, $source:expr) => {{
        let mut source = $source;
        if let Some(format) = format(&$section, $base) {
            source = source.format(format);
        }
        source = source.event_time(event_time(&$section));
        if let Some(span) = $section.parsed::<TimeSpan>("late_arrival_deadline") {
            source = source.late_arrival_deadline(span);
        }
        if let Some(lane) = $section.parsed::<karst::LateLane>("late_lane") {
            source = source.late_lane(lane);
        }
        if let Some(span) = $section.parsed::<TimeSpan>("disorder") {
            source = source.disorder(span);
        }
        if let Some(span) = $section.parsed::<TimeSpan>("max_future_skew") {
            source = source.max_future_skew(span);
        }
        if let Some(policy) = $section.parsed::<karst::FutureEvents>("future_events") {
            source = source.future_events(policy);
        }
        if let Some(span) = $section.parsed::<TimeSpan>("max_drift") {
            source = source.max_drift(span);
        }
        if let Some(span) = $section.parsed::<TimeSpan>("discover_interval") {
            source = source.discover_interval(span);
        }
        if let Some(span) = $section.parsed::<TimeSpan>("batch_linger") {
            source = source.batch_linger(span);
        }
        if let Some(size) = $section.parsed::<karst::ByteSize>("max_record_bytes") {
            source = source.max_record_bytes(size);
        }
        if let Some(size) = $section.parsed::<karst::ByteSize>("batch_bytes") {
            source = source.batch_bytes(size);
        }
        if let Some(size) = $section.parsed::<karst::ByteSize>("buffer_bytes") {
            source = source.buffer_bytes(size);
        }
        if let Some(size) = $section.parsed::<karst::ByteSize>("memory") {
            source = source.memory(size);
        }
        if let Some(percent) = $section.count("max_failing_percent") {
            source = source.max_failing_percent(u8::try_from(percent).unwrap_or(u8::MAX));
        }
        if let Some(offsets) = $section.count("failing_window") {
            source = source.failing_window(u32::try_from(offsets).unwrap_or(u32::MAX));
        }
        if let Some(count) = $section.count("batch_records") {
            source = source.batch_records(count);
        }
        match $section.text("start").as_ref().map(|start| start.text.as_str()) {
            None => source,
            Some("earliest") => source.start_at(StartAt::Earliest),
            Some("latest") => source.start_at(StartAt::Latest),
            Some(other) => {
                $section.problem(format!("start: expected \"earliest\" or \"latest\", got \"{other}\""), None);
                source
            }
        }
    }};
}

/// Settings of formats that name a file, whose content is what is wanted.
const SCHEMA_FILES: [&str; 5] = ["reader_schema", "writer_schema", "json_schema", "proto", "descriptor_set"];

/// `format = "avro"`, and what belongs to it.
fn format(section: &Section<'_, '_>, base: &Path) -> Option<Format> {
    let name = section.text("format");
    let registry = section.section("schema_registry").and_then(|section| registry(section, base));
    let files: Vec<_> = SCHEMA_FILES.iter().filter_map(|setting| Some((*setting, section.text(setting)?))).collect();
    let message = section.text("message");
    let given = name.is_some() || registry.is_some() || message.is_some() || !files.is_empty();
    let name = name.map_or_else(|| Format::default().name().to_owned(), |name| name.text);
    let Some(mut format) = Format::named(&name) else {
        section.problem(format!("format: there is no \"{name}\"; there are {}", Format::NAMES.join(", ")), None);
        return None;
    };
    for (setting, path) in files {
        let path = base.join(path.text);
        let set = std::fs::read(&path)
            .map_err(|error| format!("{setting}: cannot read {}: {error}", path.display()))
            .and_then(|content| format.set_bytes(setting, &content));
        if let Err(problem) = set {
            section.problem(problem, None);
        }
    }
    if let Some(message) = message
        && let Err(problem) = format.set_text("message", &message.text)
    {
        section.problem(problem, None);
    }
    let mut registry = registry;
    format.set_registry(&mut || registry.take());
    if registry.is_some() {
        section.problem(format!("schema_registry: format {name} takes no schemas from a registry here"), None);
    }
    given.then_some(format)
}

/// `schema_registry = { url = "http://localhost:8081" }`
fn registry(section: Section<'_, '_>, base: &Path) -> Option<SchemaRegistry> {
    let urls = section.texts("url");
    if urls.is_empty() {
        section.problem("lacks \"url\"", Some("write for example: url = \"http://localhost:8081\"".to_owned()));
    }
    let username = section.text("username").map(|text| text.text);
    let password = section.text("password").map(|text| text.text);
    let ca_file = section.text("ca_file").map(|text| base.join(text.text).to_string_lossy().into_owned());
    let timeout: Option<TimeSpan> = section.parsed("timeout");
    let unknown_for: Option<TimeSpan> = section.parsed("unknown_for");
    section.finish();
    let (first, others) = urls.split_first()?;
    let registry = others.iter().fold(SchemaRegistry::new(&first.text), |registry, url| registry.url(&url.text));
    let registry = match username {
        Some(username) => registry.basic_auth(username, password.unwrap_or_default()),
        None => registry,
    };
    let registry = ca_file.into_iter().fold(registry, SchemaRegistry::ca_file);
    let registry = timeout.into_iter().fold(registry, SchemaRegistry::timeout);
    Some(unknown_for.into_iter().fold(registry, SchemaRegistry::unknown_for))
}

fn source(document: &Document<'_>, section: Section<'_, '_>, base: &Path) -> Option<(DeclaredSource, Location)> {
    let name = section.required("name", "clicks");
    let kind = section.required("kind", "file")?;
    let called = name.as_ref().map_or("", |name| name.text.as_str());
    let (source, wrong) = match kind.text.as_str() {
        "file" => {
            let path = section.required("path", "clicks.jsonl").map_or_else(String::new, |path| path.text);
            // Avro in a file is a container file: between lines there is no room for it.
            let avro = section.text("format").is_some_and(|format| format.text == "avro");
            let make = if avro { FileSource::avro } else { FileSource::json_lines };
            let source = common!(section, base, make(called, base.join(path)));
            let wrong = source.settings().clone().with_format(source.resolved_format()).check().err();
            (DeclaredSource::File(Box::new(source)), wrong)
        }
        "kafka" => {
            let source = common!(section, base, kafka(&section, called));
            let wrong = source.resolve().err();
            (DeclaredSource::Kafka(Box::new(source)), wrong)
        }
        other => {
            document.problem(
                kind.at,
                format!("kind: there is no source of kind \"{other}\"; there are \"file\" and \"kafka\""),
                None,
            );
            return None;
        }
    };
    let at = section.location();
    name.as_ref()?; // reported above
    match wrong {
        Some(karst::connectors::Error::Config { problems, .. }) => {
            problems.into_iter().for_each(|problem| section.problem(format!("\"{called}\": {problem}"), None));
        }
        Some(other) => section.problem(format!("\"{called}\": {other}"), None),
        None => {}
    }
    section.finish();
    Some((source, at))
}

/// The field that holds the event time: `event_time = "meta.at"`, and `event_time_unit = "ms"`.
fn event_time(section: &Section<'_, '_>) -> TimeField {
    let field = section.text("event_time").map_or_else(|| EVENT_TIME.to_owned(), |field| field.text);
    let unit = section.text("event_time_unit").map_or(UNIT, |unit| {
        Unit::named(&unit.text).unwrap_or_else(|| {
            let got = unit.text;
            section.problem(format!("event_time_unit: expected \"s\", \"ms\", \"us\" or \"ns\", got \"{got}\""), None);
            UNIT
        })
    });
    TimeField { path: path(&field), unit }
}

/// A setter of [`KafkaSource`] that takes text.
type SetText = fn(KafkaSource, String) -> KafkaSource;

fn kafka(section: &Section<'_, '_>, name: &str) -> KafkaSource {
    let mut source = KafkaSource::new(name);
    for servers in section.texts("bootstrap_servers") {
        source = source.bootstrap_server(servers.text);
    }
    let settings: [(&'static str, SetText); 11] = [
        ("topic", KafkaSource::topic),
        ("security_protocol", KafkaSource::security_protocol),
        ("sasl_mechanism", KafkaSource::sasl_mechanism),
        ("sasl_username", KafkaSource::sasl_username),
        ("sasl_password", KafkaSource::sasl_password),
        ("ssl_keystore_location", KafkaSource::ssl_keystore_location),
        ("ssl_keystore_password", KafkaSource::ssl_keystore_password),
        ("ssl_ca_file", KafkaSource::ssl_ca_file),
        ("client_id_prefix", KafkaSource::client_id_prefix),
        ("group_id_prefix", KafkaSource::group_id_prefix),
        ("dead_letter_queue_topic", KafkaSource::dead_letter_queue_topic),
    ];
    for (key, set) in settings {
        if let Some(text) = section.text(key) {
            source = set(source, text.text);
        }
    }
    if let Some(on) = section.flag("read_headers") {
        source = source.read_headers(on);
    }
    for entry in section.section("additional_kafka_args").iter().flat_map(Section::entries) {
        match entry.scalar() {
            Some(value) => source = source.additional_kafka_arg(entry.key, value),
            None => entry.problem(format!("{}: expected a text, got {}", entry.key, entry.kind())),
        }
    }
    source
}

fn resolver(section: Section<'_, '_>, types: &HashMap<String, (ValueType, bool)>) -> Option<DynamicResolver> {
    let (name, source) = (section.required("name", "on_click"), section.required("source", "clicks"));
    let description = section.text("description").map(|text| text.text);
    let skip_if_null = section.texts("skip_if_null").into_iter().map(|Text { text, .. }| path(&text)).collect();
    let mut wanted = Vec::new();
    for entry in section.section("where").iter().flat_map(Section::entries) {
        match entry.json() {
            Some(value) => wanted.push((path(entry.key), value)),
            None => {
                entry.problem(format!("{}: expected a text, a whole number, true or false, got {}", entry.key, entry.kind()))
            }
        }
    }
    let set = section.section("set");
    if set.is_none() {
        section.problem("lacks [resolver.set], with lines such as: \"user.id\" = \"user_id\"", None);
    }
    let mut outputs = Vec::new();
    for entry in set?.entries() {
        let Some(field) = entry.text() else {
            entry.problem(format!("{}: expected the name of a message's field, got {}", entry.key, entry.kind()));
            continue;
        };
        // A feature that does not exist is the registry's to report, with what may be meant.
        let (ty, nullable) = types.get(entry.key).copied().unwrap_or((ValueType::Str, true));
        let (field, optional) = field.strip_suffix('?').map_or((field, false), |field| (field, true));
        outputs.push(Output { feature: entry.key.to_owned(), field: path(field), ty, nullable, optional });
    }
    let at = section.location();
    section.finish();
    Some(DynamicResolver {
        name: name?.text,
        source: source?.text,
        description,
        outputs,
        skip_if_null,
        wanted,
        declared_at: at,
    })
}

fn path(text: &str) -> Vec<String> {
    text.split('.').map(str::to_owned).collect()
}
