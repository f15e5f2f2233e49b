//! The model's name in a response, put back to what the client called it: `"model":"x"` wherever it is a member, in JSON and in
//! server-sent events alike, split anywhere.
//!
//! Bytes are matched, and that is exact: inside a JSON string every quote stands behind a backslash, so a quote that does
//! not, before `model"`, opens a key. No more is held back than may be the beginning of such a member.

use std::borrow::Cow;

use crate::api::json_inside;

const KEY: &[u8] = b"\"model\"";

/// Between a key, its colon and its value; what has more is left as it is.
const MOST_SPACE: usize = 64;

/// Puts one name back in one response.
#[derive(Debug)]
pub struct NameRestorer {
    /// How the name that is looked for may be spelt behind its opening quote, closing quote included: as it is, and in ASCII.
    spellings: [Vec<u8>; 2],
    /// What stands between the quotes instead.
    name: Vec<u8>,
    /// The beginning of a member, perhaps.
    held: Vec<u8>,
    /// The byte before `held`, or before the next one, is a backslash.
    behind_backslash: bool,
}

/// Why no member begins here.
enum Miss {
    /// It is something else.
    Other,
    /// As far as it goes, it is one.
    CutOff,
}

impl NameRestorer {
    /// Restores `name` where the engine says `target`.
    #[must_use]
    pub fn new(target: &str, name: &str) -> Self {
        let closed = |inside: &str| [inside.as_bytes(), b"\""].concat();
        let target = json_inside(target);
        Self {
            spellings: [closed(&target), closed(&in_ascii(&target))],
            name: json_inside(name).into_bytes(),
            held: Vec::new(),
            behind_backslash: false,
        }
    }

    /// Takes the next bytes; `end`: the last. What goes on in their place; `None`: they do.
    pub fn push(&mut self, chunk: &[u8], end: bool) -> Option<Vec<u8>> {
        let held = core::mem::take(&mut self.held);
        let data = if held.is_empty() { Cow::Borrowed(chunk) } else { Cow::Owned([&held, chunk].concat()) };
        let (mut out, mut done, mut from) = (Vec::new(), 0, 0);
        let mut kept = data.len();
        while let Some(quote) = quote(&data, from) {
            from = quote + 1;
            let before = quote.checked_sub(1).and_then(|at| data.get(at));
            if before.map_or(self.behind_backslash, |&byte| byte == b'\\') {
                continue;
            }
            match self.value(data.get(quote..).unwrap_or_default()) {
                Ok((start, length)) => {
                    out.extend_from_slice(data.get(done..quote + start).unwrap_or_default());
                    out.extend_from_slice(&self.name);
                    done = quote + start + length;
                    from = done + 1;
                }
                Err(Miss::CutOff) if !end => {
                    kept = quote;
                    break;
                }
                Err(Miss::CutOff | Miss::Other) => {}
            }
        }
        if let Some(&last) = kept.checked_sub(1).and_then(|at| data.get(at)) {
            self.behind_backslash = last == b'\\';
        }
        if done == 0 && held.is_empty() && kept == data.len() {
            return None;
        }
        out.extend_from_slice(data.get(done..kept).unwrap_or_default());
        data.get(kept..).unwrap_or_default().clone_into(&mut self.held);
        Some(out)
    }

    /// Where in the member that `data` begins with the inside of its value is, and how long.
    fn value(&self, data: &[u8]) -> Result<(usize, usize), Miss> {
        let rest = behind_space(behind(data, KEY)?)?;
        let rest = behind_space(behind(rest, b":")?)?;
        let inside = behind(rest, b"\"")?;
        let mut miss = Miss::Other;
        for spelling in &self.spellings {
            match behind(inside, spelling) {
                Ok(_) => return Ok((data.len() - inside.len(), spelling.len() - 1)),
                Err(Miss::CutOff) => miss = Miss::CutOff,
                Err(Miss::Other) => {}
            }
        }
        Err(miss)
    }
}

/// Position of the next quote.
fn quote(data: &[u8], from: usize) -> Option<usize> {
    Some(from + data.get(from..)?.iter().position(|&byte| byte == b'"')?)
}

fn behind<'a>(data: &'a [u8], tag: &[u8]) -> Result<&'a [u8], Miss> {
    data.strip_prefix(tag).ok_or(if tag.starts_with(data) { Miss::CutOff } else { Miss::Other })
}

fn behind_space(data: &[u8]) -> Result<&[u8], Miss> {
    let space =
        data.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).take(MOST_SPACE + 1).count();
    match data.get(space..) {
        _ if space > MOST_SPACE => Err(Miss::Other),
        None | Some([]) => Err(Miss::CutOff),
        Some(rest) => Ok(rest),
    }
}

/// As Python's `json` spells it.
fn in_ascii(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const TARGET: &str = "org/mödel-\u{1F600}\"v2\\";
    const NAME: &str = "client's \"own\"";

    fn pushed<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<u8> {
        let mut restorer = NameRestorer::new(TARGET, NAME);
        let mut out = Vec::new();
        for chunk in chunks {
            let passed = restorer.push(chunk, false);
            out.extend_from_slice(passed.as_deref().unwrap_or(chunk));
        }
        out.extend(restorer.push(&[], true).unwrap_or_default());
        out
    }

    fn restored(tree: &mut Value) {
        match tree {
            Value::Object(members) => {
                for (key, value) in members {
                    if key == "model" && value == TARGET {
                        *value = Value::from(NAME);
                    }
                    restored(value);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(restored),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            3 => Just(TARGET.to_owned()),
            1 => Just("model".to_owned()),
            1 => Just(format!("\"model\":{}", json!(TARGET))),
            1 => Just(format!("{TARGET}x")),
            1 => "[a-z\"\\\\:é]{0,6}",
        ]
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![4 => text().prop_map(Value::from), 1 => Just(json!(7)), 1 => Just(Value::Null)];
        let key = prop_oneof![
            4 => Just("model".to_owned()),
            1 => Just("\"model".to_owned()),
            1 => Just("\\\"model".to_owned()),
            1 => Just("models".to_owned()),
            1 => text(),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                3 => btree_map(key.clone(), inner.clone(), 0..4).prop_map(|members| members.into_iter().collect()),
                1 => vec(inner, 0..4).prop_map(Value::from),
            ]
        })
    }

    /// A tree as engines write it: dense or with spaces, with characters as they are or in ASCII.
    fn written(tree: &Value, pretty: bool, ascii: bool) -> String {
        let text = if pretty { serde_json::to_string_pretty(tree).unwrap() } else { tree.to_string() };
        if ascii { in_ascii(&text) } else { text }
    }

    proptest! {
        #[test]
        fn any_split_is_as_the_whole_and_the_whole_is_what_a_tree_says(
            events in vec((tree(), any::<bool>(), any::<bool>()), 1..3), cuts in vec(0_usize..2000, 0..12),
        ) {
            let mut stream = String::new();
            for (tree, pretty, ascii) in &events {
                let document = written(tree, *pretty, *ascii);
                let mut wanted = tree.clone();
                restored(&mut wanted);
                let got: Value = serde_json::from_slice(&pushed([document.as_bytes()])).unwrap();
                prop_assert_eq!(got, wanted, "{}", document);
                stream.push_str(&format!("data: {document}\n\n"));
            }
            let stream = stream.as_bytes();
            let whole = pushed([stream]);
            prop_assert_eq!(&pushed(stream.chunks(1)), &whole);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(stream.len())).chain([0, stream.len()]).collect();
            cuts.sort_unstable();
            prop_assert_eq!(&pushed(cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]])), &whole);
        }
    }

    #[test]
    fn what_cannot_be_the_name_is_not_delayed() {
        let mut restorer = NameRestorer::new("base", "mine");
        for chunk in
            ["data: {\"id\":\"x\",\"model\":\"other\"}\n\n", "\\", "\"mod", "abc", "\"model\":7", "{\"model\":\"bases"]
        {
            assert_eq!(restorer.push(chunk.as_bytes(), false), None, "{chunk}");
        }
        for (chunk, passed) in [
            ("{\"mod", "{"),
            ("el", ""),
            ("s\":1,", "\"models\":1,"),
            ("\"model\" : \"ba", ""),
            ("se\",\"a\":", "\"model\" : \"mine\",\"a\":"),
            ("1,\"", "1,"),
        ] {
            assert_eq!(restorer.push(chunk.as_bytes(), false).unwrap(), passed.as_bytes(), "{chunk}");
        }
        assert_eq!(restorer.push(b"", true).unwrap(), b"\"");
    }

    #[test]
    fn endless_space_is_not_held() {
        let space = " ".repeat(MOST_SPACE);
        let mut restorer = NameRestorer::new("base", "mine");
        let within = format!("{{\"model\"{space}:{space}\"base\"}}");
        assert!(restorer.push(within.as_bytes(), false).unwrap().ends_with(b"\"mine\"}"));
        assert_eq!(restorer.push(format!("{{\"model\"{space}").as_bytes(), false).unwrap(), b"{");
        assert!(restorer.push(b" ", false).unwrap().ends_with(b"  "));
    }
}
