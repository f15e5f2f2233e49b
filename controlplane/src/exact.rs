//! Exact residency of a pool's base model: its tokenizer and template are loaded, its engines' KV events followed, and
//! what they hold is published. `pool` decides, the tasks in `drive` bring it what it decides about.
//!
//! An engine that cannot be followed does not spoil the pool: its own residency is learned, from the same rendered prompts.
//! Engines that render otherwise than we do (`oracle`) do: everything is learned then, for a while (`doubt`).

pub mod doubt;
pub mod drive;
mod fetch;
pub mod inquiries;
pub mod judge;
pub mod oracle;
pub mod pool;
pub mod status;
pub mod token_ids;
pub mod witness;

use std::sync::Arc;

use shared::identity::EndpointId;
use shared::wire;

use self::inquiries::Inquiries;
use self::judge::Judged;
use self::token_ids::VocabularyRows;
use crate::events::subscribe::Update;
use crate::vocabulary::table::TokenTable;

/// A model whose prompts can be followed.
#[derive(Debug)]
pub struct ExactModel {
    /// Its name in requests; adapters name it as their base.
    pub name: String,
    /// For gateways.
    pub rendering: wire::Rendering,
    /// What its tokens stand for.
    pub tokens: TokenTable,
    /// Where blocks wait to be re-encoded; `None`: they are not.
    pub inquiries: Option<Inquiries>,
    /// The same for gateways, where prompts that come as token ids are looked up by it.
    pub for_gateways: Option<VocabularyRows>,
}

/// How far a pool's model is.
#[derive(Clone, Debug)]
pub enum ModelState {
    /// Its files are on the way.
    Loading {
        /// From where.
        from: String,
    },
    /// It cannot be followed, for this reason; it is tried again.
    Failed(String),
    /// It can.
    Ready(Arc<ExactModel>),
}

/// News for a pool's exact residency.
#[derive(Debug)]
pub enum News {
    /// The configuration wants none (any more).
    Unwanted,
    /// The model's state; everything known of engines before is void.
    Model(ModelState),
    /// Of one engine's events.
    Update(EndpointId, Update),
    /// An engine's events cannot be followed, for this reason.
    Unfollowed(EndpointId, String),
    /// Re-encoding said this of blocks that engines told of.
    Judged(Judged),
}
