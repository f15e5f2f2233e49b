//! A simulated vLLM engine, over HTTP in real time or in virtual time
