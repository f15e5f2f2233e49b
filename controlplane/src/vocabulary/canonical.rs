//! Would the engine find these tokens again, when their text comes back as a prompt?
//!
//! A model may generate tokens that its tokenizer would not choose; the next turn then misses the cache from there on,
//! although the text is the same. Re-encoding tells, but only from a place where the tokenizer starts afresh, and not at
//! the end, where the next characters still decide. Never on the request path: it costs what tokenizing costs.

use std::ops::Range;
use std::sync::Arc;

use super::encoder::Encoder;
use super::{Seam, Vocabulary};
use shared::text_form::Spaces;

/// Tokens at the end that the text to come may still change.
const UNSETTLED: usize = 2;
/// The same where nothing cuts the text before merging (SentencePiece): measured at most 11.
const UNSETTLED_UNCUT: usize = 12;

/// See the module.
pub struct Canonical {
    vocabulary: Arc<Vocabulary>,
    encoder: Encoder,
    /// Bytes re-encoded in one call.
    limit: usize,
}

/// Where in its chain a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Where the tokenizer starts afresh: with the chain's first token, or as `Checked::origin` said.
    Anchor,
    /// Anywhere else.
    Middle,
}

/// What re-encoding says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to compare with: no anchor, too little behind it, or tokens of another vocabulary.
    Unknown,
    /// The tokens in `Checked::judged` are the tokenizer's own choice.
    Canonical,
    /// The token at this index of the run is the first that is not.
    Differs(usize),
}

/// The verdict on a run, and how to go on with the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// See there.
    pub verdict: Verdict,
    /// Tokens of the run that were compared.
    pub judged: Range<usize>,
    /// The next run should begin with this token of this run: the last anchor, or the first token that was not read.
    pub resume: usize,
    /// Which of the two it is.
    pub origin: Origin,
}

/// A stretch of the run that begins at an anchor.
struct Stretch {
    tokens: Range<usize>,
    last_anchor: usize,
}

impl Canonical {
    /// Re-encodes at most `limit` bytes in a call; `None` when the tokenizer is not known well enough to compare ids.
    #[must_use]
    pub fn new(vocabulary: Arc<Vocabulary>, encoder: Encoder, limit: usize) -> Option<Self> {
        encoder.matches_the_engine().then_some(Self { vocabulary, encoder, limit })
    }

    /// Compares the tokens of consecutive blocks with the tokenizer's own choice.
    #[must_use]
    pub fn check(&self, tokens: &[u32], origin: Origin) -> Checked {
        let nothing = |resume, origin| Checked { verdict: Verdict::Unknown, judged: resume..resume, resume, origin };
        let Some(stretch) = self.stretch(tokens, origin) else { return nothing(tokens.len(), Origin::Middle) };
        let Stretch { tokens: range, last_anchor } = stretch;
        // A stretch without a second anchor that hits the limit is not read again from its beginning.
        let is_cut = last_anchor == range.start && range.end < tokens.len();
        let (resume, origin) = if is_cut { (range.end, Origin::Middle) } else { (last_anchor, Origin::Anchor) };
        let run = tokens.get(range.clone()).unwrap_or_default();
        let settled = run.len().saturating_sub(self.unsettled());
        let verdict = match self.first_difference(run) {
            None => return nothing(resume, origin),
            Some(at) if at < settled => Verdict::Differs(range.start.saturating_add(at)),
            Some(_) if settled == 0 => return nothing(resume, origin),
            Some(_) => Verdict::Canonical,
        };
        Checked { verdict, judged: range.start..range.start.saturating_add(settled), resume, origin }
    }

    fn unsettled(&self) -> usize {
        match self.vocabulary.form.spaces {
            Spaces::Plain => UNSETTLED,
            Spaces::SentencePiece(_) => UNSETTLED_UNCUT,
        }
    }

    /// From the first anchor for as long as the limit allows.
    fn stretch(&self, tokens: &[u32], origin: Origin) -> Option<Stretch> {
        let mut found: Option<Stretch> = None;
        let mut bytes = 0_usize;
        let mut before: &[u8] = &[];
        for (at, token) in tokens.iter().enumerate() {
            let now = self.vocabulary.table.bytes_of(*token).unwrap_or_default();
            let anchored = (at == 0 && origin == Origin::Anchor) || self.is_anchor(*token, before, now);
            match &mut found {
                None if anchored => found = Some(Stretch { tokens: at..at, last_anchor: at }),
                Some(stretch) if anchored => stretch.last_anchor = at,
                None | Some(_) => {}
            }
            before = now;
            if let Some(stretch) = &mut found {
                bytes = bytes.saturating_add(now.len());
                if bytes > self.limit {
                    break;
                }
                stretch.tokens.end = at.saturating_add(1);
            }
        }
        found.filter(|stretch| !stretch.tokens.is_empty())
    }

    /// Does the tokenizer start afresh at `token`? At special ones always; where text is cut before merging also at a
    /// letter or digit after a line break, which no pattern in use takes together.
    fn is_anchor(&self, token: u32, before: &[u8], bytes: &[u8]) -> bool {
        let fresh_line = before.last() == Some(&b'\n') && bytes.first().is_some_and(u8::is_ascii_alphanumeric);
        self.vocabulary.is_special(token) || (fresh_line && self.vocabulary.form.spaces == Spaces::Plain)
    }

    /// Index of the first token that re-encoding does not give; the length when it gives all. `None`: undecodable.
    fn first_difference(&self, run: &[u32]) -> Option<usize> {
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(run.len());
        let mut seam: Seam = self.vocabulary.root();
        for token in run {
            seam = self.vocabulary.decode(std::slice::from_ref(token), seam, &mut bytes).ok()?;
            ends.push(bytes.len());
        }
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = error.valid_up_to();
                if error.error_len().is_some() {
                    // Clients get U+FFFD for it and send that back.
                    return Some(ends.iter().take_while(|end| **end <= valid).count());
                }
                // The rest of the last character is in the next block.
                std::str::from_utf8(bytes.get(..valid)?).ok()?
            }
        };
        let again = self.encoder.encode(text).ok()?;
        let same = run.iter().zip(&again).take_while(|(was, is)| was == is).count();
        // Tokens that reach into the unfinished character were not there to be found again.
        let whole = ends.iter().take_while(|end| **end <= text.len()).count();
        Some(if same >= whole { run.len() } else { same })
    }
}

#[cfg(test)]
mod tests;
