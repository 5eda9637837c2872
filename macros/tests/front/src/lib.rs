//! Stands in for the front door (`karst`, the root package) in the tests of the macros: the paths that they write, and the
//! part of the prelude that a declaration needs.

pub use karst_features as features;
pub use karst_types as types;
pub use serde;

/// What a declaration needs.
pub mod prelude {
    pub use karst_features::{Groups, Windowed, updates};
    pub use karst_macros::{Message, Updates, features, stream};
    pub use karst_types::{EventTime, Invalid, Message, Record, Str, TimeSpan};
}
