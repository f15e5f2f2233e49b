//! Changes to a body on its way to an engine: the insides of JSON strings for others, in one pass. The offsets are those of
//! the body as it came; a body without quotes around them is another one, and is not touched.

use std::ops::Range;

use crate::api::json_inside;

const FILLER: u8 = b'x';

/// A change; offsets are those of what is between the quotes of a string or key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A name becomes meaningless; its length stays.
    Disarm(Range<u64>),
    /// A string becomes another.
    Replace {
        /// Where it is.
        at: Range<u64>,
        /// What stands between its quotes instead, escaped.
        by: String,
    },
}

/// An edit that is not of the inside of a string of this body, or that overlaps the one before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no string at bytes {} to {} of the body", .0.start, .0.end)]
pub struct NoStringThere(pub Range<u64>);

impl Edit {
    /// The string at `at` becomes `text`.
    #[must_use]
    pub fn replace(at: Range<u64>, text: &str) -> Self {
        Self::Replace { at, by: json_inside(text) }
    }

    /// Where it is.
    #[must_use]
    pub const fn at(&self) -> &Range<u64> {
        match self {
            Self::Disarm(at) | Self::Replace { at, .. } => at,
        }
    }
}

/// `body` with `edits`, which are in the order of the body.
///
/// # Errors
/// This is not the body that they are of.
pub fn edited(body: &[u8], edits: &[Edit]) -> Result<Vec<u8>, NoStringThere> {
    let mut out = Vec::with_capacity(body.len());
    let mut done = 0;
    for edit in edits {
        let (before, inside, end) = split(body, done, edit.at()).ok_or_else(|| NoStringThere(edit.at().clone()))?;
        out.extend_from_slice(before);
        match edit {
            Edit::Disarm(_) => out.resize(out.len() + inside, FILLER),
            Edit::Replace { by, .. } => out.extend_from_slice(by.as_bytes()),
        }
        done = end;
    }
    out.extend_from_slice(body.get(done..).unwrap_or_default());
    Ok(out)
}

/// What lies between `done` and the inside of the string at `at`, the length of that, and where it ends.
fn split<'a>(body: &'a [u8], done: usize, at: &Range<u64>) -> Option<(&'a [u8], usize, usize)> {
    let (start, end) = (usize::try_from(at.start).ok()?, usize::try_from(at.end).ok()?);
    let before = body.get(done..start)?;
    let inside = body.get(start..end)?;
    let quoted = before.last() == Some(&b'"') && body.get(end) == Some(&b'"');
    quoted.then_some((before, inside.len(), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_of_different_lengths_are_made_in_one_pass() {
        let body = br#"{"model":"m","secret":1,"b":"c"}"#;
        let edits = [Edit::replace(10..11, "a \"longer\" é"), Edit::Disarm(14..20), Edit::replace(29..30, "")];
        let after = edited(body, &edits).unwrap();
        assert_eq!(String::from_utf8(after).unwrap(), r#"{"model":"a \"longer\" é","xxxxxx":1,"b":""}"#);
        assert_eq!(edited(body, &[]).unwrap(), body);
    }

    #[test]
    fn what_overlaps_or_is_out_of_order_is_refused() {
        let body = br#"{"model":"m"}"#;
        let (first, second) = (Edit::replace(2..7, "k"), Edit::replace(10..11, "n"));
        assert!(edited(body, &[first.clone(), second.clone()]).is_ok());
        assert_eq!(edited(body, &[second, first.clone()]), Err(NoStringThere(2..7)));
        assert_eq!(edited(body, &[first.clone(), first]), Err(NoStringThere(2..7)));
    }
}
