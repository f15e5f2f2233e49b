//! JSON as the template engine sees it. Objects and arrays are types of ours, because the engine prints such values through
//! them wherever they become text (`{{ x }}`, `a ~ b`, `join`), and Jinja prints Python literals. A value is made when a
//! template looks it up, and shares what it stands for.

use std::fmt;
use std::sync::{Arc, OnceLock};

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};

use super::json_tree::{Json, Members};
use super::python_text::write_repr;
use super::text::Text;

/// The function that tells templates the time.
pub(super) const CLOCK: &str = "strftime_now";

impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::from(()),
            Json::Bool(value) => Self::from(*value),
            Json::Whole(value) => Self::from(*value),
            Json::Huge(value) => Self::from(*value),
            Json::Float(value) => Self::from(*value),
            Json::Text(text) => Self::from(text.clone()),
            Json::List(list) => Self::from_dyn_object(Arc::clone(&list.0)),
            Json::Object(members) => Self::from_dyn_object(Arc::clone(&members.0)),
        }
    }
}

/// An array.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Items(pub(super) Vec<Json>);

impl Object for Items {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).map(Value::from)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(Value::from_dyn_object(Arc::clone(self)), f)
    }
}

/// A list that a method made: prints as Python's.
#[derive(Debug)]
pub(super) struct PythonList(pub(super) Vec<Value>);

impl Object for PythonList {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(Value::from_dyn_object(Arc::clone(self)), f)
    }
}

/// An object: prints as Python's dict.
#[derive(Clone, Debug, Default)]
pub(super) struct Dict {
    entries: Vec<(Text, Json)>,
    /// The places of the entries by name, where there are too many to look at each. Made when a template first asks.
    by_name: OnceLock<Vec<usize>>,
}

impl Dict {
    /// Lists longer than this get an index.
    const SHORT: usize = 12;

    /// `entries` have unique names.
    pub(super) const fn new(entries: Vec<(Text, Json)>) -> Self {
        Self { entries, by_name: OnceLock::new() }
    }

    pub(super) fn entries(&self) -> &[(Text, Json)] {
        &self.entries
    }

    pub(super) fn entries_mut(&mut self) -> &mut Vec<(Text, Json)> {
        self.by_name = OnceLock::new();
        &mut self.entries
    }

    pub(super) fn into_entries(self) -> Vec<(Text, Json)> {
        self.entries
    }

    pub(super) fn find(&self, name: &str) -> Option<&Json> {
        let name_at = |place: usize| self.entries.get(place).map_or("", |(name, _)| &**name);
        let place = if self.entries.len() <= Self::SHORT {
            self.entries.iter().position(|(known, _)| **known == *name)?
        } else {
            let places = self.by_name.get_or_init(|| {
                let mut places: Vec<usize> = (0..self.entries.len()).collect();
                places.sort_by_key(|&place| name_at(place));
                places
            });
            *places.get(places.binary_search_by(|&place| name_at(place).cmp(name)).ok()?)?
        };
        self.entries.get(place).map(|(_, value)| value)
    }
}

impl PartialEq for Dict {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.find(key.as_str()?).map(Value::from)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.find(key).map(Value::from)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let dict = Arc::clone(self);
        Enumerator::RevKeyValueIter(Box::new((0..self.entries.len()).map(move |at| match dict.entries.get(at) {
            Some((name, value)) => (Value::from(name.clone()), Value::from(value)),
            None => (Value::UNDEFINED, Value::UNDEFINED),
        })))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.entries.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(Value::from_dyn_object(Arc::clone(self)), f)
    }
}

/// A template's variables, and its clock.
#[derive(Debug)]
pub(super) struct Variables {
    pub(super) members: Members,
    /// `strftime_now`: hides a variable of this name.
    pub(super) clock: Option<Value>,
}

impl Object for Variables {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let clock = self.clock.as_ref().filter(|_| key == CLOCK);
        clock.cloned().or_else(|| self.members.0.find(key).map(Value::from))
    }
}

fn print(value: Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = String::new();
    write_repr(&mut text, &value, 0).map_err(|_| fmt::Error)?;
    f.write_str(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_in_short_and_long_objects() {
        for count in [3, 40] {
            let members: Vec<String> = (0..count).rev().map(|at| format!(r#""k{at}": {at}"#)).collect();
            let value = Value::from(&Json::parse(format!("{{{}}}", members.join(", ")).as_bytes()).unwrap());
            assert_eq!(value.len(), Some(count));
            assert_eq!(value.try_iter().unwrap().next().unwrap().as_str().unwrap(), format!("k{}", count - 1));
            for at in 0..count {
                assert_eq!(value.get_attr(&format!("k{at}")).unwrap(), Value::from(at));
            }
            assert!(value.get_attr("k").unwrap().is_undefined());
        }
    }
}
