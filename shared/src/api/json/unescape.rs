//! The hot loop of body reading: copies the inside of a string and undoes its escapes on the way, sixteen bytes at a
//! time. It stops, without judging, at whatever is not plain ASCII or a whole ordinary escape; `text` goes on from there.

/// Compared at once.
const BLOCK: usize = 16;

/// Appends to `out` what the start of `text` stands for, and returns the rest: empty, or beginning with a quote, a
/// control byte, a byte beyond ASCII, or an escape that is cut off, wrong, or half of a surrogate pair.
pub(super) fn unescape<'c>(text: &'c [u8], out: &mut Vec<u8>) -> &'c [u8] {
    let mut left = text;
    loop {
        left = copy_plain(left, out);
        let Some((b'\\', escape)) = left.split_first() else { return left };
        let Some((&letter, behind)) = escape.split_first() else { return left };
        if let Some(byte) = unescaped(letter) {
            out.push(byte);
            left = behind;
            continue;
        }
        let Some((digits, behind)) = behind.split_first_chunk::<4>().filter(|_| letter == b'u') else { return left };
        let Some(character) = scalar(*digits) else { return left };
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        left = behind;
    }
}

/// Copies up to the first byte that does not stand for itself. Blocks are copied before they are looked at: a store and
/// a cut cost less than finding out first.
#[inline]
fn copy_plain<'c>(text: &'c [u8], out: &mut Vec<u8>) -> &'c [u8] {
    let mut left = text;
    while let Some((block, behind)) = left.split_first_chunk::<BLOCK>() {
        out.extend_from_slice(block);
        let plain = plain_in(*block);
        if plain < BLOCK {
            out.truncate(out.len() - BLOCK + plain);
            return left.get(plain..).unwrap_or_default();
        }
        left = behind;
    }
    let plain = left.iter().position(|&byte| !stands_for_itself(byte)).unwrap_or(left.len());
    let (copied, stopped) = left.split_at_checked(plain).unwrap_or((left, &[]));
    out.extend_from_slice(copied);
    stopped
}

const fn stands_for_itself(byte: u8) -> bool {
    byte >= 0x20 && byte < 0x80 && byte != b'"' && byte != b'\\'
}

/// Bytes at the start of `block` that stand for themselves.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline]
fn plain_in(block: [u8; BLOCK]) -> usize {
    use core::arch::wasm32::{i8x16_lt, i8x16_splat, u8x16_bitmask, u8x16_eq, u8x16_splat, u64x2, v128_or};
    let word = u128::from_le_bytes(block);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the word")]
    let block = u64x2(word as u64, (word >> 64) as u64);
    // As signed bytes, everything beyond ASCII is below zero and so below a space.
    let special = v128_or(u8x16_eq(block, u8x16_splat(b'"')), u8x16_eq(block, u8x16_splat(b'\\')));
    let stops = u8x16_bitmask(v128_or(special, i8x16_lt(block, i8x16_splat(0x20))));
    (u32::from(stops) | 1 << BLOCK).trailing_zeros() as usize
}

/// Bytes at the start of `block` that stand for themselves.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
#[inline]
fn plain_in(block: [u8; BLOCK]) -> usize {
    // One bit a byte: LLVM makes a vector comparison and a mask of it.
    let stops = (0u32..).zip(block).fold(0u32, |stops, (at, byte)| stops | u32::from(!stands_for_itself(byte)) << at);
    (stops | 1 << BLOCK).trailing_zeros() as usize
}

/// What four digits stand for; `None` for wrong digits and for halves of a surrogate pair.
fn scalar(digits: [u8; 4]) -> Option<char> {
    let unit = digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))?;
    char::from_u32(unit)
}

/// What a backslash and each letter stand for; 0: nothing. A table, because text mixes its escapes so that a branch on
/// the letter would be guessed wrong as often as not.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const UNESCAPED: [u8; 256] = {
    let mut table = [0; 256];
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'/' as usize] = b'/';
    table[b'b' as usize] = 0x08;
    table[b'f' as usize] = 0x0C;
    table[b'n' as usize] = b'\n';
    table[b'r' as usize] = b'\r';
    table[b't' as usize] = b'\t';
    table
};

/// What a backslash and this letter stand for.
#[inline]
pub(super) fn unescaped(letter: u8) -> Option<u8> {
    UNESCAPED.get(usize::from(letter)).copied().filter(|&byte| byte != 0)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    use super::{plain_in, stands_for_itself, unescape};

    proptest! {
        #[test]
        fn a_block_is_plain_up_to_its_first_special_byte(block in any::<[u8; 16]>()) {
            let first = block.iter().position(|&byte| !stands_for_itself(byte)).unwrap_or(16);
            assert_eq!(plain_in(block), first);
        }

        #[test]
        fn what_was_taken_stands_for_what_serde_json_reads(parts in vec(part(), 0..40)) {
            let text = parts.concat();
            let mut out = Vec::new();
            let left = unescape(text.as_bytes(), &mut out);
            let taken = &text[..text.len() - left.len()];
            let read: String = serde_json::from_str(&format!("\"{taken}\"")).unwrap();
            assert_eq!(out, read.as_bytes());
            let stop = left.first().copied();
            assert!(stop.is_none_or(|byte| !stands_for_itself(byte)), "stopped at {stop:?}");
        }
    }

    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -!#-\\[\\]-~]{0,40}",
            prop_oneof![Just("\\n"), Just("\\\""), Just("\\\\"), Just("\\/"), Just("\\u0041"), Just("\\u00e9")]
                .prop_map(str::to_owned),
            prop_oneof![Just("\\ud83d\\ude00"), Just("\u{e9}"), Just("\\u0"), Just("\\x")].prop_map(str::to_owned),
        ]
    }

    #[test]
    fn every_stop_is_left_to_the_caller() {
        for (text, out, left) in [
            ("plain\"rest", "plain", "\"rest"),
            ("a\\nb\\", "a\nb", "\\"),
            ("x\\u00", "x", "\\u00"),
            ("x\\ud800\\udc00", "x", "\\ud800\\udc00"),
            ("x\\q", "x", "\\q"),
            ("tab\there", "tab", "\there"),
            ("0123456789abcdef0123\u{e9}", "0123456789abcdef0123", "\u{e9}"),
        ] {
            let mut got = Vec::new();
            assert_eq!(unescape(text.as_bytes(), &mut got), left.as_bytes(), "{text}");
            assert_eq!(got, out.as_bytes(), "{text}");
        }
    }
}
