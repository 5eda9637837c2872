//! Windowed aggregates: what is kept of the events of a window, and how it becomes a value (DESIGN S10).

#[expect(dead_code, reason = "tiles come with the next change")]
pub(crate) mod aggregate;
