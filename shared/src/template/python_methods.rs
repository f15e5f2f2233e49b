//! Methods of Python's strings, where the engine's own ones differ or are missing: white space is Python's, lists are real
//! lists. A text that a method does not change is handed on, not copied.

use minijinja::value::{Kwargs, Rest, Tuple};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::json_values::PythonList;
use super::python_text::write_str;

/// Python's methods: those here, where the engine's own differ from Python's, then the engine's.
pub(super) fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        match name {
            "strip" => return strip(value, letters(args)?, Ends::BOTH),
            "lstrip" => return strip(value, letters(args)?, Ends { start: true, end: false }),
            "rstrip" => return strip(value, letters(args)?, Ends { start: false, end: true }),
            "split" => return split(text, args, false),
            "rsplit" => return split(text, args, true),
            "splitlines" if args.is_empty() => return Ok(list(lines(text))),
            "title" if args.is_empty() => return Ok(Value::from(title(text))),
            "index" | "rindex" => return index(text, args, name == "rindex"),
            "partition" | "rpartition" => return partition(text, args, name == "rpartition"),
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
pub(super) struct Ends {
    start: bool,
    end: bool,
}

impl Ends {
    pub(super) const BOTH: Self = Self { start: true, end: true };
}

pub(super) fn strip(value: &Value, letters: Option<&str>, ends: Ends) -> Result<Value, Error> {
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

/// Every letter behind something else is large, the others small: `They'Re`, unlike the filter of this name.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_inside = false;
    for letter in text.chars() {
        if is_inside {
            out.extend(letter.to_lowercase())
        } else {
            out.extend(letter.to_uppercase())
        }
        is_inside = letter.is_alphabetic();
    }
    out
}

/// In letters; what is not there is an error.
fn index(text: &str, args: &[Value], from_end: bool) -> Result<Value, Error> {
    let (part,): (&str,) = minijinja::value::from_args(args)?;
    let place = if from_end { text.rfind(part) } else { text.find(part) };
    let before = place.and_then(|at| text.get(..at));
    let before = before.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))?;
    Ok(Value::from(before.chars().count()))
}

fn partition(text: &str, args: &[Value], from_end: bool) -> Result<Value, Error> {
    let (part,): (&str,) = minijinja::value::from_args(args)?;
    if part.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "partition: empty separator"));
    }
    let found = if from_end { text.rsplit_once(part) } else { text.split_once(part) };
    let parts = match found {
        Some((left, right)) => [left, part, right],
        None if from_end => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

#[cfg(test)]
mod tests {
    use super::super::{ChatTemplate, Members, TemplateOptions};

    fn rendered(template: &str) -> String {
        let template = ChatTemplate::compile(template, TemplateOptions::default()).unwrap();
        template.render_context(Members::default(), None).unwrap()
    }

    #[test]
    fn methods_do_what_pythons_do() {
        for (template, text) in [
            (r"{{ 'a,b,,c'.split(',') }}", "['a', 'b', '', 'c']"),
            (r"{{ 'a,b,,c'.split(',', 1) }}{{ 'a,b'.split(sep=',', maxsplit=0) }}", "['a', 'b,,c']['a,b']"),
            (r"{{ '  a  b\tc '.split() }}{{ ' a b c '.split(none, 1) }}", "['a', 'b', 'c']['a', 'b c']"),
            (r"{{ 'a,b,c'.rsplit(',', 1) }}{{ 'a b c'.rsplit(none, 1) }}", "['a,b', 'c']['a b', 'c']"),
            (r"{{ 'a\r\nb\x0bc\n'.splitlines() }}", "['a', 'b', 'c']"),
            (r"{{ '\x1c a'.strip() }}{{ 'xax'.strip('x') }}{{ 'xax'.lstrip('x') }}{{ 'xax'.rstrip('x') }}", "aaaxxa"),
            (r"{{ 'foobar'.removeprefix('foo') }}{{ 'foobar'.removesuffix('x') }}", "barfoobar"),
            (r#"{{ "they're".title() }}{{ "they're" | title }}"#, "They'ReThey're"),
            (
                r"{{ 'éa'.index('a') }}{{ 'a-b-c'.partition('-') }}{{ 'a-b-c'.rpartition('-')[0] }}",
                "1('a', '-', 'b-c')a-b",
            ),
        ] {
            assert_eq!(rendered(template), text, "{template}");
        }
    }

    #[test]
    fn values_print_as_pythons_wherever_they_become_text() {
        for (template, text) in [
            ("{{ [1, 'a', none, true, 1.0] }}{{ {'k': (1,)} }}", "[1, 'a', None, True, 1.0]{'k': (1,)}"),
            ("{{ [1] | string }}{{ 1e16 }}{{ none }}{{ missing }}", "[1]1e+16None"),
            (
                "{{ missing | length }}{{ missing is iterable }}{{ none is iterable }}{{ 'a' is sequence }}",
                "0TrueFalseTrue",
            ),
            ("{% raw %}\n{{ x }}{% endraw %}\n|{% generation %}\ng{% endgeneration %}", "\n{{ x }}|g"),
        ] {
            assert_eq!(rendered(template), text, "{template}");
        }
    }
}
