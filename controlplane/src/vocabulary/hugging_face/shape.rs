//! What the steps of a `tokenizer.json` do to a text, as far as its bytes are concerned.
//!
//! How text is cut does not matter here, only what is added, dropped or changed. The order of the normalising steps
//! does not either: those accepted here do not see each other's results.

use serde::Deserialize;
use serde_json::Value;

use crate::vocabulary::ReadError;
use shared::text_form::{LeadingSpace, Normalizer, Spaces};

/// How pieces are spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// One character for each byte.
    ByteLevel,
    /// Text with U+2581 for spaces, and `<0xNN>` for bytes.
    SentencePiece,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) alphabet: Alphabet,
    pub(super) normalizer: Normalizer,
    pub(super) spaces: Spaces,
    /// Ids that the post-processor puts before a text.
    pub(super) bos: Vec<u32>,
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    normalizer: Normalizer,
    leading: LeadingSpace,
    bytes: bool,
    marks: bool,
}

const MARK: &str = "\u{2581}";

/// An error about the value at `at`.
pub(super) fn unsupported(at: &str, found: &str, supported: &'static str) -> ReadError {
    ReadError::Unsupported { at: at.to_owned(), found: found.to_owned(), supported }
}

/// Reads the four sections.
pub(super) fn of(normalizer: &Value, cut: &Value, decoder: &Value, post: &Value) -> Result<Shape, ReadError> {
    let mut seen = Seen::default();
    for (at, step) in steps("normalizer", "normalizers", normalizer)? {
        seen.normalize(&at, step)?;
    }
    for (at, step) in steps("pre_tokenizer", "pretokenizers", cut)? {
        seen.cut(&at, step)?;
    }
    for (at, step) in steps("decoder", "decoders", decoder)? {
        seen.decode(&at, step)?;
    }
    let alphabet = match (seen.bytes, seen.marks) {
        (true, false) => Alphabet::ByteLevel,
        (false, true) => Alphabet::SentencePiece,
        (true, true) => return Err(unsupported("decoder", "ByteLevel beside \u{2581}", "one of them")),
        (false, false) => return Err(unsupported("decoder", "neither", "ByteLevel, or \u{2581} for spaces")),
    };
    let mut bos = Vec::new();
    for (at, step) in steps("post_processor", "processors", post)? {
        bos.extend(before_text(&at, step)?);
    }
    Ok(Shape { alphabet, normalizer: seen.normalizer, spaces: alphabet.spaces(seen.leading), bos })
}

/// A section's steps with their paths: none for null, several for a sequence (which may nest).
fn steps<'a>(at: &str, list: &str, section: &'a Value) -> Result<Vec<(String, &'a Value)>, ReadError> {
    if section.is_null() {
        return Ok(Vec::new());
    }
    if kind(section) != "Sequence" {
        return Ok(vec![(at.to_owned(), section)]);
    }
    let at = format!("{at}.{list}");
    let items = section.get(list).and_then(Value::as_array);
    let items = items.ok_or_else(|| unsupported(&at, &shown(section.get(list)), "a list"))?;
    let mut all = Vec::new();
    for (index, item) in items.iter().enumerate() {
        all.extend(steps(&format!("{at}[{index}]"), list, item)?);
    }
    Ok(all)
}

impl Seen {
    fn normalize(&mut self, at: &str, step: &Value) -> Result<(), ReadError> {
        match kind(step) {
            "NFC" if self.normalizer == Normalizer::None => self.normalizer = Normalizer::Nfc,
            // Compatibility composition includes the canonical one.
            "NFC" => {}
            "NFKC" => self.normalizer = Normalizer::Nfkc,
            "ByteLevel" => self.bytes = true,
            "Prepend" => {
                require(at, step, "prepend", &[MARK.into()], "\u{2581}")?;
                self.leading = LeadingSpace::EveryStretch;
                self.marks = true;
            }
            "Replace" => {
                require(at, step, "pattern", &[serde_json::json!({"String": " "})], "{\"String\":\" \"}")?;
                require(at, step, "content", &[MARK.into()], "\u{2581}")?;
                self.marks = true;
            }
            other => {
                let supported = "NFC, NFKC, ByteLevel, Prepend, Replace, Sequence of them, none";
                return Err(unsupported(&format!("{at}.type"), other, supported));
            }
        }
        Ok(())
    }

    fn cut(&mut self, at: &str, step: &Value) -> Result<(), ReadError> {
        match kind(step) {
            "ByteLevel" => {
                require(at, step, "add_prefix_space", &[false.into()], "false")?;
                self.bytes = true;
            }
            "Metaspace" => {
                require(at, step, "replacement", &[MARK.into()], "\u{2581}")?;
                require(at, step, "prepend_scheme", &["first".into(), "never".into()], "first, never")?;
                if step.get("prepend_scheme").and_then(Value::as_str) == Some("first") {
                    self.leading = LeadingSpace::First;
                }
                self.marks = true;
            }
            "Split" => keeps_delimiters(at, step, &Value::Null)?,
            "Punctuation" => keeps_delimiters(at, step, &"Isolated".into())?,
            "Digits" | "UnicodeScripts" => {}
            other => {
                let supported = "ByteLevel, Metaspace, Split, Digits, Punctuation, UnicodeScripts, Sequence of them";
                return Err(unsupported(&format!("{at}.type"), other, supported));
            }
        }
        Ok(())
    }

    fn decode(&mut self, at: &str, step: &Value) -> Result<(), ReadError> {
        match kind(step) {
            "ByteLevel" => self.bytes = true,
            "Replace" => {
                require(at, step, "pattern", &[serde_json::json!({"String": MARK})], "{\"String\":\"\u{2581}\"}")?;
                require(at, step, "content", &[" ".into()], "\" \"")?;
                self.marks = true;
            }
            "Metaspace" => self.marks = true,
            "ByteFallback" | "Fuse" => {}
            "Strip" => require(at, step, "content", &[" ".into()], "\" \"")?,
            other => {
                let supported = "ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip, Sequence of them, none";
                return Err(unsupported(&format!("{at}.type"), other, supported));
            }
        }
        Ok(())
    }
}

/// Delimiters that are `Removed` from the text would be missing from the tokens.
fn keeps_delimiters(at: &str, step: &Value, default: &Value) -> Result<(), ReadError> {
    let kept: [Value; 4] =
        ["Isolated".into(), "MergedWithPrevious".into(), "MergedWithNext".into(), "Contiguous".into()];
    let missing = step.get("behavior").is_none() && !default.is_null();
    if missing { Ok(()) } else { require(at, step, "behavior", &kept, "all but Removed") }
}

/// Ids that a post-processor puts before the text.
fn before_text(at: &str, step: &Value) -> Result<Vec<u32>, ReadError> {
    match kind(step) {
        "ByteLevel" => Ok(Vec::new()),
        "TemplateProcessing" => {
            let single = step.get("single").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let names = single.iter().map_while(|part| part.pointer("/SpecialToken/id").and_then(Value::as_str));
            let mut ids = Vec::new();
            for name in names {
                let listed = step.get("special_tokens").and_then(|all| all.get(name)).and_then(|one| one.get("ids"));
                let read: Option<Vec<u32>> = listed.and_then(|ids| Deserialize::deserialize(ids).ok());
                let at = || format!("{at}.special_tokens.{name}.ids");
                ids.extend(read.ok_or_else(|| unsupported(&at(), &shown(listed), "a list of token ids"))?);
            }
            Ok(ids)
        }
        other => {
            Err(unsupported(&format!("{at}.type"), other, "ByteLevel, TemplateProcessing, Sequence of them, none"))
        }
    }
}

fn require(at: &str, step: &Value, field: &str, allowed: &[Value], supported: &'static str) -> Result<(), ReadError> {
    let found = step.get(field);
    if found.is_some_and(|found| allowed.contains(found)) {
        return Ok(());
    }
    Err(unsupported(&format!("{at}.{field}"), &shown(found), supported))
}

fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or("nothing")
}

/// A value in an error, cut short: patterns can be long.
fn shown(value: Option<&Value>) -> String {
    const LONGEST: usize = 80;
    let text = value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
