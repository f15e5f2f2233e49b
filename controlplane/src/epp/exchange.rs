//! One request over external processing, pure: the gateway's messages become `Input`s of its `Lifecycle`, the `Effect`s
//! become answers.
//!
//! Headers are answered only once the choice is made, where the gateway lets them wait; every message gets exactly the
//! answers that its mode asks for, also those that come when nothing is expected.

use bytes::Bytes;
use shared::api::ErrorReply;
use shared::brain::Brain;
use shared::clock::Timestamp;
use shared::headers::DESTINATION;
use shared::lifecycle::{Effect, Event, Input, Lifecycle, Plan};

use super::answer::{self, Changes, Side};
use super::held::{Held, gathered};
use super::host_says::{BodyMode, list_of, served, subset};
use super::wire::processing_request::Request;
use super::wire::{HeaderMap, HeaderValue, HttpBody, HttpHeaders, ProcessingRequest, ProcessingResponse};
use super::{Conformance, Subsets};

/// Chooses the cluster where several pools share a listener.
const POOL_HEADER: &str = "x-kvasir-pool";
/// Header of the conformance suite: IPs to choose from.
const TEST_SELECTION: &str = "test-epp-endpoint-selection";
/// Header of the conformance suite: who served.
const TEST_SERVED: &str = "x-conformance-test-served-endpoint";
/// A gateway that waits for each chunk's answer reads on until its buffer is full, 1 MiB by default: before that, the
/// choice has to be made.
const EARLY_BYTES: usize = 512 << 10;

/// One request.
#[derive(Debug)]
pub struct Exchange {
    lifecycle: Lifecycle,
    plan: Plan,
    conformance: Conformance,
    subsets: Subsets,
    modes: Option<(BodyMode, BodyMode)>,
    held: Held,
    /// What the request's headers are changed to, as far as it is known.
    changes: Changes,
    /// What goes on instead of the chunk of the response at hand.
    replaced: Option<Bytes>,
    /// The steering list, once there is one.
    destination: Option<String>,
    over: bool,
}

/// What follows from a message.
#[derive(Debug, Default)]
pub struct Reaction {
    /// To be sent, in order.
    pub answers: Vec<ProcessingResponse>,
    /// To be counted.
    pub events: Vec<Event>,
    /// The stream ends after the answers.
    pub over: bool,
}

/// What the effects of a step come to.
enum Outcome {
    /// The request is to be held for its body.
    Held,
    /// Nothing changes.
    GoesOn,
    /// The choice is made.
    Steered,
    /// The client is answered here.
    Answered(ErrorReply),
}

/// What every step works with.
struct Step<'a> {
    brain: &'a mut Brain,
    now: Timestamp,
    reaction: Reaction,
}

impl Exchange {
    /// A request that nothing is known of yet; `plan.subset` is the gateway's to say.
    #[must_use]
    pub fn new(plan: Plan, conformance: Conformance, subsets: Subsets) -> Self {
        Self {
            lifecycle: Lifecycle::default(),
            plan,
            conformance,
            subsets,
            modes: None,
            held: Held::default(),
            changes: Changes::default(),
            replaced: None,
            destination: None,
            over: false,
        }
    }

    /// One message of the gateway.
    pub fn on(&mut self, mut message: ProcessingRequest, brain: &mut Brain, now: Timestamp) -> Reaction {
        if self.modes.is_none() {
            self.modes = Some(BodyMode::of(message.protocol_config));
        }
        let mut step = Step { brain, now, reaction: Reaction::default() };
        match message.request.take() {
            None => {}
            Some(_) if self.over => {}
            Some(Request::RequestHeaders(headers)) => self.request_headers(&headers, &message, &mut step),
            Some(Request::RequestBody(body)) => self.request_body(body, &mut step),
            Some(Request::RequestTrailers(_)) => self.request_trailers(&mut step),
            Some(Request::ResponseHeaders(headers)) => self.response_headers(&headers, &message, &mut step),
            Some(Request::ResponseBody(body)) => self.response_body(body, &mut step),
            Some(Request::ResponseTrailers(_)) => {
                self.input(Input::ResponseBody { chunk: &[], end_of_stream: true }, &mut step);
                step.reaction.answers.push(answer::trailers(Side::Response));
            }
        }
        step.reaction.over = self.over;
        step.reaction
    }

    /// The stream is over, whatever the reason: what is booked goes back.
    pub fn end(&mut self, brain: &mut Brain, now: Timestamp) -> Vec<Event> {
        let mut step = Step { brain, now, reaction: Reaction::default() };
        self.input(Input::Ended, &mut step);
        self.over = true;
        step.reaction.events
    }

    const fn request_mode(&self) -> BodyMode {
        match self.modes {
            Some((request, _)) => request,
            None => BodyMode::FullDuplex,
        }
    }

    const fn response_mode(&self) -> BodyMode {
        match self.modes {
            Some((_, response)) => response,
            None => BodyMode::FullDuplex,
        }
    }

    fn request_headers(&mut self, headers: &HttpHeaders, message: &ProcessingRequest, step: &mut Step<'_>) {
        let pairs = pairs(headers.headers.as_ref());
        self.plan.subset = subset(message).filter(|_| self.subsets == Subsets::Obeyed);
        if self.conformance == Conformance::On
            && let Some(selected) = value(&pairs, TEST_SELECTION).and_then(|value| str::from_utf8(value).ok())
        {
            let selected = list_of(selected);
            self.plan.subset = Some(self.plan.subset.take().map_or(selected.clone(), |subset| subset.and(&selected)));
        }
        let outcome = self.input(Input::RequestHeaders { headers: &pairs, end_of_stream: headers.end_of_stream }, step);
        let outcome = match (outcome, self.request_mode()) {
            (Outcome::Held, BodyMode::None | BodyMode::Streamed { early: false }) => {
                // The headers go on with their answer: without the body the choice is by load alone.
                self.input(Input::BodyOverdue, step)
            }
            (Outcome::Held, BodyMode::Buffered | BodyMode::BufferedPartial) => {
                let changes = std::mem::take(&mut self.changes);
                step.reaction.answers.push(answer::headers(Side::Request, changes));
                return;
            }
            (outcome, _) => outcome,
        };
        self.answer_request_headers(outcome, step);
    }

    /// Answers the headers as soon as there is an answer.
    fn answer_request_headers(&mut self, outcome: Outcome, step: &mut Step<'_>) {
        let changes = match outcome {
            Outcome::Held => return,
            Outcome::Answered(reply) => return self.reply(reply, step),
            Outcome::Steered | Outcome::GoesOn => std::mem::take(&mut self.changes),
        };
        step.reaction.answers.push(match &self.destination {
            Some(destination) => answer::steered_headers(changes, destination),
            None => answer::headers(Side::Request, changes),
        });
    }

    fn request_body(&mut self, body: HttpBody, step: &mut Step<'_>) {
        if !self.lifecycle.is_reading() {
            return self.pass_on(Side::Request, body, None, step);
        }
        let HttpBody { body: chunk, end_of_stream } = body;
        match self.request_mode() {
            BodyMode::Buffered => self.whole_body(chunk, Input::RequestBody { chunk: &[], end_of_stream: true }, step),
            BodyMode::BufferedPartial => {
                let rest = if end_of_stream {
                    Input::RequestBody { chunk: &[], end_of_stream: true }
                } else {
                    Input::BodyOverdue
                };
                self.whole_body(chunk, rest, step);
            }
            BodyMode::None | BodyMode::Streamed { .. } | BodyMode::FullDuplex => {
                self.held.push(chunk.clone());
                let outcome = self.input(Input::RequestBody { chunk: &chunk, end_of_stream }, step);
                self.body_read(outcome, end_of_stream, step);
            }
        }
    }

    /// The body that came in one message, and what is to be made of its end.
    fn whole_body(&mut self, body: Bytes, rest: Input<'_>, step: &mut Step<'_>) {
        self.held.push(body.clone());
        let mut outcome = self.input(Input::RequestBody { chunk: &body, end_of_stream: false }, step);
        if self.lifecycle.is_reading() {
            outcome = self.input(rest, step);
        }
        if let Outcome::Answered(reply) = outcome {
            return self.reply(reply, step);
        }
        let edited = self.held.is_edited();
        let replaced = self.held.take().into_iter().next().filter(|_| edited);
        let changes = std::mem::take(&mut self.changes);
        step.reaction.answers.push(match &self.destination {
            Some(destination) => answer::steered_body(changes, destination, replaced),
            None => answer::body(Side::Request, replaced),
        });
    }

    /// A chunk of a body that comes while the headers wait.
    fn body_read(&mut self, mut outcome: Outcome, end_of_stream: bool, step: &mut Step<'_>) {
        let waits = matches!(self.request_mode(), BodyMode::Streamed { .. });
        if waits && self.lifecycle.is_reading() && self.held.bytes() >= EARLY_BYTES {
            outcome = self.input(Input::BodyOverdue, step);
        }
        if self.lifecycle.is_reading() {
            return;
        }
        self.answer_request_headers(outcome, step);
        if !self.over {
            self.give_back(end_of_stream, step);
        }
    }

    /// The body that was held goes on.
    fn give_back(&mut self, end_of_stream: bool, step: &mut Step<'_>) {
        let edited = self.held.is_edited();
        let duplex = self.request_mode() == BodyMode::FullDuplex;
        let chunks = self.held.take();
        let mut chunks = if duplex { gathered(chunks) } else { chunks }.into_iter().peekable();
        while let Some(chunk) = chunks.next() {
            let last = end_of_stream && chunks.peek().is_none();
            match self.request_mode() {
                BodyMode::FullDuplex => step.reaction.answers.extend(answer::streamed(Side::Request, chunk, last)),
                BodyMode::None | BodyMode::Buffered | BodyMode::BufferedPartial | BodyMode::Streamed { .. } => {
                    step.reaction.answers.push(answer::body(Side::Request, Some(chunk).filter(|_| edited)));
                }
            }
        }
    }

    fn request_trailers(&mut self, step: &mut Step<'_>) {
        if self.lifecycle.is_reading() {
            let outcome = self.input(Input::RequestBody { chunk: &[], end_of_stream: true }, step);
            self.body_read(outcome, false, step);
        }
        if !self.over {
            step.reaction.answers.push(answer::trailers(Side::Request));
        }
    }

    fn response_headers(&mut self, headers: &HttpHeaders, message: &ProcessingRequest, step: &mut Step<'_>) {
        let pairs = pairs(headers.headers.as_ref());
        let status = value(&pairs, ":status").and_then(|text| str::from_utf8(text).ok()?.parse().ok()).unwrap_or(0);
        let told = served(message);
        // Every engine dates its answers (RFC 9110, 6.6.1); an answer that the gateway made has no date yet.
        let nobody = status == 503 && value(&pairs, "date").is_none();
        let first = self.destination.as_deref().and_then(|list| list.split(',').next()).map(str::to_owned);
        let served_by = told.or(first.as_deref().filter(|_| !nobody));
        let event_stream = self.lifecycle.asked_for_events();
        let encoded = value(&pairs, "content-encoding").is_some();
        self.changes = Changes::default();
        self.input(Input::ResponseHeaders { status, event_stream, encoded, served_by }, step);
        if headers.end_of_stream {
            self.input(Input::ResponseBody { chunk: &[], end_of_stream: true }, step);
        }
        if let (Conformance::On, Some(address)) = (self.conformance, told) {
            self.changes.set.push((TEST_SERVED.to_owned(), address.to_owned()));
        }
        step.reaction.answers.push(answer::headers(Side::Response, std::mem::take(&mut self.changes)));
    }

    fn response_body(&mut self, body: HttpBody, step: &mut Step<'_>) {
        let HttpBody { body: chunk, end_of_stream } = body;
        self.input(Input::ResponseBody { chunk: &chunk, end_of_stream }, step);
        let other = self.replaced.take();
        self.pass_on(Side::Response, HttpBody { body: chunk, end_of_stream }, other, step);
    }

    /// A chunk goes on as it came, or `other` does.
    fn pass_on(&self, side: Side, body: HttpBody, other: Option<Bytes>, step: &mut Step<'_>) {
        let HttpBody { body: chunk, end_of_stream } = body;
        let mode = match side {
            Side::Request => self.request_mode(),
            Side::Response => self.response_mode(),
        };
        match mode {
            BodyMode::FullDuplex => {
                step.reaction.answers.extend(answer::streamed(side, other.unwrap_or(chunk), end_of_stream));
            }
            BodyMode::None | BodyMode::Buffered | BodyMode::BufferedPartial | BodyMode::Streamed { .. } => {
                step.reaction.answers.push(answer::body(side, other));
            }
        }
    }

    fn reply(&mut self, reply: ErrorReply, step: &mut Step<'_>) {
        self.held.take();
        self.over = true;
        step.reaction.answers.push(answer::immediate(reply));
    }

    /// One step of the lifecycle; effects become changes of headers and body, and an outcome.
    fn input(&mut self, input: Input<'_>, step: &mut Step<'_>) -> Outcome {
        let mut outcome = Outcome::GoesOn;
        for effect in self.lifecycle.on(input, step.brain, &self.plan, step.now) {
            match effect {
                Effect::RemoveHeader(name) => self.changes.remove.push(name),
                // The picker's brain lets nobody wait.
                Effect::Hold | Effect::Wait(_) => outcome = Outcome::Held,
                Effect::SetHeader(name, value) => self.changes.set.push((name.to_owned(), value)),
                Effect::EditBody { edits, otherwise } => {
                    if self.held.edit(&edits).is_err() {
                        return Outcome::Answered(otherwise);
                    }
                }
                // Gateways let nobody but themselves set this.
                Effect::TryFor(_) => {}
                Effect::Steer { destination, pool } => {
                    self.changes.set.push((DESTINATION.to_owned(), destination.clone()));
                    self.changes.set.extend(pool.map(|pool| (POOL_HEADER.to_owned(), pool)));
                    self.destination = Some(destination);
                    outcome = Outcome::Steered;
                }
                Effect::Reply(reply) => outcome = Outcome::Answered(reply),
                Effect::RemoveResponseHeader(name) => self.changes.remove.push(name),
                Effect::ReplaceChunk(bytes) => self.replaced = Some(bytes.into()),
                Effect::AddResponseHeader(name, value) => self.changes.set.push((name, value)),
                Effect::Count(event) => step.reaction.events.push(event),
            }
        }
        outcome
    }
}

fn pairs(headers: Option<&HeaderMap>) -> Vec<(&[u8], &[u8])> {
    let headers = headers.map(|map| map.headers.as_slice()).unwrap_or_default();
    headers.iter().map(|header| (header.key.as_bytes(), bytes(header))).collect()
}

/// Hosts fill one of the two.
fn bytes(header: &HeaderValue) -> &[u8] {
    if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value }
}

fn value<'a>(pairs: &[(&[u8], &'a [u8])], name: &str) -> Option<&'a [u8]> {
    pairs.iter().find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes())).map(|&(_, value)| value)
}

#[cfg(test)]
mod tests;
