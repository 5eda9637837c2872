//! One file per command, or per family of them.

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod letters;
pub(crate) mod pages;
pub(crate) mod plan;
pub(crate) mod query;
pub(crate) mod run;
pub(crate) mod source;
pub(crate) mod time;
