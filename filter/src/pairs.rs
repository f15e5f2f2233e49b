//! The ABI's serialized header maps: count u32, then per pair name length u32 and value length u32, then names and
//! values, each followed by a zero byte. Read as raw bytes: header values need not be UTF-8.

/// The pairs in `bytes`; `None` when the lengths do not fit the bytes.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (count, rest) = bytes.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (sizes, mut rest) = rest.split_at_checked(count.checked_mul(8)?)?;
    let mut pairs = Vec::with_capacity(count);
    let (sizes, _) = sizes.as_chunks::<4>();
    let (sizes, _) = sizes.as_chunks::<2>();
    for [name, value] in sizes {
        let name = take(&mut rest, u32::from_le_bytes(*name))?;
        let value = take(&mut rest, u32::from_le_bytes(*value))?;
        pairs.push((name, value));
    }
    Some(pairs)
}

fn take<'a>(rest: &mut &'a [u8], size: u32) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(usize::try_from(size).ok()?)?;
    *rest = after.get(1..)?;
    Some(taken)
}

/// The serialized form of `pairs`.
#[must_use]
pub fn serialize(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes =
        Vec::with_capacity(4 + pairs.iter().map(|(name, value)| name.len() + value.len() + 10).sum::<usize>());
    bytes.extend_from_slice(&u32::try_from(pairs.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (name, value) in pairs {
        bytes.extend_from_slice(&size(name));
        bytes.extend_from_slice(&size(value));
    }
    for (name, value) in pairs {
        for part in [name, value] {
            bytes.extend_from_slice(part);
            bytes.push(0);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{parse, serialize};

    #[test]
    fn pairs_survive_the_round_trip_whatever_their_bytes() {
        let pairs: [(&[u8], &[u8]); 3] = [(b":path", b"/v1"), (b"x", b""), (b"x-want", b"\xff\x00\xfe")];
        assert_eq!(parse(&serialize(&pairs)).unwrap(), pairs);
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = serialize(&[(b"name", b"value"), (b"a", b"b")]);
        for end in 0..bytes.len() {
            assert_eq!(parse(bytes.get(..end).unwrap()), None, "{end}");
        }
        assert_eq!(parse(&[0xff; 12]), None);
    }
}
