//! From headers and body to a steered request: strip what may not pass, read what routing needs, choose.

use std::ops::Range;

use xxhash_rust::xxh64::xxh64;

use super::reader::Reader;
use super::{Ask, Effect, Event, Lifecycle, Phase, Plan, Queued, Reading, Sent, Step};
use crate::api::{ApiKind, BodyUse, Dialect, NoEndpointReason, PromptView, Reject, RequestView, reply};
use crate::brain::flow::{Offer, Offered, Turn};
use crate::brain::{Brain, Prompt, Routed};
use crate::clock::Timestamp;
use crate::headers;
use crate::identity::EndpointId;
use crate::prefix::{ChainRoot, chain};
use crate::scheduling::cost::Demand;
use crate::scheduling::explanation::{Explanation, PrefixSource, explain};
use crate::scheduling::{NoCandidate, Request};
use crate::table::Pool;
use crate::template::{Bypass, Unrendered};

/// Longest name of a tenant or objective, characters.
const LONGEST_NAME: usize = 128;

pub(super) fn begin(headers: &[(&[u8], &[u8])], end_of_stream: bool, step: &mut Step<'_>) -> Phase {
    for name in headers::NEVER_FROM_CLIENTS.into_iter().chain(headers::FOR_THE_GATEWAY) {
        if value(headers, name).is_some() {
            step.effects.push(Effect::RemoveHeader(name));
        }
    }
    let ask = ask(headers, step.plan, step.brain, step.now);
    if !step.brain.has_table() {
        return step.reply(ask.dialect, &Reject::NoTable);
    }
    let Some(reader) = Reader::new(body_use(headers), step.plan, step.brain) else {
        let wanted = unread(step.plan, step.brain);
        return send(ask, wanted, step);
    };
    let limit = body_limit(step.plan, step.brain);
    let announced = value(headers, "content-length").and_then(number).unwrap_or(0.0);
    let mut reading = Box::new(Reading { ask, reader, bytes: 0, limit });
    if limit.is_some_and(|limit| announced > to_f64(limit)) {
        reading.bytes = u64::MAX;
    }
    if end_of_stream || reading.bytes == u64::MAX {
        return read(reading, &[], true, step);
    }
    step.effects.push(Effect::Hold);
    Phase::Reading(reading)
}

pub(super) fn body_use(headers: &[(&[u8], &[u8])]) -> BodyUse {
    if value(headers, ":method") == Some(b"POST") {
        BodyUse::of_path(value(headers, ":path").unwrap_or_default())
    } else {
        BodyUse::Nothing
    }
}

/// The pool's limit when the pool is known before the body is read, else the plan's.
pub(super) fn body_limit(plan: &Plan, brain: &Brain) -> Option<u64> {
    let name = plan.pool.as_deref().or_else(|| brain.pool_for(None));
    let pool = name.and_then(|name| brain.pool(name)).map(|pool| pool.settings.max_body_bytes);
    match (pool.filter(|&limit| limit > 0), plan.max_body_bytes) {
        (Some(pool), Some(plan)) => Some(pool.min(plan)),
        (pool, plan) => pool.or(plan),
    }
}

pub(super) fn read(mut reading: Box<Reading>, chunk: &[u8], end_of_stream: bool, step: &mut Step<'_>) -> Phase {
    reading.bytes = reading.bytes.saturating_add(chunk.len() as u64);
    let dialect = reading.ask.dialect;
    if let Some(limit) = reading.limit.filter(|&limit| reading.bytes > limit) {
        reading.reader.shelve(step.brain);
        return step.reply(dialect, &Reject::BodyTooLarge { limit_bytes: limit });
    }
    let pushed = reading.reader.push(chunk);
    if pushed.is_ok() && !end_of_stream {
        return Phase::Reading(reading);
    }
    let Reading { mut ask, mut reader, bytes, .. } = *reading;
    ask.body_bytes = bytes;
    let wanted = match pushed {
        Ok(()) => reader.finish(step.plan, step.brain, step.now),
        Err(error) => Err(Reject::BadBody(error)),
    };
    reader.shelve(step.brain);
    send(ask, wanted, step)
}

/// The body never came: choose by load alone, as for a request without one.
pub(super) fn give_up_on_body(reading: Reading, step: &mut Step<'_>) -> Phase {
    let Reading { ask, reader, .. } = reading;
    reader.shelve(step.brain);
    let wanted = unread(step.plan, step.brain);
    send(ask, wanted, step)
}

pub(super) fn ask(headers: &[(&[u8], &[u8])], plan: &Plan, brain: &Brain, now: Timestamp) -> Ask {
    let first = |names: [&str; 2]| names.into_iter().find_map(|name| value(headers, name)).and_then(number);
    let seconds = |names| first(names).filter(|&ms| ms > 0.0).map(|ms| ms / 1000.0);
    let pool = plan.pool.as_deref().or_else(|| brain.pool_for(None));
    let session_header = pool.and_then(|name| brain.pool(name)?.settings.session_header.as_deref());
    let text = |names: [&str; 2]| {
        let named = names.into_iter().find_map(|name| value(headers, name)).map(name_of);
        named.filter(|name| !name.is_empty())
    };
    let request_id = value(headers, headers::REQUEST_ID).unwrap_or_default();
    Ask {
        dialect: Dialect::of_path(value(headers, ":path").unwrap_or_default()),
        explain: value(headers, headers::EXPLAIN) == Some(b"1"),
        session: session_header.and_then(|name| value(headers, name)).and_then(session_endpoint),
        slo_ttft: seconds(headers::SLO_TTFT_MS),
        slo_tpot: seconds(headers::SLO_TPOT_MS),
        seed: xxh64(request_id, if request_id.is_empty() { now.as_nanos() } else { 0 }),
        objective: text(headers::OBJECTIVE),
        tenant: text(headers::FAIRNESS_ID).unwrap_or_else(|| headers::DEFAULT_FAIRNESS_ID.to_owned()),
        body_bytes: 0,
    }
}

/// A name from a header: what is no UTF-8 is replaced, what is long is cut.
fn name_of(value: &[u8]) -> String {
    String::from_utf8_lossy(value).chars().take(LONGEST_NAME).collect()
}

/// A session header carries the endpoint's id in hexadecimal: it names one of ours or nobody.
fn session_endpoint(token: &[u8]) -> Option<EndpointId> {
    let token = core::str::from_utf8(token).ok()?;
    u64::from_str_radix(token, 16).ok().map(EndpointId)
}

fn value<'a>(headers: &[(&[u8], &'a [u8])], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes())).map(|&(_, value)| value)
}

/// A finite number of a header value.
fn number(value: &[u8]) -> Option<f64> {
    core::str::from_utf8(value).ok()?.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// A whole body: what it is, and its bytes where some model's prompts are rendered.
#[derive(Clone, Copy)]
pub(super) struct Body<'a> {
    pub(super) kind: ApiKind,
    pub(super) bytes: Option<&'a [u8]>,
}

/// What a request asks for: whose endpoints, which model, which prompt, and what is expected of the response.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) pool: String,
    model: Option<u32>,
    chain: Chain,
    /// `None`: the body is not read, the response not watched.
    watch: Option<Watch>,
    pub(super) forbidden_keys: Vec<Range<u64>>,
}

#[derive(Debug)]
struct Watch {
    whole_body: bool,
    output: Option<u32>,
    kind: ApiKind,
}

/// A prompt as its chain keys.
#[derive(Debug, Default)]
struct Chain {
    keys: Vec<u64>,
    bytes: u64,
    tokens: Option<u32>,
    source: PrefixSource,
}

impl Wanted {
    pub(super) fn prompt(&self) -> Prompt<'_> {
        let Chain { keys, bytes, tokens, source } = &self.chain;
        Prompt { chain: keys, bytes: *bytes, tokens: *tokens, rendered: *source == PrefixSource::Exact }
    }

    fn whole_body(&self) -> bool {
        self.watch.as_ref().is_none_or(|watch| watch.whole_body)
    }

    pub(super) fn source(&self) -> &PrefixSource {
        &self.chain.source
    }
}

/// Requests whose bodies are not read go to the pod with the least work.
pub(super) fn unread(plan: &Plan, brain: &Brain) -> Result<Wanted, Reject> {
    let name = plan.pool.as_deref().or_else(|| brain.pool_for(None)).map(str::to_owned);
    let name = name.or_else(|| brain.table().pools.keys().next().cloned());
    let pool = name.ok_or(Reject::NoEndpoint { reason: NoEndpointReason::EmptyPool })?;
    let chain = Chain { tokens: Some(0), ..Chain::default() };
    Ok(Wanted { pool, model: None, chain, watch: None, forbidden_keys: Vec::new() })
}

pub(super) fn wanted(
    view: &RequestView<'_>,
    body: Body<'_>,
    plan: &Plan,
    brain: &Brain,
    now: Timestamp,
) -> Result<Wanted, Reject> {
    let unknown = || Reject::UnknownModel { model: view.model.to_owned() };
    let named = plan.pool.clone().or_else(|| brain.pool_for(Some(view.model)).map(str::to_owned));
    let name = named.ok_or_else(unknown)?;
    let Some(pool) = brain.pool(&name) else { return Err(Reject::UnknownPool { pool: name }) };
    let model = pool.model_index(view.model).ok_or_else(unknown)?;
    let row = pool.model(model);
    let base = row.and_then(|row| row.base.as_deref());
    let root = ChainRoot::new(base.unwrap_or(view.model), base.map(|_| view.model), view.cache_salt);
    let renderer = brain.renderers.get(&name, base.unwrap_or(view.model));
    let rendered = renderer.zip(body.bytes).map(|(renderer, bytes)| renderer.prompt(body.kind, bytes, now));
    let chain = match rendered {
        Some(Ok(text)) => exact_chain(root, pool, [text.as_bytes()]),
        Some(Err(Unrendered::Bypass(Bypass::TokenIds))) => tokens_chain(root, pool, base.unwrap_or(view.model), view),
        Some(Err(why)) => {
            Chain { source: PrefixSource::Learned(Some(why.to_string())), ..learned_chain(root, pool, view) }
        }
        None => learned_chain(root, pool, view),
    };
    let watch = Watch { whole_body: !view.stream, output: view.max_output_tokens, kind: body.kind };
    let forbidden_keys = view.forbidden_keys.to_vec();
    Ok(Wanted { pool: name, model, chain, watch: Some(watch), forbidden_keys })
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
    let PromptView::Tokens(ids) = &view.prompt else { return learned(Bypass::TokenIds.to_string()) };
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

fn send(ask: Ask, wanted: Result<Wanted, Reject>, step: &mut Step<'_>) -> Phase {
    let mut wanted = match wanted {
        Ok(wanted) => wanted,
        Err(reject) => return step.reply(ask.dialect, &reject),
    };
    let plan = step.plan;
    let objectives = step.brain.pool(&wanted.pool).map(|pool| &pool.settings.objectives);
    let priority = ask.objective.as_ref().zip(objectives).and_then(|(name, known)| known.get(name).copied());
    let offer = Offer {
        pool: &wanted.pool,
        prompt: wanted.prompt(),
        request: request(&ask, &wanted, plan, step.brain),
        whole_body: wanted.whole_body(),
        body_bytes: ask.body_bytes,
        priority: priority.unwrap_or(0),
        tenant: &ask.tenant,
        has_deadline: ask.slo_ttft.is_some(),
    };
    match step.brain.offer(&offer, step.now) {
        Offered::NoPool => {
            let pool = wanted.pool;
            step.reply(ask.dialect, &Reject::UnknownPool { pool })
        }
        Offered::Refused(reject) => step.reply(ask.dialect, &reject),
        Offered::Routed(routed) => steer(&ask, wanted, *routed, step.now, step),
        Offered::Waits(ticket) => {
            // The queue has its own.
            wanted.chain.keys = Vec::new();
            step.effects.push(Effect::Count(Event::Queued { pool: wanted.pool.clone() }));
            step.effects.push(Effect::Wait(ticket));
            Phase::Queued(Box::new(Queued { ask, wanted, ticket, since: step.now }))
        }
    }
}

/// The request's turn has come, or it is refused.
pub(super) fn turn(queued: Box<Queued>, step: &mut Step<'_>) -> Phase {
    let Some(turn) = step.brain.take_turn(queued.ticket) else { return Phase::Queued(queued) };
    let Queued { ask, wanted, since, .. } = *queued;
    let milliseconds = u64::try_from(step.now.since(since).as_millis()).unwrap_or(u64::MAX);
    let sent = matches!(turn, Turn::Go(_));
    step.effects.push(Effect::Count(Event::LeftQueue { pool: wanted.pool.clone(), milliseconds, sent }));
    match turn {
        Turn::Go(routed) => steer(&ask, wanted, *routed, since, step),
        Turn::Refused(reject) => step.reply(ask.dialect, &reject),
    }
}

fn steer(ask: &Ask, wanted: Wanted, routed: Routed, arrived: Timestamp, step: &mut Step<'_>) -> Phase {
    let explanation = explanation(ask, &wanted, &routed, step);
    let whole_body = wanted.whole_body();
    let Wanted { pool: name, chain: Chain { bytes, tokens, .. }, watch, forbidden_keys: keys, .. } = wanted;
    let endpoint = routed.destination.split(',').next().unwrap_or_default().to_owned();
    step.effects.push(Effect::Count(Event::Routed { pool: name.clone(), endpoint }));
    if !keys.is_empty() {
        let otherwise = reply(ask.dialect, &Reject::BodyNotOverwritten);
        step.effects.push(Effect::OverwriteKeys { keys, otherwise });
    }
    let told = step.plan.pool.is_none().then(|| name.clone());
    step.effects.push(Effect::Steer { destination: routed.destination.clone(), pool: told });
    let prompt_bytes = if tokens.is_some() { 0 } else { bytes };
    Phase::Sent(Box::new(Sent {
        pool: name,
        routed,
        at: step.now,
        arrived,
        prompt_bytes,
        explanation,
        watched: watch.is_some(),
        streamed: !whole_body,
    }))
}

fn explanation(ask: &Ask, wanted: &Wanted, routed: &Routed, step: &Step<'_>) -> Option<String> {
    let table = step.brain.table();
    let pool = table.pools.get(&wanted.pool).filter(|pool| ask.explain && pool.settings.explain)?;
    let request = request(ask, wanted, step.plan, step.brain);
    let explanation = Explanation {
        prefix: wanted.chain.source.to_string(),
        waited_ms: routed.charged.as_ref().map(|charged| charged.waited.unwrap_or_default().as_secs_f64() * 1000.0),
        ..explain(&wanted.pool, pool, table.version.version, &request, &routed.decision)
    };
    serde_json::to_string(&explanation.shortened()).ok()
}

/// What the scheduler must know of it.
pub(super) fn request<'a>(ask: &Ask, wanted: &Wanted, plan: &'a Plan, brain: &Brain) -> Request<'a> {
    let rates = brain.live(&wanted.pool).map(|live| live.rates).unwrap_or_default();
    let settings = brain.pool(&wanted.pool).map(|pool| pool.settings.clone()).unwrap_or_default();
    let prompt_tokens =
        wanted.chain.tokens.map_or_else(|| to_f64(wanted.chain.bytes) / rates.bytes_per_token.max(0.25), f64::from);
    let expected = match &wanted.watch {
        None | Some(Watch { kind: ApiKind::Embeddings, .. }) => 1.0,
        // A bound below what is usual is believed; above it says nothing.
        Some(watch) => watch.output.map_or(rates.output_tokens, |most| rates.output_tokens.min(f64::from(most))),
    };
    let demand = Demand {
        prompt_tokens,
        output_tokens: expected.max(1.0),
        slo_ttft: ask.slo_ttft.unwrap_or(settings.slo_ttft),
        slo_tpot: ask.slo_tpot.unwrap_or(settings.slo_tpot),
    };
    Request { model: wanted.model, demand, session: ask.session, subset: plan.subset.as_ref(), seed: ask.seed }
}

pub(crate) fn refusal(none: &NoCandidate) -> Reject {
    use crate::scheduling::candidate::Dropped;
    let any = |which: fn(Dropped) -> bool| none.dropped.iter().any(|&(_, reason)| which(reason));
    let reason = if none.dropped.is_empty() {
        NoEndpointReason::EmptyPool
    } else if any(|reason| matches!(reason, Dropped::Filter(_))) {
        NoEndpointReason::Excluded
    } else if any(|reason| reason == Dropped::Draining) {
        NoEndpointReason::NoneReady
    } else {
        NoEndpointReason::AllFiltered
    };
    Reject::NoEndpoint { reason }
}

#[expect(clippy::cast_precision_loss, reason = "byte counts stay far below 2^53")]
const fn to_f64(count: u64) -> f64 {
    count as f64
}

impl Lifecycle {
    /// Does nothing more come of this request?
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Does the request wait for its turn?
    #[must_use]
    pub const fn is_queued(&self) -> bool {
        matches!(self.phase, Phase::Queued(_))
    }

    /// Is the request held for its body?
    #[must_use]
    pub const fn is_reading(&self) -> bool {
        matches!(self.phase, Phase::Reading(_))
    }
}
