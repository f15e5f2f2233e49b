//! One Envoy process, as far as the brain can tell: it feeds requests and responses through real `Lifecycle`s as bytes, folds the
//! tables that arrive, and reports. It behaves as the filter does, and like it decides nothing.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use shared::brain::Brain;
use shared::clock::Timestamp;
use shared::flow::Ticket;
use shared::lifecycle::{Effect, Event, Input, Lifecycle, Plan};
use shared::wire;
use vllm_sim::engine::Usage;

use crate::callers::Caller;
use crate::workload::ConversationId;

/// The control plane forgets a gateway that says nothing for two seconds.
const KEEP_ALIVE: Duration = Duration::from_millis(500);

/// Header that names a conversation.
pub const SESSION: &str = "x-conversation";

/// What a pod sends for a token.
const TOKEN: &[u8] =
    b"data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"bad \"}}]}\n\n";

/// A gateway.
#[derive(Debug, Default)]
pub struct Gateway {
    /// Everything it knows.
    pub brain: Brain,
    plan: Plan,
    requests: HashMap<u64, Lifecycle>,
    queued: HashMap<Ticket, u64>,
    sequence: u64,
    reported: Timestamp,
    reported_work: bool,
    refused: u64,
}

/// What a client asks.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The whole body ...
    pub body: &'a [u8],
    /// ... of which so much is sent before the client goes away, if less than all.
    pub sent: usize,
    /// Who asks.
    pub caller: Caller,
    /// Whose turn it is.
    pub conversation: Option<ConversationId>,
}

/// What became of a request when its body was complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steering {
    /// To the first of these (`ip:port`) that accepts.
    To(Vec<String>),
    /// Later: `Gateway::pump` will tell.
    Waits,
    /// Answered by the gateway itself.
    Answered {
        /// HTTP status.
        status: u16,
    },
}

/// What the control plane says.
#[derive(Clone, Debug)]
pub enum Told {
    /// Encoded `wire::Segment`s.
    Table(Vec<Vec<u8>>),
    /// An encoded `wire::Live`.
    Live(Vec<u8>),
}

impl Gateway {
    /// A request begins; it stays without an answer when the client goes away after `asked.sent` bytes of its body.
    pub fn request(&mut self, id: u64, asked: &Asked<'_>, now: Timestamp) -> Option<Steering> {
        let Asked { body, sent, caller, conversation } = *asked;
        let (name, length) = (format!("request-{id}"), body.len().to_string());
        let mut who = caller.headers();
        who.extend(conversation.map(|ConversationId(number)| (SESSION, format!("session-{number}"))));
        let mut headers: Vec<(&[u8], &[u8])> = vec![
            (b":method", b"POST"),
            (b":path", b"/v1/chat/completions"),
            (b"content-length", length.as_bytes()),
            (b"x-request-id", name.as_bytes()),
        ];
        headers.extend(who.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let mut lifecycle = Lifecycle::default();
        let begin = Input::RequestHeaders { headers: &headers, end_of_stream: false };
        let mut effects = lifecycle.on(begin, &mut self.brain, &self.plan, now);
        let whole = sent >= body.len();
        for chunk in body.get(..sent).unwrap_or(body).chunks(16 << 10) {
            let input = Input::RequestBody { chunk, end_of_stream: false };
            effects.extend(lifecycle.on(input, &mut self.brain, &self.plan, now));
        }
        if !whole {
            lifecycle.on(Input::Ended, &mut self.brain, &self.plan, now);
            return None;
        }
        let end = Input::RequestBody { chunk: &[], end_of_stream: true };
        effects.extend(lifecycle.on(end, &mut self.brain, &self.plan, now));
        self.requests.insert(id, lifecycle);
        self.steering(id, effects)
    }

    fn steering(&mut self, id: u64, effects: Vec<Effect>) -> Option<Steering> {
        effects.into_iter().find_map(|effect| match effect {
            Effect::Steer { destination, .. } => {
                Some(Steering::To(destination.split(',').map(str::to_owned).collect()))
            }
            Effect::Reply(reply) => Some(Steering::Answered { status: reply.status }),
            Effect::Wait(ticket) => {
                self.queued.insert(ticket, id);
                Some(Steering::Waits)
            }
            Effect::RemoveHeader(_)
            | Effect::Hold
            | Effect::TryFor(_)
            | Effect::SetHeader(..)
            | Effect::EditBody { .. }
            | Effect::RemoveResponseHeader(_)
            | Effect::ReplaceChunk(_)
            | Effect::AddResponseHeader(..)
            | Effect::Count(_) => None,
        })
    }

    /// Goes on with the requests whose turn has come, as the filter does on its tick.
    pub fn pump(&mut self, now: Timestamp) -> Vec<(u64, Steering)> {
        self.brain.pump(now);
        let turns = self.brain.turns();
        let ids: Vec<u64> = turns.into_iter().filter_map(|ticket| self.queued.remove(&ticket)).collect();
        let mut steered = Vec::new();
        for id in ids {
            let effects = self.feed(id, Input::Turn, now);
            steered.extend(self.steering(id, effects).map(|steering| (id, steering)));
        }
        steered
    }

    /// `pod` begins to answer with its first token.
    pub fn first_token(&mut self, id: u64, pod: &str, now: Timestamp) {
        self.feed(
            id,
            Input::ResponseHeaders { status: 200, event_stream: true, encoded: false, served_by: Some(pod) },
            now,
        );
        self.token(id, now);
    }

    /// One more token.
    pub fn token(&mut self, id: u64, now: Timestamp) {
        self.feed(id, Input::ResponseBody { chunk: TOKEN, end_of_stream: false }, now);
    }

    /// The last token, the usage and the end. Returns |predicted - actual| cached tokens.
    pub fn finish(&mut self, id: u64, usage: &Usage, now: Timestamp) -> Option<u64> {
        let chunk = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"bad \"}},\"finish_reason\":\"stop\"}}]}}\n\n\
             data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{},\"completion_tokens\":{},\
             \"prompt_tokens_details\":{{\"cached_tokens\":{}}}}}}}\n\ndata: [DONE]\n\n",
            usage.prompt_tokens, usage.output_tokens, usage.cached_tokens
        );
        let end = Input::ResponseBody { chunk: chunk.as_bytes(), end_of_stream: true };
        let effects = self.feed(id, end, now);
        self.end(id, now);
        effects.into_iter().find_map(|effect| {
            let Effect::Count(Event::Completed { prediction_error, .. }) = effect else { return None };
            prediction_error
        })
    }

    /// No pod of the list accepted: the host answers by itself.
    pub fn unserved(&mut self, id: u64, now: Timestamp) {
        self.feed(
            id,
            Input::ResponseHeaders { status: 503, event_stream: false, encoded: false, served_by: None },
            now,
        );
        self.feed(id, Input::ResponseBody { chunk: b"no healthy upstream", end_of_stream: true }, now);
        self.end(id, now);
    }

    /// The stream is over, for whatever reason.
    pub fn end(&mut self, id: u64, now: Timestamp) {
        self.feed(id, Input::Ended, now);
        self.requests.remove(&id);
        self.queued.retain(|_, queued| *queued != id);
    }

    fn feed(&mut self, id: u64, input: Input<'_>, now: Timestamp) -> Vec<Effect> {
        let Some(lifecycle) = self.requests.get_mut(&id) else { return Vec::new() };
        lifecycle.on(input, &mut self.brain, &self.plan, now)
    }

    /// The filter's tick: an encoded `wire::Report` when there is something to tell somebody who listens.
    pub fn tick(&mut self, connected: bool, now: Timestamp) -> Option<Vec<u8>> {
        self.brain.pass_time(now);
        let work = self.brain.ledger.busy().next().is_some();
        let news = !self.brain.outbox.is_empty() || work || self.reported_work;
        if !connected || !(news || now.since(self.reported) >= KEEP_ALIVE) {
            return None;
        }
        self.reported = now;
        self.reported_work = work;
        self.sequence += 1;
        Some(self.brain.report(self.sequence).encode_to_vec())
    }

    /// Takes in what the control plane says. False when it needs a snapshot.
    pub fn hear(&mut self, told: &Told, now: Timestamp) -> bool {
        let sound = match told {
            Told::Table(segments) => segments.iter().all(|segment| self.brain.fold(segment, now).is_ok()),
            Told::Live(live) => {
                wire::Live::decode(live.as_slice()).is_ok_and(|live| self.brain.set_live(live, now).is_ok())
            }
        };
        self.refused += u64::from(!sound);
        sound
    }

    /// Messages of the control plane that were refused.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Streams that are open.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }
}
