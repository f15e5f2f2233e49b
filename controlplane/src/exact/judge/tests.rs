use std::sync::Arc;
use std::time::Duration;

use shared::clock::Timestamp;

use super::{Judge, KEPT, LONGEST, MOST};
use crate::events::event::BlockHash;
use crate::exact::inquiries::Inquiry;
use crate::residency::exact::verdict::BlockId;
use crate::vocabulary::canonical::Canonical;
use crate::vocabulary::table::TokenTable;
use crate::vocabulary::testing::{byte_level, hugging_face, proven};

const TEXT: &str = "<|im_start|>in the\nthing, the thing in the thing, thin the end of the thing the ing";

fn judge() -> (Judge, Vec<u32>) {
    let (judge, tokens, _) = with_table();
    (judge, tokens)
}

fn with_table() -> (Judge, Vec<u32>, TokenTable) {
    let (vocabulary, encoder) = proven(&hugging_face(&byte_level()));
    let tokens = encoder.encode(TEXT).unwrap();
    let table = vocabulary.table().clone();
    (Judge::new(Canonical::new(Arc::new(vocabulary), encoder, LONGEST).unwrap()), tokens, table)
}

fn id(number: usize) -> BlockId {
    BlockId::new(u32::try_from(number).unwrap(), BlockHash(9))
}

/// A chain told block by block.
fn told(tokens: &[u32], size: usize) -> impl Iterator<Item = Inquiry> + '_ {
    tokens.chunks_exact(size).enumerate().map(move |(at, tokens)| Inquiry {
        parent: at.checked_sub(1).map(id),
        first: at == 0,
        block: id(at),
        tokens: tokens.into(),
        own: size,
    })
}

/// The same text with the word at `at` letter by letter; `None` when it is no word.
fn slipped(tokens: &[u32], at: usize, table: &TokenTable) -> Option<Vec<u32>> {
    let word = (256..262).contains(&tokens[at]).then(|| table.bytes_of(tokens[at]).unwrap())?;
    let letter = |byte: &u8| (0..256).find(|&id| table.bytes_of(id) == Some(&[*byte][..])).unwrap();
    Some([&tokens[..at], &word.iter().map(letter).collect::<Vec<_>>(), &tokens[at + 1..]].concat())
}

fn now() -> Timestamp {
    Timestamp::from_secs_f64(1000.0)
}

#[test]
fn the_tokenizers_own_work_is_never_condemned_however_it_is_cut_into_blocks() {
    for size in 1..12 {
        let (mut judge, tokens) = judge();
        let judged = judge.judge(told(&tokens, size), now());
        assert_eq!(judged.condemned, [], "{size}");
        assert!(judged.canonical > 0, "{size}");
        assert_eq!(judge.open(), 1, "one chain is being written");
    }
}

#[test]
fn the_block_with_the_slip_is_condemned_whenever_it_shows() {
    let mut found = 0;
    for size in 1..8 {
        for at in 0..judge().1.len() {
            let (mut judge, tokens, table) = with_table();
            let Some(tokens) = slipped(&tokens, at, &table) else { continue };
            let judged = judge.judge(told(&tokens, size), now());
            let told = tokens.len() / size * size;
            // The whole word and two tokens behind it.
            if at + 7 < told {
                assert_eq!(judged.condemned.first(), Some(&id(at / size)), "{size} {at}");
                found += 1;
            }
        }
    }
    assert!(found > 50, "{found}");
}

#[test]
fn a_prompts_last_tokens_are_context_for_the_answer() {
    let (mut judge, tokens, table) = with_table();
    let (tokens, at) = (5..).find_map(|at| Some((slipped(&tokens, at, &table)?, at))).unwrap();
    let (prompt, answer) = tokens.split_at(at);
    let inquiry =
        |parent, block, tokens: &[u32], own| Inquiry { parent, first: false, block, tokens: tokens.into(), own };
    assert_eq!(judge.judge([inquiry(None, id(1), prompt, 2)], now()).condemned, []);
    let answered = judge.judge([inquiry(Some(id(1)), id(2), answer, answer.len())], now());
    assert_eq!(answered.condemned, [id(2)]);
}

#[test]
fn tokens_of_chains_that_nobody_writes_are_not_kept() {
    let (mut judge, tokens) = judge();
    let chains = (0..MOST + 10).map(|number| Inquiry { block: id(number), ..told(&tokens, 4).next().unwrap() });
    judge.judge(chains, now());
    assert_eq!(judge.open(), MOST);
    judge.judge([], now().after(KEPT + Duration::from_secs(1)));
    assert_eq!(judge.open(), 0);
}
