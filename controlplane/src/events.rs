//! What engines tell about their KV caches. A block hash is an opaque name that one engine gave; two engines may give one
//! block different names, so nothing here compares hashes of different engines.

pub mod decode;
pub mod event;
