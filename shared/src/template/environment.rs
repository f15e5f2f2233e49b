//! The template engine, set up to do what transformers' Jinja environment does: block whitespace, filters and tests with Python's
//! notions, and `raise_exception`.
//!
//! Texts that nothing changes are handed on, not copied: prompts are long.

use std::error::Error as _;
use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::json_text::tojson;
use super::python_methods::{Ends, method, strip};
use super::python_text::write_str;

pub(super) const NAME: &str = "chat";

/// What a chat template may use of the engine's stack.
const RECURSION_LIMIT: usize = 200;

/// An environment without a template.
pub(super) fn environment(fuel: u64) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(fuel));
    environment.set_recursion_limit(RECURSION_LIMIT);
    environment.remove_global("debug");
    environment.set_unknown_method_callback(method);
    environment.set_formatter(|out, _, value| {
        if let Some(text) = value.as_str() {
            return Ok(out.write_str(text)?);
        }
        let mut text = String::new();
        write_str(&mut text, value)?;
        Ok(out.write_str(&text)?)
    });
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |value: Value| -> Result<Value, Error> {
        if value.as_str().is_some() {
            return Ok(value);
        }
        let mut text = String::new();
        write_str(&mut text, &value)?;
        Ok(Value::from(text))
    });
    environment.add_filter("trim", |value: &Value, letters: Option<&str>| strip(value, letters, Ends::BOTH));
    for name in ["length", "count"] {
        environment.add_filter(name, length);
    }
    environment
        .add_test("iterable", |value: &Value| !value.is_none() && (value.is_undefined() || value.try_iter().is_ok()));
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined)
            || (value.kind() == ValueKind::Iterable && value.len().is_some())
    });
    environment.add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    environment.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message.to_string())))
    });
    Ok(environment)
}

/// What a template said by `raise_exception`.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// The message, if it was the template that gave up.
pub(super) fn raised(error: &Error) -> Option<&str> {
    let mut cause = error.source();
    while let Some(found) = cause {
        if let Some(Raised(message)) = found.downcast_ref() {
            return Some(message);
        }
        cause = found.source();
    }
    None
}

fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    let refused = || Error::new(ErrorKind::InvalidOperation, format!("a value of type {} has no length", value.kind()));
    value.len().ok_or_else(refused)
}
