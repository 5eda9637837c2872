//! The two questions that every error of Karst answers. Supervisor, HTTP status and exit code follow from these alone.

/// Who is at fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// The caller, the declaration, the configuration or the data.
    User,
    /// Something we depend on: broker, disk, registry.
    External,
    /// Karst itself: a bug.
    Internal,
}

/// Whether a later try may work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// Not without a change.
    Never,
    /// Yes, after a wait.
    Backoff,
}
