//! The `tojson` filter as chat templates get it from transformers: Python's `json.dumps`, with its spaces behind separators and
//! its spelling of floats, without escaping for HTML.

use std::borrow::Cow;
use std::fmt::Write as _;

use minijinja::value::{Kwargs, ObjectRepr, Rest, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::json_tree::Json;
use super::json_values::{Dict, Items};
use super::python_text::{MAX_DEPTH, too_deep, write_float};
use super::text::Text;

/// Room for a usual tool.
const ROOM: usize = 512;

/// `tojson(value, ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
pub(super) fn tojson(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    const NAMES: [&str; 4] = ["ensure_ascii", "indent", "separators", "sort_keys"];
    if positional.len() > NAMES.len() {
        return Err(Error::new(ErrorKind::TooManyArguments, "tojson takes at most four"));
    }
    let mut out = String::with_capacity(ROOM);
    if positional.is_empty() && named.args().next().is_none() {
        Layout::default().write(&mut out, value, 0)?;
        return Ok(Value::from(out));
    }
    let option = |name: &str| -> Result<Option<Value>, Error> {
        let at = NAMES.iter().position(|known| *known == name).and_then(|at| positional.get(at)).cloned();
        Ok(at
            .map_or_else(|| named.get::<Option<Value>>(name), |value| Ok(Some(value)))?
            .filter(|value| !value.is_none()))
    };
    let indent = option("indent")?.map(|indent| indent_text(&indent)).transpose()?;
    let (item, key) = match option("separators")? {
        Some(pair) => (separator(&pair, 0)?.into(), separator(&pair, 1)?.into()),
        None => (if indent.is_some() { "," } else { ", " }.into(), ": ".into()),
    };
    let is_set = |name| option(name).map(|value| value.is_some_and(|value| value.is_true()));
    let layout = Layout { indent, item, key, ensure_ascii: is_set("ensure_ascii")?, sort_keys: is_set("sort_keys")? };
    named.assert_all_used()?;
    layout.write(&mut out, value, 0)?;
    Ok(Value::from(out))
}

struct Layout {
    /// One level's indentation; nothing puts all on one line.
    indent: Option<String>,
    item: Cow<'static, str>,
    key: Cow<'static, str>,
    ensure_ascii: bool,
    sort_keys: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self { indent: None, item: ", ".into(), key: ": ".into(), ensure_ascii: false, sort_keys: false }
    }
}

fn indent_text(indent: &Value) -> Result<String, Error> {
    if let Some(text) = indent.as_str() {
        return Ok(text.to_owned());
    }
    let width = indent.as_i64().ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "tojson: indent is a number"))?;
    // Python takes a negative number for zero; the upper bound only keeps a wrong template from filling the memory.
    Ok(" ".repeat(usize::try_from(width.clamp(0, 64)).unwrap_or_default()))
}

fn separator(pair: &Value, at: usize) -> Result<String, Error> {
    pair.get_item_by_index(at)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "tojson: separators are two strings"))
}

impl Layout {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        if let Some(text) = value.as_str() {
            self.write_text(out, text);
        } else if let Some(dict) = value.downcast_object_ref::<Dict>() {
            return self.write_members(out, dict.entries(), depth);
        } else if let Some(Items(items)) = value.downcast_object_ref::<Items>() {
            return self.write_items(out, ['[', ']'], depth, items, |out, item| self.write_json(out, item, depth + 1));
        } else if let Some(word) = keyword(value) {
            out.push_str(word);
        } else if value.is_number() {
            write_number(out, value);
        } else {
            return self.write_container(out, value, depth);
        }
        Ok(())
    }

    fn write_json(&self, out: &mut String, json: &Json, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let _infallible = match json {
            Json::Null => out.write_str("null"),
            Json::Bool(value) => out.write_str(if *value { "true" } else { "false" }),
            Json::Whole(number) => write!(out, "{number}"),
            Json::Huge(number) => write!(out, "{number}"),
            Json::Float(number) => {
                write_float(out, *number);
                Ok(())
            }
            Json::Text(text) => {
                self.write_text(out, text);
                Ok(())
            }
            Json::List(items) => {
                return self
                    .write_items(out, ['[', ']'], depth, &**items, |out, item| self.write_json(out, item, depth + 1));
            }
            Json::Object(members) => return self.write_members(out, members.0.entries(), depth),
        };
        Ok(())
    }

    fn write_members(&self, out: &mut String, members: &[(Text, Json)], depth: usize) -> Result<(), Error> {
        let write = |out: &mut String, (name, value): &(Text, Json)| {
            self.write_text(out, name);
            out.push_str(&self.key);
            self.write_json(out, value, depth + 1)
        };
        if !self.sort_keys {
            return self.write_items(out, ['{', '}'], depth, members, write);
        }
        let mut sorted: Vec<&(Text, Json)> = members.iter().collect();
        sorted.sort_by(|(left, _), (right, _)| left.cmp(right));
        self.write_items(out, ['{', '}'], depth, sorted, write)
    }

    fn write_container(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        let refused = || {
            let what = format!("tojson: a value of type {} has no JSON", value.kind());
            Error::new(ErrorKind::InvalidOperation, what)
        };
        let object = value.as_object().ok_or_else(refused)?;
        if object.repr() == ObjectRepr::Map {
            let mut pairs: Vec<(Value, Value)> = object.try_iter_pairs().into_iter().flatten().collect();
            if self.sort_keys {
                pairs.sort_by(|(left, _), (right, _)| left.cmp(right));
            }
            return self.write_items(out, ['{', '}'], depth, pairs, |out, (name, item)| {
                self.write_name(out, &name);
                out.push_str(&self.key);
                self.write(out, &item, depth + 1)
            });
        }
        if object.repr() == ObjectRepr::Plain || value.len().is_none() {
            return Err(refused());
        }
        self.write_items(out, ['[', ']'], depth, value.try_iter()?, |out, item| self.write(out, &item, depth + 1))
    }

    fn write_items<I>(
        &self,
        out: &mut String,
        [open, close]: [char; 2],
        depth: usize,
        items: impl IntoIterator<Item = I>,
        write: impl Fn(&mut String, I) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        let mut is_empty = true;
        for item in items {
            if !is_empty {
                out.push_str(&self.item);
            }
            is_empty = false;
            self.break_line(out, depth + 1);
            write(out, item)?;
        }
        if !is_empty {
            self.break_line(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn break_line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    /// A name that is no string becomes one, as `json.dumps` does it.
    fn write_name(&self, out: &mut String, name: &Value) {
        if let Some(text) = name.as_str() {
            self.write_text(out, text);
            return;
        }
        let mut spelled = String::new();
        match keyword(name) {
            Some(word) => spelled.push_str(word),
            None => write_number(&mut spelled, name),
        }
        self.write_text(out, &spelled);
    }

    fn write_text(&self, out: &mut String, text: &str) {
        let stops = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\' || (byte >= 0x80 && self.ensure_ascii);
        out.reserve(text.len() + 2);
        out.push('"');
        let mut rest = text;
        while let Some((plain, stopped)) = rest.bytes().position(stops).and_then(|at| rest.split_at_checked(at)) {
            out.push_str(plain);
            let mut letters = stopped.chars();
            letters.by_ref().take(1).for_each(|letter| write_escaped(out, letter));
            rest = letters.as_str();
        }
        out.push_str(rest);
        out.push('"');
    }
}

fn keyword(value: &Value) -> Option<&'static str> {
    if value.is_none() {
        return Some("null");
    }
    (value.kind() == ValueKind::Bool).then(|| if value.is_true() { "true" } else { "false" })
}

fn write_number(out: &mut String, value: &Value) {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => {
            if number.is_nan() {
                out.push_str("NaN");
            } else if number.is_infinite() {
                out.push_str(if number > 0.0 { "Infinity" } else { "-Infinity" });
            } else {
                write_float(out, number);
            }
        }
        _ => {
            let _infallible = write!(out, "{value}");
        }
    }
}

fn write_escaped(out: &mut String, letter: char) {
    match letter {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        _ => {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                let _infallible = write!(out, "\\u{unit:04x}");
            }
        }
    }
}
