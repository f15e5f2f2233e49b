//! Who reads a request's body while it arrives, and what a whole one asks for.
//!
//! A body that is only searched routes nothing: its request goes where one without a body goes.

use super::Plan;
use super::wanted::{self, Body, Sight, Wanted};
use crate::api::{BodyError, BodyScanner, BodyUse, Call, Edit, KeySearch, Reject};
use crate::brain::Brain;

/// Scanners kept between requests; more than this many bodies at once allocate anew.
const IDLE_SCANNERS: usize = 64;

#[derive(Debug)]
pub(super) enum Reader {
    /// For routing.
    Prompt {
        call: Call,
        scanner: Box<BodyScanner>,
        /// Everything so far, where prompts are rendered.
        body: Option<Vec<u8>>,
    },
    /// For the key that no engine may see.
    Search(Box<KeySearch>),
}

impl Reader {
    /// `None`: the body is read for nothing.
    pub(super) fn new(body_use: BodyUse, plan: &Plan, brain: &mut Brain) -> Option<Self> {
        match body_use {
            BodyUse::Routing(call) => {
                let mut scanner = brain.idle_scanners.pop().unwrap_or_else(|| Box::new(BodyScanner::new(call.kind)));
                scanner.restart(call.kind);
                let body = brain.renderers.wants_bodies(plan.pool.as_deref()).then(Vec::new);
                Some(Self::Prompt { call, scanner, body })
            }
            BodyUse::KeySearch => Some(Self::Search(Box::default())),
            BodyUse::Nothing => None,
        }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        match self {
            Self::Prompt { scanner, body, .. } => {
                if let Some(body) = body {
                    body.extend_from_slice(chunk);
                }
                scanner.push(chunk)
            }
            Self::Search(search) => search.push(chunk),
        }
    }

    /// The body is whole.
    pub(super) fn finish(&mut self, sight: Sight<'_>) -> Result<Wanted, Reject> {
        match self {
            Self::Prompt { call, scanner, body } => {
                let view = scanner.finish().map_err(Reject::BadBody)?;
                wanted::wanted(&view, Body { call, bytes: body.as_deref() }, sight)
            }
            Self::Search(search) => {
                let mut wanted = wanted::unread(sight.plan, sight.brain)?;
                let keys = search.finish().map_err(Reject::BadBody)?;
                wanted.edits = keys.iter().cloned().map(Edit::Disarm).collect();
                Ok(wanted)
            }
        }
    }

    /// Its buffers serve another request.
    pub(super) fn shelve(self, brain: &mut Brain) {
        if let Self::Prompt { scanner, .. } = self
            && brain.idle_scanners.len() < IDLE_SCANNERS
        {
            brain.idle_scanners.push(scanner);
        }
    }
}
