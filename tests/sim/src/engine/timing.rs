//! What a step costs. The coefficients are seconds on a pod of speed 1; the caller divides by the speed.
//!
//! A prefill chunk attends on average to what came before it plus half of itself, so splitting a prompt into chunks leaves the
//! attention sum unchanged.

/// Coefficients of the step time. Defaults: 32.8e9 weights over 2 x 3.35 TB/s at 75 % (`base`), llm-d's measured prefill rate of
/// 15,928 token/s (`prefill_token`), 2.1 MFLOP per token and context token at 50 % of 2 x 990 TFLOPS (`prefill_context`), 256 KiB
/// of KV per token over 6.7 TB/s (`decode_context`); `decode` is assumed. Loads: 256 KiB per token over 2 x 25 GB/s of PCIe in use
/// (`cpu_load_token`) and over 10 GB/s of NVMe (`storage_load_token`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepCost {
    /// Seconds per step.
    pub base: f64,
    /// Seconds per prefilled token.
    pub prefill_token: f64,
    /// Seconds per prefilled token and token of its context.
    pub prefill_context: f64,
    /// Seconds per decoding sequence.
    pub decode: f64,
    /// Seconds per token of a decoding sequence's context.
    pub decode_context: f64,
    /// Seconds per token whose KV comes from host memory.
    pub cpu_load_token: f64,
    /// Seconds per token whose KV comes from storage.
    pub storage_load_token: f64,
}

impl Default for StepCost {
    fn default() -> Self {
        Self {
            base: 13e-3,
            prefill_token: 57e-6,
            prefill_context: 2e-9,
            decode: 20e-6,
            decode_context: 40e-9,
            cpu_load_token: 5e-6,
            storage_load_token: 26e-6,
        }
    }
}

/// What one step computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepWork {
    /// Prompt tokens, over all chunks.
    pub prefill_tokens: u64,
    /// Twice the sum over chunks of chunk x (tokens before it + chunk / 2): doubled to stay an integer.
    pub doubled_prefill_context: u64,
    /// Sequences that decode one token.
    pub decodes: u64,
    /// Sum of the tokens those attend to, the new one included.
    pub decode_context: u64,
    /// Tokens whose KV comes from host memory.
    pub cpu_loads: u64,
    /// Tokens whose KV comes from storage.
    pub storage_loads: u64,
}

impl StepWork {
    /// Adds a prefill chunk of `chunk` tokens behind `before` computed ones.
    pub fn add_prefill(&mut self, before: u32, chunk: u32) {
        self.prefill_tokens += u64::from(chunk);
        self.doubled_prefill_context += u64::from(chunk) * (2 * u64::from(before) + u64::from(chunk));
    }

    /// Adds one decode that attends to `context` tokens, its own included.
    pub fn add_decode(&mut self, context: u32) {
        self.decodes += 1;
        self.decode_context += u64::from(context);
    }

    /// True when there is nothing to compute.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prefill_tokens == 0 && self.decodes == 0
    }
}

impl StepCost {
    /// Seconds for `work` on a pod of speed 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "sums of one step stay far below 2^53")]
    pub fn seconds(&self, work: &StepWork) -> f64 {
        self.base
            + self.prefill_token * work.prefill_tokens as f64
            + self.prefill_context * (work.doubled_prefill_context as f64 * 0.5)
            + self.decode * work.decodes as f64
            + self.decode_context * work.decode_context as f64
            + self.cpu_load_token * work.cpu_loads as f64
            + self.storage_load_token * work.storage_loads as f64
    }
}
