//! What came of a request.

use crate::report::Reported;
use crate::script::Message;

/// What everybody around a shell got to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The steering list, by names of endpoints; `None`: the shell answered.
    pub destination: Option<String>,
    /// What reached the engine, if any.
    pub engine: Option<Message>,
    /// What the client got.
    pub client: Message,
    /// What the control plane was told.
    pub reported: Reported,
}
