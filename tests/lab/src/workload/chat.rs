//! Conversations: each turn repeats all that was said before it, the model's answers included.

use std::collections::HashMap;

use super::text;
use crate::prompt::{Message, Prompt, Role, Span};
use crate::random::{Random, mixed};

/// Turns of a conversation, on average (geometric).
pub(super) const MEAN_TURNS: f64 = 6.0;
const MEAN_THINK: f64 = 15.0;
const SYSTEM_PROMPTS: u64 = 100;

/// A conversation of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConversationId(u64);

#[derive(Debug)]
pub(super) struct Chats {
    random: Random,
    open: HashMap<ConversationId, Prompt>,
    count: u64,
}

pub(super) struct Turn {
    pub(super) conversation: ConversationId,
    pub(super) prompt: Prompt,
    /// Seconds since the answer before it.
    pub(super) think: f64,
}

impl Chats {
    pub(super) fn new(random: Random) -> Self {
        Self { random, open: HashMap::new(), count: 0 }
    }

    pub(super) fn begin(&mut self) -> Turn {
        self.count += 1;
        let conversation = ConversationId(self.count);
        let content = Span { text: text(8, self.random.below(SYSTEM_PROMPTS)), tokens: 1000 };
        let system = Message { role: Role::System, content };
        self.turn(conversation, vec![system], 0.0)
    }

    pub(super) fn go_on(&mut self, conversation: ConversationId) -> Option<Turn> {
        let said = self.open.remove(&conversation)?;
        if self.random.uniform() * MEAN_TURNS < 1.0 {
            return None;
        }
        let mut messages = said.messages;
        messages.push(Message { role: Role::Assistant, content: said.answer });
        let think = self.random.exponential(MEAN_THINK);
        Some(self.turn(conversation, messages, think))
    }

    fn turn(&mut self, conversation: ConversationId, mut messages: Vec<Message>, think: f64) -> Turn {
        let asked = self.random.lognormal(150.0, 0.8, (8, 2000));
        let answered = self.random.lognormal(250.0, 0.6, (8, 1500));
        let (question, answer) = (mixed(self.random.bits()), mixed(self.random.bits()));
        messages.push(Message { role: Role::User, content: Span { text: question, tokens: asked } });
        let prompt = Prompt { messages, answer: Span { text: answer, tokens: answered } };
        self.open.insert(conversation, prompt.clone());
        Turn { conversation, prompt, think }
    }
}
