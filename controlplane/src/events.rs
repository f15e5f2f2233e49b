//! What engines tell about their KV caches. A block hash is an opaque name that one engine gave; two engines may give one
//! block different names, so nothing here compares hashes of different engines.

pub mod backoff;
pub mod decode;
pub mod event;
pub mod fetch;
pub mod frames;
pub mod sequence;
pub mod serve;
pub mod sources;
pub mod stream;
pub mod subscribe;
pub mod zmtp;
