//! What is kept of a request that waits: enough to try it again and to send it.

use super::{Standing, Trial};
use crate::brain::Prompt;
use crate::clock::Timestamp;
use crate::flow::gate::Closed;
use crate::identity::EndpointId;
use crate::scheduling::Request;
use crate::scheduling::subset::Subset;

/// See the module.
#[derive(Debug)]
pub(super) struct Held {
    chain: Vec<u64>,
    bytes: u64,
    tokens: Option<u32>,
    rendered: bool,
    request: Request<'static>,
    subset: Option<Subset>,
    standing: Standing,
    session: Option<String>,
    whole_body: bool,
    /// `None` before it was tried.
    pub(super) aim: Option<Aim>,
}

/// Where a request would go, and why not now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim {
    /// `None`: nowhere.
    pub(super) endpoint: Option<EndpointId>,
    /// Tokens that it would have to compute there.
    pub(super) uncached: f64,
    pub(super) why: Closed,
    pub(super) decided: Timestamp,
}

impl Held {
    pub(super) fn new(trial: &Trial<'_>, aim: Option<Aim>) -> Self {
        Self {
            chain: trial.prompt.chain.to_vec(),
            bytes: trial.prompt.bytes,
            tokens: trial.prompt.tokens,
            rendered: trial.prompt.rendered,
            request: trial.request.without_subset(),
            subset: trial.request.subset.cloned(),
            standing: trial.standing,
            session: trial.session.map(str::to_owned),
            whole_body: trial.whole_body,
            aim,
        }
    }

    pub(super) const fn seed(&self) -> u64 {
        self.request.seed
    }

    /// To be tried in the pool called `pool`.
    pub(super) fn trial<'a>(&'a self, pool: &'a str) -> Trial<'a> {
        let Self { chain, bytes, tokens, rendered, request, subset, standing, session, whole_body, .. } = self;
        Trial {
            pool,
            prompt: Prompt { chain, bytes: *bytes, tokens: *tokens, rendered: *rendered },
            request: Request { subset: subset.as_ref(), ..*request },
            standing: *standing,
            session: session.as_deref(),
            whole_body: *whole_body,
        }
    }
}
