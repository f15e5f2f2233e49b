//! From JSON text to a tree, on the tokenizer that reads bodies for routing. Numbers are read as Python reads them, or not
//! at all: one that 64 bits do not hold is an error, because a template would print all its digits.

use super::json_tree::{Json, Members};
use super::text::Text;
use crate::api::Syntax;
use crate::api::json::{Failure, Sink, Token, Tokenizer};

/// Why there is no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON.
    #[error("line {line}, byte {at} of the text: {syntax}")]
    Syntax {
        /// Bytes before the offending one.
        at: u64,
        /// Counted from 1.
        line: usize,
        /// The broken rule.
        syntax: Syntax,
    },
    /// It is JSON, with a number that cannot be read exactly.
    #[error("a number beyond 64 bits")]
    Number,
}

/// 2^63: from here on a float may have been a whole number.
const EXACT: f64 = 9_223_372_036_854_775_808.0;

pub(super) fn read(text: &[u8]) -> Result<Json, JsonError> {
    let mut builder = Builder { text: Vec::with_capacity(text.len()), ..Builder::default() };
    let mut tokenizer = Tokenizer::default();
    tokenizer
        .push(text, &mut builder)
        .and_then(|()| tokenizer.finish(&mut builder))
        .map_err(|failure| syntax_error(text, &failure))?;
    if builder.has_inexact_number { Err(JsonError::Number) } else { Ok(builder.whole) }
}

#[cold]
fn syntax_error(text: &[u8], failure: &Failure) -> JsonError {
    let at = usize::try_from(failure.at).unwrap_or(usize::MAX);
    let line = 1 + text.iter().take(at).filter(|&&byte| byte == b'\n').count();
    JsonError::Syntax { at: failure.at, line, syntax: failure.syntax }
}

#[derive(Default)]
struct Builder {
    /// Of the open key, string or number.
    text: Vec<u8>,
    open: Vec<Container>,
    /// Elements of all open arrays, then members of all open objects: a container takes its own from the end.
    items: Vec<Json>,
    members: Vec<(Text, Json)>,
    whole: Json,
    has_inexact_number: bool,
}

enum Container {
    Array { from: usize },
    Object { from: usize, name: Text },
}

impl Sink for Builder {
    fn token(&mut self, token: Token, _at: u64) {
        match token {
            Token::ObjectStart => self.open.push(Container::Object { from: self.members.len(), name: Text::default() }),
            Token::ArrayStart => self.open.push(Container::Array { from: self.items.len() }),
            Token::ObjectEnd | Token::ArrayEnd => self.close(),
            Token::KeyStart | Token::StringStart | Token::NumberStart => self.text.clear(),
            Token::KeyEnd => {
                let read = self.read_text();
                if let Some(Container::Object { name, .. }) = self.open.last_mut() {
                    *name = read;
                }
            }
            Token::StringEnd => {
                let read = self.read_text();
                self.add(Json::Text(read));
            }
            Token::NumberEnd => {
                let number = number(str::from_utf8(&self.text).unwrap_or_default());
                self.has_inexact_number |= number.is_none();
                self.add(number.unwrap_or_default());
            }
            Token::Bool(value) => self.add(Json::Bool(value)),
            Token::Null => self.add(Json::Null),
        }
    }

    fn text(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    fn buffer(&mut self) -> Option<&mut Vec<u8>> {
        Some(&mut self.text)
    }
}

impl Builder {
    /// The tokenizer has seen to it that a whole text is UTF-8.
    fn read_text(&self) -> Text {
        Text::from(str::from_utf8(&self.text).unwrap_or_default())
    }

    fn add(&mut self, value: Json) {
        match self.open.last_mut() {
            Some(Container::Object { name, .. }) => self.members.push((std::mem::take(name), value)),
            Some(Container::Array { .. }) => self.items.push(value),
            None => self.whole = value,
        }
    }

    fn close(&mut self) {
        let whole = match self.open.pop() {
            Some(Container::Array { from }) => Json::List(self.items.drain(from..).collect::<Vec<_>>().into()),
            Some(Container::Object { from, .. }) => Json::Object(Members::unique(self.members.drain(from..).collect())),
            None => return,
        };
        self.add(whole);
    }
}

fn number(text: &str) -> Option<Json> {
    if text.bytes().any(|letter| matches!(letter, b'.' | b'e' | b'E')) {
        return text.parse().ok().filter(|number: &f64| number.abs() < EXACT).map(Json::Float);
    }
    text.parse().map(Json::Whole).or_else(|_| text.parse().map(Json::Huge)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn floats_are_read_to_the_last_bit(float in proptest::num::f64::NORMAL) {
            let read = read(format!("{float:?}").as_bytes());
            if float.abs() < EXACT {
                prop_assert_eq!(read.unwrap(), Json::Float(float));
            } else {
                prop_assert_eq!(read, Err(JsonError::Number));
            }
        }
    }

    #[test]
    fn numbers_keep_their_kind() {
        let Json::List(items) = read(b"[1, 1.0, -1, 18446744073709551615, 1e3]").unwrap() else { panic!() };
        let expected = [Json::Whole(1), Json::Float(1.0), Json::Whole(-1), Json::Huge(u64::MAX), Json::Float(1000.0)];
        assert_eq!(*items, expected);
    }

    #[test]
    fn what_is_not_json_is_told_with_its_place() {
        let failed = |text: &str| read(text.as_bytes()).unwrap_err();
        assert_eq!(failed("{\"a\":\n[1,]}"), JsonError::Syntax { at: 9, line: 2, syntax: Syntax::ExpectedValue });
        assert_eq!(failed(r#""\ud800""#), JsonError::Syntax { at: 1, line: 1, syntax: Syntax::LoneSurrogate });
        for beyond in ["18446744073709551616", "-9223372036854775809", "1e19", "1e999"] {
            assert_eq!(failed(&format!("[{beyond}]")), JsonError::Number, "{beyond}");
        }
    }

    proptest! {
        #[test]
        fn a_tree_holds_what_serde_json_reads(text in document()) {
            let ours = read(text.as_bytes()).unwrap();
            let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(as_serde(&ours), theirs);
        }
    }

    fn document() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just(String::from("null")),
            any::<bool>().prop_map(|value| value.to_string()),
            any::<i32>().prop_map(|value| value.to_string()),
            (-1e6..1e6).prop_map(|value: f64| format!("{value:?}")),
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let member = ("[a-c]{1,2}", inner.clone()).prop_map(|(name, value)| format!("\"{name}\" :{value}"));
            prop_oneof![
                proptest::collection::vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(" ,"))),
                proptest::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(", "))),
            ]
        })
    }

    fn as_serde(json: &Json) -> serde_json::Value {
        match json {
            Json::Null => serde_json::Value::Null,
            Json::Bool(value) => (*value).into(),
            Json::Whole(value) => (*value).into(),
            Json::Huge(value) => (*value).into(),
            Json::Float(value) => (*value).into(),
            Json::Text(text) => text.to_string().into(),
            Json::List(items) => items.iter().map(as_serde).collect(),
            Json::Object(members) => members.iter().map(|(name, value)| (name.to_string(), as_serde(value))).collect(),
        }
    }
}
