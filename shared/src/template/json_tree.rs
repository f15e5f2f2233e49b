//! JSON as templates need it: members stay in the order they came in, texts and containers are shared and not copied again,
//! and whole numbers stay apart from others (a template prints `1.0` and `1` differently).
//!
//! The containers are the template engine's objects themselves ([`super::json_values`]): nothing is converted before a
//! template reads it. A member that comes twice has its last value at its first place, as in Python's dict.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use super::json_reader::{JsonError, read};
use super::json_values::{Dict, Items};
use super::text::Text;

/// A JSON value. Clones share what they hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Json {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction and exponent.
    Whole(i64),
    /// A whole number above `i64::MAX`.
    Huge(u64),
    /// Every other number.
    Float(f64),
    /// A string.
    Text(Text),
    /// An array.
    List(List),
    /// An object.
    Object(Members),
}

/// The elements of an array.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List(pub(super) Arc<Items>);

/// The members of an object, in order; names are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members(pub(super) Arc<Dict>);

impl Json {
    /// Reads JSON text.
    ///
    /// # Errors
    /// What is wrong and where, when it is not JSON, nests deeper than 127, or holds a lone surrogate or a number that
    /// cannot be read exactly.
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        read(text)
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The object, if it is one.
    #[must_use]
    pub fn as_object(&self) -> Option<&Members> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    /// The array, if it is one.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// A string value.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// An array of these elements.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(items.into())
    }

    /// An object with these members; a name that comes again replaces.
    #[must_use]
    pub fn object<'n>(members: impl IntoIterator<Item = (&'n str, Self)>) -> Self {
        Self::Object(Members::unique(members.into_iter().map(|(name, value)| (name.into(), value)).collect()))
    }

    /// True for what a Python program takes as false: `null`, `false`, zero, empty.
    #[must_use]
    pub fn is_falsy(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(value) => !value,
            Self::Whole(value) => *value == 0,
            Self::Huge(_) => false,
            Self::Float(value) => value.abs() <= 0.0,
            Self::Text(text) => text.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Object(members) => members.is_empty(),
        }
    }
}

impl List {
    /// The elements by themselves; copied only where somebody else has the list too.
    #[must_use]
    pub fn into_vec(self) -> Vec<Json> {
        Arc::unwrap_or_clone(self.0).0
    }
}

impl Deref for List {
    type Target = [Json];

    fn deref(&self) -> &[Json] {
        &self.0.0
    }
}

impl IntoIterator for List {
    type Item = Json;
    type IntoIter = std::vec::IntoIter<Json>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl FromIterator<Json> for List {
    fn from_iter<I: IntoIterator<Item = Json>>(items: I) -> Self {
        Self::from(Vec::from_iter(items))
    }
}

impl From<Vec<Json>> for List {
    fn from(items: Vec<Json>) -> Self {
        Self(Arc::new(Items(items)))
    }
}

impl Members {
    /// Lists longer than this are checked for repeated names through an index.
    const SHORT: usize = 16;

    /// Of members in the order they came in.
    pub(super) fn unique(members: Vec<(Text, Json)>) -> Self {
        let is_known = |at: usize, name: &Text| members.iter().take(at).any(|(known, _)| known == name);
        if members.len() <= Self::SHORT && !members.iter().enumerate().any(|(at, (name, _))| is_known(at, name)) {
            return Self(Arc::new(Dict::new(members)));
        }
        let mut kept: Vec<(Text, Json)> = Vec::with_capacity(members.len());
        let mut places: BTreeMap<Text, usize> = BTreeMap::new();
        for (name, value) in members {
            let place = *places.entry(name.clone()).or_insert(kept.len());
            match kept.get_mut(place) {
                Some((_, slot)) => *slot = value,
                None => kept.push((name, value)),
            }
        }
        Self(Arc::new(Dict::new(kept)))
    }

    fn entries(&mut self) -> &mut Vec<(Text, Json)> {
        Arc::make_mut(&mut self.0).entries_mut()
    }

    /// The value of a member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.iter().find(|(known, _)| ***known == *name).map(|(_, value)| value)
    }

    /// The value of a member; nothing when it is absent or `null`.
    #[must_use]
    pub fn given(&self, name: &str) -> Option<&Json> {
        self.get(name).filter(|value| **value != Json::Null)
    }

    /// Adds a member at the end, or replaces it where it is.
    pub fn set(&mut self, name: &str, value: Json) {
        let entries = self.entries();
        match entries.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, slot)) => *slot = value,
            None => entries.push((name.into(), value)),
        }
    }

    /// Takes a member's value out; `Null` stays in its place.
    pub fn take(&mut self, name: &str) -> Option<Json> {
        self.entries().iter_mut().find(|(known, _)| **known == *name).map(|(_, value)| std::mem::take(value))
    }

    /// Removes a member.
    pub fn remove(&mut self, name: &str) -> Option<Json> {
        let entries = self.entries();
        let place = entries.iter().position(|(known, _)| **known == *name)?;
        Some(entries.remove(place).1)
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = (&Text, &Json)> {
        self.0.entries().iter().map(|(name, value)| (name, value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.entries().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.entries().is_empty()
    }

    pub(super) fn into_pairs(self) -> Vec<(Text, Json)> {
        Arc::unwrap_or_clone(self.0).into_entries()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_the_last_of_a_name_wins() {
        let long: String = (0..40).map(|at| format!(r#""k{at}": {at}, "#)).collect();
        for text in [r#"{"z": 1, "a": 2, "z": 3}"#.to_owned(), format!(r#"{{"z": 1, {long} "z": 3}}"#)] {
            let Json::Object(members) = Json::parse(text.as_bytes()).unwrap() else { panic!("an object") };
            let (name, value) = members.iter().next().unwrap();
            assert_eq!((&**name, value), ("z", &Json::Whole(3)));
        }
    }
}
