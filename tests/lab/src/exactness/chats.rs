//! Conversations of several turns over a few dozen system prompts, some of which fork: an earlier turn gets another
//! follow-up. A conversation goes on only when its answer is there; an echo asks again what is still being answered, as a
//! client that lost patience does, and gets the same answer. Text is prose, names, numbers and scripts of several
//! bytes a character, so that blocks and chunks end anywhere.

use std::collections::BTreeMap;

use crate::random::{Random, Zipf};

const SYSTEM_PROMPTS: u32 = 60;
/// Messages after which nobody asks again.
const LONGEST: usize = 17;
const NEW: f64 = 0.3;
const FORKS: f64 = 0.25;
const ROLES: [&str; 2] = ["assistant", "user"];

/// All conversations.
pub(super) struct Chats {
    random: Random,
    /// Of 100 requests, so many are echoes.
    echoes: u32,
    systems: Vec<String>,
    popularity: Zipf,
    /// Whose turn it is to ask.
    idle: Vec<Vec<String>>,
    /// By request: with the answer that will come.
    asked: BTreeMap<u64, Vec<String>>,
}

/// A request.
pub(super) struct Turn {
    /// Of `/v1/chat/completions`.
    pub(super) body: String,
    /// What the model will say, with its end marker.
    pub(super) answer: String,
}

impl Chats {
    pub(super) fn new(echoes: u32, mut random: Random) -> Self {
        let systems = (0..SYSTEM_PROMPTS).map(|_| text(&mut random, (60, 350))).collect();
        let popularity = Zipf::new(SYSTEM_PROMPTS, 0.6);
        Self { random, echoes, systems, popularity, idle: Vec::new(), asked: BTreeMap::new() }
    }

    /// The request `id`.
    pub(super) fn next(&mut self, id: u64) -> Turn {
        let messages = self.echo().unwrap_or_else(|| {
            let mut messages = self.messages();
            messages.extend([(5, 60), (10, 80)].map(|words| text(&mut self.random, words)));
            messages
        });
        let (answer, asked) = messages.split_last().map_or(("", [].as_slice()), |(last, asked)| (last, asked));
        let turn = Turn { body: body(asked), answer: format!("{answer}<|im_end|>") };
        self.asked.insert(id, messages);
        turn
    }

    /// Request `id` has its answer.
    pub(super) fn answered(&mut self, id: u64) {
        self.idle.extend(self.asked.remove(&id).filter(|messages| messages.len() < LONGEST));
    }

    /// One of the conversations whose answer is on its way.
    fn echo(&mut self) -> Option<Vec<String>> {
        if self.echoes == 0 || self.random.below(100) >= u64::from(self.echoes) {
            return None;
        }
        let at = pick(&mut self.random, u64::try_from(self.asked.len()).unwrap_or(0).max(1));
        self.asked.values().nth(at).cloned()
    }

    fn messages(&mut self) -> Vec<String> {
        let Some(last) = self.idle.len().checked_sub(1).filter(|_| self.random.uniform() >= NEW) else {
            let system = usize::try_from(self.popularity.draw(&mut self.random)).ok();
            return system.and_then(|system| self.systems.get(system)).into_iter().cloned().collect();
        };
        let at = self.random.below(u64::try_from(last + 1).unwrap_or(1));
        let at = usize::try_from(at).unwrap_or(0);
        if self.random.uniform() >= FORKS {
            return self.idle.swap_remove(at);
        }
        let mut fork = self.idle.get(at).cloned().unwrap_or_default();
        let pairs = u64::try_from(fork.len() / 2).unwrap_or(0);
        fork.truncate(1 + 2 * usize::try_from(self.random.below(pairs)).unwrap_or(0));
        fork
    }
}

fn body(messages: &[String]) -> String {
    let turns = messages.iter().enumerate().map(|(index, content)| {
        let role = if index == 0 { "system" } else { ROLES.get(index % 2).copied().unwrap_or_default() };
        format!("{{\"role\":\"{role}\",\"content\":\"{content}\"}}")
    });
    format!("{{\"model\":\"{}\",\"messages\":[{}]}}", super::MODEL, turns.collect::<Vec<_>>().join(","))
}

/// Words without anything that JSON would escape; most have three letters, so a token has about as many bytes as in real models.
fn text(random: &mut Random, (least, most): (u32, u32)) -> String {
    let words = random.between(least, most);
    let mut text = String::new();
    for _ in 0..words {
        match random.below(20) {
            0 => text.push_str(&random.below(100_000).to_string()),
            1 => text.push_str(["é", "漢字", "😀", "Straße", "день"].get(pick(random, 5)).unwrap_or(&"")),
            2 => text.push(char::from(b'A' + letter(random))),
            _ => {}
        }
        let letters = if random.below(4) == 0 { random.between(1, 9) } else { 3 };
        (0..letters).for_each(|_| text.push(char::from(b'a' + letter(random))));
        text.push_str([" ", " ", " ", " ", " ", " ", " ", " ", ", ", ". "].get(pick(random, 10)).unwrap_or(&" "));
    }
    text
}

fn pick(random: &mut Random, of: u64) -> usize {
    usize::try_from(random.below(of)).unwrap_or(0)
}

fn letter(random: &mut Random) -> u8 {
    u8::try_from(random.below(26)).unwrap_or(0)
}
