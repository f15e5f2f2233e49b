//! The client stub of the control plane's stream; the messages are `shared::wire`.
#![expect(unused_qualifications, unreachable_pub, clippy::allow_attributes_without_reason, reason = "generated code")]

tonic::include_proto!("kvasir.v1");
