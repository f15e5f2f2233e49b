//! Carrying effects out, in order. In hold mode the choice is a request header; in state mode it leaves as filter state,
//! which a header mutation behind the filter turns into that header.

use core::time::Duration;

use shared::api::{Edit, ErrorReply, NoStringThere, edited};
use shared::flow::Ticket;
use shared::headers::DESTINATION;
use shared::lifecycle::Effect;

use crate::config::Mode;
use crate::host::{self, Buffer, Headers, HostError, Level};
use crate::pairs;

/// Read behind the filter as `%FILTER_STATE(wasm.kvasir.endpoint:PLAIN)%`.
const ENDPOINT_STATE: &str = "kvasir.endpoint";
/// Read behind the filter as `%FILTER_STATE(wasm.kvasir.try_timeout_ms:PLAIN)%`.
const TRY_TIMEOUT_STATE: &str = "kvasir.try_timeout_ms";
/// Envoy's own, for one request: a try without response headers for so many milliseconds is over, and may be followed by
/// another.
const TRY_TIMEOUT_HEADER: &str = "x-envoy-upstream-rq-per-try-timeout-ms";
/// Chooses the cluster where several pools share a listener.
const POOL_HEADER: &str = "x-kvasir-pool";

/// What became of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is to be held for its body.
    Held,
    /// It is to be held until its turn comes.
    Waits(Ticket),
    /// It goes on.
    GoesOn,
    /// It was answered here.
    Answered,
}

/// Carries `effects` out on the effective stream.
pub(crate) fn carry_out(effects: Vec<Effect>, mode: Mode) -> Outcome {
    let mut outcome = Outcome::GoesOn;
    for effect in effects {
        let done = match effect {
            Effect::RemoveHeader(name) => host::remove_header(Headers::Request, name),
            Effect::Hold => {
                outcome = Outcome::Held;
                Ok(())
            }
            Effect::Wait(ticket) => {
                outcome = Outcome::Waits(ticket);
                Ok(())
            }
            Effect::SetHeader(name, value) => set_header(name, &value, mode),
            Effect::EditBody { edits, otherwise } => {
                if let Err(error) = edit_body(&edits) {
                    host::log(Level::Error, &format!("kvasir: a body stays as it must not: {error}"));
                    log_failure(answer(&otherwise));
                    return Outcome::Answered;
                }
                Ok(())
            }
            Effect::TryFor(time) => limit_tries(time, mode),
            Effect::Steer { destination, pool } => steer(&destination, pool.as_deref(), mode),
            Effect::Reply(reply) => {
                outcome = Outcome::Answered;
                answer(&reply)
            }
            Effect::AddResponseHeader(name, value) => host::add_response_header(&name, value.as_bytes()),
            Effect::RemoveResponseHeader(name) => host::remove_header(Headers::Response, name),
            Effect::ReplaceChunk(bytes) => host::replace_buffer(Buffer::ResponseBody, &bytes),
            Effect::Count(_) => Ok(()),
        };
        log_failure(done);
    }
    outcome
}

fn log_failure(done: Result<(), HostError>) {
    if let Err(error) = done {
        host::log(Level::Error, &format!("kvasir: an effect failed: {error}"));
    }
}

fn answer(reply: &ErrorReply) -> Result<(), HostError> {
    let headers: Vec<(&[u8], &[u8])> =
        reply.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    host::reply(reply.status, &pairs::serialize(&headers), &reply.body)
}

/// Why a body stays as it is.
#[derive(Debug, thiserror::Error)]
enum NotEdited {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Body(#[from] NoStringThere),
}

/// Envoy replaces a body as a whole or not at all. It still holds all of it: the request waits for this callback.
fn edit_body(edits: &[Edit]) -> Result<(), NotEdited> {
    let body = host::buffer(Buffer::RequestBody, 0, usize::MAX)?;
    Ok(host::replace_buffer(Buffer::RequestBody, &edited(&body, edits)?)?)
}

/// In state mode the headers have gone on.
fn set_header(name: &str, value: &str, mode: Mode) -> Result<(), HostError> {
    match mode {
        Mode::Hold => host::set_request_header(name, value.as_bytes()),
        Mode::State => Ok(()),
    }
}

fn steer(destination: &str, pool: Option<&str>, mode: Mode) -> Result<(), HostError> {
    match mode {
        Mode::Hold => {
            if let Some(pool) = pool {
                host::set_request_header(POOL_HEADER, pool.as_bytes())?;
            }
            host::set_request_header(DESTINATION, destination.as_bytes())
        }
        Mode::State => host::set_property(ENDPOINT_STATE, destination.as_bytes()),
    }
}

fn limit_tries(time: Duration, mode: Mode) -> Result<(), HostError> {
    let milliseconds = time.as_millis().to_string();
    match mode {
        Mode::Hold => host::set_request_header(TRY_TIMEOUT_HEADER, milliseconds.as_bytes()),
        Mode::State => host::set_property(TRY_TIMEOUT_STATE, milliseconds.as_bytes()),
    }
}
