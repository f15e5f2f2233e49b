//! Where two prompts part, for people. Compared are bytes: what looks alike may differ.

/// Bytes shown on each side of the first difference.
const CONTEXT: usize = 48;

/// What came of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// The prompts are the same bytes, so many.
    Equal(usize),
    /// They are not.
    Different(Difference),
}

/// The first difference, with what is around it on both sides.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    byte: usize,
    lengths: (usize, usize),
    ours: String,
    engines: String,
}

/// Compares our prompt with the engine's.
pub(crate) fn compare(ours: &[u8], engines: &[u8]) -> Comparison {
    if ours == engines {
        return Comparison::Equal(ours.len());
    }
    let byte = ours.iter().zip(engines).take_while(|(a, b)| a == b).count();
    Comparison::Different(Difference {
        byte,
        lengths: (ours.len(), engines.len()),
        ours: around(ours, byte),
        engines: around(engines, byte),
    })
}

/// What stands around `byte`, quoted, with a mark at it.
fn around(text: &[u8], byte: usize) -> String {
    let quoted = |part: Option<&[u8]>| {
        let quoted = format!("{:?}", String::from_utf8_lossy(part.unwrap_or_default()));
        quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default().to_owned()
    };
    let before = quoted(text.get(byte.saturating_sub(CONTEXT)..byte));
    let after = quoted(text.get(byte..text.len().min(byte.saturating_add(CONTEXT))));
    let end = if after.is_empty() { "(end)" } else { "" };
    format!("{before}»{after}{end}")
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Equal(bytes) => writeln!(f, "equal: {bytes} bytes"),
            Self::Different(Difference { byte, lengths, ours, engines }) => {
                writeln!(f, "different from byte {byte} on ({} bytes here, {} in the engine)", lengths.0, lengths.1)?;
                writeln!(f, "here:   {ours}")?;
                writeln!(f, "engine: {engines}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn the_first_different_byte_is_named_with_both_sides() {
        let told = compare(b"<user>hi\n<bot>", b"<user>hi\r\n<bot>").to_string();
        assert_eq!(
            told,
            "different from byte 8 on (14 bytes here, 15 in the engine)\n\
             here:   <user>hi»\\n<bot>\n\
             engine: <user>hi»\\r\\n<bot>\n"
        );
    }

    #[test]
    fn a_prompt_that_ends_early_says_so_and_equal_ones_are_equal() {
        assert!(compare(b"<user>", b"<user>hi").to_string().contains("here:   <user>»(end)"));
        assert_eq!(compare(b"\xff", b"\xff").to_string(), "equal: 1 bytes\n");
    }
}
