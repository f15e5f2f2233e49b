//! The built-in vocabulary: 256 bytes, the word `user`, all runs of up to three small letters with and without a space behind them,
//! numbers of two and three digits, three markers.
//!
//! Text is cut from the left by one pattern and a piece that has a token is that token, anything else its bytes; so ids are
//! computed, not looked up. Prose takes about 2.4 bytes a token, words of three letters four.

use serde_json::{Map, Value, json};

/// How the built-in template writes a conversation: `<|im_start|>role<|im_sep|>content<|im_end|>` for each message, then the
/// head of the answer.
pub const CHAT_TEMPLATE: &str = concat!(
    "{% if tools %}<|im_start|>tools<|im_sep|>{{ tools | tojson }}<|im_end|>{% endif %}",
    "{% for message in messages %}<|im_start|>{{ message['role'] }}<|im_sep|>{{ message['content'] }}",
    "{% if message['tool_calls'] %}{{ message['tool_calls'] | tojson }}{% endif %}<|im_end|>{% endfor %}",
    "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}"
);

/// The pattern that cuts text, as in `tokenizer.json`.
const PATTERN: &str = "user|[a-z]{1,3} ?|[0-9]{1,3}|[^a-z0-9]";

const USER: u32 = 256;
const PAIRS: u32 = USER + 1;
const TRIPLES: u32 = PAIRS + 26 * 26;
const WORDS: u32 = TRIPLES + 26 * 26 * 26;
const SHORT_WORDS: u32 = WORDS + 26 * 26 * 26;
const LETTER_WORDS: u32 = SHORT_WORDS + 26 * 26;
const TWO_DIGITS: u32 = LETTER_WORDS + 26;
const THREE_DIGITS: u32 = TWO_DIGITS + 100;
const MARKERS: u32 = THREE_DIGITS + 1000;

/// Tokens of the vocabulary.
pub const SIZE: u32 = MARKERS + 3;

const MARKER_TEXTS: [&str; 3] = ["<|im_start|>", "<|im_sep|>", "<|im_end|>"];

/// Text to ids.
#[must_use]
pub fn encode(text: &str) -> Vec<u32> {
    let mut tokens = Vec::with_capacity(text.len() / 2 + 1);
    let mut rest = text;
    while let Some((at, marker, id)) = next_marker(rest) {
        cut(rest.as_bytes().get(..at).unwrap_or_default(), &mut tokens);
        tokens.push(id);
        rest = rest.get(at + marker.len()..).unwrap_or_default();
    }
    cut(rest.as_bytes(), &mut tokens);
    tokens
}

/// The bytes of a token; empty for an id beyond the vocabulary.
#[must_use]
pub fn bytes(token: u32) -> Vec<u8> {
    let letters = |value: u32, count: u32| digits_of(value, 26, count, b'a');
    match token {
        0..USER => vec![u8::try_from(token).unwrap_or_default()],
        USER => b"user".to_vec(),
        PAIRS..TRIPLES => letters(token - PAIRS, 2),
        TRIPLES..WORDS => letters(token - TRIPLES, 3),
        WORDS..SHORT_WORDS => [letters(token - WORDS, 3), vec![b' ']].concat(),
        SHORT_WORDS..LETTER_WORDS => [letters(token - SHORT_WORDS, 2), vec![b' ']].concat(),
        LETTER_WORDS..TWO_DIGITS => [letters(token - LETTER_WORDS, 1), vec![b' ']].concat(),
        TWO_DIGITS..THREE_DIGITS => digits_of(token - TWO_DIGITS, 10, 2, b'0'),
        THREE_DIGITS..MARKERS => digits_of(token - THREE_DIGITS, 10, 3, b'0'),
        _ => MARKER_TEXTS
            .iter()
            .zip(MARKERS..)
            .find(|&(_, id)| id == token)
            .map(|(text, _)| text.as_bytes().to_vec())
            .unwrap_or_default(),
    }
}

/// The token of three small letters and a space, if `word` is that.
pub(super) fn word(word: [u8; 4]) -> Option<u32> {
    let [letters @ .., b' '] = word else { return None };
    Some(WORDS + number(&letters, 26, b'a')?)
}

/// The token of two small letters.
pub(super) fn pair(letters: [u8; 2]) -> Option<u32> {
    Some(PAIRS + number(&letters, 26, b'a')?)
}

fn digits_of(value: u32, base: u32, count: u32, zero: u8) -> Vec<u8> {
    let digit = |place: u32| value / base.pow(place) % base;
    (0..count).rev().map(|place| zero + u8::try_from(digit(place)).unwrap_or_default()).collect()
}

fn number(digits: &[u8], base: u32, zero: u8) -> Option<u32> {
    digits.iter().try_fold(0, |value, &digit| {
        let digit = u32::from(digit.checked_sub(zero)?);
        (digit < base).then_some(value * base + digit)
    })
}

fn next_marker(text: &str) -> Option<(usize, &'static str, u32)> {
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find("<|")) {
        let at = from + found;
        let rest = text.get(at..).unwrap_or_default();
        if let Some((marker, id)) = MARKER_TEXTS.into_iter().zip(MARKERS..).find(|(marker, _)| rest.starts_with(marker))
        {
            return Some((at, marker, id));
        }
        from = at + 2;
    }
    None
}

/// Cuts text without markers.
fn cut(text: &[u8], tokens: &mut Vec<u32>) {
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let (token, length) = match rest {
            [b'u', b's', b'e', b'r', ..] => (USER, 4),
            [a, b, c, b' ', ..] if let Some(value) = number(&[*a, *b, *c], 26, b'a') => (WORDS + value, 4),
            [a, b, c, ..] if let Some(value) = number(&[*a, *b, *c], 26, b'a') => (TRIPLES + value, 3),
            [a, b, b' ', ..] if let Some(value) = number(&[*a, *b], 26, b'a') => (SHORT_WORDS + value, 3),
            [a, b, ..] if let Some(value) = number(&[*a, *b], 26, b'a') => (PAIRS + value, 2),
            [a, b' ', ..] if let Some(value) = number(&[*a], 26, b'a') => (LETTER_WORDS + value, 2),
            [a, b, c, ..] if let Some(value) = number(&[*a, *b, *c], 10, b'0') => (THREE_DIGITS + value, 3),
            [a, b, ..] if let Some(value) = number(&[*a, *b], 10, b'0') => (TWO_DIGITS + value, 2),
            _ => (u32::from(*first), 1),
        };
        tokens.push(token);
        rest = rest.get(length..).unwrap_or(after);
    }
}

/// How byte-level vocabularies spell a byte: printable ones as they are, the others as characters from U+0100 on.
pub(super) fn spelled(byte: u8) -> char {
    let plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if plain(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !plain(other)).count();
    u32::try_from(before).ok().and_then(|before| char::from_u32(256 + before)).unwrap_or('\u{fffd}')
}

/// Hugging Face's `tokenizer.json` of this vocabulary: byte-level BPE without merges, whose pieces are tokens as a whole
/// (`ignore_merges`) or else bytes.
#[must_use]
pub fn tokenizer_json() -> Value {
    let vocabulary: Map<String, Value> =
        (0..MARKERS).map(|id| (bytes(id).into_iter().map(spelled).collect::<String>(), Value::from(id))).collect();
    let added: Vec<Value> = MARKER_TEXTS
        .into_iter()
        .zip(MARKERS..)
        .map(|(content, id)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let split = json!({"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes]},
        "post_processor": null, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
                  "vocab": vocabulary, "merges": []},
    })
}

/// The `tokenizer_config.json` beside it, with the chat template.
#[must_use]
pub fn tokenizer_config_json() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": null, "eos_token": "<|im_end|>",
        "additional_special_tokens": MARKER_TEXTS, "model_max_length": 131_072, "clean_up_tokenization_spaces": false,
        "chat_template": CHAT_TEMPLATE,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(tokens: &[u32]) -> Vec<u8> {
        tokens.iter().flat_map(|&token| bytes(token)).collect()
    }

    #[test]
    fn markers_are_one_token_and_a_role_starts_anew() {
        assert_eq!(encode("<|im_start|>ab<|im_end|>").len(), 3);
        assert_eq!(encode("<|<|im_end|>").len(), 3);
        assert_eq!(encode("<|im_start|>user<|im_sep|>").len(), 3);
    }

    #[test]
    fn every_token_has_its_own_bytes() {
        let mut all: Vec<Vec<u8>> = (0..SIZE).map(bytes).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), usize::try_from(SIZE).unwrap());
        assert!(bytes(SIZE).is_empty());
    }

    #[test]
    fn hugging_faces_own_code_cuts_alike() {
        let theirs = tokenizers::Tokenizer::from_bytes(tokenizer_json().to_string()).unwrap();
        let samples = [
            "",
            "user",
            "abuser users",
            "hello there, general  kenobi 12345\n\ttabs",
            "<|im_start|>user<|im_sep|>hé 漢字 😀<|im_end|>",
            "\u{0}\u{7f}\u{ad}",
            "ABC abc abcd abcde ab a  b",
            "1 12 123 1234",
            "<|im_st",
            "  leading",
            "a\u{301}",
        ];
        for text in samples {
            let ids = theirs.encode(text, false).unwrap().get_ids().to_vec();
            assert_eq!(encode(text), ids, "{text:?}");
            assert_eq!(theirs.decode(&ids, false).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn text_survives_the_round_trip(text in "([a-z ]{0,9}|[0-9]{0,5}|\\PC{0,3}|user|<\\|im_end\\|>){0,9}") {
            prop_assert_eq!(decode(&encode(&text)), text.as_bytes());
        }
    }
}
