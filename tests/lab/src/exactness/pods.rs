//! The engines, and their changes as payloads. Pods speak different wire versions, as while a pool is being upgraded.

use std::sync::Arc;

use vllm_sim::engine::{
    BlockContents, CacheRecord, ChainBuilder, ChainSeed, ConfigError, Engine, EngineConfig, EngineEvent, PromptSpec,
    RequestId, SideGroup, SubmitError,
};
use vllm_sim::kv_events::{HashForm, WireVersion, events_of};

use super::Caches;

const VERSIONS: [&str; 4] = ["0.33.0", "0.9.0", "0.15.0", "0.22.0"];
/// Those that tell which cache group an event is of.
const HYBRID_VERSIONS: [&str; 4] = ["0.33.0", "0.22.0", "0.24.0", "0.26.0"];
/// What hybrid pods have beside full attention, by turns; all windows are longer than a block of 64.
const SIDE_GROUPS: [&[SideGroup]; 3] = [
    &[SideGroup::SlidingWindow { window: 128 }],
    &[SideGroup::Mamba],
    &[SideGroup::SlidingWindow { window: 200 }, SideGroup::SlidingWindow { window: 200 }, SideGroup::Mamba],
];
/// Side groups keep a block for so many of full attention: fewer checkpoints than prompts, so that some are evicted alone.
const SIDE_SHARE: u32 = 6;

/// The engines.
pub(super) struct Pods {
    engines: Vec<(Engine, WireVersion, HashForm)>,
    block_size: u32,
}

/// A request as engines see it.
pub(super) struct Ask {
    spec: PromptSpec,
    contents: BlockContents,
}

impl Ask {
    pub(super) fn new(block_size: u32, prompt: &[u32], answer: &[u32]) -> Self {
        let mut chain = ChainBuilder::new(block_size, ChainSeed::default());
        chain.push_tokens(prompt);
        let prompt_tokens = chain.tokens();
        chain.push_tokens(answer);
        let output_tokens = chain.tokens() - prompt_tokens;
        let blocks = chain.into_blocks();
        let contents = BlockContents::by_identity(block_size, [prompt, answer].concat(), &blocks);
        Self { spec: PromptSpec { prompt_tokens, output_tokens, blocks }, contents }
    }
}

impl Pods {
    pub(super) fn new(count: u32, block_size: u32, tokens: u32, caches: Caches) -> Result<Self, ConfigError> {
        let plain = EngineConfig {
            num_gpu_blocks: tokens / block_size.max(1),
            block_size,
            record: CacheRecord::On,
            ..EngineConfig::default()
        };
        let versions = match caches {
            Caches::Plain => VERSIONS,
            Caches::Hybrid { .. } | Caches::Mixed => HYBRID_VERSIONS,
        };
        let versions = versions.iter().map(|version| version.parse().unwrap_or_default());
        let forms = [HashForm::Int, HashForm::Bytes];
        let spoken = versions.cycle().zip(forms.into_iter().cycle());
        let engines = (0..count).zip(spoken).map(|(pod, (version, form))| {
            let (groups, retention_interval) = match caches {
                Caches::Hybrid { retention_interval } => (pod, retention_interval),
                Caches::Mixed if pod % 2 == 1 => (pod / 2, 0),
                Caches::Plain | Caches::Mixed => return Ok((Engine::new(plain.clone())?, version, form)),
            };
            let groups = usize::try_from(groups).unwrap_or(0) % SIDE_GROUPS.len();
            let config = EngineConfig {
                side_groups: SIDE_GROUPS.get(groups).copied().unwrap_or_default().to_vec(),
                side_blocks: plain.num_gpu_blocks / SIDE_SHARE,
                retention_interval,
                ..plain.clone()
            };
            Ok((Engine::new(config)?, version, form))
        });
        Ok(Self { engines: engines.collect::<Result<_, ConfigError>>()?, block_size })
    }

    /// Runs to `now`: payloads with the pod that published them, and `finished` for each request that ended.
    pub(super) fn advance(&mut self, now: f64, mut finished: impl FnMut(u64)) -> Vec<(u32, Vec<u8>)> {
        let mut payloads = Vec::new();
        for (pod, (engine, version, form)) in (0..).zip(&mut self.engines) {
            let mut events = Vec::new();
            engine.advance(now, &mut events);
            for event in events {
                if let EngineEvent::Finished { id, .. } = event {
                    finished(id.0);
                }
            }
            for step in engine.take_changes() {
                payloads.push((pod, version.encode(*form, step.at, 0, &events_of(&step.changes))));
            }
        }
        payloads
    }

    /// Tokens of the prompt that each engine would find cached now. An engine computes the last token in any case.
    pub(super) fn held(&self, ask: &Ask) -> Vec<u32> {
        let whole = ask.spec.prompt_tokens.saturating_sub(1) / self.block_size.max(1);
        let whole = usize::try_from(whole).unwrap_or(usize::MAX);
        let blocks = ask.spec.blocks.get(..whole).unwrap_or(&ask.spec.blocks);
        self.engines.iter().map(|(engine, ..)| engine.cached_prefix_tokens(blocks)).collect()
    }

    pub(super) fn submit(&mut self, pod: usize, id: u64, ask: Ask, now: f64) -> Result<(), SubmitError> {
        let Some((engine, ..)) = self.engines.get_mut(pod) else { return Ok(()) };
        engine.submit_described(RequestId(id), ask.spec, Some(Arc::new(ask.contents)), now)
    }
}
