//! A string as the template engine holds it: up to 22 bytes in place, longer ones shared. Most names and many values of a
//! request are short, and making them costs no allocation.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

use minijinja::Value;

/// An immutable string; clones share it.
#[derive(Clone)]
pub struct Text(Value);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        // The value is always a string.
        self.0.as_str().unwrap_or_default()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::from("")
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Value::from(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Value::from(text))
    }
}

impl From<Text> for Value {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
