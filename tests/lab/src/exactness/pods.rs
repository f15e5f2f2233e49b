//! The engines, and their changes as payloads. Pods speak different wire versions, as while a pool is being upgraded.

use std::sync::Arc;

use vllm_sim::engine::{
    BlockContents, BlockHash, CacheRecord, ChainBuilder, ChainSeed, ConfigError, Engine, EngineConfig, EngineEvent,
    PromptSpec, RequestId, SideGroup, StepChanges, SubmitError, Usage,
};
use vllm_sim::kv_events::{HashForm, WireVersion, events_of};

use super::told::Told;
use super::{Caches, News, Setting};

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
    pods: Vec<Pod>,
    block_size: u32,
    news: News,
}

struct Pod {
    engine: Engine,
    version: WireVersion,
    form: HashForm,
    told: Told,
    /// End of the last step that was passed on.
    passed_on: f64,
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

    /// The prompt's blocks that an engine may find cached: it computes the last token in any case.
    fn reusable(&self, block_size: u32) -> &[BlockHash] {
        let whole = usize::try_from(self.spec.prompt_tokens.saturating_sub(1) / block_size.max(1));
        self.spec.blocks.get(..whole.unwrap_or(usize::MAX)).unwrap_or(&self.spec.blocks)
    }
}

/// What pod number `pod` is, of a fleet whose engines without side groups are `plain`.
fn config_of(plain: &EngineConfig, caches: Caches, pod: u32) -> EngineConfig {
    let (groups, retention_interval) = match caches {
        Caches::Hybrid { retention_interval } => (pod, retention_interval),
        Caches::Mixed if pod % 2 == 1 => (pod / 2, 0),
        Caches::Plain | Caches::Mixed => return plain.clone(),
    };
    let groups = usize::try_from(groups).unwrap_or(0) % SIDE_GROUPS.len();
    EngineConfig {
        side_groups: SIDE_GROUPS.get(groups).copied().unwrap_or_default().to_vec(),
        side_blocks: plain.num_gpu_blocks / SIDE_SHARE,
        retention_interval,
        ..plain.clone()
    }
}

impl Pods {
    pub(super) fn new(setting: &Setting) -> Result<Self, ConfigError> {
        let Setting { block_size, caches, .. } = *setting;
        let plain = EngineConfig {
            num_gpu_blocks: setting.pod_tokens / block_size.max(1),
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
        let pods = (0..setting.pods).zip(spoken).map(|(pod, (version, form))| {
            let engine = Engine::new(config_of(&plain, caches, pod))?;
            Ok(Pod { engine, version, form, told: Told::default(), passed_on: f64::MIN })
        });
        Ok(Self { pods: pods.collect::<Result<_, ConfigError>>()?, block_size, news: setting.news })
    }

    /// Runs to `now`: payloads with the pod that published them, and `finished` for each request that ended.
    pub(super) fn advance(&mut self, now: f64, mut finished: impl FnMut(u64, Usage)) -> Vec<(u32, Vec<u8>)> {
        let mut payloads = Vec::new();
        for (number, pod) in (0..).zip(&mut self.pods) {
            let mut events = Vec::new();
            pod.engine.advance(now, &mut events);
            for event in events {
                if let EngineEvent::Finished { id, usage, .. } = event {
                    finished(id.0, usage);
                }
            }
            let mut steps = pod.engine.take_changes();
            for step in &steps {
                pod.told.follow(&step.changes);
            }
            if self.news == News::AtStepBegin {
                steps.extend(pod.under_way());
                steps.retain(|step| step.at > pod.passed_on);
                pod.passed_on = steps.last().map_or(pod.passed_on, |step| step.at);
            }
            let payload = |step: &StepChanges| pod.version.encode(pod.form, step.at, 0, &events_of(&step.changes));
            payloads.extend(steps.iter().map(|step| (number, payload(step))));
        }
        payloads
    }

    /// Tokens of the prompt that each engine would find cached now.
    pub(super) fn held(&self, ask: &Ask) -> Vec<u32> {
        let blocks = ask.reusable(self.block_size);
        self.pods.iter().map(|pod| pod.engine.cached_prefix_tokens(blocks)).collect()
    }

    /// The same by what the engines have published.
    pub(super) fn told(&self, ask: &Ask) -> Vec<u32> {
        let blocks = ask.reusable(self.block_size);
        self.pods.iter().map(|pod| pod.told.prefix(blocks) * self.block_size).collect()
    }

    /// The share of each cache that running requests hold now.
    pub(super) fn used(&self) -> impl Iterator<Item = f64> + '_ {
        self.pods.iter().map(|pod| pod.engine.metrics().kv_used)
    }

    /// Blocks that they stored though they had them already.
    pub(super) fn twins(&self) -> u64 {
        self.pods.iter().map(|pod| pod.told.twins()).sum()
    }

    pub(super) fn submit(&mut self, pod: usize, id: u64, ask: Ask, now: f64) -> Result<(), SubmitError> {
        let Some(Pod { engine, .. }) = self.pods.get_mut(pod) else { return Ok(()) };
        engine.submit_described(RequestId(id), ask.spec, Some(Arc::new(ask.contents)), now)
    }
}

impl Pod {
    /// What the step under way has changed already and will tell when it ends.
    fn under_way(&self) -> Vec<StepChanges> {
        let mut ahead = self.engine.clone();
        if let Some(end) = ahead.next_event_at() {
            ahead.advance(end, &mut Vec::new());
        }
        ahead.take_changes()
    }
}
