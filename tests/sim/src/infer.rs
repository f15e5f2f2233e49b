//! One inference call: its prompts become engine requests, their events one ordered stream.
//!
//! Dropping a [`Call`] withdraws whatever has not finished, so a client that goes away frees its blocks.

use std::task::{Context, Poll};

use tokio::sync::mpsc;

use crate::cluster::EngineState;
use crate::drive::{Driver, DriverStopped, Progress, Submission};
use crate::engine::{ChainBuilder, ChainSeed, PromptSpec, RequestId, SubmitError};
use crate::observed::FinishReason;
use crate::text::Voice;

/// What a dialect wants computed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    /// The name the caller used: the base model or an adapter.
    pub(crate) model: String,
    /// Token ids of each prompt.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// Answers per prompt, at least 1.
    pub(crate) samples: usize,
    /// Tokens of each answer; None lets the model stop by itself.
    pub(crate) max_tokens: Option<u32>,
    pub(crate) cache_salt: Option<String>,
}

/// Why a call cannot begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// Neither the base model nor an adapter.
    #[error("The model `{0}` does not exist.")]
    UnknownModel(String),
    #[error("{0}")]
    Refused(#[from] SubmitError),
    #[error("{0}")]
    Stopped(#[from] DriverStopped),
}

/// One answer in the making.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) voice: Voice,
    pub(crate) prompt_tokens: u32,
    pub(crate) cached_tokens: u32,
    pub(crate) generated: u32,
}

/// A call under way.
pub(crate) struct Call {
    pub(crate) choices: Vec<Choice>,
    /// Answers per prompt.
    pub(crate) samples: usize,
    pub(crate) reason: FinishReason,
    events: mpsc::Receiver<Progress>,
    tickets: Tickets,
}

/// How many tokens an answer has if the caller sets no limit.
const UNLIMITED_ANSWER: u32 = 128;

impl Call {
    /// Submits every prompt. `output` overrides the answer's length (embeddings have none).
    pub(crate) async fn begin(state: &EngineState, ask: &Ask, output: Option<u32>) -> Result<Self, CallError> {
        let adapter = state.cluster.adapter(&ask.model)?;
        let longest = ask.prompts.iter().map(|prompt| u32::try_from(prompt.len()).unwrap_or(u32::MAX)).max();
        let left = state.cluster.max_model_len.saturating_sub(longest.unwrap_or_default());
        let length = output.or(ask.max_tokens).unwrap_or(UNLIMITED_ANSWER.min(left));
        let reason = if ask.max_tokens.is_some() { FinishReason::Length } else { FinishReason::Stop };
        let samples = ask.samples.max(1);
        let room = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(2);
        let room = room.saturating_mul(ask.prompts.len() * samples).clamp(1, 1 << 24);
        let (progress, events) = mpsc::channel(room);
        let tickets = Tickets { engine: state.index, driver: state.cluster.driver.clone(), open: Vec::new() };
        let mut call = Self { choices: Vec::new(), samples, reason, events, tickets };
        for prompt in &ask.prompts {
            let seed = ChainSeed { lora: adapter.as_deref(), cache_salt: ask.cache_salt.as_deref() };
            let mut chain = ChainBuilder::new(state.cluster.block_size, seed);
            chain.push_tokens(prompt);
            for sample in 0..samples {
                let voice = Voice::of(&chain, state.cluster.seed, u64::try_from(sample).unwrap_or_default());
                let request = Submission {
                    id: state.cluster.next_id(),
                    spec: answered(&chain, voice, length, state.cluster.max_model_len),
                    choice: call.choices.len(),
                    adapter: adapter.clone(),
                    reason,
                    progress: progress.clone(),
                };
                call.choices.push(Choice { voice, prompt_tokens: chain.tokens(), cached_tokens: 0, generated: 0 });
                // Before the await: a caller that leaves while waiting must withdraw this one too.
                call.tickets.open.push(Some(request.id));
                state.cluster.driver.submit(state.index, request).await??;
            }
        }
        Ok(call)
    }

    /// The next event, counters and ticket already updated; None when all choices are finished (or the engine crashed).
    pub(crate) async fn next(&mut self) -> Option<Progress> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// The same as a poll.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Progress>> {
        if self.is_complete() {
            return Poll::Ready(None);
        }
        let polled = self.events.poll_recv(context);
        if let Poll::Ready(Some(progress)) = polled {
            self.book(progress);
        }
        polled
    }

    /// True once every choice has finished.
    pub(crate) fn is_complete(&self) -> bool {
        self.tickets.open.iter().all(Option::is_none)
    }

    fn book(&mut self, progress: Progress) {
        match progress {
            Progress::FirstToken { choice, cached_tokens } => {
                if let Some(choice) = self.choices.get_mut(choice) {
                    choice.cached_tokens = cached_tokens;
                    choice.generated = 1;
                }
            }
            Progress::Token { choice } => {
                if let Some(choice) = self.choices.get_mut(choice) {
                    choice.generated += 1;
                }
            }
            Progress::Finished { choice, usage } => {
                if let Some(choice) = self.choices.get_mut(choice) {
                    choice.cached_tokens = usage.cached_tokens;
                }
                if let Some(ticket) = self.tickets.open.get_mut(choice) {
                    *ticket = None;
                }
            }
        }
    }
}

/// The chain of prompt and answer. A request that is too long anyway is not hashed to its end.
fn answered(prompt: &ChainBuilder, voice: Voice, length: u32, max_model_len: u32) -> PromptSpec {
    let mut chain = prompt.clone();
    for index in 0..length.min(max_model_len) {
        chain.push_token(voice.token(index));
    }
    PromptSpec { prompt_tokens: prompt.tokens(), output_tokens: length, blocks: chain.into_blocks() }
}

/// Requests of this call that the engine still has, by choice.
struct Tickets {
    engine: usize,
    driver: Driver,
    open: Vec<Option<RequestId>>,
}

impl Drop for Tickets {
    fn drop(&mut self) {
        for id in self.open.drain(..).flatten() {
            self.driver.cancel(self.engine, id);
        }
    }
}
