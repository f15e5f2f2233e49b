//! One HTTP stream: callbacks in, `Input`s to its `Lifecycle`, effects out.

use core::time::Duration;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use shared::clock::Timestamp;
use shared::flow::Ticket;
use shared::lifecycle::{Effect, Event, Input, Lifecycle, Plan};

use crate::config::{Mode, PluginConfig};
use crate::effects::{self, Outcome};
use crate::host::{self, Buffer, Headers, Level};
use crate::pairs;
use crate::vm;

/// How long a held request may see no body callback before the host is taken to be unable to deliver one.
const BODY_OVERDUE: Duration = Duration::from_secs(1);

/// A host that was taken to hold nothing is tried again after this: a client that sent its body late looks the same.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// A body is copied out of the host and scanned in slices of this size: one that fits the cache is read many times
/// faster than a whole large body.
const SLICE: usize = 64 << 10;

/// Requests that wait for their turn.
pub(crate) type Queued = BTreeMap<Ticket, (u32, Rc<RefCell<Request>>)>;

/// Requests held while it is not known yet that the host can hold.
#[derive(Default)]
pub(crate) struct Held {
    support: Support,
    /// When `Support::Missing` was found.
    missing: Timestamp,
    waiting: BTreeMap<u32, (Timestamp, Rc<RefCell<Request>>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Support {
    #[default]
    Unknown,
    /// A body callback came while headers were held.
    Works,
    /// None came: holding would hang requests.
    Missing,
}

/// The part of a stream that outlives a callback.
pub(crate) struct Request {
    lifecycle: Lifecycle,
    plan: Plan,
    mode: Mode,
    /// Body bytes already read; the host's buffer keeps them while the body is held.
    read: usize,
    /// Its place while it waits for its turn.
    place: Option<Ticket>,
}

/// A stream as the SDK sees it.
pub(crate) struct Stream {
    context_id: u32,
    request: Rc<RefCell<Request>>,
}

impl Stream {
    pub(crate) fn new(context_id: u32, config: &PluginConfig) -> Self {
        let request =
            Request { lifecycle: Lifecycle::default(), plan: config.plan(), mode: config.mode, read: 0, place: None };
        Self { context_id, request: Rc::new(RefCell::new(request)) }
    }

    fn step(&self, input: Input<'_>, now: Timestamp) -> Vec<Effect> {
        step(&self.request, input, now)
    }

    fn mode(&self) -> Mode {
        self.request.try_borrow().map_or(Mode::State, |request| request.mode)
    }

    fn is_reading(&self) -> bool {
        self.request.try_borrow().is_ok_and(|request| request.lifecycle.is_reading())
    }

    /// The next unread bytes of a body of which the host's buffer holds `size`, and whether they are the last of these.
    fn next_slice(&self, size: usize) -> (Vec<u8>, bool) {
        let Ok(mut request) = self.request.try_borrow_mut() else { return (Vec::new(), true) };
        let fresh = size.saturating_sub(request.read).min(SLICE);
        let chunk = if fresh == 0 { Ok(Vec::new()) } else { host::buffer(Buffer::RequestBody, request.read, fresh) };
        request.read += fresh;
        (chunk.unwrap_or_default(), request.read >= size)
    }

    /// The body has ended, with these last bytes of it.
    fn end_of_body(&self, chunk: &[u8]) -> Action {
        let started = vm::now();
        let timed = vm::with(|vm| vm.stats.times_this_one()) == Some(true);
        let effects = self.step(Input::RequestBody { chunk, end_of_stream: true }, started);
        let outcome = effects::carry_out(effects, self.mode());
        if timed {
            let took = vm::now().since(started);
            vm::with(|vm| vm.stats.decided(took));
        }
        self.follow(outcome)
    }

    /// What the host is to do with a request that was read.
    fn follow(&self, outcome: Outcome) -> Action {
        match outcome {
            Outcome::Answered => Action::Pause,
            Outcome::Held | Outcome::GoesOn => Action::Continue,
            Outcome::Waits(ticket) => {
                queue(ticket, self.context_id, &self.request);
                Action::Pause
            }
        }
    }

    /// The stream is over: whatever is still open is given back.
    fn end(&self) {
        let over = self.request.try_borrow().is_ok_and(|request| request.lifecycle.is_over());
        if !over {
            self.step(Input::Ended, vm::now());
            vm::with(|vm| {
                vm.held.forget(self.context_id);
                let place = self.request.try_borrow().ok().and_then(|request| request.place);
                place.map(|ticket| vm.queued.remove(&ticket));
            });
        }
    }

    /// Holding works, or is tried, or is known not to work here.
    fn hold(&self, now: Timestamp) -> Action {
        if self.mode() == Mode::State {
            return Action::Continue;
        }
        let support = vm::with(|vm| {
            vm.held.try_again(now);
            if vm.held.support == Support::Unknown {
                vm.held.waiting.insert(self.context_id, (now, Rc::clone(&self.request)));
            }
            vm.held.support
        });
        if support != Some(Support::Missing) {
            return Action::Pause;
        }
        // Without the body the choice is by load alone; better than a request that hangs.
        let effects = self.step(Input::BodyOverdue, now);
        self.follow(effects::carry_out(effects, Mode::Hold))
    }

    /// Does the request wait for its turn? Further callbacks change nothing then.
    fn is_queued(&self) -> bool {
        self.request.try_borrow().is_ok_and(|request| request.lifecycle.is_queued())
    }
}

/// Keeps a request until its turn comes.
fn queue(ticket: Ticket, context_id: u32, request: &Rc<RefCell<Request>>) {
    if let Ok(mut request) = request.try_borrow_mut() {
        request.place = Some(ticket);
    }
    vm::with(|vm| vm.queued.insert(ticket, (context_id, Rc::clone(request))));
}

fn step(request: &Rc<RefCell<Request>>, input: Input<'_>, now: Timestamp) -> Vec<Effect> {
    let Ok(mut request) = request.try_borrow_mut() else { return Vec::new() };
    let Request { lifecycle, plan, .. } = &mut *request;
    vm::with(|vm| {
        let in_company = vm.siblings.in_company(now);
        let decides = matches!(input, Input::RequestBody { end_of_stream: true, .. } | Input::BodyOverdue);
        if decides && in_company {
            vm.siblings.refresh(&mut vm.brain.ledger, now);
        }
        let effects = lifecycle.on(input, &mut vm.brain, plan, now);
        vm.stats.count(&effects);
        if in_company && effects.iter().any(moves_work) {
            vm.siblings.publish(&vm.brain.ledger, now);
        }
        effects
    })
    .unwrap_or_default()
}

/// Booked, on another endpoint, past the first token, or done.
const fn moves_work(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Count(
            Event::Routed { .. } | Event::FellBack { .. } | Event::FirstToken { .. } | Event::Completed { .. }
        )
    )
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let now = vm::now();
        let bytes = host::header_pairs(Headers::Request).unwrap_or_default();
        let headers = pairs::parse(&bytes).unwrap_or_default();
        let effects = self.step(Input::RequestHeaders { headers: &headers, end_of_stream }, now);
        match effects::carry_out(effects, self.mode()) {
            Outcome::Held => self.hold(now),
            outcome @ (Outcome::Waits(_) | Outcome::GoesOn | Outcome::Answered) => self.follow(outcome),
        }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if self.is_queued() {
            return Action::Pause;
        }
        if !self.is_reading() {
            return Action::Continue;
        }
        vm::with(|vm| vm.held.confirm(self.context_id));
        loop {
            let (chunk, last) = self.next_slice(size);
            if last && end_of_stream {
                return self.end_of_body(&chunk);
            }
            let effects = self.step(Input::RequestBody { chunk: &chunk, end_of_stream: false }, vm::recent());
            effects::carry_out(effects, self.mode());
            if last || !self.is_reading() {
                return Action::Pause;
            }
        }
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        if self.is_queued() {
            Action::Pause
        } else if self.is_reading() {
            self.end_of_body(&[])
        } else {
            Action::Continue
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let status = host::header(Headers::Response, ":status").ok();
        let status = status.and_then(|text| String::from_utf8(text).ok()?.parse().ok()).unwrap_or(0);
        let (event_stream, restores) = self.request.try_borrow().map_or((false, false), |request| {
            (request.lifecycle.asked_for_events(), request.lifecycle.restores_names())
        });
        let encoded =
            restores && host::header(Headers::Response, "content-encoding").is_ok_and(|value| !value.is_empty());
        let served_by = host::property("upstream\0address").ok().and_then(|address| String::from_utf8(address).ok());
        let served_by = served_by.as_deref().filter(|address| !address.is_empty());
        let now = vm::recent();
        let mut effects = self.step(Input::ResponseHeaders { status, event_stream, encoded, served_by }, now);
        if end_of_stream {
            effects.extend(self.step(Input::ResponseBody { chunk: &[], end_of_stream: true }, vm::now()));
        }
        effects::carry_out(effects, self.mode());
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let Ok(exact) = self.request.try_borrow().map(|request| request.lifecycle.needs_time(end_of_stream)) else {
            return Action::Continue;
        };
        let chunk = if size == 0 { Ok(Vec::new()) } else { host::buffer(Buffer::ResponseBody, 0, size) };
        let chunk = chunk.unwrap_or_default();
        let now = if exact { vm::now() } else { vm::recent() };
        let effects = self.step(Input::ResponseBody { chunk: &chunk, end_of_stream }, now);
        effects::carry_out(effects, self.mode());
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        let effects = self.step(Input::ResponseBody { chunk: &[], end_of_stream: true }, vm::now());
        effects::carry_out(effects, self.mode());
        Action::Continue
    }

    fn on_log(&mut self) {
        self.end();
    }
}

impl Drop for Stream {
    /// The host promises `on_log` for every stream; should it not come, the booking still goes back.
    fn drop(&mut self) {
        self.end();
    }
}

impl Held {
    fn confirm(&mut self, context_id: u32) {
        if self.waiting.remove(&context_id).is_some() {
            self.support = Support::Works;
            self.waiting.clear();
        }
    }

    fn forget(&mut self, context_id: u32) {
        self.waiting.remove(&context_id);
    }

    fn try_again(&mut self, now: Timestamp) {
        if self.support == Support::Missing && now.since(self.missing) > TRY_AGAIN {
            self.support = Support::Unknown;
        }
    }

    fn overdue(&mut self, now: Timestamp) -> Vec<(u32, Rc<RefCell<Request>>)> {
        let late = |&(since, _): &(Timestamp, _)| now.since(since) > BODY_OVERDUE;
        if self.support != Support::Unknown || !self.waiting.values().any(late) {
            return Vec::new();
        }
        (self.support, self.missing) = (Support::Missing, now);
        core::mem::take(&mut self.waiting).into_iter().map(|(id, (_, request))| (id, request)).collect()
    }
}

/// Lets go of requests that a host without `allow_on_headers_stop_iteration` would hold for ever.
pub(crate) fn rescue_held(now: Timestamp) {
    let overdue = vm::with(|vm| vm.held.overdue(now)).unwrap_or_default();
    if overdue.is_empty() {
        return;
    }
    host::log(
        Level::Error,
        "kvasir: mode is \"hold\" but the host delivers no bodies of held requests: set allow_on_headers_stop_iteration \
         on the Wasm filter, or mode \"state\"; until then requests are routed by load alone",
    );
    for (context_id, request) in overdue {
        resume(context_id, &request, Input::BodyOverdue, now);
        vm::with(|vm| vm.stats.rescued());
    }
}

/// Lets go of requests whose turn has come. Called between streams: the effective context is another one afterwards.
pub(crate) fn resume_queued(now: Timestamp) {
    let turns = vm::with(|vm| {
        let turns = vm.brain.turns();
        turns.into_iter().filter_map(|ticket| vm.queued.remove(&ticket)).collect::<Vec<_>>()
    });
    for (context_id, request) in turns.unwrap_or_default() {
        resume(context_id, &request, Input::Turn, now);
    }
}

/// Goes on with a request outside its own callbacks.
fn resume(context_id: u32, request: &Rc<RefCell<Request>>, input: Input<'_>, now: Timestamp) {
    let mode = request.try_borrow().map_or(Mode::State, |request| request.mode);
    if host::set_effective_context(context_id).is_err() {
        // The stream is gone; `Ended` has given everything back.
        return;
    }
    match effects::carry_out(step(request, input, now), mode) {
        Outcome::Answered => {}
        Outcome::Waits(ticket) => queue(ticket, context_id, request),
        Outcome::Held | Outcome::GoesOn => {
            if let Err(error) = host::continue_request() {
                host::log(Level::Error, &format!("kvasir: cannot resume a held request: {error}"));
            }
        }
    }
}
