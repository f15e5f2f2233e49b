use std::sync::Arc;

use super::{Canonical, Origin, Verdict};
use crate::vocabulary::model_files::TokenizerFile;
use crate::vocabulary::testing::{START, byte_level, hugging_face, proven, ranked, tiktoken};

const TEXT: &str = "<|im_start|>in the\nthing, the thing\nthin the end of the thing";

fn canonical(limit: usize) -> (Canonical, Vec<u32>) {
    let (vocabulary, encoder) = proven(&hugging_face(&byte_level()));
    let tokens = encoder.encode(TEXT).unwrap();
    (Canonical::new(Arc::new(vocabulary), encoder, limit).unwrap(), tokens)
}

/// The token "th" in two.
fn split_token(canonical: &Canonical, tokens: &[u32], at: usize) -> Vec<u32> {
    let mut bytes = Vec::new();
    canonical.vocabulary.decode(&tokens[at..=at], canonical.vocabulary.root(), &mut bytes).unwrap();
    let ids = (0..256).filter(|id| {
        canonical.vocabulary.table().bytes_of(*id).is_some_and(|one| bytes == one || bytes.starts_with(one))
    });
    let first: Vec<u32> = ids.collect();
    let rest = bytes[1..]
        .iter()
        .map(|byte| (0..256).find(|id| canonical.vocabulary.table().bytes_of(*id) == Some(&[*byte][..])).unwrap());
    let mut out = tokens[..at].to_vec();
    out.extend(first.into_iter().chain(rest));
    out.extend(&tokens[at + 1..]);
    out
}

#[test]
fn the_tokenizers_own_choice_is_canonical_wherever_a_run_begins_or_ends() {
    let (canonical, tokens) = canonical(4096);
    let mut judged = 0;
    for from in 0..tokens.len() {
        for to in from..=tokens.len() {
            let origin = if from == 0 { Origin::Anchor } else { Origin::Middle };
            let checked = canonical.check(&tokens[from..to], origin);
            assert!(!matches!(checked.verdict, Verdict::Differs(_)), "{from}..{to}: {checked:?}");
            judged += usize::from(checked.verdict == Verdict::Canonical);
        }
    }
    assert!(judged > 20, "{judged}");
}

#[test]
fn a_word_spelt_in_other_tokens_is_found_where_it_begins() {
    let (canonical, tokens) = canonical(4096);
    let at = tokens.iter().position(|token| canonical.vocabulary.table().bytes_of(*token) == Some(b" the")).unwrap();
    let spelt = split_token(&canonical, &tokens, at);
    assert_eq!(canonical.check(&spelt, Origin::Anchor).verdict, Verdict::Differs(at));
}

#[test]
fn a_difference_in_the_last_two_tokens_is_not_yet_one() {
    let (canonical, tokens) = canonical(4096);
    let at = tokens.iter().position(|token| canonical.vocabulary.table().bytes_of(*token) == Some(b" the")).unwrap();
    let spelt = split_token(&canonical, &tokens, at);
    assert!(!matches!(canonical.check(&spelt[..at + 2], Origin::Anchor).verdict, Verdict::Differs(_)));
}

#[test]
fn without_an_anchor_nothing_is_said() {
    let (canonical, tokens) = canonical(4096);
    assert_eq!(canonical.check(&tokens[1..4], Origin::Middle).verdict, Verdict::Unknown);
    assert_eq!(canonical.check(&[], Origin::Anchor).verdict, Verdict::Unknown);
}

#[test]
fn a_run_that_goes_on_from_an_anchor_is_compared_from_its_first_token() {
    let (canonical, tokens) = canonical(4096);
    let checked = canonical.check(&tokens[..6], Origin::Anchor);
    assert!(checked.resume > 0, "the line break: {checked:?}");
    let letters = split_token(&canonical, &tokens, checked.resume);
    assert_eq!(canonical.check(&letters[checked.resume..], checked.origin).verdict, Verdict::Differs(0));
    assert_ne!(canonical.check(&letters[checked.resume..], Origin::Middle).verdict, Verdict::Differs(0));
}

#[test]
fn a_long_run_is_judged_piece_by_piece() {
    let (canonical, tokens) = canonical(16);
    let mut at = 0;
    for _ in 0..tokens.len() {
        let checked = canonical.check(&tokens[at..], Origin::Middle);
        assert!(!matches!(checked.verdict, Verdict::Differs(_)), "{checked:?}");
        if checked.resume == 0 {
            break;
        }
        at += checked.resume;
    }
    assert!(at > tokens.len() / 2, "{at} of {}", tokens.len());
}

#[test]
fn bytes_that_are_no_text_never_come_back() {
    let (canonical, _) = canonical(4096);
    let byte = |byte: u8| (0..256).find(|id| canonical.vocabulary.table().bytes_of(*id) == Some(&[byte][..])).unwrap();
    let run = [262, byte(0xff), byte(b'a'), byte(b' '), byte(b' ')];
    assert_eq!(canonical.check(&run, Origin::Middle).verdict, Verdict::Differs(1));
    let cut = [262, byte(b'a'), byte(b','), byte(b'b'), byte(0xe2), byte(0x82)];
    assert_eq!(canonical.check(&cut, Origin::Middle).verdict, Verdict::Canonical);
}

#[test]
fn ranks_without_their_pattern_cannot_be_compared() {
    let (vocabulary, encoder) = proven(&ranked(TokenizerFile::Tiktoken(tiktoken()), None));
    assert_eq!(encoder.encode(START).unwrap(), [262]);
    assert!(Canonical::new(Arc::new(vocabulary), encoder, 4096).is_none());
}
