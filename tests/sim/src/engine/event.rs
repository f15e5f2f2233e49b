//! What an engine reports. Times are those of the step that caused the event, not of the `advance` call that returned it.

use super::sequence::RequestId;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineEvent {
    /// The prompt is computed and the first output token exists.
    FirstToken {
        /// Whose.
        id: RequestId,
        /// Seconds.
        at: f64,
        /// Prompt tokens found in the prefix cache at first admission.
        cached_tokens: u32,
    },
    /// A later output token; only with `EventDetail::EveryToken`.
    Token {
        /// Whose.
        id: RequestId,
        /// Seconds.
        at: f64,
    },
    /// All output exists and the blocks are free. A request without output finishes when its prompt is computed.
    Finished {
        /// Whose.
        id: RequestId,
        /// Seconds.
        at: f64,
        /// The whole account.
        usage: Usage,
    },
    /// Out of blocks: thrown back to the head of the queue, to be recomputed.
    Preempted {
        /// Whose.
        id: RequestId,
        /// Seconds.
        at: f64,
    },
}

/// A finished request's account. Times are seconds on the engine's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of these, found in the prefix cache at first admission.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub output_tokens: u32,
    /// Times thrown out for lack of blocks.
    pub preemptions: u32,
    /// When it was handed in.
    pub submitted_at: f64,
    /// When the scheduler first saw it (`submitted_at` + API delay).
    pub queued_at: f64,
    /// When its first step began.
    pub scheduled_at: f64,
    /// When its first token existed; equals `finished_at` for a request without output.
    pub first_token_at: f64,
    /// When it finished.
    pub finished_at: f64,
}
