//! The real filter module under a scripted Proxy-Wasm host
