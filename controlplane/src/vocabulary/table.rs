//! Token id -> bytes, as one flat allocation: decoding a token is two loads and a copy.

use xxhash_rust::xxh64::xxh64;

/// The bytes behind every token of a vocabulary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenTable {
    bytes: Vec<u8>,
    /// End of each token's bytes; it starts where the one before ends. A token that does not exist is empty.
    ends: Vec<u32>,
}

impl TokenTable {
    /// From the bytes of tokens 0, 1, …; `None` where an id has no token. Bytes past 4 GiB are left out.
    #[must_use]
    pub fn new<'a>(tokens: impl IntoIterator<Item = Option<&'a [u8]>>) -> Self {
        let mut table = Self::default();
        for token in tokens {
            table.bytes.extend_from_slice(token.unwrap_or_default());
            table.ends.push(u32::try_from(table.bytes.len()).unwrap_or(u32::MAX));
        }
        table.bytes.shrink_to_fit();
        table.ends.shrink_to_fit();
        table
    }

    /// What `token` stands for; `None` when there is no such token.
    #[must_use]
    #[inline]
    pub fn bytes_of(&self, token: u32) -> Option<&[u8]> {
        let at = usize::try_from(token).ok()?;
        let end = usize::try_from(*self.ends.get(at)?).ok()?;
        let start = match at.checked_sub(1) {
            Some(before) => usize::try_from(*self.ends.get(before)?).ok()?,
            None => 0,
        };
        self.bytes.get(start..end).filter(|bytes| !bytes.is_empty())
    }

    /// Names the contents; 64 bits, not meant against forgery.
    #[must_use]
    pub(super) fn digest(&self) -> u64 {
        self.ends.iter().fold(xxh64(&self.bytes, 0), |digest, end| xxh64(&end.to_le_bytes(), digest))
    }

    /// Memory behind it, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes.capacity().saturating_add(self.ends.capacity().saturating_mul(size_of::<u32>()))
    }

    /// Ids that a token may have: those below this.
    #[must_use]
    pub fn size(&self) -> usize {
        self.ends.len()
    }
}

#[cfg(test)]
mod tests {
    use super::TokenTable;

    #[test]
    fn tokens_stand_for_their_bytes_and_absent_ones_for_nothing() {
        let table = TokenTable::new([Some(&b"a"[..]), None, Some(b"\xff\x00"), Some(b"")]);
        let got: Vec<Option<&[u8]>> = (0..5).map(|id| table.bytes_of(id)).collect();
        assert_eq!(got, [Some(&b"a"[..]), None, Some(&b"\xff\x00"[..]), None, None]);
        assert_eq!(table.size(), 4);
    }
}
