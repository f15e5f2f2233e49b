//! Prompts as lists of imaginary texts. The same list gives the JSON body that a gateway reads and the block chain that an
//! engine caches by, so shared prefixes agree on both sides, down to the token.
//!
//! A token is four bytes here (three letters and a space), as in the simulator's tokenizer.

use vllm_sim::engine::{ChainBuilder, ChainSeed, PromptSpec};
use vllm_sim::text::tokenize;

use crate::random::mixed;

/// The model that all requests name.
pub const MODEL: &str = "sim-model";

/// The first `tokens` tokens of the imaginary text `text`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which text.
    pub text: u64,
    /// How much of it.
    pub tokens: u32,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The system prompt.
    System,
    /// The user.
    User,
    /// The model, earlier.
    Assistant,
}

/// One message of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What.
    pub content: Span,
}

/// A chat request and what the model will answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// The answer.
    pub answer: Span,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl Span {
    fn words(self) -> impl Iterator<Item = [u8; 4]> {
        (0..self.tokens).map(move |index| word(self.text, index))
    }
}

fn word(text: u64, index: u32) -> [u8; 4] {
    const CONSONANTS: [u8; 16] = *b"bcdfghjklmnprstv";
    const VOWELS: [u8; 4] = *b"aeio";
    let draw = mixed(text ^ (u64::from(index) << 1 | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let [a, b, c, ..] = draw.to_le_bytes();
    let pick = |letters: &[u8], byte: u8| letters.get(usize::from(byte) % letters.len()).copied().unwrap_or(b'x');
    [pick(&CONSONANTS, a), pick(&VOWELS, b), pick(&CONSONANTS, c), b' ']
}

impl Prompt {
    /// The body of a streamed `/v1/chat/completions` request. `max_tokens`: the caller's bound on the answer, if it has one.
    #[must_use]
    pub fn body(&self, max_tokens: Option<u32>) -> Vec<u8> {
        let mut body =
            Vec::with_capacity(usize::try_from(self.tokens()).unwrap_or(0) * 4 + 256 + 64 * self.messages.len());
        body.extend_from_slice(b"{\"model\":\"sim-model\",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
        if let Some(most) = max_tokens {
            body.extend_from_slice(format!(",\"max_tokens\":{most}").as_bytes());
        }
        body.extend_from_slice(b",\"messages\":[");
        for (index, message) in self.messages.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            body.extend_from_slice(format!("{comma}{{\"role\":\"{}\",\"content\":\"", message.role.name()).as_bytes());
            message.content.words().for_each(|word| body.extend_from_slice(&word));
            body.extend_from_slice(b"\"}");
        }
        body.extend_from_slice(b"]}");
        body
    }

    /// Tokens of all messages, without what a template adds.
    #[must_use]
    pub fn tokens(&self) -> u32 {
        self.messages.iter().map(|message| message.content.tokens).sum()
    }

    /// The tokens that the simulator makes of `body`, as an engine takes them.
    #[must_use]
    pub fn spec(&self, block_size: u32) -> PromptSpec {
        let mut chain = ChainBuilder::new(block_size, ChainSeed::default());
        let push = |chain: &mut ChainBuilder, span: Span| {
            span.words().for_each(|word| chain.push_token(u32::from_be_bytes(word)));
        };
        for message in &self.messages {
            chain.push_tokens(&tokenize(&format!("<|im_start|>{}<|im_sep|>", message.role.name())));
            push(&mut chain, message.content);
            chain.push_tokens(&tokenize("<|im_end|>"));
        }
        chain.push_tokens(&tokenize("<|im_start|>assistant<|im_sep|>"));
        let prompt_tokens = chain.tokens();
        push(&mut chain, self.answer);
        PromptSpec { prompt_tokens, output_tokens: self.answer.tokens, blocks: chain.into_blocks() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vllm_sim::text::{Turn, tokenize_chat};

    #[test]
    fn body_and_chain_are_the_same_tokens() {
        let message = |role, text, tokens| Message { role, content: Span { text, tokens } };
        let messages = vec![message(Role::System, 1, 40), message(Role::User, 2, 33), message(Role::Assistant, 3, 5)];
        let prompt = Prompt { messages, answer: Span { text: 9, tokens: 20 } };
        let body: serde_json::Value = serde_json::from_slice(&prompt.body(Some(7))).unwrap();
        assert_eq!(body["max_tokens"], 7);
        let turns: Vec<Turn> = body["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|turn| Turn {
                role: turn["role"].as_str().unwrap().to_owned(),
                content: turn["content"].as_str().unwrap().to_owned(),
            })
            .collect();
        let mut chain = ChainBuilder::new(16, ChainSeed::default());
        chain.push_tokens(&tokenize_chat(&turns));
        let spec = prompt.spec(16);
        assert_eq!(spec.prompt_tokens, chain.tokens());
        assert_eq!(spec.blocks[..chain.blocks().len()], *chain.blocks());
    }

    #[test]
    fn texts_differ_and_repeat() {
        let words = |text| Span { text, tokens: 50 }.words().collect::<Vec<_>>();
        assert_eq!(words(5), words(5));
        assert!(words(5).iter().zip(words(6)).filter(|(a, b)| *a == b).count() < 5);
    }
}
