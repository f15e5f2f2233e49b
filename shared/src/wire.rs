//! The generated messages of `proto/kvasir/v1/routing.proto`, nothing else. They are raw: `table::codec` checks them.
#![expect(missing_docs, clippy::all, reason = "generated code; its documentation is in the .proto file")]

include!(concat!(env!("OUT_DIR"), "/kvasir.v1.rs"));
