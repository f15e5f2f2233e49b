//! Generated tokens as a sampled model's sometimes are: the same text in tokens that no tokenizer would have chosen. The
//! next turn says the text, so the engine does not find its blocks again from there on.

use vllm_sim::language::vocabulary::{bytes, encode};

use crate::random::Random;

/// Rates are shares of this.
const OF: u64 = 100_000;

/// See the module.
pub(super) struct Slips {
    rate: u32,
    random: Random,
    made: u64,
}

impl Slips {
    pub(super) const fn new(rate: u32, random: Random) -> Self {
        Self { rate, random, made: 0 }
    }

    /// The tokens in which the model says `answer`.
    pub(super) fn spell(&mut self, answer: &str) -> Vec<u32> {
        let mut said = Vec::new();
        for token in encode(answer) {
            match self.in_two(token) {
                Some(spelt) if self.random.below(OF) < u64::from(self.rate) => {
                    self.made += 1;
                    said.extend(spelt);
                }
                _ => said.push(token),
            }
        }
        said
    }

    pub(super) const fn made(&self) -> u64 {
        self.made
    }

    /// The token's first letter and the rest.
    fn in_two(&self, token: u32) -> Option<Vec<u32>> {
        let text = String::from_utf8(bytes(token)).ok().filter(|text| !text.starts_with('<'))?;
        let (at, _) = text.char_indices().nth(1)?;
        let (first, rest) = text.split_at(at);
        Some([encode(first), encode(rest)].concat())
    }
}
