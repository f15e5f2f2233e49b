//! From a request's body to the variables of the template, as vLLM does it. Its two API servers differ: each has its own way
//! with messages ([`python`], [`rust`]) and with what a template sees of options that were not given.

pub(super) mod anthropic;
mod continuation;
mod options;
mod python;
mod rust;
mod tools;

use super::bypass::Bypass;
use super::content_format::ContentFormat;
use super::json_tree::{Json, Members};
use crate::table::rendering::Frontend;

pub(super) use continuation::Continuation;

/// What of the model decides about the variables.
pub(super) struct Model<'m> {
    pub(super) frontend: Frontend,
    pub(super) format: ContentFormat,
    pub(super) special_tokens: &'m Members,
    pub(super) default_kwargs: &'m Members,
    /// The server hides tools from a request whose `tool_choice` is `none`.
    pub(super) hides_unused_tools: bool,
    /// The template names the role, so that such messages stay what they are.
    pub(super) knows_developer: bool,
}

/// The variables of a chat completion; what to cut off the rendered prompt, when its last message is to be continued.
pub(super) fn variables(mut body: Members, model: &Model<'_>) -> Result<(Members, Option<Continuation>), Bypass> {
    refuse_inexact(&body)?;
    let Some(Json::List(messages)) = body.take("messages") else { return Err(Bypass::Invalid("messages")) };
    let chosen = options::Options::of(&body, model)?;
    let mut messages = match model.frontend {
        Frontend::Python => python::messages(messages, model)?,
        Frontend::Rust => rust::messages(messages, model)?,
    };
    let continuation = if chosen.continues { Some(Continuation::mark(&mut messages)?) } else { None };
    let tools = tools::tools(&body, model)?;
    Ok((chosen.variables(messages, tools, model), continuation))
}

fn refuse_inexact(body: &Members) -> Result<(), Bypass> {
    let is_set = |name: &str| body.given(name).is_some_and(|value| !value.is_falsy());
    let reasons = [
        (body.given("chat_template").is_some(), Bypass::RequestTemplate),
        (body.given("truncate_prompt_tokens").is_some(), Bypass::Truncation),
        (is_set("echo"), Bypass::Echo),
        (body.given("prompt_embeds").is_some(), Bypass::PromptEmbeds),
        (is_set("mm_processor_kwargs") || is_set("media_io_kwargs"), Bypass::ProcessorOptions),
        (is_set("add_special_tokens"), Bypass::SpecialTokens),
        (brings_tokens(body), Bypass::TokenIds),
    ];
    reasons.into_iter().find(|(applies, _)| *applies).map_or(Ok(()), |(_, reason)| Err(reason))
}

/// A prefill's token ids, which a decoding engine takes instead of the messages.
fn brings_tokens(body: &Members) -> bool {
    let params = body.get("kv_transfer_params").and_then(Json::as_object);
    params.and_then(|params| params.get("prompt_token_ids")).is_some_and(|ids| !ids.is_falsy())
}

#[cfg(test)]
mod tests;
