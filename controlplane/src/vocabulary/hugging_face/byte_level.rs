//! GPT-2's alphabet: each byte is written as one printable character, so that vocabularies are texts.
//!
//! Bytes that are printable in Latin-1 stand for themselves; the others follow from U+0100 on, in order.

/// First character of those that stand for unprintable bytes.
const SHIFTED: u32 = 0x100;

/// What `piece` stands for. A piece with a character outside the alphabet was put in as a text, and stands for itself.
pub(super) fn bytes_of(piece: &str) -> Vec<u8> {
    piece.chars().map(byte_of).collect::<Option<Vec<u8>>>().unwrap_or_else(|| piece.as_bytes().to_vec())
}

fn byte_of(c: char) -> Option<u8> {
    match u8::try_from(u32::from(c)) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => {
            let index = usize::try_from(u32::from(c).checked_sub(SHIFTED)?).ok()?;
            (0..=u8::MAX).filter(|byte| !is_printable(*byte)).nth(index)
        }
    }
}

const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

#[cfg(test)]
mod tests {
    use super::{byte_of, bytes_of};

    #[test]
    fn the_alphabet_of_the_tokenizers_crate_maps_onto_all_bytes() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut bytes: Vec<u8> = alphabet.iter().filter_map(|c| byte_of(*c)).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(bytes_of("ĠĊÿ"), [0x20, 0x0a, 0xff]);
    }

    #[test]
    fn a_piece_outside_the_alphabet_is_a_text() {
        assert_eq!(bytes_of("<｜a b｜>"), "<｜a b｜>".as_bytes());
    }
}
