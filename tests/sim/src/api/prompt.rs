//! What the dialects' request bodies share: message contents, prompts in four shapes, streaming options.
//!
//! Fields that change nothing here (temperature, ignore_eos, min_tokens) are accepted and not checked; answers always have the full length.

use std::collections::BTreeMap;

use minijinja::Value as TemplateValue;
use minijinja::value::ValueKind;
use serde::Deserialize;
use serde_json::Value;

use super::failure::Failure;
use super::{Delivery, UsageReport};
use crate::engine::ReportMode;
use crate::language::{ContentForm, Conversation, Language, Rendered};

/// A message of any dialect.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    role: String,
    #[serde(default)]
    content: Value,
    tool_calls: Option<Vec<ToolCall>>,
    /// `name`, `tool_call_id`, `reasoning`: the template may want them.
    #[serde(flatten)]
    rest: BTreeMap<String, TemplateValue>,
}

#[derive(Debug, Deserialize)]
struct ToolCall {
    id: Option<TemplateValue>,
    r#type: Option<TemplateValue>,
    function: Option<FunctionCall>,
}

#[derive(Debug, Deserialize)]
struct FunctionCall {
    name: TemplateValue,
    arguments: Option<TemplateValue>,
}

impl Message {
    /// The message as templates see it, contents first flattened as vLLM does it.
    fn into_value(self, form: ContentForm) -> TemplateValue {
        let content = match (form, &self.content) {
            (ContentForm::Parts, Value::Array(_)) => serde_json::from_value(self.content.clone()).unwrap_or_default(),
            _ => TemplateValue::from(flatten(&self.content)),
        };
        let calls = self.tool_calls.filter(|calls| !calls.is_empty());
        let calls = calls.map(|calls| calls.into_iter().map(ToolCall::into_value).collect::<TemplateValue>());
        let own = [("role".to_owned(), self.role.into()), ("content".to_owned(), content)];
        let calls = calls.map(|calls| ("tool_calls".to_owned(), calls));
        TemplateValue::from_pairs(own.into_iter().chain(calls).chain(self.rest))
    }
}

impl ToolCall {
    fn into_value(self) -> TemplateValue {
        let function = self.function.map(|function| {
            object([("name", Some(function.name)), ("arguments", Some(arguments(function.arguments)))])
        });
        object([("id", self.id), ("type", self.r#type), ("function", function)])
    }
}

/// Arguments come as JSON text and are shown to the template as an object.
fn arguments(given: Option<TemplateValue>) -> TemplateValue {
    let given = given.unwrap_or_default();
    let parsed = given.as_str().map(serde_json::from_str::<TemplateValue>);
    match parsed {
        Some(Ok(object)) if object.kind() == ValueKind::Map => object,
        Some(_) => object([]),
        None => given,
    }
}

fn object<const N: usize>(fields: [(&str, Option<TemplateValue>); N]) -> TemplateValue {
    TemplateValue::from_pairs(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))))
}

/// Tools in the order vLLM writes them, nulls kept where it keeps them.
fn tools_of(tools: &TemplateValue) -> TemplateValue {
    let Ok(list) = tools.try_iter() else { return tools.clone() };
    let field = |of: &TemplateValue, name: &str| of.get_attr(name).ok().filter(|value| !value.is_undefined());
    list.map(|tool| {
        let Some(function) = field(&tool, "function") else { return tool };
        let kept = |name| Some(field(&function, name).unwrap_or(TemplateValue::from(())));
        let function = object([
            ("name", field(&function, "name")),
            ("description", kept("description")),
            ("parameters", kept("parameters")),
            ("strict", field(&function, "strict").filter(|value| !value.is_none())),
        ]);
        object([("type", field(&tool, "type").or(Some("function".into()))), ("function", Some(function))])
    })
    .collect()
}

/// What a conversation is made of besides its messages.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChatOptions {
    tools: TemplateValue,
    chat_template_kwargs: TemplateValue,
    add_generation_prompt: Option<bool>,
}

/// The conversation as the model sees it.
pub(super) fn read(
    language: &Language,
    system: &Value,
    messages: Vec<Message>,
    options: ChatOptions,
) -> Result<Rendered, Failure> {
    let form = language.content_form();
    let system = (!system.is_null()).then(|| Message::new("system", system.clone()));
    let messages = system.into_iter().chain(messages).map(|message| message.into_value(form)).collect();
    let tools = Some(&options.tools).filter(|tools| tools.kind() == ValueKind::Seq).map(tools_of);
    let conversation = Conversation {
        messages,
        tools,
        kwargs: options.chat_template_kwargs,
        add_generation_prompt: options.add_generation_prompt.unwrap_or(true),
    };
    language.read(conversation).map_err(Failure::bad)
}

impl Message {
    /// A message that a dialect does not keep among the others.
    pub(super) fn new(role: &str, content: Value) -> Self {
        Self { role: role.to_owned(), content, tool_calls: None, rest: BTreeMap::new() }
    }
}

/// Plain text, or parts: texts one to a line, anything else (images, tool results) by its JSON.
fn flatten(content: &Value) -> String {
    match content {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().map(|part| match part.get("text").and_then(Value::as_str) {
                Some(text) => text.to_owned(),
                None => part.as_str().map_or_else(|| part.to_string(), str::to_owned),
            });
            texts.collect::<Vec<_>>().join("\n")
        }
        other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => other.to_string(),
    }
}

/// `prompt` and `input`: a text, texts, token ids, or lists of token ids.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Prompts {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

impl Prompts {
    pub(super) fn into_tokens(self, language: &Language) -> Vec<Vec<u32>> {
        match self {
            Self::Text(text) => vec![language.read_prompt(&text)],
            Self::Tokens(tokens) => vec![tokens],
            Self::Texts(texts) => texts.iter().map(|text| language.read_prompt(text)).collect(),
            Self::TokenLists(lists) => lists,
        }
    }
}

/// `vllm_xargs`, as far as it changes anything.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Xargs {
    kv_cache_report_mode: Option<Report>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    Full,
    #[serde(other)]
    Changes,
}

impl Xargs {
    pub(super) fn report(self) -> ReportMode {
        match self.kv_cache_report_mode {
            Some(Report::Full) => ReportMode::Full,
            Some(Report::Changes) | None => ReportMode::Changes,
        }
    }
}

/// `stream_options`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamOptions {
    include_usage: bool,
    continuous_usage_stats: bool,
}

/// How a body with these fields wants its answer.
pub(super) fn delivery(stream: Option<bool>, options: Option<StreamOptions>) -> Delivery {
    let options = options.unwrap_or_default();
    match (stream.unwrap_or(false), options.include_usage, options.continuous_usage_stats) {
        (false, _, _) => Delivery::Whole,
        (true, false, _) => Delivery::Streamed(UsageReport::Never),
        (true, true, false) => Delivery::Streamed(UsageReport::AtEnd),
        (true, true, true) => Delivery::Streamed(UsageReport::Continuous),
    }
}
