//! How far plain text goes: the loops that see every byte of a body. Written over fixed blocks with a fold, which LLVM
//! turns into SSE2, NEON or simd128 without any target-specific code here.

/// Compared at once; two vectors of sixteen bytes.
const BLOCK: usize = 32;

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Bytes at the start of `bytes` that stand for themselves inside a JSON string and are ASCII.
#[inline]
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    run_len(
        bytes,
        |byte| (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte >= 0x80),
        |word| word_stops(word) | (word & HIGH),
    )
}

/// Bytes at the start of `bytes` up to a quote, a backslash or a control byte; what is between need not be UTF-8.
pub(super) fn text_len(bytes: &[u8]) -> usize {
    run_len(bytes, |byte| (byte < 0x20) | (byte == b'"') | (byte == b'\\'), word_stops)
}

/// Bytes at the start of `bytes` up to a line feed or a carriage return.
pub(crate) fn line_len(bytes: &[u8]) -> usize {
    run_len(
        bytes,
        |byte| (byte == b'\n') | (byte == b'\r'),
        |word| (zero_bytes(word ^ (LOW * 0x0A)) | zero_bytes(word ^ (LOW * 0x0D))) & HIGH,
    )
}

/// `word_stop` marks the first stop byte (little endian) with its high bit; marks above it may be false.
#[inline]
fn run_len(bytes: &[u8], stop: impl Fn(u8) -> bool, word_stop: impl Fn(u64) -> u64) -> usize {
    // Most strings are short: two words before the blocks.
    let (head, body) = bytes.split_at_checked(16).unwrap_or((bytes, &[]));
    let length = word_run(head, &stop, &word_stop);
    if length < head.len() {
        return length;
    }
    let mut length = length;
    let mut rest = body;
    while let Some((block, tail)) = rest.split_first_chunk::<BLOCK>() {
        if block.iter().fold(false, |any, &byte| any | stop(byte)) {
            return length + word_run(block, &stop, &word_stop);
        }
        length += BLOCK;
        rest = tail;
    }
    length + word_run(rest, &stop, &word_stop)
}

#[inline]
fn word_run(bytes: &[u8], stop: impl Fn(u8) -> bool, word_stop: impl Fn(u64) -> u64) -> usize {
    let mut length = 0;
    let mut rest = bytes;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        let marks = word_stop(u64::from_le_bytes(*word));
        if marks != 0 {
            return length + (marks.trailing_zeros() / 8) as usize;
        }
        length += 8;
        rest = tail;
    }
    length + rest.iter().position(|&byte| stop(byte)).unwrap_or(rest.len())
}

/// High bits at quotes, backslashes and bytes below 0x20; exact at the lowest of them.
const fn word_stops(word: u64) -> u64 {
    let control = word.wrapping_sub(LOW * 0x20) & !word;
    (zero_bytes(word ^ (LOW * 0x22)) | zero_bytes(word ^ (LOW * 0x5C)) | control) & HIGH
}

const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(bytes: &[u8], stop: impl Fn(u8) -> bool) -> usize {
        bytes.iter().position(|&byte| stop(byte)).unwrap_or(bytes.len())
    }

    proptest! {
        #[test]
        fn the_scan_stops_where_a_bytewise_search_does(
            plain in "[ -~]{0,120}", stops in proptest::collection::vec(any::<u8>(), 0..3), after in "[ -~]{0,40}",
        ) {
            let bytes = [plain.as_bytes(), &stops, after.as_bytes()].concat();
            let quoting = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
            prop_assert_eq!(text_len(&bytes), naive(&bytes, quoting));
            prop_assert_eq!(line_len(&bytes), naive(&bytes, |byte| byte == b'\n' || byte == b'\r'));
            prop_assert_eq!(plain_len(&bytes), naive(&bytes, |byte| quoting(byte) || byte >= 0x80));
        }
    }
}
