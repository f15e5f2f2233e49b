//! What would happen to a request that nobody has sent: the same reading and choosing as for a real one, without booking
//! it. A preview made from a control plane's snapshot lacks what only a gateway knows: its last moments' own routes.

use serde::Serialize;

use super::request::{self, Wanted};
use super::{Ask, Plan};
use crate::api::{BodyScanner, ErrorReply, Reject, reply};
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
    let chosen = wanted(brain, plan, headers, body).and_then(|wanted| choose(brain, &ask, &wanted, now));
    chosen.map_err(|reject| reply(ask.dialect, &reject))
}

fn wanted(brain: &Brain, plan: &Plan, headers: &[(&[u8], &[u8])], body: &[u8]) -> Result<Wanted, Reject> {
    if !brain.has_table() {
        return Err(Reject::NoTable);
    }
    let Some(kind) = request::api_kind(headers) else { return request::unread(plan, brain) };
    if let Some(limit_bytes) = request::body_limit(plan, brain).filter(|&limit| body.len() as u64 > limit) {
        return Err(Reject::BodyTooLarge { limit_bytes });
    }
    let mut scanner = BodyScanner::new(kind);
    scanner.push(body).map_err(Reject::BadBody)?;
    let view = scanner.finish().map_err(Reject::BadBody)?;
    request::wanted(&view, kind, plan, brain)
}

fn choose<'a>(brain: &'a Brain, ask: &Ask, wanted: &Wanted, now: Timestamp) -> Result<Preview<'a>, Reject> {
    let request = request::request(ask, wanted, brain);
    let unknown = || Reject::UnknownPool { pool: wanted.pool.clone() };
    let table = brain.table();
    let (name, pool) = table.pools.get_key_value(&wanted.pool).ok_or_else(unknown)?;
    let decided = brain.decide(name, &wanted.prompt(), &request, now).ok_or_else(unknown)?;
    let decision = decided.map_err(|none| request::refusal(&none))?;
    Ok(Preview {
        destination: brain.destination(name, decision.choices()),
        explanation: explain(name, pool, table.version.version, &request, &decision),
    })
}
