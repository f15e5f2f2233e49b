//! From headers and body to a steered request: strip what may not pass, read what routing needs, choose.

use xxhash_rust::xxh64::xxh64;

use super::{Ask, Effect, Event, Lifecycle, Phase, Plan, Reading, Sent, Step};
use crate::api::{
    ApiKind, BodyScanner, Dialect, NoEndpointReason, PromptView, Reject, RequestView,
};
use crate::brain::{Brain, Prompt};
use crate::headers;
use crate::identity::EndpointId;
use crate::prefix::{ChainRoot, chain};
use crate::scheduling::cost::Demand;
use crate::scheduling::explanation::explain;
use crate::scheduling::{NoCandidate, Request};
use crate::table::Pool;

/// Scanners kept between requests; more than this many bodies at once allocate anew.
const IDLE_SCANNERS: usize = 64;

pub(super) fn begin(headers: &[(&[u8], &[u8])], end_of_stream: bool, step: &mut Step<'_>) -> Phase {
    for name in headers::NEVER_FROM_CLIENTS {
        if value(headers, name).is_some() {
            step.effects.push(Effect::RemoveHeader(name));
        }
    }
    let path = value(headers, ":path").unwrap_or_default();
    let ask = ask(headers, path, step);
    if !step.brain.has_table() {
        return step.reply(ask.dialect, &Reject::NoTable);
    }
    let is_post = value(headers, ":method") == Some(b"POST");
    let Some(kind) = ApiKind::from_path(path).filter(|_| is_post) else {
        return pass_through(&ask, step);
    };
    let limit = body_limit(step.plan, step.brain);
    let announced = value(headers, "content-length").and_then(number).unwrap_or(0.0);
    let mut scanner = step.brain.idle_scanners.pop().unwrap_or_else(|| BodyScanner::new(kind));
    scanner.restart(kind);
    let mut reading = Box::new(Reading { ask, kind, scanner, bytes: 0, limit });
    if limit.is_some_and(|limit| announced > to_f64(limit)) {
        reading.bytes = u64::MAX;
    }
    if end_of_stream || reading.bytes == u64::MAX {
        return read(reading, &[], true, step);
    }
    step.effects.push(Effect::Hold);
    Phase::Reading(reading)
}

/// The pool's limit when the pool is known before the body is read, else the plan's.
fn body_limit(plan: &Plan, brain: &Brain) -> Option<u64> {
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
        shelve(reading.scanner, step.brain);
        return step.reply(dialect, &Reject::BodyTooLarge { limit_bytes: limit });
    }
    let pushed = reading.scanner.push(chunk);
    if pushed.is_ok() && !end_of_stream {
        return Phase::Reading(reading);
    }
    let Reading { ask, kind, mut scanner, .. } = *reading;
    let phase = match pushed.and_then(|()| scanner.finish()) {
        Ok(view) => steer(&ask, kind, &view, step),
        Err(error) => step.reply(dialect, &Reject::BadBody(error)),
    };
    shelve(scanner, step.brain);
    phase
}

pub(super) fn shelve(scanner: BodyScanner, brain: &mut Brain) {
    if brain.idle_scanners.len() < IDLE_SCANNERS {
        brain.idle_scanners.push(scanner);
    }
}

/// The body never came: choose by load alone, as for a request without one.
pub(super) fn give_up_on_body(reading: Reading, step: &mut Step<'_>) -> Phase {
    let Reading { ask, scanner, .. } = reading;
    shelve(scanner, step.brain);
    pass_through(&ask, step)
}

fn ask(headers: &[(&[u8], &[u8])], path: &[u8], step: &Step<'_>) -> Ask {
    let first = |names: [&str; 2]| names.into_iter().find_map(|name| value(headers, name)).and_then(number);
    let seconds = |names| first(names).filter(|&ms| ms > 0.0).map(|ms| ms / 1000.0);
    let pool = step.plan.pool.as_deref().or_else(|| step.brain.pool_for(None));
    let session_header = pool.and_then(|name| step.brain.pool(name)?.settings.session_header.as_deref());
    let request_id = value(headers, headers::REQUEST_ID).unwrap_or_default();
    Ask {
        dialect: Dialect::of_path(path),
        explain: value(headers, headers::EXPLAIN) == Some(b"1"),
        session: session_header.and_then(|name| value(headers, name)).and_then(session_endpoint),
        slo_ttft: seconds(headers::SLO_TTFT_MS),
        slo_tpot: seconds(headers::SLO_TPOT_MS),
        seed: xxh64(request_id, if request_id.is_empty() { step.now.as_nanos() } else { 0 }),
    }
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

/// Requests whose bodies are not read go to the pod with the least work.
fn pass_through(ask: &Ask, step: &mut Step<'_>) -> Phase {
    let name = step.plan.pool.as_deref().or_else(|| step.brain.pool_for(None)).map(str::to_owned);
    let Some(name) = name.or_else(|| step.brain.table().pools.keys().next().cloned()) else {
        return step.reply(ask.dialect, &Reject::NoEndpoint { reason: NoEndpointReason::EmptyPool });
    };
    let target = Target { pool: name, model: None, prompt: Prompt { chain: &[], bytes: 0, tokens: Some(0) } };
    send(ask, target, None, step)
}

fn steer(ask: &Ask, kind: ApiKind, view: &RequestView<'_>, step: &mut Step<'_>) -> Phase {
    let unknown = || Reject::UnknownModel { model: view.model.to_owned() };
    let named = step.plan.pool.clone().or_else(|| step.brain.pool_for(Some(view.model)).map(str::to_owned));
    let Some(name) = named else { return step.reply(ask.dialect, &unknown()) };
    let Some(pool) = step.brain.pool(&name) else {
        return step.reply(ask.dialect, &Reject::UnknownPool { pool: name });
    };
    let Some(model) = pool.model_index(view.model) else { return step.reply(ask.dialect, &unknown()) };
    let (keys, bytes, tokens) = chain_of(view, pool, model);
    let target = Target { pool: name, model, prompt: Prompt { chain: &keys, bytes, tokens } };
    let watch = Watch { whole_body: !view.stream, output: view.max_output_tokens, kind };
    send(ask, target, Some(watch), step)
}

fn chain_of(view: &RequestView<'_>, pool: &Pool, model: Option<u32>) -> (Vec<u64>, u64, Option<u32>) {
    let row = pool.model(model);
    let base = row.and_then(|row| row.base.as_deref());
    let adapter = base.map(|_| view.model);
    let root = ChainRoot::new(base.unwrap_or(view.model), adapter, view.cache_salt);
    let chunk = usize::try_from(pool.settings.chunk_bytes).unwrap_or(usize::MAX);
    let mut keys = Vec::new();
    match &view.prompt {
        PromptView::Text(text) => {
            let bytes = text.len_bytes() as u64;
            keys.reserve_exact(text.len_bytes() / chunk);
            chain(root, chunk, text.pieces(), &mut keys);
            (keys, bytes, None)
        }
        PromptView::Tokens(ids) => {
            chain(root, chunk, [ids.bytes()], &mut keys);
            (keys, ids.bytes().len() as u64, Some(u32::try_from(ids.count()).unwrap_or(u32::MAX)))
        }
    }
}

struct Target<'a> {
    pool: String,
    model: Option<u32>,
    prompt: Prompt<'a>,
}

struct Watch {
    whole_body: bool,
    output: Option<u32>,
    kind: ApiKind,
}

fn send(ask: &Ask, target: Target<'_>, watch: Option<Watch>, step: &mut Step<'_>) -> Phase {
    let Target { pool: name, model, prompt } = target;
    let demand = demand(ask, &name, &prompt, watch.as_ref(), step.brain);
    let request = Request { model, demand, session: ask.session, seed: ask.seed };
    let whole_body = watch.as_ref().is_none_or(|watch| watch.whole_body);
    let routed = match step.brain.route(&name, &prompt, &request, whole_body, step.now) {
        None => return step.reply(ask.dialect, &Reject::UnknownPool { pool: name }),
        Some(Err(none)) => return step.reply(ask.dialect, &Reject::NoEndpoint { reason: reason(&none) }),
        Some(Ok(routed)) => routed,
    };
    let table = step.brain.table();
    let pool = table.pools.get(&name);
    let explanation = pool.filter(|pool| ask.explain && pool.settings.explain).and_then(|pool| {
        serde_json::to_string(&explain(&name, pool, table.version.version, &request, &routed.decision)).ok()
    });
    let endpoint = routed.destination.split(',').next().unwrap_or_default().to_owned();
    step.effects.push(Effect::Count(Event::Routed { pool: name.clone(), endpoint }));
    step.effects.push(Effect::Steer { destination: routed.destination.clone(), pool: name.clone() });
    let prompt_bytes = if prompt.tokens.is_some() { 0 } else { prompt.bytes };
    Phase::Sent(Box::new(Sent {
        pool: name,
        routed,
        at: step.now,
        prompt_bytes,
        explanation,
        watched: watch.is_some(),
    }))
}

fn demand(ask: &Ask, name: &str, prompt: &Prompt<'_>, watch: Option<&Watch>, brain: &Brain) -> Demand {
    let rates = brain.live(name).map(|live| live.rates).unwrap_or_default();
    let settings = brain.pool(name).map(|pool| pool.settings.clone()).unwrap_or_default();
    let prompt_tokens =
        prompt.tokens.map_or_else(|| to_f64(prompt.bytes) / rates.bytes_per_token.max(0.25), f64::from);
    let expected = match watch {
        None => 1.0,
        Some(Watch { kind: ApiKind::Embeddings, .. }) => 1.0,
        // A bound below what is usual is believed; above it says nothing.
        Some(watch) => watch.output.map_or(rates.output_tokens, |most| rates.output_tokens.min(f64::from(most))),
    };
    Demand {
        prompt_tokens,
        output_tokens: expected.max(1.0),
        slo_ttft: ask.slo_ttft.unwrap_or(settings.slo_ttft),
        slo_tpot: ask.slo_tpot.unwrap_or(settings.slo_tpot),
    }
}

fn reason(none: &NoCandidate) -> NoEndpointReason {
    use crate::scheduling::candidate::Dropped;
    if none.dropped.is_empty() {
        NoEndpointReason::EmptyPool
    } else if none.dropped.iter().any(|&(_, reason)| reason == Dropped::Draining) {
        NoEndpointReason::NoneReady
    } else {
        NoEndpointReason::AllFiltered
    }
}

#[expect(clippy::cast_precision_loss, reason = "byte counts stay far below 2^53")]
const fn to_f64(count: u64) -> f64 {
    count as f64
}

impl Lifecycle {
    /// Is the request held for its body?
    #[must_use]
    pub const fn is_reading(&self) -> bool {
        matches!(self.phase, Phase::Reading(_))
    }
}
