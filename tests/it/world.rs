//! What several of these tests need.

use std::{
    collections::BTreeMap,
    process::{Command, Output},
    time::Duration,
};

use karst::{Engine, EngineHandle, EngineSettings, Outcomes, Value};

/// The environment variable that tells a test that it is the child process of itself.
const CHILD: &str = "KARST_TEST_CHILD";

/// Two shards and little memory: engines of tests come by the dozen.
pub(crate) fn small() -> EngineSettings {
    let mut settings = EngineSettings { workers: 2, ..EngineSettings::default() };
    settings.store.shards = 2;
    settings.store.memory = "64MiB".parse().unwrap();
    settings
}

/// Starts an engine on a directory that one that was dropped a moment ago may hold until its threads have noticed. Every other
/// error is one.
pub(crate) async fn once_unlocked(start: impl AsyncFn() -> karst::Result<Engine>) -> karst::Result<Engine> {
    loop {
        match start().await {
            Err(karst::Error::State(error)) if matches!(*error, karst::state::Error::Locked { .. }) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            started => return started,
        }
    }
}

/// What became of the records, all sources together. Conserved, or the test ends here.
#[track_caller]
pub(crate) fn outcomes(engine: &Engine) -> Outcomes {
    let outcomes = engine.handle().status().outcomes();
    assert!(outcomes.conserved(), "{outcomes:?}");
    outcomes
}

/// The committed values of a class, by key (as text) and feature.
pub(crate) fn stored(engine: &EngineHandle, class: &str) -> BTreeMap<String, BTreeMap<String, Value>> {
    let key = |key| match key {
        Value::Str(text) => text.to_string(),
        other => format!("{other:?}"),
    };
    let rows = engine.scan(class).unwrap();
    rows.into_iter().map(|(id, cells)| (key(id), cells.into_iter().collect())).collect()
}

/// One feature of [`stored`].
pub(crate) fn column(engine: &EngineHandle, class: &str, feature: &str) -> BTreeMap<String, Value> {
    stored(engine, class).into_iter().filter_map(|(key, mut cells)| Some((key, cells.remove(feature)?))).collect()
}

/// Waits until something holds, at most a minute.
pub(crate) async fn until(what: &str, holds: impl FnMut() -> bool) {
    until_or(what, holds, String::new).await;
}

/// The same; if it never does, the failure says how things stand.
pub(crate) async fn until_or(what: &str, mut holds: impl FnMut() -> bool, stand: impl FnOnce() -> String) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    waited.unwrap_or_else(|_| panic!("a minute went by before {what}; {}", stand()));
}

/// Whether this process is a child that [`child`] made.
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// The same test (its full name) in a process of its own, with what it needs in the environment.
pub(crate) fn child(test: &str, environment: &[(&str, &str)]) -> Command {
    child_under(&[], test, environment)
}

/// The same, run by another command such as `unshare --mount`.
pub(crate) fn child_under(runner: &[&str], test: &str, environment: &[(&str, &str)]) -> Command {
    let own = std::env::current_exe().unwrap();
    let mut command = match runner.split_first() {
        None => Command::new(own),
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(own);
            command
        }
    };
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, "1").envs(environment.iter().copied());
    command
}

/// The output of a child that must succeed.
#[track_caller]
pub(crate) fn succeeded(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

/// A small generator (xorshift): the same numbers for a seed on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    /// From 0 to below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index as u64 + 1) as usize);
        }
    }
}
