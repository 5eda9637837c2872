//! The configuration: one TOML file, the environment, flags; read whole, checked whole, all problems told together.

use std::path::{Path, PathBuf};

use karst::EngineSettings;
use karst_server::ServerSettings;
use serde_json::{Map, Value as Json};

pub mod declared;
pub mod document;
pub mod layers;
mod windows;

pub use declared::{Declared, DeclaredSource};
pub use document::Problem;
use document::{Document, Section};
use layers::Layers;

use crate::{args::ConfigArgs, report::Report};

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the state is kept. Default `./karst-data`.
    pub directory: PathBuf,
    /// The engine's settings.
    pub engine: EngineSettings,
    /// The server's settings.
    pub server: ServerSettings,
    /// What the file declares.
    pub declared: Declared,
}

/// Where a configuration comes from, besides its file.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Variables of the process.
    pub environment: Vec<(String, String)>,
    /// `section.key=value`, later ones over earlier ones.
    pub overrides: Vec<String>,
}

impl Config {
    /// Reads the file that the arguments name, and checks everything.
    ///
    /// # Errors
    /// A report with every problem, each with its place.
    pub fn load(args: &ConfigArgs, overrides: Vec<String>) -> Result<Self, Report> {
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let surroundings = Surroundings { environment: environment.collect(), overrides };
        let (name, text) = match &args.config {
            Some(path) => (path.display().to_string(), read(path)?),
            None => ("no file".to_owned(), String::new()),
        };
        let base = args.config.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        Self::parse(&name, &text, base, &surroundings).map_err(|problems| {
            let what = match problems.len() {
                1 => "1 problem".to_owned(),
                many => format!("{many} problems"),
            };
            let report = Report::usage(format!("the configuration has {what}"));
            let report = problems.iter().fold(report, |report, problem| report.detail(problem));
            report.hint("`karst run --help` shows a whole file")
        })
    }

    /// Reads and checks a configuration. `base` is what relative paths of sources are relative to.
    ///
    /// # Errors
    /// Every problem, in the order of the file.
    pub fn parse(name: &str, text: &str, base: &Path, surroundings: &Surroundings) -> Result<Self, Vec<Problem>> {
        let document = Document::new(name, text);
        let table = document.parse();
        let root = Section::root(&document, &table);
        let Surroundings { environment, overrides } = surroundings;
        layers::check_overrides(&document, overrides);
        let mut engine = Layers::gather(&document, "engine", root.section("engine"), environment, overrides);
        let mut directory = PathBuf::from("karst-data");
        engine.read("directory", |text| {
            directory = text.into();
            if text.is_empty() { Err("expected a directory, got nothing".to_owned()) } else { Ok(()) }
        });
        let engine_settings = read_engine(&mut engine);
        engine.finish();
        let mut server = Layers::gather(&document, "server", root.section("server"), environment, overrides);
        let server_settings = read_server(&mut server);
        server.finish();
        let declared = declared::read(&document, &root, base);
        root.finish();
        let problems = document.into_problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { directory, engine: engine_settings, server: server_settings, declared })
    }
}

fn read(path: &Path) -> Result<String, Report> {
    std::fs::read_to_string(path).map_err(|error| {
        Report::usage(format!("cannot read the configuration {}", path.display()))
            .detail(error)
            .hint("`karst run --help` shows a whole file to start from")
    })
}

/// The engine's settings are whatever [`EngineSettings`] has: a text is read as the type of the default.
fn read_engine(layers: &mut Layers<'_, '_>) -> EngineSettings {
    let mut settings = serde_json::to_value(EngineSettings::default()).expect("settings are plain data");
    let engine = settings.as_object_mut().expect("settings are an object");
    let store = engine.remove("store");
    let mut store = store.and_then(|store| store.as_object().cloned()).unwrap_or_default();
    read_all(layers, engine, |object| serde_json::from_value::<EngineSettings>(object).map(|_| ()));
    read_all(layers, &mut store, |object| {
        serde_json::from_value::<EngineSettings>(serde_json::json!({ "store": object })).map(|_| ())
    });
    engine.insert("store".to_owned(), store.into());
    let settings: EngineSettings = serde_json::from_value(settings).expect("each setting was read by itself");
    for problem in settings.problems() {
        let (key, why) = problem.split_once(": ").unwrap_or(("", &problem));
        layers.problem(key, why);
    }
    settings
}

/// Reads every key of `object`, which holds the defaults; `check` says whether one of them alone can be read.
fn read_all(layers: &mut Layers<'_, '_>, object: &mut Map<String, Json>, check: impl Fn(Json) -> serde_json::Result<()>) {
    for (key, value) in object {
        layers.read(key, |text| {
            let read = like(value, text)?;
            check(Json::from(Map::from_iter([(key.clone(), read.clone())]))).map_err(|error| error.to_string())?;
            *value = read;
            Ok(())
        });
    }
}

/// A text as the kind of JSON that the default is.
fn like(default: &Json, text: &str) -> Result<Json, String> {
    match default {
        Json::Number(_) => text.parse::<u64>().map(Json::from).map_err(|_| format!("expected a whole number, got \"{text}\"")),
        Json::Bool(_) => parse_flag(text).map(Json::from),
        _ => Ok(Json::from(text)),
    }
}

fn parse_flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("expected true or false, got \"{text}\""))
}

fn parse_count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("expected a whole number, got \"{text}\""))
}

fn read_server(layers: &mut Layers<'_, '_>) -> ServerSettings {
    let mut server = ServerSettings::default();
    layers.read("bind", |text| {
        let address = text.parse().map_err(|_| format!("expected an address such as 127.0.0.1:8080, got \"{text}\""));
        address.map(|address| server.bind = address)
    });
    layers.read("allow_remote", |text| parse_flag(text).map(|flag| server.allow_remote = flag));
    layers.read("allowed_hosts", |text| {
        server.allowed_hosts = text.split(',').map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()).collect();
        Ok(())
    });
    layers.read("max_body", |text| text.parse().map(|size| server.max_body = size));
    layers.read("max_outputs", |text| parse_count(text).map(|count| server.max_outputs = count));
    layers.read("max_subscribers", |text| parse_count(text).map(|count| server.max_subscribers = count));
    layers.read("max_connections", |text| parse_count(text).map(|count| server.max_connections = count));
    layers.read("workers", |text| parse_count(text).map(|count| server.workers = count));
    layers.read("request_timeout", |text| text.parse().map(|span| server.request_timeout = span));
    layers.read("header_timeout", |text| text.parse().map(|span| server.header_timeout = span));
    layers.read("keep_alive", |text| text.parse().map(|span| server.keep_alive = span));
    layers.read("stop_timeout", |text| text.parse().map(|span| server.stop_timeout = span));
    for (key, why) in server.problems() {
        layers.problem(key, &why);
    }
    server
}
