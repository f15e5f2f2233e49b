//! One request's life as a state machine: inputs in, effects out. The shell translates callbacks to `Input`s and carries
//! `Effect`s out in order; it decides nothing.
//!
//! ```text
//! Idle -- headers --> Reading -- end of body --> Sent -- response headers --> Answering -- end --> Over
//!           \ no body to read ----------------\--^ ^                any refusal or end ------------^
//!                                              \-> Queued -- its turn
//! ```

mod paid;
mod preview;
mod reader;
mod request;
mod response;
mod wanted;

pub use preview::{Preview, preview};

use core::time::Duration;

use crate::api::{Dialect, Edit, ErrorReply, NameRestorer, ResponseScanner};
use crate::brain::{Brain, Routed, Turned};
use crate::clock::Timestamp;
use crate::flow::Ticket;
use crate::identity::EndpointId;
use crate::scheduling::subset::Subset;

use paid::Paid;
use reader::Reader;
use wanted::Wanted;

/// What the shell was told.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Request headers, pseudo-headers included, names in lower case, values as raw bytes.
    RequestHeaders {
        /// Name and value pairs.
        headers: &'a [(&'a [u8], &'a [u8])],
        /// No body follows.
        end_of_stream: bool,
    },
    /// The next bytes of the request body.
    RequestBody {
        /// May be empty.
        chunk: &'a [u8],
        /// These are the last.
        end_of_stream: bool,
    },
    /// `Brain::turns` named the request's ticket: it waits no longer.
    Turn,
    /// The request waited for its body for too long: the host does not deliver bodies of held requests.
    BodyOverdue,
    /// Response headers.
    ResponseHeaders {
        /// HTTP status.
        status: u16,
        /// Is the body an event stream?
        event_stream: bool,
        /// Is the body compressed (`content-encoding`)?
        encoded: bool,
        /// `ip:port` of who answered; `None` when nobody did and the host made the answer.
        served_by: Option<&'a str>,
    },
    /// The next bytes of the response body.
    ResponseBody {
        /// May be empty.
        chunk: &'a [u8],
        /// These are the last.
        end_of_stream: bool,
    },
    /// The stream is over, whatever the reason. Everything is given back; again is harmless.
    Ended,
}

/// What the shell is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Take a header out of the request.
    RemoveHeader(&'static str),
    /// Keep the request until its body is complete.
    Hold,
    /// Keep the request until `Brain::turns` names this ticket; then say `Input::Turn`.
    Wait(Ticket),
    /// Set a header of the request; a host that has sent them on leaves it.
    SetHeader(&'static str, String),
    /// Change the body ([`crate::api::edited`]). Its length changes only when `content-length` was removed before. The
    /// request must not go on as it was: when it cannot be done, answer, and leave the effects behind this one.
    EditBody {
        /// In the order of the body.
        edits: Vec<Edit>,
        /// The answer when it cannot be done.
        otherwise: ErrorReply,
    },
    /// Send the request to `destination` (`ip:port[,ip:port...]`) of `pool`, and let it go on.
    Steer {
        /// Best first.
        destination: String,
        /// Whose endpoints these are, where the host does not know: the plan names no pool.
        pool: Option<String>,
    },
    /// A try that has no response headers after so long is to be given up for the next endpoint, where the host can.
    TryFor(Duration),
    /// Answer instead of an engine.
    Reply(ErrorReply),
    /// Add a header to the response.
    AddResponseHeader(String, String),
    /// Take a header out of the response.
    RemoveResponseHeader(&'static str),
    /// These bytes go on instead of the chunk of the response's body that was just told.
    ReplaceChunk(Vec<u8>),
    /// Count something.
    Count(Event),
}

/// What is worth a statistic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request was steered.
    Routed {
        /// From this pool.
        pool: String,
        /// To this endpoint first (`ip:port`).
        endpoint: String,
    },
    /// A request has to wait.
    Queued {
        /// For this pool.
        pool: String,
    },
    /// A request waits no longer.
    LeftQueue {
        /// For this pool.
        pool: String,
        /// After so long.
        milliseconds: u64,
        /// It was sent on, and not refused.
        sent: bool,
    },
    /// A request was answered here.
    Rejected {
        /// With this status.
        status: u16,
    },
    /// A request was refused because its tenant had spent its budget; it counts as rejected, too.
    OverBudget {
        /// Of this pool.
        pool: String,
    },
    /// The first token of a streamed response arrived, milliseconds after routing.
    FirstToken {
        /// In this pool.
        pool: String,
        /// After so long.
        milliseconds: u64,
    },
    /// An endpoint failed, or is well again.
    Turned(Turned),
    /// A response is complete.
    Completed {
        /// In this pool.
        pool: String,
        /// Time per output token, microseconds; `None` when fewer than two tokens were seen.
        tpot_microseconds: Option<u64>,
        /// Prompt tokens, from usage.
        prompt_tokens: u64,
        /// Of these from the prefix cache, from usage.
        cached_tokens: u64,
        /// |predicted - actual| cached tokens, when usage told.
        prediction_error: Option<u64>,
    },
    /// Another endpoint than the first choice answered.
    FellBack {
        /// In this pool.
        pool: String,
    },
}

/// What the host's configuration, and a host that knows more of a request than its bytes, say of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The pool that this filter routes to; `None`: by model.
    pub pool: Option<String>,
    /// Larger bodies are refused even before a pool is known; `None`: the pool's own limit only.
    pub max_body_bytes: Option<u64>,
    /// The endpoints that the host allows; `None`: all of the pool's.
    pub subset: Option<Subset>,
}

/// One request.
#[derive(Debug, Default)]
pub struct Lifecycle {
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    Reading(Box<Reading>),
    Queued(Box<Queued>),
    Sent(Box<Sent>),
    Answering(Box<Answering>),
    Over,
}

/// What the headers said.
#[derive(Debug)]
struct Ask {
    dialect: Dialect,
    explain: bool,
    session: Option<EndpointId>,
    slo_ttft: Option<f64>,
    slo_tpot: Option<f64>,
    /// Seeds the tie draw.
    seed: u64,
    /// Names the priority.
    objective: Option<String>,
    /// Who shares with others.
    tenant: String,
    /// Which session it is of, where these are counted.
    session_name: Option<String>,
    /// Of the body, once it is read.
    body_bytes: u64,
    /// The model it is to go to, whatever its body says.
    model: Option<String>,
    /// Nobody was told how long the body is: it may change in length.
    resizable: bool,
}

#[derive(Debug)]
struct Reading {
    ask: Ask,
    reader: Reader,
    bytes: u64,
    limit: Option<u64>,
}

/// Read, and waiting to be sent.
#[derive(Debug)]
struct Queued {
    ask: Ask,
    wanted: Wanted,
    ticket: Ticket,
    since: Timestamp,
    paid: Option<Paid>,
}

/// Steered, not answered yet.
#[derive(Debug)]
struct Sent {
    pool: String,
    routed: Routed,
    at: Timestamp,
    /// When the request was complete: earlier than `at` when it waited.
    arrived: Timestamp,
    prompt_bytes: u64,
    explanation: Option<String>,
    /// Responses of inference requests are watched; others only counted.
    watched: bool,
    /// The request asked for server-sent events.
    streamed: bool,
    /// The response comes as gRPC's messages.
    grpc: bool,
    /// Puts the model's name back that the client gave.
    restorer: Option<NameRestorer>,
    paid: Option<Paid>,
}

#[derive(Debug)]
struct Answering {
    sent: Sent,
    /// Who answers.
    by: EndpointId,
    status: u16,
    scanner: Option<ResponseScanner>,
    restorer: Option<NameRestorer>,
    event_stream: bool,
    first_token: Option<Timestamp>,
}

impl Lifecycle {
    /// One step.
    pub fn on(&mut self, input: Input<'_>, brain: &mut Brain, plan: &Plan, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        let phase = core::mem::take(&mut self.phase);
        self.phase = match (phase, input) {
            (Phase::Idle, Input::RequestHeaders { headers, end_of_stream }) => {
                request::begin(headers, end_of_stream, &mut Step { brain, plan, now, effects: &mut effects })
            }
            (Phase::Reading(reading), Input::RequestBody { chunk, end_of_stream }) => {
                request::read(reading, chunk, end_of_stream, &mut Step { brain, plan, now, effects: &mut effects })
            }
            (Phase::Queued(queued), Input::Turn) => {
                request::turn(queued, &mut Step { brain, plan, now, effects: &mut effects })
            }
            (Phase::Reading(reading), Input::BodyOverdue) => {
                request::give_up_on_body(*reading, &mut Step { brain, plan, now, effects: &mut effects })
            }
            (Phase::Sent(sent), Input::ResponseHeaders { status, event_stream, encoded, served_by }) => {
                let answer = response::Head { status, event_stream, encoded, served_by };
                response::begin(*sent, answer, &mut Step { brain, plan, now, effects: &mut effects })
            }
            (Phase::Answering(mut answering), Input::ResponseBody { chunk, end_of_stream }) => {
                let mut step = Step { brain, plan, now, effects: &mut effects };
                response::read(&mut answering, chunk, end_of_stream, &mut step);
                if end_of_stream {
                    response::complete(*answering, &mut step);
                    Phase::Over
                } else {
                    Phase::Answering(answering)
                }
            }
            (phase, Input::Ended) => {
                response::end(phase, &mut Step { brain, plan, now, effects: &mut effects });
                Phase::Over
            }
            // A callback that does not fit the phase (a body after a refusal, trailers' echo) changes nothing.
            (phase, _) => phase,
        };
        effects
    }
}

/// What every step works with.
struct Step<'a> {
    brain: &'a mut Brain,
    plan: &'a Plan,
    now: Timestamp,
    effects: &'a mut Vec<Effect>,
}

impl Step<'_> {
    fn reply(&mut self, dialect: Dialect, reject: &crate::api::Reject) -> Phase {
        let reply = crate::api::reply(dialect, reject);
        self.effects.push(Effect::Count(Event::Rejected { status: crate::api::reject::status(reject) }));
        self.effects.push(Effect::Reply(reply));
        Phase::Over
    }
}

#[cfg(test)]
mod budget_tests;
#[cfg(test)]
mod dialect_tests;
#[cfg(test)]
mod failover_tests;
#[cfg(test)]
mod queue_tests;
#[cfg(test)]
mod rewrite_tests;
#[cfg(test)]
mod soak_tests;
#[cfg(test)]
mod tests;
