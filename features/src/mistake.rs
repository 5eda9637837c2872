//! What is wrong with the declarations: all of it at once, each with where it was made.

use std::fmt;

use karst_types::{Domain, Retry};

use crate::Location;

/// One mistake in a declaration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// What is wrong, with the names of the things concerned.
    pub what: String,
    /// The declaration that has to change; `None` where the mistake is not in the code (such as a stored catalog).
    pub at: Option<Location>,
    /// What would help, if that is known.
    pub hint: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(at) = &self.at {
            write!(f, "\n     at {at}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n     hint: {hint}")?;
        }
        Ok(())
    }
}

/// All mistakes of a set of declarations, numbered when printed. There is at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// The mistakes, in the order in which they were found: classes, sources, resolvers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Mistake> {
        self.0.iter()
    }
    /// The fault is the user's: a declaration has to change.
    pub const fn domain(&self) -> Domain {
        Domain::User
    }
    /// Trying again does not help.
    pub const fn retry(&self) -> Retry {
        Retry::Never
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 mistake in the declarations:")?,
            many => write!(f, "{many} mistakes in the declarations:")?,
        }
        for (index, mistake) in self.0.iter().enumerate() {
            write!(f, "\n  {}. {mistake}", index + 1)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Gathers mistakes.
#[derive(Default)]
pub(crate) struct Found(Vec<Mistake>);

impl Found {
    pub(crate) fn add(&mut self, at: &Location, what: String) {
        self.add_with(Some(at), what, None);
    }
    pub(crate) fn add_with(&mut self, at: Option<&Location>, what: String, hint: Option<String>) {
        self.0.push(Mistake { what, at: at.cloned(), hint });
    }
    /// `Ok` if nothing was found.
    pub(crate) fn into_result(self) -> Result<(), Mistakes> {
        if self.0.is_empty() { Ok(()) } else { Err(Mistakes(self.0)) }
    }
}
