//! Tests of the built `.wasm` that need no Envoy: the module runs under an interpreter (`tests/`). What the interpreter
//! computes is what any engine computes: Wasm's arithmetic is exact to the bit.
#![forbid(unsafe_code)]
