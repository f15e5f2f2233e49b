//! Pods as the control plane sees them: what an idle engine says over HTTP, and KV events from sockets that the simulator's
//! own publisher serves, in the newest wire form.

pub(crate) mod publish;
