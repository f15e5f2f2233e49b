//! A tokenizer without a vocabulary, for a lab that needs tokens and no text: up to four bytes of UTF-8 are a token whose id is those
//! bytes packed big-endian.
//!
//! The engines behind HTTP do not use it (see [`crate::language`]), but words of three letters and a space are one token in both.

const TOKEN_BYTES: usize = 4;

/// Markers that are one token each; their ids start with 0xFF, which no UTF-8 text contains.
const SPECIALS: [(&str, u32); 3] =
    [("<|im_start|>", 0xff00_0001), ("<|im_sep|>", 0xff00_0002), ("<|im_end|>", 0xff00_0003)];

/// One message of a conversation, in the order the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user`, `assistant`, …
    pub role: String,
    /// Its text.
    pub content: String,
}

/// Text to ids.
#[must_use]
pub fn tokenize(text: &str) -> Vec<u32> {
    let mut tokens = Vec::with_capacity(text.len() / TOKEN_BYTES + 1);
    let mut rest = text;
    while let Some((at, marker, id)) = next_special(rest) {
        cut(rest.get(..at).unwrap_or_default(), &mut tokens);
        tokens.push(id);
        rest = rest.get(at + marker.len()..).unwrap_or_default();
    }
    cut(rest, &mut tokens);
    tokens
}

/// Ids to text. Bytes that are not UTF-8 become U+FFFD; a NUL at the start of a token is lost.
#[must_use]
pub fn detokenize(tokens: &[u32]) -> String {
    let mut bytes = Vec::with_capacity(tokens.len() * TOKEN_BYTES);
    for &token in tokens {
        match SPECIALS.iter().find(|(_, id)| *id == token) {
            Some((marker, _)) => bytes.extend_from_slice(marker.as_bytes()),
            None => bytes.extend(token.to_be_bytes().into_iter().skip_while(|&byte| byte == 0)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The conversation as the model sees it, up to where its answer begins.
#[must_use]
pub fn tokenize_chat(turns: &[Turn]) -> Vec<u32> {
    let [(_, start), (_, separator), (_, end)] = SPECIALS;
    let mut tokens = Vec::new();
    for turn in turns {
        tokens.push(start);
        tokens.extend(tokenize(&turn.role));
        tokens.push(separator);
        tokens.extend(tokenize(&turn.content));
        tokens.push(end);
    }
    tokens.push(start);
    tokens.extend(tokenize("assistant"));
    tokens.push(separator);
    tokens
}

fn next_special(text: &str) -> Option<(usize, &'static str, u32)> {
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find("<|")) {
        let at = from + found;
        let rest = text.get(at..).unwrap_or_default();
        if let Some(&(marker, id)) = SPECIALS.iter().find(|(marker, _)| rest.starts_with(marker)) {
            return Some((at, marker, id));
        }
        from = at + 2;
    }
    None
}

fn cut(text: &str, tokens: &mut Vec<u32>) {
    tokens.extend(
        text.as_bytes()
            .chunks(TOKEN_BYTES)
            .map(|piece| piece.iter().fold(0_u32, |id, &byte| (id << 8) | u32::from(byte))),
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markers_are_one_token() {
        assert_eq!(tokenize("<|im_start|>ab<|im_end|>").len(), 3);
        assert_eq!(tokenize("<|<|im_end|>").len(), 2);
        assert_eq!(tokenize("<|nothing"), tokenize("<|nothing"));
    }

    proptest! {
        #[test]
        fn text_survives_the_round_trip(text in "[^\u{0}]{0,60}") {
            prop_assert_eq!(detokenize(&tokenize(&text)), text);
        }

        #[test]
        fn four_bytes_make_a_token(text in "[a-z]{0,100}") {
            prop_assert_eq!(tokenize(&text).len(), text.len().div_ceil(4));
        }
    }
}
