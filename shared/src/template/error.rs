//! What goes wrong with a template, and where in its source.

use std::error::Error as _;
use std::fmt;

use minijinja::ErrorKind;

use super::environment::raised;

/// A place in a template's source, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The line.
    pub line: usize,
    /// The letter in the line, where known: only with the feature `template-columns`.
    pub column: Option<usize>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        self.column.map_or(Ok(()), |column| write!(f, ", column {column}"))
    }
}

/// Why there is no prompt.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// It does not compile.
    #[error("{}: {message}", place(.location))]
    Syntax {
        /// Where.
        location: Option<Location>,
        /// What the parser says.
        message: String,
    },
    /// It fails on these variables.
    #[error("{}: {message}", place(.location))]
    Render {
        /// Where.
        location: Option<Location>,
        /// What the engine says.
        message: String,
    },
    /// It refuses these variables by `raise_exception`.
    #[error("{}: the template raised: {message}", place(.location))]
    Raised {
        /// Where.
        location: Option<Location>,
        /// The template's own words.
        message: String,
    },
    /// It takes more instructions than allowed.
    #[error("{}: the template needs more than {limit} instructions", place(.location))]
    OutOfFuel {
        /// Where it was stopped.
        location: Option<Location>,
        /// How many were allowed.
        limit: u64,
    },
}

fn place(location: &Option<Location>) -> String {
    location.map_or_else(|| "template".to_owned(), |location| format!("template {location}"))
}

impl TemplateError {
    pub(super) fn of(error: &minijinja::Error, source: &str, limit: u64) -> Self {
        let location = location(error, source);
        if let Some(message) = raised(error) {
            return Self::Raised { location, message: message.to_owned() };
        }
        let message = message(error);
        let kind = error.kind();
        if kind == ErrorKind::SyntaxError {
            Self::Syntax { location, message }
        } else if kind == ErrorKind::OutOfFuel {
            Self::OutOfFuel { location, limit }
        } else {
            Self::Render { location, message }
        }
    }

    /// Where in the template.
    #[must_use]
    pub fn location(&self) -> Option<Location> {
        match self {
            Self::Syntax { location, .. }
            | Self::Render { location, .. }
            | Self::Raised { location, .. }
            | Self::OutOfFuel { location, .. } => *location,
        }
    }
}

/// The innermost message: outer ones say that a macro or a filter failed.
fn message(error: &minijinja::Error) -> String {
    let mut message =
        error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
    let mut cause = error.source();
    while let Some(found) = cause {
        message = format!("{message}: {found}");
        cause = found.source();
    }
    message
}

#[cfg(feature = "template-columns")]
fn location(error: &minijinja::Error, source: &str) -> Option<Location> {
    let line = error.line()?;
    let column = error.range().and_then(|range| source.get(..range.start)).map(|before| {
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        before.get(start..).unwrap_or_default().chars().count() + 1
    });
    Some(Location { line, column })
}

#[cfg(not(feature = "template-columns"))]
fn location(error: &minijinja::Error, _source: &str) -> Option<Location> {
    error.line().map(|line| Location { line, column: None })
}
