//! Traffic, made from a seed: the workloads of the routing study. New requests arrive open-loop (Poisson); only the further turns of
//! a chat wait for the answer before them.
//!
//! The study names sizes but not all of them; where it is silent the numbers below are chosen so that eight pods saturate at
//! about the load where the study's do.

mod chat;

use crate::prompt::{Message, Prompt, Role, Span};
use crate::random::{Random, Zipf, mixed};
use chat::{AGENTS, Chats, PEOPLE};

pub use chat::ConversationId;

/// Which traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Half of the requests on one 8000-token prefix, the others on 100 prefixes of 4000; 200 more tokens each, 200 out.
    Hot,
    /// 64-512 unique tokens, 200 out.
    Short,
    /// 150 system prompts of 6000 tokens with five questions of 1200 each, 1000 out (llm-d's benchmark).
    Shared,
    /// 1152 prefixes of 6000 tokens (three times the cache of 8 pods), Zipf 0.6, 600 fresh tokens, 300 out.
    Pressure,
    /// About 6 turns on 100 system prompts of 1000 tokens, 15 s to think, about 150 tokens in and 250 out a turn.
    Chat,
    /// 200 tenants, Zipf 1.0, lognormal lengths, bursts of three times the rate for 5 s in 30 s.
    Tenants,
    /// 6000-18000 unique tokens, 128 out.
    Rag,
    /// Half `Short`, 35 % on 100 prefixes of 4000, 12 % `Rag`, 3 % of 60,000 unique tokens.
    Mix,
    /// Eight tenants with a prefix of 2000 tokens each, 400 more and 250 out; the first asks ten times as often as any other.
    NoisyRate,
    /// The same, but all ask equally often, and the prompts of the first are ten times as long.
    NoisyLength,
    /// Sessions of agents: 12,000 tokens that all share, about 28,000 of their own, then about 15 turns of 2500 tokens in and
    /// 300 out, 3 s between them, up to 120,000 tokens.
    Agents,
}

impl Kind {
    /// All of the routing study that are judged by it: `Agents` fill the caches whoever routes them.
    pub const ALL: [Self; 10] = [
        Self::Shared,
        Self::Pressure,
        Self::Chat,
        Self::Tenants,
        Self::Short,
        Self::Hot,
        Self::Rag,
        Self::Mix,
        Self::NoisyRate,
        Self::NoisyLength,
    ];

    /// As it stands in tables and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Short => "short",
            Self::Shared => "shared",
            Self::Pressure => "pressure",
            Self::Chat => "chat",
            Self::Tenants => "tenants",
            Self::Rag => "rag",
            Self::Mix => "mix",
            Self::NoisyRate => "noisy-rate",
            Self::NoisyLength => "noisy-length",
            Self::Agents => "agents",
        }
    }

    /// The study's three loads for eight pods, requests a second.
    #[must_use]
    pub const fn loads(self) -> [f64; 3] {
        match self {
            Self::Hot => [35.0, 60.0, 75.0],
            Self::Short => [100.0, 180.0, 230.0],
            Self::Shared => [8.0, 13.0, 16.0],
            Self::Pressure => [8.0, 13.0, 17.0],
            Self::Chat => [40.0, 70.0, 90.0],
            Self::Tenants => [25.0, 45.0, 55.0],
            Self::Rag => [3.0, 5.0, 6.5],
            Self::Mix => [6.0, 10.0, 14.0],
            Self::NoisyRate => [40.0, 60.0, 75.0],
            Self::NoisyLength => [20.0, 30.0, 40.0],
            Self::Agents => [1.2, 2.0, 2.5],
        }
    }
}

/// Tenants of `Kind::NoisyRate` and `Kind::NoisyLength`; which of them is noisy, and how much more it asks.
pub const TENANTS: u64 = 8;
/// See `TENANTS`.
pub const NOISY: u64 = 0;
const NOISE: u64 = 10;

/// How arrivals are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rhythm {
    /// At random, as independent clients do (in bursts for `Kind::Tenants`).
    Poisson,
    /// One every 1/rate seconds.
    Even,
}

/// A request to come.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When.
    pub at: f64,
    /// What.
    pub prompt: Prompt,
    /// Whose turn it is.
    pub conversation: Option<ConversationId>,
    /// Who pays for it; 0 where the workload knows no tenants.
    pub tenant: u64,
}

/// The source of all requests of a run.
#[derive(Debug)]
pub struct Workload {
    kind: Kind,
    rate: f64,
    rhythm: Rhythm,
    clock: f64,
    random: Random,
    zipf: Zipf,
    fresh: u64,
    chats: Chats,
}

impl Workload {
    /// `rate` requests a second on average.
    #[must_use]
    pub fn new((kind, rhythm): (Kind, Rhythm), rate: f64, seed: u64) -> Self {
        let zipf = match kind {
            Kind::Pressure => Zipf::new(1152, 0.6),
            Kind::Tenants => Zipf::new(200, 1.0),
            Kind::Hot
            | Kind::Short
            | Kind::Shared
            | Kind::Chat
            | Kind::Rag
            | Kind::Mix
            | Kind::NoisyRate
            | Kind::NoisyLength
            | Kind::Agents => Zipf::new(1, 1.0),
        };
        let habits = if kind == Kind::Agents { &AGENTS } else { &PEOPLE };
        let (random, chats) = (Random::new(seed, 1), Chats::new(habits, Random::new(seed, 2)));
        Self { kind, rate, rhythm, clock: 0.0, random, zipf, fresh: mixed(seed), chats }
    }

    /// The next request that waits for no other.
    pub fn next_arrival(&mut self) -> Arrival {
        self.clock = self.next_time();
        if matches!(self.kind, Kind::Chat | Kind::Agents) {
            let first = self.chats.begin();
            return Arrival { at: self.clock, prompt: first.prompt, conversation: Some(first.conversation), tenant: 0 };
        }
        let (prompt, tenant) = if matches!(self.kind, Kind::NoisyRate | Kind::NoisyLength) {
            self.neighbours()
        } else {
            (self.prompt(self.kind), 0)
        };
        Arrival { at: self.clock, prompt, conversation: None, tenant }
    }

    /// The next turn of a conversation whose last answer was complete at `at`, if there is one.
    pub fn next_turn(&mut self, conversation: ConversationId, at: f64) -> Option<Arrival> {
        let turn = self.chats.go_on(conversation)?;
        Some(Arrival { at: at + turn.think, prompt: turn.prompt, conversation: Some(conversation), tenant: 0 })
    }

    /// Nobody goes on with a conversation that was refused.
    pub fn give_up(&mut self, conversation: ConversationId) {
        self.chats.give_up(conversation);
    }

    /// Requests of a conversation, on average, where there are conversations.
    const fn turns(&self) -> Option<f64> {
        match self.kind {
            Kind::Chat => Some(PEOPLE.turns),
            Kind::Agents => Some(AGENTS.turns),
            Kind::Hot
            | Kind::Short
            | Kind::Shared
            | Kind::Pressure
            | Kind::Tenants
            | Kind::Rag
            | Kind::Mix
            | Kind::NoisyRate
            | Kind::NoisyLength => None,
        }
    }

    fn next_time(&mut self) -> f64 {
        if self.rhythm == Rhythm::Even {
            return self.clock + 1.0 / self.rate;
        }
        if let Some(turns) = self.turns() {
            return self.clock + self.random.exponential(turns / self.rate);
        }
        if self.kind != Kind::Tenants {
            return self.clock + self.random.exponential(1.0 / self.rate);
        }
        // Thinning: candidates at the burst's rate, kept by the rate of their moment. 25 s + 3 x 5 s make the mean.
        let base = self.rate * 30.0 / 40.0;
        let mut at = self.clock;
        loop {
            at += self.random.exponential(1.0 / (3.0 * base));
            if at % 30.0 < 5.0 || self.random.uniform() < 1.0 / 3.0 {
                return at;
            }
        }
    }

    fn prompt(&mut self, kind: Kind) -> Prompt {
        match kind {
            Kind::Hot => {
                let group = if self.random.below(2) == 0 { 0 } else { 1 + self.random.below(100) };
                let prefix = Span { text: text(1, group), tokens: if group == 0 { 8000 } else { 4000 } };
                let question = self.unique(200);
                self.ask(Some(prefix), question, 200)
            }
            Kind::Short => {
                let tokens = self.random.between(64, 512);
                let question = self.unique(tokens);
                self.ask(None, question, 200)
            }
            Kind::Shared => {
                let (group, question) = (self.random.below(150), self.random.below(5));
                let prefix = Span { text: text(2, group), tokens: 6000 };
                self.ask(Some(prefix), Span { text: text(3, group * 5 + question), tokens: 1200 }, 1000)
            }
            Kind::Pressure => {
                let prefix = Span { text: text(4, self.zipf.draw(&mut self.random)), tokens: 6000 };
                let question = self.unique(600);
                self.ask(Some(prefix), question, 300)
            }
            Kind::Tenants => self.tenant(),
            Kind::Rag => {
                let tokens = self.random.between(6000, 18_000);
                let question = self.unique(tokens);
                self.ask(None, question, 128)
            }
            Kind::Mix => self.mix(),
            Kind::Chat | Kind::Agents => self.chats.begin().prompt,
            Kind::NoisyRate | Kind::NoisyLength => self.neighbours().0,
        }
    }

    fn tenant(&mut self) -> Prompt {
        let tenant = self.zipf.draw(&mut self.random);
        let tokens = Random::new(tenant, 7).lognormal(2000.0, 0.7, (200, 12_000));
        let fresh = self.random.lognormal(400.0, 0.8, (16, 4000));
        let output = self.random.lognormal(250.0, 0.7, (8, 2000));
        let question = self.unique(fresh);
        self.ask(Some(Span { text: text(5, tenant), tokens }), question, output)
    }

    /// A request of one of the tenants of which the first is noisy.
    fn neighbours(&mut self) -> (Prompt, u64) {
        let (tenant, factor) = if self.kind == Kind::NoisyRate {
            (self.random.below(TENANTS + NOISE - 1).saturating_sub(NOISE - 1), 1)
        } else {
            let tenant = self.random.below(TENANTS);
            (tenant, if tenant == NOISY { 10 } else { 1 })
        };
        let fresh = self.random.lognormal(400.0, 0.8, (16, 4000)) * factor;
        let output = self.random.lognormal(250.0, 0.7, (8, 2000));
        let question = self.unique(fresh);
        (self.ask(Some(Span { text: text(9, tenant), tokens: 2000 * factor }), question, output), tenant)
    }

    fn mix(&mut self) -> Prompt {
        let share = self.random.uniform();
        if share < 0.5 {
            return self.prompt(Kind::Short);
        }
        if share < 0.85 {
            let prefix = Span { text: text(6, self.random.below(100)), tokens: 4000 };
            let question = self.unique(300);
            return self.ask(Some(prefix), question, 300);
        }
        if share < 0.97 {
            return self.prompt(Kind::Rag);
        }
        let question = self.unique(60_000);
        self.ask(None, question, 300)
    }

    fn unique(&mut self, tokens: u32) -> Span {
        self.fresh = self.fresh.wrapping_add(1);
        Span { text: mixed(self.fresh), tokens }
    }

    fn ask(&mut self, prefix: Option<Span>, question: Span, output: u32) -> Prompt {
        let system = prefix.map(|content| Message { role: Role::System, content });
        let user = Message { role: Role::User, content: question };
        let answer = self.unique(output);
        Prompt { messages: system.into_iter().chain([user]).collect(), answer }
    }
}

/// The text that every run knows as number `index` of `family`.
fn text(family: u64, index: u64) -> u64 {
    mixed(mixed(family).wrapping_add(index))
}
