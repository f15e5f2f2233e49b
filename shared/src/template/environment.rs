//! The template engine, set up to do what transformers' Jinja environment does: block whitespace, filters and tests with Python's
//! notions, and `raise_exception`.
//!
//! Texts that nothing changes are handed on, not copied: prompts are long.

use std::error::Error as _;
use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::json_text::tojson;
use super::json_values::PythonList;
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

/// Python's methods: those here, where the engine's own differ from Python's, then the engine's.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        match name {
            "strip" => return strip(value, letters(args)?, Ends::BOTH),
            "lstrip" => return strip(value, letters(args)?, Ends { start: true, end: false }),
            "rstrip" => return strip(value, letters(args)?, Ends { start: false, end: true }),
            "split" => return split(text, args, false),
            "rsplit" => return split(text, args, true),
            "splitlines" if args.is_empty() => return Ok(list(lines(text))),
            "removeprefix" | "removesuffix" => {
                let (part,): (&str,) = minijinja::value::from_args(args)?;
                let kept = if name == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
                return Ok(kept.map_or_else(|| value.clone(), Value::from));
            }
            _ => {}
        }
    }
    pycompat::unknown_method_callback(state, value, name, args)
}

fn letters(args: &[Value]) -> Result<Option<&str>, Error> {
    let (letters,): (Option<&str>,) = minijinja::value::from_args(args)?;
    Ok(letters)
}

#[derive(Clone, Copy)]
struct Ends {
    start: bool,
    end: bool,
}

impl Ends {
    const BOTH: Self = Self { start: true, end: true };
}

fn strip(value: &Value, letters: Option<&str>, ends: Ends) -> Result<Value, Error> {
    let printed;
    let text = if let Some(text) = value.as_str() {
        text
    } else {
        let mut text = String::new();
        write_str(&mut text, value)?;
        printed = text;
        &printed
    };
    let goes = |letter: char| letters.map_or_else(|| is_space(letter), |letters| letters.contains(letter));
    let mut kept = text;
    if ends.start {
        kept = kept.trim_start_matches(goes);
    }
    if ends.end {
        kept = kept.trim_end_matches(goes);
    }
    if kept.len() == text.len() && value.as_str().is_some() { Ok(value.clone()) } else { Ok(Value::from(kept)) }
}

/// As `str.isspace`: Unicode's white space and four ASCII separators.
fn is_space(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\u{1c}'..='\u{1f}')
}

/// `str.split(sep=None, maxsplit=-1)` and its mirror image.
fn split(text: &str, args: &[Value], from_end: bool) -> Result<Value, Error> {
    let (positional, named): (Rest<Value>, Kwargs) = minijinja::value::from_args(args)?;
    let argument = |at: usize, name: &str| match positional.get(at) {
        Some(value) => Ok(Some(value.clone())),
        None => named.get::<Option<Value>>(name),
    };
    let separator = argument(0, "sep")?.filter(|value| !value.is_none());
    let most = argument(1, "maxsplit")?.and_then(|value| value.as_i64()).and_then(|most| usize::try_from(most).ok());
    named.assert_all_used()?;
    let pieces = most.map_or(usize::MAX, |most| most.saturating_add(1));
    let Some(separator) = separator else { return Ok(words(text, pieces, from_end)) };
    let separator = separator.as_str().filter(|separator| !separator.is_empty());
    let separator = separator.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "split: empty separator"))?;
    if from_end {
        let mut parts: Vec<&str> = text.rsplitn(pieces, separator).collect();
        parts.reverse();
        return Ok(list(parts.into_iter()));
    }
    Ok(list(text.splitn(pieces, separator)))
}

fn words(text: &str, pieces: usize, from_end: bool) -> Value {
    let mut found = Vec::new();
    let mut rest = text.trim_matches(is_space);
    while !rest.is_empty() {
        let cut = if from_end { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(at) = cut.filter(|_| found.len() + 1 < pieces) else {
            found.push(rest);
            break;
        };
        let (left, right) = rest.split_at(at);
        if from_end {
            found.push(right.trim_start_matches(is_space));
            rest = left.trim_end_matches(is_space);
        } else {
            found.push(left);
            rest = right.trim_start_matches(is_space);
        }
    }
    if from_end {
        found.reverse();
    }
    list(found.into_iter())
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let breaks = |letter: char| {
        matches!(letter, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find(breaks) else { return Some(std::mem::take(&mut rest)) };
        let (line, behind) = rest.split_at(at);
        let skipped = behind.strip_prefix("\r\n");
        rest = skipped.unwrap_or_else(|| behind.get(behind.chars().next().map_or(0, char::len_utf8)..).unwrap_or(""));
        Some(line)
    })
}

fn list<'t>(items: impl Iterator<Item = &'t str>) -> Value {
    Value::from_object(PythonList(items.map(Value::from).collect()))
}
