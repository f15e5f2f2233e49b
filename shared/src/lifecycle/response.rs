//! From response headers to the end: who answered, when the first token came, what usage says; and whatever happens,
//! the booking goes back.

use super::{Answering, Effect, Event, Lifecycle, Phase, Sent, Step};
use crate::api::{ResponseForm, ResponseScanner};
use crate::brain::Observation;
use crate::circuit::Failure;
use crate::clock::Timestamp;
use crate::flow::gate::pod_seconds;
use crate::headers;
use crate::identity::EndpointId;
use crate::wire;

pub(super) struct Head<'a> {
    pub(super) status: u16,
    pub(super) event_stream: bool,
    pub(super) encoded: bool,
    pub(super) served_by: Option<&'a str>,
}

pub(super) fn begin(mut sent: Sent, head: Head<'_>, step: &mut Step<'_>) -> Phase {
    let by = head.served_by.map(EndpointId::of);
    settle_choice(&sent, by, &head, step);
    if let Some(explanation) = sent.explanation.take() {
        step.effects.push(Effect::AddResponseHeader(headers::DECISION.to_owned(), explanation));
    }
    let by = by.or_else(|| sent.routed.choices.first().copied()).unwrap_or(EndpointId(0));
    let session = step.brain.pool(&sent.pool).and_then(|pool| pool.settings.session_header.clone());
    if let Some(name) = session.filter(|_| head.status < 300) {
        step.effects.push(Effect::AddResponseHeader(name, format!("{:016x}", by.0)));
    }
    let restorer = sent.restorer.take().filter(|_| !head.encoded);
    if restorer.is_some() {
        step.effects.push(Effect::RemoveResponseHeader("content-length"));
    }
    let form = match (sent.grpc, head.event_stream) {
        (true, _) => ResponseForm::Messages,
        (false, true) => ResponseForm::Events,
        (false, false) => ResponseForm::Document,
    };
    let scanner = (sent.watched && head.status == 200).then(|| ResponseScanner::new(form));
    Phase::Answering(Box::new(Answering {
        by,
        status: head.status,
        scanner,
        restorer,
        event_stream: head.event_stream,
        first_token: None,
        sent,
    }))
}

/// Who was passed over refused; who answered is the one that has the work.
fn settle_choice(sent: &Sent, by: Option<EndpointId>, head: &Head<'_>, step: &mut Step<'_>) {
    let at = by.and_then(|by| sent.routed.choices.iter().position(|&choice| choice == by));
    let passed_over = match (by, at) {
        (Some(_), Some(at)) => sent.routed.choices.get(..at),
        // An answer from elsewhere: the host fell back past the whole list. 503 from nobody: all of them refused.
        (Some(_), None) => Some(sent.routed.choices.as_slice()),
        (None, _) => matches!(head.status, 503 | 504).then_some(sent.routed.choices.as_slice()),
    };
    let passed_over = passed_over.unwrap_or_default();
    for &id in passed_over {
        step.failed(sent, id, Failure::Refused);
    }
    let Some(by) = by else { return };
    if sent.watched && head.status >= 500 {
        step.failed(sent, by, Failure::Broken);
    } else if sent.watched && !(head.event_stream && head.status == 200) {
        step.served(sent, by);
    }
    if !passed_over.is_empty() {
        step.brain.ledger.move_to(&sent.routed.ticket, by);
        step.effects.push(Effect::Count(Event::FellBack { pool: sent.pool.clone() }));
    }
}

impl Step<'_> {
    fn failed(&mut self, sent: &Sent, by: EndpointId, failure: Failure) {
        let turned = self.brain.failed(&sent.pool, by, failure, (sent.at, self.now));
        self.effects.extend(turned.map(|turned| Effect::Count(Event::Turned(turned))));
    }

    /// Only inference requests tell: an engine that hangs may still answer others.
    fn served(&mut self, sent: &Sent, by: EndpointId) {
        let turned = self.brain.served(&sent.pool, by, (sent.at, self.now));
        self.effects.extend(turned.map(|turned| Effect::Count(Event::Turned(turned))));
    }
}

pub(super) fn read(answering: &mut Answering, chunk: &[u8], end_of_stream: bool, step: &mut Step<'_>) {
    let replaced = answering.restorer.as_mut().and_then(|restorer| restorer.push(chunk, end_of_stream));
    step.effects.extend(replaced.map(Effect::ReplaceChunk));
    let Some(scanner) = &mut answering.scanner else { return };
    let mut events = scanner.push(chunk).events;
    if end_of_stream {
        events += scanner.finish().events;
    }
    if events == 0 || !answering.event_stream {
        return;
    }
    if answering.first_token.is_some() {
        return;
    }
    answering.first_token = Some(step.now);
    let sent = &answering.sent;
    step.brain.ledger.first_token(&sent.routed.ticket);
    step.served(sent, answering.by);
    let ttft = step.now.since(sent.at);
    let milliseconds = u64::try_from(step.now.since(sent.arrived).as_millis()).unwrap_or(u64::MAX);
    step.effects.push(Effect::Count(Event::FirstToken { pool: sent.pool.clone(), milliseconds }));
    // After a fallback the time includes somebody else's failure: it says nothing of this endpoint's speed.
    if sent.routed.choices.first() == Some(&answering.by) {
        let seen = sent.routed.first_token(answering.by, ttft);
        step.brain.outbox.observe(&sent.pool, Observation::FirstToken(seen));
    }
}

/// The response ended as it should.
pub(super) fn complete(answering: Answering, step: &mut Step<'_>) {
    finish(answering, Ending::Whole, step);
}

/// The stream is over in whatever phase it was.
pub(super) fn end(phase: Phase, step: &mut Step<'_>) {
    match phase {
        Phase::Reading(reading) => reading.reader.shelve(step.brain),
        Phase::Queued(queued) => {
            step.brain.abandon(&queued.wanted.pool, queued.ticket, step.now);
            if let Some(paid) = queued.paid {
                paid.give_back(&queued.wanted.pool, step.brain, step.now);
            }
        }
        Phase::Sent(sent) => {
            step.brain.ledger.release(sent.routed.ticket);
            if let Some(charged) = &sent.routed.charged {
                step.brain.session_ended(&sent.pool, charged, None, step.now);
            }
            // An engine may have worked on it: who goes away before every answer does not go for free.
            if let Some(paid) = sent.paid {
                paid.settle(&sent.pool, (None, 0), step.brain, step.now);
            }
        }
        Phase::Answering(answering) => finish(*answering, Ending::Cut, step),
        Phase::Idle | Phase::Over => {}
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Whole,
    Cut,
}

fn finish(answering: Answering, ending: Ending, step: &mut Step<'_>) {
    let context = step.brain.context_tokens(&answering.sent.pool, answering.by, step.now);
    let usage = answering.scanner.as_ref().and_then(ResponseScanner::usage).unwrap_or_default();
    let events = answering.scanner.as_ref().map_or(0, ResponseScanner::events_total);
    let output = usage.output_tokens.map_or(events, u64::from);
    let tpot = answering.first_token.filter(|_| ending == Ending::Whole);
    let tpot = tpot.and_then(|first| tpot_seconds(first, step.now, output));
    let Sent { pool, routed, prompt_bytes, watched, paid, .. } = answering.sent;
    let belief = routed.belief;
    let as_chosen = routed.choices.first() == Some(&answering.by);
    step.brain.ledger.release(routed.ticket);
    if let Some(charged) = &routed.charged {
        let context = usage.prompt_tokens.map(|prompt| f64::from(prompt) + f64::from(to_u32(output)));
        step.brain.session_ended(&pool, charged, context, step.now);
    }
    if let (Some(charged), Some(prompt), Ending::Whole) = (&routed.charged, usage.prompt_tokens, ending) {
        let uncached = prompt.saturating_sub(usage.cached_tokens.unwrap_or(belief.cached));
        let rates = step.brain.live(&pool).map(|live| live.rates).unwrap_or_default();
        let real = pod_seconds(f64::from(prompt), f64::from(uncached), f64::from(to_u32(output)), &rates);
        step.brain.settle(&pool, charged, real);
    }
    match paid {
        Some(paid) if answering.status == 200 => {
            paid.settle(&pool, (usage.prompt_tokens, output), step.brain, step.now);
        }
        Some(paid) => paid.give_back(&pool, step.brain, step.now),
        None => {}
    }
    if !watched {
        return;
    }
    let seen = wire::Completion {
        endpoint: answering.by.0,
        status: if ending == Ending::Cut { 0 } else { u32::from(answering.status) },
        tpot_seconds: tpot.unwrap_or(0.0),
        context_tokens: context,
        output_tokens: if answering.event_stream || usage.output_tokens.is_some() { to_u32(output) } else { 0 },
        prompt_bytes,
        prompt_tokens: usage.prompt_tokens.unwrap_or(0),
        cached_tokens: usage.cached_tokens.unwrap_or(0),
        has_cached_tokens: usage.cached_tokens.is_some(),
        predicted_cached_tokens: belief.cached,
        predicted_elsewhere_tokens: belief.elsewhere.filter(|_| as_chosen),
        rendered: belief.rendered,
        leaf: belief.leaf,
        predicted_tpot_seconds: if as_chosen { routed.predicted.tpot } else { 0.0 },
    };
    step.brain.outbox.observe(&pool, Observation::Completion(seen));
    step.effects.push(Effect::Count(Event::Completed {
        pool,
        tpot_microseconds: tpot.map(to_micros),
        prompt_tokens: u64::from(usage.prompt_tokens.unwrap_or(0)),
        cached_tokens: u64::from(usage.cached_tokens.unwrap_or(0)),
        prediction_error: usage.cached_tokens.map(|actual| u64::from(actual.abs_diff(belief.cached))),
    }));
}

impl Lifecycle {
    /// Did the request ask for server-sent events, or for a stream of gRPC's messages? The shell need not look at the response's content type then: what is
    /// no event stream although it should be yields no events.
    #[must_use]
    pub const fn asked_for_events(&self) -> bool {
        match &self.phase {
            Phase::Sent(sent) => sent.streamed,
            Phase::Answering(answering) => answering.event_stream,
            Phase::Idle | Phase::Reading(_) | Phase::Queued(_) | Phase::Over => false,
        }
    }

    /// Will the response's body be changed, unless it is compressed? Only then must the shell know whether it is.
    #[must_use]
    pub const fn restores_names(&self) -> bool {
        matches!(&self.phase, Phase::Sent(sent) if sent.restorer.is_some())
    }

    /// Does the time of the response bytes at hand matter? Only at the first token and at the end; between them a clock
    /// reading a chunk would be wasted.
    #[must_use]
    pub const fn needs_time(&self, end_of_stream: bool) -> bool {
        match &self.phase {
            Phase::Answering(answering) => end_of_stream || answering.first_token.is_none(),
            Phase::Idle | Phase::Reading(_) | Phase::Queued(_) | Phase::Sent(_) | Phase::Over => end_of_stream,
        }
    }
}

/// Mean time between output tokens, of which the last came with the end; needs two.
fn tpot_seconds(first: Timestamp, last: Timestamp, output: u64) -> Option<f64> {
    let gaps = to_u32(output.checked_sub(1).filter(|&gaps| gaps > 0)?);
    Some(last.since(first).as_secs_f64() / f64::from(gaps))
}

fn to_u32(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn to_micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}
