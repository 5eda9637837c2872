//! Where a declaration was made, so that a mistake in it can be found.

use std::{borrow::Cow, fmt, panic};

/// File, line and column of a declaration, written `src/users.rs:12:5`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Location {
    /// The file as the compiler names it (or, later, the Python file).
    pub file: Cow<'static, str>,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1.
    pub column: u32,
}

impl Location {
    /// A place that is known by its parts; macros use it.
    pub const fn at(file: &'static str, line: u32, column: u32) -> Self {
        Self { file: Cow::Borrowed(file), line, column }
    }

    /// The place of the call; in a `#[track_caller]` function, that of its caller.
    #[track_caller]
    pub fn here() -> Self {
        panic::Location::caller().into()
    }
}

impl From<&'static panic::Location<'static>> for Location {
    fn from(caller: &'static panic::Location<'static>) -> Self {
        Self::at(caller.file(), caller.line(), caller.column())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
