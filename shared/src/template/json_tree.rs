//! JSON as templates need it: members stay in the order they came in, texts are shared and not copied again, and whole
//! numbers stay apart from others (a template prints `1.0` and `1` differently).
//!
//! A member that comes twice has its last value at its first place, as in Python's dict.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A JSON value.
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
    Text(Arc<str>),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Object(Members),
}

/// The members of an object, in order; names are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members(Vec<(Arc<str>, Json)>);

impl Json {
    /// Reads JSON text.
    ///
    /// # Errors
    /// What is wrong and where, when it is not JSON, nests deeper than 127, or holds a lone surrogate or a number that
    /// cannot be read exactly.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
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

impl Members {
    /// Lists longer than this are checked for repeated names through an index.
    const SHORT: usize = 16;

    fn unique(members: Vec<(Arc<str>, Json)>) -> Self {
        let mut kept: Vec<(Arc<str>, Json)> = Vec::with_capacity(members.len());
        if members.len() <= Self::SHORT {
            for (name, value) in members {
                match kept.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, slot)) => *slot = value,
                    None => kept.push((name, value)),
                }
            }
            return Self(kept);
        }
        let mut places: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for (name, value) in members {
            let place = *places.entry(Arc::clone(&name)).or_insert(kept.len());
            match kept.get_mut(place) {
                Some((_, slot)) => *slot = value,
                None => kept.push((name, value)),
            }
        }
        Self(kept)
    }

    /// The value of a member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, value)| value)
    }

    /// The value of a member; nothing when it is absent or `null`.
    #[must_use]
    pub fn given(&self, name: &str) -> Option<&Json> {
        self.get(name).filter(|value| **value != Json::Null)
    }

    /// Adds a member at the end, or replaces it where it is.
    pub fn set(&mut self, name: &str, value: Json) {
        match self.0.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, slot)) => *slot = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// Takes a member's value out; `Null` stays in its place.
    pub fn take(&mut self, name: &str) -> Option<Json> {
        self.0.iter_mut().find(|(known, _)| **known == *name).map(|(_, value)| std::mem::take(value))
    }

    /// Removes a member.
    pub fn remove(&mut self, name: &str) -> Option<Json> {
        let place = self.0.iter().position(|(known, _)| **known == *name)?;
        Some(self.0.remove(place).1)
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Json)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_pairs(self) -> Vec<(Arc<str>, Json)> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

/// 2^63: from here on a float may have been a whole number.
const EXACT: f64 = 9_223_372_036_854_775_808.0;

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Whole(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or(Json::Huge(value), Json::Whole))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        // A whole number of more than 64 bits comes here too, and Python would print all its digits.
        if value.abs() >= EXACT { Err(E::custom("a number beyond 64 bits")) } else { Ok(Json::Float(value)) }
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(Name(name)) = members.next_key()? {
            list.push((name, members.next_value()?));
        }
        Ok(Json::Object(Members::unique(list)))
    }
}

/// A member's name, read without a detour through `String`.
struct Name(Arc<str>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_str<E>(self, value: &str) -> Result<Name, E> {
                Ok(Name(value.into()))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn floats_are_read_to_the_last_bit(float in proptest::num::f64::NORMAL) {
            let read = Json::parse(format!("{float:?}").as_bytes());
            if float.abs() < EXACT {
                prop_assert_eq!(read.unwrap(), Json::Float(float));
            } else {
                prop_assert!(read.unwrap_err().is_data());
            }
        }
    }

    #[test]
    fn numbers_keep_their_kind() {
        let Json::List(items) = Json::parse(b"[1, 1.0, -1, 18446744073709551615, 1e3]").unwrap() else { panic!() };
        let expected = [Json::Whole(1), Json::Float(1.0), Json::Whole(-1), Json::Huge(u64::MAX), Json::Float(1000.0)];
        assert_eq!(items, expected);
    }
}
