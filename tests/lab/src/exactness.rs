//! How true exact residency is: chats over engines whose caches overflow, followed through their own KV events alone, and
//! before every request what a gateway predicts against what each engine holds, has published, and finds in the end.
//!
//! Everything between an engine's cache and the prediction is real: encoded events, decoder, residency index, encoded table
//! segments, template, chain. Events come at the end of an engine's step, so a prediction is right about what was published
//! (`Tally::told`) and up to a step behind what is held (`Tally::held`).

mod chats;
mod pods;
mod sight;
mod slips;
mod tally;
mod told;

use std::collections::BTreeMap;

use controlplane::vocabulary::ReadError;
use shared::api::ApiKind;
use shared::clock::Timestamp;
use shared::prefix::{ChainRoot, chain};
use shared::template::{ChatTemplate, TemplateOptions, Unrendered};
use vllm_sim::engine::{ConfigError, SubmitError};
use vllm_sim::language::vocabulary::{CHAT_TEMPLATE, encode};

pub use self::sight::SightError;
pub use self::tally::{Account, Errors, Tally};

use self::chats::Chats;
use self::pods::{Ask, Pods};
use self::sight::Sight;
use self::slips::Slips;
use crate::random::Random;

/// The model that chains are rooted in.
const MODEL: &str = "sim-model";
/// Share of requests that go anywhere instead of where the prediction says, so that content spreads.
const STRAYS: f64 = 0.6;

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Engines.
    pub pods: u32,
    /// Tokens in an engine's block.
    pub block_size: u32,
    /// Bytes in a chunk.
    pub chunk_bytes: u16,
    /// Tokens that one pod's cache holds.
    pub pod_tokens: u32,
    /// Requests a second over all pods.
    pub rate: u32,
    /// What their caches are made of.
    pub caches: Caches,
    /// Requests in all.
    pub requests: u32,
    /// Of 100 requests, so many repeat one that is still being answered.
    pub echoes: u32,
    /// Of 100,000 generated tokens, so many are spelt in others that the tokenizer would not choose.
    pub slips: u32,
    /// When the gateway hears of a step.
    pub news: News,
    /// What is broken.
    pub lesion: Lesion,
    /// Everything random comes from it.
    pub seed: u64,
}

/// When the gateway hears what a step changed in an engine's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// When the step ends: as engines publish.
    AtStepEnd,
    /// When the step begins: as no engine does. What is left of the error then does not come from the wait for events.
    AtStepBegin,
}

/// The cache groups of a run's engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caches {
    /// Full attention only.
    Plain,
    /// Sliding windows beside it in some pods, recurrent state in others, both in others.
    Hybrid {
        /// Tokens between boundaries that they keep; 0: only where prompts end and part.
        retention_interval: u32,
    },
    /// The pods take turns: plain, then hybrid.
    Mixed,
}

/// What a run breaks on purpose: a bar that still holds then proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesion {
    /// Nothing.
    Nothing,
    /// Removed blocks are thought to be there still.
    RemovalsIgnored,
    /// No event is heard.
    EventsIgnored,
    /// Prompts are looked up under another model.
    OtherModel,
    /// Prompts are looked up as a tenant's who has a cache salt.
    OtherSalt,
    /// Any pod is chosen.
    AnyPod,
    /// Hybrid engines count as if they could go on from anywhere.
    CheckpointsIgnored,
    /// Nobody re-encodes what engines generate.
    Unchecked,
}

/// Why a run broke off.
#[derive(Debug, thiserror::Error)]
pub enum ExactnessError {
    /// The engines' configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An engine refused a request.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The engines' events did not reach the gateway.
    #[error(transparent)]
    Sight(#[from] SightError),
    /// The tokenizer that re-encodes.
    #[error(transparent)]
    Tokenizer(#[from] ReadError),
    /// A prompt was not rendered.
    #[error(transparent)]
    Unrendered(#[from] Unrendered),
}

/// Runs a setting to its last request.
///
/// # Errors
/// When a part of the loop refuses what the part before it made.
pub fn run(setting: &Setting) -> Result<Tally, ExactnessError> {
    let template = ChatTemplate::compile(CHAT_TEMPLATE, TemplateOptions::default()).map_err(Unrendered::from)?;
    let mut chats = Chats::new(setting.echoes, Random::new(setting.seed, 1));
    let mut random = Random::new(setting.seed, 2);
    let mut pods = Pods::new(setting)?;
    let mut sight = Sight::new(setting.chunk_bytes, setting.lesion)?;
    let mut slips = Slips::new(setting.slips, Random::new(setting.seed, 3));
    let mut tally = Tally::new(setting.block_size);
    let root = setting.lesion.root();
    let mut expected = BTreeMap::new();
    let mut now = 0.0;
    for id in 0..u64::from(setting.requests) {
        now += random.exponential(1.0 / f64::from(setting.rate));
        let payloads = pods.advance(now, |id, usage| {
            chats.answered(id);
            tally.cached.0 += u64::from(usage.cached_tokens);
            tally.cached.1 += u64::from(usage.prompt_tokens);
            if let Some(guess) = expected.remove(&id) {
                tally.reported.add(guess, usage.cached_tokens);
            }
        });
        for (pod, payload) in payloads {
            sight.hear(pod, &payload, Timestamp::from_secs_f64(now))?;
        }
        sight.publish(Timestamp::from_secs_f64(now))?;
        let turn = chats.next(id);
        let prompt = template.render_body(ApiKind::ChatCompletions, turn.body.as_bytes(), None)?;
        let ask = Ask::new(setting.block_size, &encode(&prompt), &slips.spell(&turn.answer));
        let mut keys = Vec::new();
        chain(root, usize::from(setting.chunk_bytes), [prompt.as_bytes()], &mut keys);
        let (predicted, held) = (sight.predict(&keys, setting.pods), pods.held(&ask));
        let chosen = match setting.lesion {
            Lesion::AnyPod => anyone(setting.pods, &mut random),
            Lesion::Nothing
            | Lesion::Unchecked
            | Lesion::RemovalsIgnored
            | Lesion::EventsIgnored
            | Lesion::CheckpointsIgnored
            | Lesion::OtherModel
            | Lesion::OtherSalt => best(&predicted, &mut random),
        };
        tally.held.decided(&predicted, &held, chosen);
        tally.told.decided(&predicted, &pods.told(&ask), chosen);
        tally.used.extend(pods.used());
        let goes = if random.uniform() < STRAYS { anyone(setting.pods, &mut random) } else { chosen };
        expected.insert(id, predicted.get(goes).copied().unwrap_or(0));
        pods.submit(goes, id, ask, now)?;
    }
    tally.twins = pods.twins();
    tally.counters = sight.counters();
    tally.removals = sight.removals();
    tally.alarms = sight.alarms();
    tally.slips = slips.made();
    Ok(tally)
}

impl Lesion {
    fn root(self) -> ChainRoot {
        match self {
            Self::OtherModel => ChainRoot::new("another", None, None),
            Self::OtherSalt => ChainRoot::new(MODEL, None, Some("tenant")),
            Self::Nothing
            | Self::Unchecked
            | Self::RemovalsIgnored
            | Self::EventsIgnored
            | Self::CheckpointsIgnored
            | Self::AnyPod => ChainRoot::new(MODEL, None, None),
        }
    }
}

fn anyone(pods: u32, random: &mut Random) -> usize {
    usize::try_from(random.below(u64::from(pods))).unwrap_or(0)
}

/// The pod with the longest prediction; ties at random.
fn best(predicted: &[u32], random: &mut Random) -> usize {
    let most = predicted.iter().max().copied().unwrap_or(0);
    let tied: Vec<usize> = (0..).zip(predicted).filter(|&(_, &tokens)| tokens == most).map(|(pod, _)| pod).collect();
    let at = random.below(u64::try_from(tied.len()).unwrap_or(1));
    usize::try_from(at).ok().and_then(|at| tied.get(at).copied()).unwrap_or(0)
}
