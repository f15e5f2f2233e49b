//! Values as Python prints them: `str()` outside of containers, `repr()` inside. A number has two spellings: `1` and `1.0`.

use std::fmt::Write as _;

use minijinja::value::{ObjectRepr, Tuple};
use minijinja::{Error, ErrorKind, Value};

/// Deeper nesting is refused, so that a template cannot exhaust the stack.
pub(super) const MAX_DEPTH: usize = 150;

/// Appends `str(value)`. An undefined value is empty.
///
/// # Errors
/// When the value nests deeper than [`MAX_DEPTH`] or holds an error.
pub(super) fn write_str(out: &mut String, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.push_str(text),
        None if value.is_undefined() => {}
        None => write_repr(out, value, 0)?,
    }
    Ok(())
}

/// Appends `repr(value)`.
///
/// # Errors
/// As [`write_str`].
pub(super) fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    if let Some(text) = value.as_str() {
        write_quoted(out, text);
        return Ok(());
    }
    if let Some(object) = value.as_object() {
        if object.repr() == ObjectRepr::Map {
            return write_dict(out, value, depth);
        }
        if object.repr() != ObjectRepr::Plain && value.len().is_some() {
            return write_list(out, value, depth);
        }
    }
    let float = if value.is_number() && !value.is_integer() { f64::try_from(value.clone()).ok() } else { None };
    match float {
        Some(number) => write_float(out, number),
        None if value.is_undefined() => out.push_str("Undefined"),
        None => write_display(out, value),
    }
    Ok(())
}

pub(super) fn too_deep() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("a value nests deeper than {MAX_DEPTH}"))
}

fn write_display(out: &mut String, value: &Value) {
    // Writing to a String cannot fail.
    let _infallible = write!(out, "{value}");
}

fn write_dict(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    out.push('{');
    let pairs = value.as_object().and_then(|object| object.try_iter_pairs());
    for (at, (key, item)) in pairs.into_iter().flatten().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        write_repr(out, &key, depth + 1)?;
        out.push_str(": ");
        write_repr(out, &item, depth + 1)?;
    }
    out.push('}');
    Ok(())
}

fn write_list(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    let is_tuple = value.downcast_object_ref::<Tuple>().is_some();
    out.push(if is_tuple { '(' } else { '[' });
    for (at, item) in value.try_iter()?.enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        write_repr(out, &item, depth + 1)?;
    }
    if is_tuple && value.len() == Some(1) {
        out.push(',');
    }
    out.push(if is_tuple { ')' } else { ']' });
    Ok(())
}

fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.reserve(text.len() + 2);
    out.push(quote);
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if letter == quote => {
                out.push('\\');
                out.push(letter);
            }
            ' '..='~' => out.push(letter),
            _ => write_foreign(out, letter),
        }
    }
    out.push(quote);
}

/// What is not ASCII, and ASCII control characters.
fn write_foreign(out: &mut String, letter: char) {
    let code = u32::from(letter);
    let _infallible = match code {
        _ if is_printable(letter) => {
            out.push(letter);
            Ok(())
        }
        0..=0xff => write!(out, "\\x{code:02x}"),
        0x100..=0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}

/// As `str.isprintable` says. Rust's debug text has the same notion of it, if the letter is not the first: combining marks
/// are printable behind another.
fn is_printable(letter: char) -> bool {
    let mut pair = String::with_capacity(5);
    pair.push('a');
    pair.push(letter);
    !pair.escape_debug().skip(1).any(|shown| shown == '\\')
}

/// `repr(float)`: the shortest digits that read back, an exponent from 1e16 on and below 1e-4.
pub(super) fn write_float(out: &mut String, number: f64) {
    if number.is_nan() {
        out.push_str("nan");
        return;
    }
    if number.is_infinite() {
        out.push_str(if number > 0.0 { "inf" } else { "-inf" });
        return;
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let _infallible = if (-4..16).contains(&exponent) {
        let plain = format!("{number}");
        let point = if plain.contains('.') { "" } else { ".0" };
        write!(out, "{plain}{point}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repr(value: Value) -> String {
        let mut out = String::new();
        write_repr(&mut out, &value, 0).unwrap();
        out
    }

    #[test]
    fn floats_are_spelled_as_python_spells_them() {
        let spelled = |number: f64| repr(Value::from(number));
        for (number, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456.789, "123456.789"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(spelled(number), text);
        }
    }

    #[test]
    fn strings_are_quoted_as_python_quotes_them() {
        for (text, quoted) in [
            ("it's", "\"it's\""),
            ("both ' and \"", "'both \\' and \"'"),
            ("a\\b\n\t\r\u{7}\u{7f}", "'a\\\\b\\n\\t\\r\\x07\\x7f'"),
            ("é你😀e\u{301}", "'é你😀e\u{301}'"),
            ("\u{a0}\u{200b}\u{e000}\u{10ffff}", "'\\xa0\\u200b\\ue000\\U0010ffff'"),
        ] {
            assert_eq!(repr(Value::from(text)), quoted);
        }
    }

    #[test]
    fn containers_print_as_literals() {
        let list = Value::from(vec![Value::from(1), Value::from("a"), Value::from(true), Value::from(())]);
        assert_eq!(repr(list.clone()), "[1, 'a', True, None]");
        assert_eq!(repr(Value::from_pairs([("k", list)])), "{'k': [1, 'a', True, None]}");
        assert_eq!(repr(Value::from(Tuple::new(vec![Value::from(1)]))), "(1,)");
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let mut value = Value::from(1);
        for _ in 0..=MAX_DEPTH {
            value = Value::from(vec![value]);
        }
        assert!(write_repr(&mut String::new(), &value, 0).is_err());
    }
}
