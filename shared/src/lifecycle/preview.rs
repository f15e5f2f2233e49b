//! What would happen to a request that nobody has sent: the same reading and choosing as for a real one, without booking
//! it. A preview made from a control plane's snapshot lacks what only a gateway knows: its last moments' own routes.

use serde::Serialize;

use super::request;
use super::wanted::{self, Body, Sight, Wanted};
use super::{Ask, Plan};
use crate::api::{BodyScanner, BodyUse, ErrorReply, KeySearch, Reject, reply};
use crate::brain::Brain;
use crate::clock::Timestamp;
use crate::scheduling::explanation::{Explanation, explain};

/// Where a request would go, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preview<'a> {
    /// The steering header: `ip:port[,ip:port...]`, best first.
    pub destination: String,
    /// The decision, with every candidate.
    #[serde(flatten)]
    pub explanation: Explanation<'a>,
}

/// Chooses for a request with these headers (as `Input::RequestHeaders` has them) and this whole body.
///
/// # Errors
/// The answer that the client would get instead of an engine's.
pub fn preview<'a>(
    brain: &'a Brain,
    plan: &Plan,
    headers: &[(&[u8], &[u8])],
    body: &[u8],
    now: Timestamp,
) -> Result<Preview<'a>, ErrorReply> {
    let ask = request::ask(headers, plan, brain, now);
    let chosen = wanted(Sight { ask: &ask, plan, brain, now }, headers, body)
        .and_then(|wanted| choose(brain, plan, (&ask, &wanted), now));
    chosen.map_err(|reject| reply(ask.dialect, &reject))
}

fn wanted(sight: Sight<'_>, headers: &[(&[u8], &[u8])], body: &[u8]) -> Result<Wanted, Reject> {
    let Sight { plan, brain, .. } = sight;
    if !brain.has_table() {
        return Err(Reject::NoTable);
    }
    let body_use = request::body_use(headers);
    if body_use == BodyUse::Nothing {
        return wanted::unread(plan, brain);
    }
    if let Some(limit_bytes) = request::body_limit(plan, brain).filter(|&limit| body.len() as u64 > limit) {
        return Err(Reject::BodyTooLarge { limit_bytes });
    }
    let BodyUse::Routing(call) = body_use else {
        let mut search = KeySearch::default();
        search.push(body).and_then(|()| search.finish().map(|_| ())).map_err(Reject::BadBody)?;
        return wanted::unread(plan, brain);
    };
    let mut scanner = BodyScanner::new(call.kind);
    scanner.push(body).map_err(Reject::BadBody)?;
    let view = scanner.finish().map_err(Reject::BadBody)?;
    wanted::wanted(&view, Body { call: &call, bytes: Some(body) }, sight)
}

fn choose<'a>(
    brain: &'a Brain,
    plan: &Plan,
    (ask, wanted): (&Ask, &Wanted),
    now: Timestamp,
) -> Result<Preview<'a>, Reject> {
    let request = wanted::request(ask, wanted, plan, brain);
    let unknown = || Reject::UnknownPool { pool: wanted.pool.clone() };
    let table = brain.table();
    let (name, pool) = table.pools.get_key_value(&wanted.pool).ok_or_else(unknown)?;
    let decided = brain.decide(name, &wanted.prompt(), &request, now).ok_or_else(unknown)?;
    let decision = decided.map_err(|none| Reject::from(&none))?;
    Ok(Preview {
        destination: brain.destination(name, decision.choices()),
        explanation: wanted.explained(explain(name, pool, table.version.version, &request, &decision)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CHAT, at, brain, chat_body, pool, post};

    const ID: (&str, &str) = ("x-request-id", "7");

    fn ask<'a>(brain: &'a Brain, body: &str) -> Result<Preview<'a>, ErrorReply> {
        let headers: [(&[u8], &[u8]); 3] =
            [(b":method", b"POST"), (b":path", CHAT.as_bytes()), (ID.0.as_bytes(), ID.1.as_bytes())];
        preview(brain, &Plan::default(), &headers, body.as_bytes(), at(5))
    }

    #[test]
    fn a_preview_is_what_then_happens_and_books_nothing() {
        let ports: Vec<u16> = (1..=10).collect();
        let mut brain = brain(vec![pool("p", &ports, &["m"])]);
        let body = chat_body("m", "hello");
        let destination = {
            let preview = ask(&brain, &body).unwrap();
            assert_eq!(preview.explanation.candidates.len(), 10);
            assert_eq!(preview.explanation.clone().shortened().candidates.len(), 8);
            preview.destination
        };
        assert_eq!(brain.ledger.busy().count(), 0);
        let sent = post(&mut brain, CHAT, &[ID], body.as_bytes(), at(5));
        assert_eq!(sent.destination().join(","), destination);
    }

    #[test]
    fn a_preview_refuses_as_a_request_is_refused() {
        let mut brain = brain(vec![pool("p", &[1], &["m"])]);
        let (large, nameless) = (chat_body("m", &"x".repeat(20_000)), chat_body("", "x"));
        for body in ["{", &large, &nameless, &chat_body("other", "x")] {
            let refused = ask(&brain, body).unwrap_err();
            let reply = post(&mut brain, CHAT, &[ID], body.as_bytes(), at(5)).reply();
            assert_eq!((refused.status, String::from_utf8(refused.body).unwrap()), reply);
        }
        assert_eq!(ask(&Brain::default(), "{}").unwrap_err().status, 503);
    }
}
