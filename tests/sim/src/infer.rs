//! One inference call: its prompts become engine requests, their events one ordered stream.
//!
//! Dropping a [`Call`] withdraws whatever has not finished, so a client that goes away frees its blocks.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;

use crate::cluster::EngineState;
use crate::drive::{Driver, DriverStopped, Progress, Submission};
use crate::engine::{Adapter, BlockContents, ChainBuilder, ChainSeed, PromptSpec, ReportMode, RequestId, SubmitError};
use crate::language::{Answer, Language, Voice};
use crate::observed::FinishReason;

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
    pub(crate) session_id: Option<String>,
    /// `vllm_xargs.kv_cache_report_mode`.
    pub(crate) report: ReportMode,
    /// `X-data-parallel-rank`.
    pub(crate) rank: Option<usize>,
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
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) voice: Voice,
    answer: Answer,
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
    language: Arc<Language>,
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
        let host = state.cluster.host(state.index, ask.rank);
        let tickets = Tickets { engine: host, driver: state.cluster.driver.clone(), open: Vec::new() };
        let language = Arc::clone(&state.cluster.language);
        let mut call = Self { choices: Vec::new(), samples, reason, language, events, tickets };
        for prompt in &ask.prompts {
            let seed = ChainSeed { lora: adapter.as_deref(), cache_salt: ask.cache_salt.as_deref() };
            let mut chain = ChainBuilder::new(state.cluster.block_size, seed);
            chain.push_tokens(prompt);
            for sample in 0..samples {
                let voice = Voice::of(&chain, state.cluster.seed, u64::try_from(sample).unwrap_or_default());
                // A request that is too long anyway is not answered to its end.
                let answer = call.language.say(voice, length.min(state.cluster.max_model_len));
                let mut whole = chain.clone();
                whole.push_tokens(&answer.tokens);
                let request = Submission {
                    id: state.cluster.next_id(),
                    spec: PromptSpec {
                        prompt_tokens: chain.tokens(),
                        output_tokens: length,
                        blocks: whole.into_blocks(),
                    },
                    contents: contents(state, ask, prompt, &answer.tokens),
                    choice: call.choices.len(),
                    adapter: adapter.clone(),
                    reason,
                    progress: progress.clone(),
                };
                let prompt_tokens = chain.tokens();
                call.choices.push(Choice { voice, answer, prompt_tokens, cached_tokens: 0, generated: 0 });
                // Before the await: a caller that leaves while waiting must withdraw this one too.
                call.tickets.open.push(Some(request.id));
                state.cluster.driver.submit(host, request).await??;
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

    /// The newest token's text.
    pub(crate) fn last_word(&self, choice: &Choice) -> String {
        let index = usize::try_from(choice.generated.saturating_sub(1)).unwrap_or(usize::MAX);
        self.language.tokenizer.decode(choice.answer.tokens.get(index..=index).unwrap_or_default())
    }

    /// The newest token, or none.
    pub(crate) fn last_token<'a>(&self, choice: &'a Choice) -> &'a [u32] {
        self.tokens(choice).last().map_or(&[], std::slice::from_ref)
    }

    /// An answer's tokens so far.
    pub(crate) fn tokens<'a>(&self, choice: &'a Choice) -> &'a [u32] {
        let generated = usize::try_from(choice.generated).unwrap_or(usize::MAX);
        choice.answer.tokens.get(..generated).unwrap_or(&choice.answer.tokens)
    }

    /// Is the newest token the answer's last?
    pub(crate) fn is_last(&self, choice: &Choice) -> bool {
        self.tokens(choice).len() == choice.answer.tokens.len()
    }

    /// An answer's text so far.
    pub(crate) fn text(&self, choice: &Choice) -> String {
        self.language.tokenizer.decode(self.tokens(choice))
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
                self.close(choice);
            }
            Progress::Aborted { choice } => {
                self.reason = FinishReason::Abort;
                self.close(choice);
            }
        }
    }

    fn close(&mut self, choice: usize) {
        if let Some(ticket) = self.tickets.open.get_mut(choice) {
            *ticket = None;
        }
    }
}

/// What KV events will tell about a request; None when nobody publishes.
fn contents(state: &EngineState, ask: &Ask, prompt: &[u32], answer: &[u32]) -> Option<Arc<BlockContents>> {
    let cluster = &state.cluster;
    let hasher = cluster.hasher.as_ref()?;
    let mut adapters = cluster.adapters.iter().zip(1_i64..);
    let adapter = adapters.find(|(name, _)| name.as_ref() == ask.model);
    let mut contents = BlockContents {
        block_size: cluster.block_size,
        tokens: [prompt, answer].concat(),
        digests: Vec::new(),
        adapter: adapter.map(|(name, id)| Adapter { id, name: Arc::clone(name) }),
        cache_salt: ask.cache_salt.as_deref().map(Arc::from),
        session_id: ask.session_id.as_deref().map(Arc::from),
        report: ask.report,
    };
    let path = contents.adapter.as_ref().map(|adapter| format!("/adapters/{}", adapter.name)).unwrap_or_default();
    contents.digests = hasher.chain(&contents, &path);
    Some(Arc::new(contents))
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
