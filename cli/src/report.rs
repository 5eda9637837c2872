//! How an error reads: `error:` says what failed, `detail:` why, `hint:` what to do. On stderr.

use std::{fmt, io::Write, process::ExitCode};

/// An error for a person at a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What failed.
    pub error: String,
    /// Why: one line each.
    pub details: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit code.
    pub code: u8,
}

impl Report {
    /// It went wrong: exit code 1.
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), details: Vec::new(), hint: None, code: 1 }
    }
    /// The command line or the configuration is wrong: exit code 2.
    pub fn usage(error: impl Into<String>) -> Self {
        Self { code: 2, ..Self::new(error) }
    }
    /// Adds why.
    #[must_use]
    pub fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.details.push(detail.to_string());
        self
    }
    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Prints it; the exit code.
    pub fn print(&self) -> ExitCode {
        // Nobody is left to be told if stderr is closed.
        let _ = write!(std::io::stderr(), "{self}");
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.error)?;
        for detail in &self.details {
            writeln!(f, "detail: {}", detail.replace('\n', "\n        "))?;
        }
        self.hint.as_ref().map_or(Ok(()), |hint| writeln!(f, "hint: {hint}"))
    }
}

/// Writes to stdout; a reader that has gone (`karst … | head`) is no error.
pub fn say(text: impl fmt::Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
