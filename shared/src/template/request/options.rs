//! Which variables stand beside the messages: options of the request, `chat_template_kwargs` of request and server, special
//! tokens. Later ones win; an option that is null or `"auto"` does not count, in Python.

use super::super::bypass::Bypass;
use super::super::json_tree::{Json, Members};
use super::Model;
use crate::table::rendering::Frontend;

/// Arguments of transformers' `apply_chat_template` that never reach a template.
const CONSUMED: [&str; 8] = [
    "continue_final_message",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "tokenizer_kwargs",
];

/// Jinja's own names: never taken from kwargs.
const GLOBALS: [&str; 6] = ["range", "dict", "lipsum", "cycler", "joiner", "namespace"];

/// A request's options, read.
pub(super) struct Options {
    pub(super) continues: bool,
    adds_generation_prompt: bool,
    documents: Option<Json>,
    kwargs: Members,
}

impl Options {
    pub(super) fn of(body: &Members, model: &Model<'_>) -> Result<Self, Bypass> {
        let flag = |name: &'static str| match body.given(name) {
            None => Ok(None),
            Some(Json::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(Bypass::Invalid(name)),
        };
        let continues = flag("continue_final_message")?.unwrap_or(false);
        let adds = flag("add_generation_prompt")?;
        let adds_generation_prompt = adds.unwrap_or(model.frontend == Frontend::Python || !continues);
        if continues && adds_generation_prompt {
            return Err(Bypass::Invalid("continue_final_message"));
        }
        let documents = match body.given("documents") {
            None => None,
            Some(Json::List(documents)) => Some(Json::List(documents.clone())),
            Some(_) => return Err(Bypass::Invalid("documents")),
        };
        Ok(Self { continues, adds_generation_prompt, documents, kwargs: kwargs(body, model)? })
    }

    pub(super) fn variables(self, messages: Vec<Json>, tools: Option<Json>, model: &Model<'_>) -> Members {
        let mut variables = model.special_tokens.clone();
        let mut set = |name: &str, value: Json| variables.set(name, value);
        set("messages", Json::list(messages));
        match model.frontend {
            Frontend::Python => {
                set("tools", tools.unwrap_or_default());
                set("documents", Json::Null);
            }
            Frontend::Rust => {
                set("add_generation_prompt", Json::Bool(self.adds_generation_prompt));
                set("continue_final_message", Json::Bool(self.continues));
                if let Some(tools) = tools {
                    set("tools", tools);
                }
            }
        }
        let documents = self.documents.clone();
        if let Some(documents) = documents.filter(|_| model.frontend == Frontend::Rust) {
            set("documents", documents);
        }
        for (name, value) in self.kwargs.into_pairs() {
            set(&name, value);
        }
        if model.frontend == Frontend::Python {
            set("add_generation_prompt", Json::Bool(self.adds_generation_prompt));
            if let Some(documents) = self.documents {
                set("documents", documents);
            }
        }
        variables
    }
}

/// The server's kwargs, the request's over them, reasoning's switches over those.
fn kwargs(body: &Members, model: &Model<'_>) -> Result<Members, Bypass> {
    let empty = Members::default();
    let asked = match body.given("chat_template_kwargs") {
        None => &empty,
        Some(Json::Object(asked)) => asked,
        Some(_) => return Err(Bypass::Invalid("chat_template_kwargs")),
    };
    if asked.given("chat_template").is_some() {
        return Err(Bypass::RequestTemplate);
    }
    if ["chat_template", "tokenize", "conversation", "messages"].iter().any(|name| asked.get(name).is_some()) {
        return Err(Bypass::Invalid("chat_template_kwargs"));
    }
    let is_python = model.frontend == Frontend::Python;
    let counts = |value: &Json| !is_python || !(*value == Json::Null || value.as_text() == Some("auto"));
    let is_passed = |name: &str| !is_python || !(CONSUMED.contains(&name) || GLOBALS.contains(&name));
    let mut kwargs = Members::default();
    let defaults = model.default_kwargs.iter();
    for (name, value) in defaults.chain(asked.iter().filter(|(_, value)| counts(value))) {
        if is_passed(name) {
            kwargs.set(name, value.clone());
        }
    }
    if let Some(effort) = body.given("reasoning_effort") {
        let level = effort.as_text().ok_or(Bypass::Invalid("reasoning_effort"))?;
        if counts(effort) {
            kwargs.set("reasoning_effort", effort.clone());
        }
        if asked.get("enable_thinking").is_none() {
            kwargs.set("enable_thinking", Json::Bool(level != "none"));
        }
    }
    Ok(kwargs)
}
