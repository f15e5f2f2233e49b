//! JSON as the template engine sees it. Objects and arrays are types of ours, because the engine prints such values through
//! them wherever they become text (`{{ x }}`, `a ~ b`, `join`), and Jinja prints Python literals.

use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};

use super::json_tree::{Json, Members};
use super::python_text::write_repr;

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::from(()),
            Json::Bool(value) => Self::from(value),
            Json::Whole(value) => Self::from(value),
            Json::Huge(value) => Self::from(value),
            Json::Float(value) => Self::from(value),
            Json::Text(text) => Self::from(text),
            Json::List(items) => Self::from_object(PythonList(items.into_iter().map(Self::from).collect())),
            Json::Object(members) => Self::from_object(PythonDict::from(members)),
        }
    }
}

/// A list that prints as Python's.
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

/// A dict with names as keys, in their order, that prints as Python's.
#[derive(Debug)]
pub(super) struct PythonDict {
    entries: Vec<(Arc<str>, Value)>,
    /// The places of the entries by name, where there are too many to look at each.
    by_name: Option<Vec<usize>>,
}

impl PythonDict {
    /// Lists longer than this get an index.
    const SHORT: usize = 12;

    /// `entries` have unique names.
    pub(super) fn new(entries: Vec<(Arc<str>, Value)>) -> Self {
        let by_name = (entries.len() > Self::SHORT).then(|| {
            let mut places: Vec<usize> = (0..entries.len()).collect();
            places.sort_by_key(|&place| entries.get(place).map(|(name, _)| name));
            places
        });
        Self { entries, by_name }
    }

    fn find(&self, name: &str) -> Option<&Value> {
        let name_at = |place: usize| self.entries.get(place).map_or("", |(name, _)| &**name);
        let place = match &self.by_name {
            None => self.entries.iter().position(|(known, _)| **known == *name)?,
            Some(places) => *places.get(places.binary_search_by(|&place| name_at(place).cmp(name)).ok()?)?,
        };
        self.entries.get(place).map(|(_, value)| value)
    }
}

impl From<Members> for PythonDict {
    fn from(members: Members) -> Self {
        Self::new(members.into_pairs().into_iter().map(|(name, value)| (name, Value::from(value))).collect())
    }
}

impl Object for PythonDict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.find(key.as_str()?).cloned()
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.find(key).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let dict = Arc::clone(self);
        Enumerator::RevKeyValueIter(Box::new((0..self.entries.len()).map(move |at| match dict.entries.get(at) {
            Some((name, value)) => (Value::from(Arc::clone(name)), value.clone()),
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
            let value = Value::from(Json::parse(format!("{{{}}}", members.join(", ")).as_bytes()).unwrap());
            assert_eq!(value.len(), Some(count));
            assert_eq!(value.try_iter().unwrap().next().unwrap().as_str().unwrap(), format!("k{}", count - 1));
            for at in 0..count {
                assert_eq!(value.get_attr(&format!("k{at}")).unwrap(), Value::from(at));
            }
            assert!(value.get_attr("k").unwrap().is_undefined());
        }
    }
}
