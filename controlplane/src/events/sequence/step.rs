//! The words that a [`super::Sequence`] speaks: what goes in, and what its owner must do.

use std::time::Duration;

/// What to hold while a replay runs, and how long to wait for it.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Is there an endpoint to ask?
    pub replay: Replay,
    /// Silence during a replay after which it counts as failed.
    pub patience: Duration,
    /// Batches held back during a replay; more are dropped, and found missing afterwards.
    pub held: usize,
    /// Payload bytes of those.
    pub held_bytes: usize,
}

/// Can missed batches be asked for?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Yes.
    Available,
    /// The engine has no such endpoint.
    Absent,
}

/// One batch of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered<T> {
    /// Its number.
    pub seq: u64,
    /// What tells it from the batch of that number in another life of the publisher, such as the bits of its time.
    pub mark: u64,
    /// Bytes of its payload.
    pub bytes: usize,
    /// The batch.
    pub content: T,
}

/// What the owner must do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// The next batch.
    Apply(T),
    /// Ask the replay endpoint for all batches from this number; a replay that still runs is obsolete.
    AskReplay(u64),
    /// Everything known of this rank is void.
    Reset(ResetReason),
    /// Batches were found missing. A replay may still bring them.
    Gap {
        /// How many.
        missing: u64,
        /// Since the last batch that was applied.
        detected_after: Duration,
    },
    /// The stream is in order again.
    Synced(Coverage),
}

/// Does what was applied since the last reset reach back to the publisher's beginning?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// Yes.
    Complete,
    /// No: blocks stored earlier are unknown.
    #[default]
    Partial,
}

/// Why the state of a rank is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResetReason {
    /// The publisher began again.
    Restarted,
    /// The replay no longer has what was missed.
    Unrecoverable,
    /// Batches were missed and there is nobody to ask, or no answer.
    ReplayUnavailable,
    /// A batch arrived that nobody can read: what it told is unknown. A [`super::Sequence`] never says so itself.
    Unreadable,
}

impl ResetReason {
    /// For metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restarted => "restarted",
            Self::Unrecoverable => "unrecoverable",
            Self::ReplayUnavailable => "replay_unavailable",
            Self::Unreadable => "unreadable",
        }
    }
}
