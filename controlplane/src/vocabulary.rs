//! What the tokens of a model stand for, as bytes: read once per model, off the request path.

pub mod table;
