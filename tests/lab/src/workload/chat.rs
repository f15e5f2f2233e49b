//! Conversations: each turn repeats all that was said before it, the model's answers included. One that was refused is over:
//! nobody has an answer to go on from.

use std::collections::HashMap;

use super::text;
use crate::prompt::{Message, Prompt, Role, Span};
use crate::random::{Random, mixed};

/// Of the conversations of a workload.
#[derive(Debug)]
pub(super) struct Habits {
    /// Turns of a conversation, on average (geometric).
    pub(super) turns: f64,
    /// Seconds from an answer to the next question, on average.
    think: f64,
    /// Texts that conversations share, and tokens of each.
    systems: (u64, u32),
    family: u64,
    first: Lengths,
    asked: Lengths,
    answered: Lengths,
    /// Tokens after which nobody asks again.
    longest: u32,
}

/// Mean, sigma of the logarithm, least and most, tokens.
type Lengths = (f64, f64, (u32, u32));

pub(super) const PEOPLE: Habits = Habits {
    turns: 6.0,
    think: 15.0,
    systems: (100, 1000),
    family: 8,
    first: (150.0, 0.8, (8, 2000)),
    asked: (150.0, 0.8, (8, 2000)),
    answered: (250.0, 0.6, (8, 1500)),
    longest: u32::MAX,
};

/// The first question brings a repository, the others what tools said.
pub(super) const AGENTS: Habits = Habits {
    turns: 15.0,
    think: 3.0,
    systems: (1, 12_000),
    family: 10,
    first: (28_000.0, 0.3, (8000, 60_000)),
    asked: (2500.0, 0.8, (100, 12_000)),
    answered: (300.0, 0.6, (20, 1500)),
    longest: 120_000,
};

/// A conversation of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConversationId(pub u64);

#[derive(Debug)]
pub(super) struct Chats {
    habits: &'static Habits,
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
    pub(super) fn new(habits: &'static Habits, random: Random) -> Self {
        Self { habits, random, open: HashMap::new(), count: 0 }
    }

    pub(super) fn begin(&mut self) -> Turn {
        self.count += 1;
        let conversation = ConversationId(self.count);
        let (count, tokens) = self.habits.systems;
        let content = Span { text: text(self.habits.family, self.random.below(count)), tokens };
        let system = Message { role: Role::System, content };
        self.turn(conversation, vec![system], 0.0)
    }

    pub(super) fn go_on(&mut self, conversation: ConversationId) -> Option<Turn> {
        let said = self.open.remove(&conversation)?;
        if self.random.uniform() * self.habits.turns < 1.0 || said.tokens() > self.habits.longest {
            return None;
        }
        let mut messages = said.messages;
        messages.push(Message { role: Role::Assistant, content: said.answer });
        let think = self.random.exponential(self.habits.think);
        Some(self.turn(conversation, messages, think))
    }

    /// Nobody goes on with it.
    pub(super) fn give_up(&mut self, conversation: ConversationId) {
        self.open.remove(&conversation);
    }

    fn turn(&mut self, conversation: ConversationId, mut messages: Vec<Message>, think: f64) -> Turn {
        let (mean, sigma, bounds) = if messages.len() < 2 { self.habits.first } else { self.habits.asked };
        let asked = self.random.lognormal(mean, sigma, bounds);
        let (mean, sigma, bounds) = self.habits.answered;
        let answered = self.random.lognormal(mean, sigma, bounds);
        let (question, answer) = (mixed(self.random.bits()), mixed(self.random.bits()));
        messages.push(Message { role: Role::User, content: Span { text: question, tokens: asked } });
        let prompt = Prompt { messages, answer: Span { text: answer, tokens: answered } };
        self.open.insert(conversation, prompt.clone());
        Turn { conversation, prompt, think }
    }
}
