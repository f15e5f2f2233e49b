//! What a request that was read asks for: whose endpoints, which model, which prompt as a chain of keys, how much of what.

use super::{Ask, Plan};
use crate::api::{ApiKind, Call, Edit, NoEndpointReason, PromptView, Reject, RequestView, Work};
use crate::brain::{Brain, Prompt};
use crate::clock::Timestamp;
use crate::headers;
use crate::prefix::{ChainRoot, chain};
use crate::scheduling::Request;
use crate::scheduling::cost::Demand;
use crate::scheduling::explanation::{Explanation, PrefixSource};
use crate::table::rewrite::LONGEST_MODEL;
use crate::table::{Pool, PoolSettings};
use crate::template::{Bypass, Unrendered};

/// A whole body: what it is, and its bytes where some model's prompts are rendered.
#[derive(Clone, Copy)]
pub(super) struct Body<'a> {
    pub(super) call: &'a Call,
    pub(super) bytes: Option<&'a [u8]>,
}

/// What is seen when a body is whole.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub(super) ask: &'a Ask,
    pub(super) plan: &'a Plan,
    pub(super) brain: &'a Brain,
    pub(super) now: Timestamp,
}

/// What a request's model is called.
#[derive(Debug)]
pub(super) struct Called {
    /// By the engines.
    pub(super) model: String,
    /// By the client, where that is another name.
    pub(super) client: Option<String>,
    /// What it is an adapter of, or itself; `None` where the table does not name it.
    base: Option<String>,
}

impl Called {
    /// The headers that tell routes. Only names of the table: a client's could hold anything.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let base = self.base.as_deref().filter(|base| ![base, self.model.as_str()].concat().contains(char::is_control));
        base.into_iter().flat_map(|base| [(headers::MODEL, self.model.as_str()), (headers::BASE_MODEL, base)])
    }
}

/// What a request asks for: whose endpoints, which model, which prompt, and what is expected of the response.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) pool: String,
    model: Option<u32>,
    pub(super) chain: Chain,
    /// `None`: the body is not read, the response not watched.
    pub(super) watch: Option<Watch>,
    /// What must be changed in the body, in its order.
    pub(super) edits: Vec<Edit>,
    /// `None`: the body is not read.
    pub(super) called: Option<Called>,
}

#[derive(Debug)]
pub(super) struct Watch {
    whole_body: bool,
    /// The bound on generated tokens.
    output: Option<u32>,
}

/// A prompt as its chain keys.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) keys: Vec<u64>,
    pub(super) bytes: u64,
    pub(super) tokens: Option<u32>,
    source: PrefixSource,
}

impl Chain {
    fn of_nothing() -> Self {
        Self { tokens: Some(0), ..Self::default() }
    }
}

impl Wanted {
    pub(super) fn prompt(&self) -> Prompt<'_> {
        let Chain { keys, bytes, tokens, source } = &self.chain;
        Prompt { chain: keys, bytes: *bytes, tokens: *tokens, rendered: *source == PrefixSource::Exact }
    }

    pub(super) fn whole_body(&self) -> bool {
        self.watch.as_ref().is_none_or(|watch| watch.whole_body)
    }

    /// `explanation` with what was known before the decision.
    pub(super) fn explained<'a>(&self, explanation: Explanation<'a>) -> Explanation<'a> {
        Explanation {
            prefix: self.chain.source.to_string(),
            model: self.called.as_ref().map(|called| called.model.clone()),
            rewritten_from: self.called.as_ref().and_then(|called| called.client.clone()),
            ..explanation
        }
    }
}

/// Requests whose bodies are not read go to the pod with the least work.
pub(super) fn unread(plan: &Plan, brain: &Brain) -> Result<Wanted, Reject> {
    let (pool, chain) = (default_pool(plan, brain)?, Chain::of_nothing());
    Ok(Wanted { pool, model: None, chain, watch: None, edits: Vec::new(), called: None })
}

/// Of requests that name no model.
fn default_pool(plan: &Plan, brain: &Brain) -> Result<String, Reject> {
    let name = plan.pool.as_deref().or_else(|| brain.pool_for(None)).map(str::to_owned);
    let name = name.or_else(|| brain.table().pools.keys().next().cloned());
    name.ok_or(Reject::NoEndpoint { reason: NoEndpointReason::EmptyPool })
}

pub(super) fn wanted(view: &RequestView<'_>, body: Body<'_>, sight: Sight<'_>) -> Result<Wanted, Reject> {
    let Sight { ask, plan, brain, .. } = sight;
    let Call { kind, work, model: of_path } = body.call;
    let named = view.model.or(of_path.as_deref());
    let unknown = || Reject::UnknownModel { model: named.or(ask.model.as_deref()).unwrap_or_default().to_owned() };
    let name = if named.is_none() && ask.model.is_none() {
        default_pool(plan, brain)?
    } else {
        let mut names = named.into_iter().chain(ask.model.as_deref());
        let found = || names.find_map(|model| brain.pool_for(Some(model))).map(str::to_owned);
        plan.pool.clone().or_else(found).ok_or_else(unknown)?
    };
    let Some(pool) = brain.pool(&name) else { return Err(Reject::UnknownPool { pool: name }) };
    // What SGLang's body names is an adapter, for which no model can stand in.
    let target = view.model.filter(|_| *kind != ApiKind::SglangGenerate).and_then(|model| target(model, pool, ask));
    let called = target.or(named).or(ask.model.as_deref()).or_else(|| pool.only_model());
    let model = called.map_or(Some(None), |called| pool.model_index(called)).ok_or_else(unknown)?;
    let row = pool.model(model);
    let base = row.and_then(|row| row.base.as_deref());
    let (chain, watch) = match work {
        Work::Preparation => (Chain::of_nothing(), None),
        Work::Inference => {
            let output = if kind.generates_tokens() { view.max_output_tokens } else { Some(1) };
            let names = (called.unwrap_or_default(), base);
            (prompt_chain(view, body, (&name, pool, names), sight), Some(Watch { whole_body: !view.stream, output }))
        }
    };
    let called = called.map(|called| Called {
        model: called.to_owned(),
        client: target.and(view.model).map(str::to_owned),
        base: row.map(|row| base.unwrap_or(&row.name).to_owned()),
    });
    Ok(Wanted { pool: name, model, chain, watch, edits: edits(view, target), called })
}

/// `names`: the model's, and that of what it is an adapter of.
fn prompt_chain(
    view: &RequestView<'_>,
    body: Body<'_>,
    (name, pool, (called, base)): (&str, &Pool, (&str, Option<&str>)),
    sight: Sight<'_>,
) -> Chain {
    let root = ChainRoot::new(base.unwrap_or(called), base.map(|_| called), view.cache_salt);
    let renderer = sight.brain.renderers.get(name, base.unwrap_or(called));
    let rendered = renderer.zip(body.bytes).map(|(renderer, bytes)| renderer.prompt(body.call.kind, bytes, sight.now));
    match rendered {
        Some(Ok(text)) => exact_chain(root, pool, [text.as_bytes()]),
        Some(Err(Unrendered::Bypass(Bypass::TokenIds))) => tokens_chain(root, pool, base.unwrap_or(called), view),
        Some(Err(why)) => {
            Chain { source: PrefixSource::Learned(Some(why.to_string())), ..learned_chain(root, pool, view) }
        }
        None => learned_chain(root, pool, view),
    }
}

/// The model that the request gets, where that is another than the one it names.
fn target<'a>(named: &str, pool: &'a Pool, ask: &'a Ask) -> Option<&'a str> {
    // A rule that came while the body did is too late for its length. Whatever name is put back comes in every chunk of the
    // answer: a long one would multiply.
    if !ask.resizable || named.len() > LONGEST_MODEL {
        return None;
    }
    let target = ask.model.as_deref().or_else(|| pool.settings.rewrites.target(named, ask.seed))?;
    (target != named).then_some(target)
}

fn edits(view: &RequestView<'_>, target: Option<&str>) -> Vec<Edit> {
    let renamed = target.map(|model| Edit::replace(view.model_at.clone(), model));
    let mut edits: Vec<Edit> = view.forbidden_keys.iter().cloned().map(Edit::Disarm).chain(renamed).collect();
    edits.sort_by_key(|edit| edit.at().start);
    edits
}

fn chunk_bytes(pool: &Pool) -> usize {
    usize::try_from(pool.settings.chunk_bytes).unwrap_or(usize::MAX)
}

/// The chain of a prompt whose bytes are those that its engine's tokens stand for.
fn exact_chain<'a>(root: ChainRoot, pool: &Pool, text: impl IntoIterator<Item = &'a [u8]>) -> Chain {
    let (mut keys, mut bytes) = (Vec::new(), 0_u64);
    let counted = text.into_iter().inspect(|piece| bytes += piece.len() as u64);
    chain(root, chunk_bytes(pool), counted, &mut keys);
    Chain { keys, bytes, tokens: None, source: PrefixSource::Exact }
}

/// The chain of what a prompt's token ids stand for; learned where that is not known.
fn tokens_chain(root: ChainRoot, pool: &Pool, model: &str, view: &RequestView<'_>) -> Chain {
    let learned = |why: String| Chain { source: PrefixSource::Learned(Some(why)), ..learned_chain(root, pool, view) };
    // Ids with placeholders for media among them come as text.
    let PromptView::Tokens(ids) = &view.prompt else { return learned(Bypass::Multimodal.to_string()) };
    let Some(vocabulary) = pool.vocabularies.get(model) else { return learned(Bypass::TokenIds.to_string()) };
    match vocabulary.decode(ids.iter()) {
        Ok(text) => {
            let tokens = Some(u32::try_from(ids.count()).unwrap_or(u32::MAX));
            Chain { tokens, ..exact_chain(root, pool, text) }
        }
        Err(why) => learned(why.to_string()),
    }
}

fn learned_chain(root: ChainRoot, pool: &Pool, view: &RequestView<'_>) -> Chain {
    let chunk = chunk_bytes(pool);
    let mut keys = Vec::new();
    let (bytes, tokens) = match &view.prompt {
        PromptView::Text(text) => {
            keys.reserve_exact(text.len_bytes() / chunk);
            chain(root, chunk, text.pieces(), &mut keys);
            (text.len_bytes() as u64, None)
        }
        PromptView::Tokens(ids) => {
            chain(root, chunk, [ids.bytes()], &mut keys);
            (ids.bytes().len() as u64, Some(u32::try_from(ids.count()).unwrap_or(u32::MAX)))
        }
    };
    Chain { keys, bytes, tokens, source: PrefixSource::Learned(None) }
}

/// What the scheduler must know of it.
pub(super) fn request<'a>(ask: &Ask, wanted: &Wanted, plan: &'a Plan, brain: &Brain) -> Request<'a> {
    let rates = brain.live(&wanted.pool).map(|live| live.rates).unwrap_or_default();
    let settings = brain.pool(&wanted.pool).map(|pool| &pool.settings);
    let usual = || PoolSettings::default().service_levels();
    let (slo_ttft, slo_tpot) = settings.map_or_else(usual, PoolSettings::service_levels);
    let prompt_tokens =
        wanted.chain.tokens.map_or_else(|| to_f64(wanted.chain.bytes) / rates.bytes_per_token.max(0.25), f64::from);
    let expected = match &wanted.watch {
        None => 1.0,
        // A bound below what is usual is believed; above it says nothing.
        Some(watch) => watch.output.map_or(rates.output_tokens, |most| rates.output_tokens.min(f64::from(most))),
    };
    let demand = Demand {
        prompt_tokens,
        output_tokens: expected.max(1.0),
        slo_ttft: ask.slo_ttft.unwrap_or(slo_ttft),
        slo_tpot: ask.slo_tpot.unwrap_or(slo_tpot),
    };
    Request { model: wanted.model, demand, session: ask.session, subset: plan.subset.as_ref(), seed: ask.seed }
}

#[expect(clippy::cast_precision_loss, reason = "byte counts stay far below 2^53")]
const fn to_f64(count: u64) -> f64 {
    count as f64
}
