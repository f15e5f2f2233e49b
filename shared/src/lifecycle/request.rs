//! From headers and body to a steered request: strip what may not pass, read what routing needs, choose.

use xxhash_rust::xxh64::xxh64;

use super::paid::{Paid, afford};
use super::reader::Reader;
use super::wanted::{Called, Chain, Sight, Wanted, request, unread};
use super::{Ask, Effect, Event, Lifecycle, Phase, Plan, Queued, Reading, Sent, Step};
use crate::api::{ApiKind, BodyUse, Call, Dialect, NameRestorer, Reject, reply};
use crate::brain::flow::{Offer, Offered, Standing, Trial, Turn};
use crate::brain::{Brain, Routed};
use crate::clock::Timestamp;
use crate::headers;
use crate::identity::EndpointId;
use crate::scheduling::explanation::{Explanation, explain};

/// Longest name of a tenant or objective, characters.
const LONGEST_NAME: usize = 128;

pub(super) fn begin(headers: &[(&[u8], &[u8])], end_of_stream: bool, step: &mut Step<'_>) -> Phase {
    for name in headers::NEVER_FROM_CLIENTS.into_iter().chain(headers::FOR_THE_GATEWAY) {
        if value(headers, name).is_some() {
            step.effects.push(Effect::RemoveHeader(name));
        }
    }
    let ours = [headers::MODEL, headers::BASE_MODEL].into_iter().filter(|name| value(headers, name).is_some());
    step.effects.extend(ours.filter(|_| step.plan.pool.is_none()).map(Effect::RemoveHeader));
    let ask = ask(headers, step.plan, step.brain, step.now);
    if !step.brain.has_table() {
        return step.reply(ask.dialect, &Reject::NoTable);
    }
    let Some(reader) = Reader::new(body_use(headers), step.plan, step.brain) else {
        let wanted = unread(step.plan, step.brain);
        return send(ask, wanted, step);
    };
    let resized = ["content-length", "accept-encoding"].into_iter().filter(|name| value(headers, name).is_some());
    step.effects.extend(resized.filter(|_| ask.resizable).map(Effect::RemoveHeader));
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
    if value(headers, ":method") != Some(b"POST") {
        return BodyUse::Nothing;
    }
    let is_form = value(headers, "content-type").is_some_and(|kind| kind.starts_with(b"multipart/"));
    let body_use = BodyUse::of_path(value(headers, ":path").unwrap_or_default());
    let of_images = matches!(body_use, BodyUse::Routing(Call { kind: ApiKind::Images, .. }));
    if is_form && of_images { BodyUse::Nothing } else { body_use }
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
        Ok(()) => reader.finish(Sight { ask: &ask, plan: step.plan, brain: step.brain, now: step.now }),
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
    let settings = pool.and_then(|name| brain.pool(name)).map(|pool| &pool.settings);
    let session_header = settings.and_then(|settings| settings.session_header.as_deref());
    let cap = settings.and_then(|settings| settings.flow.as_ref()?.sessions.as_ref());
    let text = |names: [&str; 2]| {
        let named = names.into_iter().find_map(|name| value(headers, name)).map(name_of);
        named.filter(|name| !name.is_empty())
    };
    let model = headers::MODEL_REWRITE.into_iter().find_map(|name| str::from_utf8(value(headers, name)?).ok());
    let model = model.map(str::trim).filter(|model| !model.is_empty()).map(str::to_owned);
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
        session_name: cap.and_then(|cap| value(headers, &cap.header)).map(name_of).filter(|name| !name.is_empty()),
        body_bytes: 0,
        resizable: model.is_some() || rewrites(plan, brain),
        model,
    }
}

/// May a request get another model than it names?
fn rewrites(plan: &Plan, brain: &Brain) -> bool {
    let mut pools = brain.table().pools.iter().filter(|(name, _)| plan.pool.as_ref().is_none_or(|only| only == *name));
    pools.any(|(_, pool)| !pool.settings.rewrites.is_empty())
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

fn send(ask: Ask, wanted: Result<Wanted, Reject>, step: &mut Step<'_>) -> Phase {
    let mut wanted = match wanted {
        Ok(wanted) => wanted,
        Err(reject) => return step.reply(ask.dialect, &reject),
    };
    let plan = step.plan;
    let objectives = step.brain.pool(&wanted.pool).map(|pool| &pool.settings.objectives);
    let priority = ask.objective.as_ref().zip(objectives).and_then(|(name, known)| known.get(name).copied());
    let trial = Trial {
        pool: &wanted.pool,
        prompt: wanted.prompt(),
        request: request(&ask, &wanted, plan, step.brain),
        standing: Standing {
            // Only inference is shed.
            priority: priority.filter(|_| wanted.watch.is_some()).unwrap_or(0),
            names_slo: ask.slo_ttft.is_some() || ask.slo_tpot.is_some(),
        },
        session: ask.session_name.as_deref(),
        whole_body: wanted.whole_body(),
    };
    let offer = Offer {
        trial,
        may_wait: wanted.watch.is_some(),
        body_bytes: ask.body_bytes,
        tenant: &ask.tenant,
        has_deadline: ask.slo_ttft.is_some(),
    };
    let paid = match wanted.watch.as_ref().map(|_| afford(&ask, &wanted.pool, &trial.request.demand, step)).transpose()
    {
        Ok(paid) => paid.flatten(),
        Err(reject) => {
            step.effects.push(Effect::Count(Event::OverBudget { pool: wanted.pool }));
            return step.reply(ask.dialect, &reject);
        }
    };
    let offered = step.brain.offer(&offer, step.now);
    if let (Offered::Routed(_) | Offered::Waits(_), Some(paid)) = (&offered, &paid) {
        paid.pay(&wanted.pool, step.brain, step.now);
    }
    match offered {
        Offered::NoPool => {
            let pool = wanted.pool;
            step.reply(ask.dialect, &Reject::UnknownPool { pool })
        }
        Offered::Refused(reject) => step.reply(ask.dialect, &reject),
        Offered::Routed(routed) => steer(&ask, wanted, (*routed, paid), step.now, step),
        Offered::Waits(ticket) => {
            // The queue has its own.
            wanted.chain.keys = Vec::new();
            step.effects.push(Effect::Count(Event::Queued { pool: wanted.pool.clone() }));
            step.effects.push(Effect::Wait(ticket));
            Phase::Queued(Box::new(Queued { ask, wanted, ticket, since: step.now, paid }))
        }
    }
}

/// The request's turn has come, or it is refused.
pub(super) fn turn(queued: Box<Queued>, step: &mut Step<'_>) -> Phase {
    let Some(turn) = step.brain.take_turn(queued.ticket) else { return Phase::Queued(queued) };
    let Queued { ask, wanted, since, paid, .. } = *queued;
    let milliseconds = u64::try_from(step.now.since(since).as_millis()).unwrap_or(u64::MAX);
    let sent = matches!(turn, Turn::Go(_));
    step.effects.push(Effect::Count(Event::LeftQueue { pool: wanted.pool.clone(), milliseconds, sent }));
    match turn {
        Turn::Go(routed) => steer(&ask, wanted, (*routed, paid), since, step),
        Turn::Refused(reject) => {
            if let Some(paid) = paid {
                paid.give_back(&wanted.pool, step.brain, step.now);
            }
            step.reply(ask.dialect, &reject)
        }
    }
}

fn steer(
    ask: &Ask,
    wanted: Wanted,
    (routed, paid): (Routed, Option<Paid>),
    arrived: Timestamp,
    step: &mut Step<'_>,
) -> Phase {
    let explanation = explanation(ask, &wanted, &routed, step);
    let whole_body = wanted.whole_body();
    let Wanted { pool: name, chain: Chain { bytes, tokens, .. }, watch, edits, called, .. } = wanted;
    let endpoint = routed.destination.split(',').next().unwrap_or_default().to_owned();
    step.effects.push(Effect::Count(Event::Routed { pool: name.clone(), endpoint }));
    if !edits.is_empty() {
        let otherwise = reply(ask.dialect, &Reject::BodyNotEdited);
        step.effects.push(Effect::EditBody { edits, otherwise });
    }
    if step.plan.pool.is_none() {
        let headers = called.iter().flat_map(Called::headers);
        step.effects.extend(headers.map(|(name, value)| Effect::SetHeader(name, value.to_owned())));
    }
    // Streamed responses begin before their first token, others only when they are complete.
    let patience = step.brain.pool(&name).and_then(|pool| pool.settings.first_token_timeout);
    step.effects.extend(patience.filter(|_| !whole_body).map(Effect::TryFor));
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
        grpc: ask.dialect == Dialect::Grpc,
        restorer: called.and_then(|called| Some(NameRestorer::new(&called.model, called.client.as_ref()?))),
        paid,
    }))
}

fn explanation(ask: &Ask, wanted: &Wanted, routed: &Routed, step: &Step<'_>) -> Option<String> {
    let table = step.brain.table();
    let pool = table.pools.get(&wanted.pool).filter(|pool| ask.explain && pool.settings.explain)?;
    let request = request(ask, wanted, step.plan, step.brain);
    let explanation = Explanation {
        waited_ms: routed.charged.as_ref().map(|charged| charged.waited.unwrap_or_default().as_secs_f64() * 1000.0),
        ..wanted.explained(explain(&wanted.pool, pool, table.version.version, &request, &routed.decision))
    };
    serde_json::to_string(&explanation.shortened()).ok()
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
