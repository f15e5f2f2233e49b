//! One mapping of the document, read field by field. When it is dropped it reports every field that nobody asked for: a
//! reader cannot forget to refuse what it does not know. A field that is `null` counts as left out, as in Kubernetes.

use std::cell::RefCell;
use std::fmt::Display;
use std::time::Duration;

use serde_json::{Map, Value};

use super::units::{go_duration, quantity};
use crate::config::Problem;

/// Everything that is wrong, in the order it was found.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn refuse(&self, path: &str, rule: impl Into<String>, value: impl Display) {
        let problem = Problem { path: path.to_owned(), rule: rule.into(), value: value.to_string() };
        self.0.borrow_mut().push(problem);
    }

    pub(super) fn into_inner(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// See the module.
pub(super) struct Fields<'p> {
    path: String,
    rest: Map<String, Value>,
    known: Vec<&'static str>,
    problems: &'p Problems,
}

/// An entry of a list, and where it stands.
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) value: Value,
}

impl<'p> Fields<'p> {
    /// The fields of `value`, which stands at `path`; of none, when it is something else, which is refused.
    pub(super) fn of(value: Value, path: String, problems: &'p Problems) -> Self {
        let rest = match value {
            Value::Object(rest) => rest,
            Value::Null => Map::new(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                problems.refuse(&path, "must be a mapping", shown(&other));
                Map::new()
            }
        };
        Self { path, rest, known: Vec::new(), problems }
    }

    /// Where `field` stands.
    pub(super) fn at(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// Refuses what stands in `field`.
    pub(super) fn refuse(&self, field: &str, rule: impl Into<String>, value: impl Display) {
        self.problems.refuse(&self.at(field), rule, value);
    }

    /// Refuses the mapping itself.
    pub(super) fn refuse_whole(&self, rule: impl Into<String>, value: impl Display) {
        self.problems.refuse(&self.path, rule, value);
    }

    pub(super) const fn problems(&self) -> &'p Problems {
        self.problems
    }

    /// As it stands there.
    pub(super) fn take(&mut self, field: &'static str) -> Option<Value> {
        self.known.push(field);
        self.rest.remove(field).filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, field: &'static str) -> Option<String> {
        let value = self.take(field)?;
        if let Value::String(text) = value { Some(text) } else { self.wrong(field, "must be a text", &value) }
    }

    /// Empty counts as left out, as it does for llm-d.
    pub(super) fn name(&mut self, field: &'static str) -> Option<String> {
        self.text(field).filter(|text| !text.is_empty())
    }

    pub(super) fn required(&mut self, field: &'static str) -> String {
        self.must(field, |fields| fields.name(field)).unwrap_or_default()
    }

    pub(super) fn flag(&mut self, field: &'static str) -> Option<bool> {
        let value = self.take(field)?;
        value.as_bool().or_else(|| self.wrong(field, "must be true or false", &value))
    }

    pub(super) fn integer(&mut self, field: &'static str, least: i64, most: i64) -> Option<i64> {
        let rule = match (least, most) {
            (_, i64::MAX) => format!("must be a whole number, at least {least}"),
            _ => format!("must be a whole number from {least} to {most}"),
        };
        let value = self.take(field)?;
        match value.as_i64().filter(|number| (least..=most).contains(number)) {
            Some(number) => Some(number),
            None => self.wrong(field, &rule, &value),
        }
    }

    /// A number of at least `least` that fits 32 bits.
    pub(super) fn count(&mut self, field: &'static str, least: u32) -> Option<u32> {
        let number = self.integer(field, least.into(), u32::MAX.into())?;
        u32::try_from(number).ok()
    }

    /// A finite number that `fits`, which `rule` says in words.
    pub(super) fn number(&mut self, field: &'static str, rule: &str, fits: impl Fn(f64) -> bool) -> Option<f64> {
        let value = self.take(field)?;
        match value.as_f64().filter(|&number| number.is_finite() && fits(number)) {
            Some(number) => Some(number),
            None => self.wrong(field, &format!("must be a number {rule}"), &value),
        }
    }

    pub(super) fn share(&mut self, field: &'static str) -> Option<f64> {
        self.number(field, "from 0 to 1", |share| (0.0..=1.0).contains(&share))
    }

    pub(super) fn not_negative(&mut self, field: &'static str) -> Option<f64> {
        self.number(field, "of at least 0", |number| number >= 0.0)
    }

    pub(super) fn positive(&mut self, field: &'static str) -> Option<f64> {
        self.number(field, "above 0", |number| number > 0.0)
    }

    /// A duration as Go writes it; `0s` is one.
    pub(super) fn duration(&mut self, field: &'static str) -> Option<Duration> {
        let text = self.name(field)?;
        let parsed = go_duration(&text);
        if parsed.is_none() {
            self.refuse(field, "must be a duration such as 250ms, 2s or 1m30s", format!("{text:?}"));
        }
        parsed
    }

    /// A quantity as Kubernetes writes it, rounded up to a whole number.
    pub(super) fn quantity(&mut self, field: &'static str) -> Option<u64> {
        let value = self.take(field)?;
        let parsed = match &value {
            Value::Number(number) => quantity(&number.to_string()),
            Value::String(text) => quantity(text),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        match parsed {
            Some(amount) => Some(amount),
            None => self.wrong(field, "must be a quantity of at least 0 such as 500, 1k or 1Gi", &value),
        }
    }

    pub(super) fn one_of<T: Clone>(&mut self, field: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.name(field)?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| choice.clone());
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.refuse(field, format!("must be one of {}", names.join(", ")), format!("{text:?}"));
        }
        found
    }

    pub(super) fn list(&mut self, field: &'static str) -> Vec<Entry> {
        let path = self.at(field);
        match self.take(field) {
            None => Vec::new(),
            Some(Value::Array(entries)) => {
                let entry = |(index, value)| Entry { path: format!("{path}[{index}]"), value };
                entries.into_iter().enumerate().map(entry).collect()
            }
            Some(other) => self.wrong(field, "must be a list", &other).unwrap_or_default(),
        }
    }

    pub(super) fn texts(&mut self, field: &'static str) -> Vec<String> {
        let mut texts = Vec::new();
        for Entry { path, value } in self.list(field) {
            if let Value::String(text) = value {
                texts.push(text);
            } else {
                self.problems.refuse(&path, "must be a text", shown(&value));
            }
        }
        texts
    }

    pub(super) fn text_map(&mut self, field: &'static str) -> Vec<(String, String)> {
        let Some(value) = self.take(field) else { return Vec::new() };
        let Value::Object(map) = value else {
            return self.wrong(field, "must be a mapping of texts", &value).unwrap_or_default();
        };
        let mut pairs = Vec::new();
        for (key, value) in map {
            if let Value::String(text) = value {
                pairs.push((key, text));
            } else {
                self.refuse(&format!("{field}.{key}"), "must be a text", shown(&value));
            }
        }
        pairs
    }

    /// The fields of a mapping within.
    pub(super) fn within(&mut self, field: &'static str) -> Option<Self> {
        let path = self.at(field);
        let value = self.take(field)?;
        Some(Fields::of(value, path, self.problems))
    }

    /// What `read` makes of `field`, which must be there.
    pub(super) fn must<T>(&mut self, field: &str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let missing = self.rest.get(field).is_none_or(|value| value.is_null() || *value == "");
        let got = read(self);
        if missing {
            self.refuse(field, "must be given", "nothing");
        }
        got
    }

    /// What is left is not worth a word.
    pub(super) fn forget(&mut self) {
        self.rest.clear();
    }

    fn wrong<T>(&self, field: &str, rule: &str, value: &Value) -> Option<T> {
        self.refuse(field, rule, shown(value));
        None
    }
}

impl Drop for Fields<'_> {
    fn drop(&mut self) {
        for (field, value) in std::mem::take(&mut self.rest) {
            let rule = match (self.known.is_empty(), nearest(&field, &self.known)) {
                (true, _) => "must be left out: no fields are known here".to_owned(),
                (false, Some(name)) => format!("must be left out, it is not a known field; did you mean {name}?"),
                (false, None) => {
                    self.known.sort_unstable();
                    self.known.dedup();
                    format!("must be left out, it is not a known field; known are {}", self.known.join(", "))
                }
            };
            self.problems.refuse(&self.at(&field), rule, shown(&value));
        }
    }
}

/// A value in an error text; long ones are cut.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// The name that `text` most likely was meant to be.
pub(super) fn nearest<'a>(text: &str, names: &[&'a str]) -> Option<&'a str> {
    let typed = text.to_lowercase();
    let close = names.iter().map(|name| (distance(&typed, &name.to_lowercase()), *name));
    close.filter(|(steps, name)| *steps * 4 <= name.len()).min_by_key(|(steps, _)| *steps).map(|(_, name)| name)
}

/// Edits between two texts (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((j, to), pair) in b.chars().enumerate().zip(row.windows(2)) {
            let &[above_left, above] = pair else { continue };
            let left = next.get(j).copied().unwrap_or(usize::MAX);
            next.push((above_left + usize::from(from != to)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(read: impl Fn(&mut Fields<'_>), value: Value) -> Vec<String> {
        let problems = Problems::default();
        read(&mut Fields::of(value, "here".to_owned(), &problems));
        problems.into_inner().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_field_that_nobody_asked_for_is_refused_with_the_name_that_was_meant() {
        let read = |fields: &mut Fields<'_>| {
            fields.integer("windowDurationMs", 1, 10);
        };
        let meant =
            "here.windowDurationMS: must be left out, it is not a known field; did you mean windowDurationMs?, got 7";
        assert_eq!(told(read, json!({"windowDurationMS": 7})), [meant]);
        let known = "here.other: must be left out, it is not a known field; known are windowDurationMs, got 7";
        assert_eq!(told(read, json!({"other": 7})), [known]);
        assert_eq!(told(|_| (), json!({"a": 1})), ["here.a: must be left out: no fields are known here, got 1"]);
    }

    #[test]
    fn null_is_left_out_and_what_is_no_mapping_is_refused() {
        let read = |fields: &mut Fields<'_>| assert_eq!(fields.text("a"), None);
        assert!(told(read, json!({"a": null})).is_empty());
        assert!(told(read, json!(null)).is_empty());
        assert_eq!(told(|_| (), json!([1])), ["here: must be a mapping, got [1]"]);
    }

    #[test]
    fn every_type_and_range_is_checked() {
        let read = |fields: &mut Fields<'_>| {
            fields.text("text");
            fields.flag("flag");
            fields.integer("integer", 1, 5);
            fields.integer("fraction", 0, i64::MAX);
            fields.share("share");
            fields.duration("duration");
            fields.quantity("quantity");
            fields.one_of("choice", &[("a", 1), ("b", 2)]);
            fields.texts("texts");
            fields.text_map("map");
        };
        let value = json!({
            "text": 1, "flag": "yes", "integer": 6, "fraction": 1.5, "share": 1.01, "duration": "5", "quantity": "-1",
            "choice": "c", "texts": ["a", 1], "map": {"k": 1},
        });
        let expected = [
            "here.text: must be a text, got 1",
            "here.flag: must be true or false, got \"yes\"",
            "here.integer: must be a whole number from 1 to 5, got 6",
            "here.fraction: must be a whole number, at least 0, got 1.5",
            "here.share: must be a number from 0 to 1, got 1.01",
            "here.duration: must be a duration such as 250ms, 2s or 1m30s, got \"5\"",
            "here.quantity: must be a quantity of at least 0 such as 500, 1k or 1Gi, got \"-1\"",
            "here.choice: must be one of a, b, got \"c\"",
            "here.texts[1]: must be a text, got 1",
            "here.map.k: must be a text, got 1",
        ];
        assert_eq!(told(read, value), expected);
    }
}
