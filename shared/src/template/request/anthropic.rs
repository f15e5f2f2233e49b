//! Anthropic's `/v1/messages` bodies as vLLM turns them into chat completions. What it does differently in different versions
//! is bypassed.

use super::super::bypass::Bypass;
use super::super::json_tree::{Json, Members};
use super::super::text::Text;
use super::python::BILLING_HEADER;

const CONTENT: Bypass = Bypass::Invalid("messages.content");

/// The body of a chat completion with the same prompt.
pub(in super::super) fn chat_body(mut body: Members) -> Result<Members, Bypass> {
    let mut messages = Vec::new();
    if let Some(system) = system(body.take("system").unwrap_or_default())? {
        messages.push(Json::object([("role", Json::text("system")), ("content", system)]));
    }
    let Some(Json::List(given)) = body.take("messages") else { return Err(Bypass::Invalid("messages")) };
    for message in given {
        let Json::Object(message) = message else { return Err(Bypass::Invalid("messages")) };
        convert(message, &mut messages)?;
    }
    let mut chat = Members::default();
    chat.set("messages", Json::list(messages));
    for name in ["chat_template_kwargs", "kv_transfer_params"] {
        if let Some(value) = body.take(name) {
            chat.set(name, value);
        }
    }
    let effort = body.get("output_config").and_then(Json::as_object).and_then(|config| config.given("effort"));
    if let Some(effort) = effort {
        chat.set("reasoning_effort", effort.clone());
    }
    if let Some(tools) = body.given("tools") {
        let tools = tools.as_list().ok_or(Bypass::Invalid("tools"))?;
        chat.set("tools", Json::List(tools.iter().map(tool).collect::<Result<_, _>>()?));
    }
    let choice = body.get("tool_choice").and_then(Json::as_object).and_then(|choice| choice.get("type"));
    if choice.and_then(Json::as_text) == Some("none") {
        chat.set("tool_choice", Json::text("none"));
    }
    Ok(chat)
}

fn tool(given: &Json) -> Result<Json, Bypass> {
    let given = given.as_object().ok_or(Bypass::Invalid("tools"))?;
    let member = |name: &str| given.get(name).cloned().unwrap_or_default();
    let function = [
        ("name", member("name")),
        ("description", member("description")),
        ("parameters", member("input_schema")),
        ("defer_loading", member("defer_loading")),
    ];
    Ok(Json::object([("type", Json::text("function")), ("function", Json::object(function))]))
}

fn system(given: Json) -> Result<Option<Json>, Bypass> {
    match given {
        Json::Null => Ok(None),
        Json::Text(text) => Ok(Some(Json::Text(text)).filter(|text| !text.is_falsy())),
        Json::List(blocks) => {
            let mut all = String::new();
            let mut found = false;
            for block in blocks {
                let (kind, mut block) = block_of(block)?;
                if &*kind != "text" {
                    continue;
                }
                let text = text_of(&mut block)?;
                if !text.is_empty() && !text.starts_with(BILLING_HEADER) {
                    found = true;
                    all.push_str(&text);
                }
            }
            Ok(found.then(|| Json::Text(all.into())))
        }
        Json::Bool(_) | Json::Whole(_) | Json::Huge(_) | Json::Float(_) | Json::Object(_) => {
            Err(Bypass::Invalid("system"))
        }
    }
}

fn block_of(block: Json) -> Result<(Text, Members), Bypass> {
    let Json::Object(mut block) = block else { return Err(CONTENT) };
    let Some(Json::Text(kind)) = block.take("type") else { return Err(CONTENT) };
    Ok((kind, block))
}

fn text_of(block: &mut Members) -> Result<Text, Bypass> {
    if let Some(Json::Text(text)) = block.take("text") { Ok(text) } else { Err(CONTENT) }
}

fn convert(mut given: Members, messages: &mut Vec<Json>) -> Result<(), Bypass> {
    let Some(Json::Text(role)) = given.take("role") else { return Err(Bypass::Invalid("messages.role")) };
    let is_user = match &*role {
        "user" => true,
        "assistant" => false,
        "system" => return Err(Bypass::InlineSystem),
        _ => return Err(Bypass::Invalid("messages.role")),
    };
    let mut message = Members::default();
    message.set("role", Json::Text(role));
    match given.take("content") {
        Some(text @ Json::Text(_)) => message.set("content", text),
        Some(Json::List(blocks)) => {
            let mut found = Blocks::default();
            for block in blocks {
                found.add(block, is_user, messages)?;
            }
            found.finish(&mut message);
        }
        _ => return Err(CONTENT),
    }
    if !is_user || message.get("content").is_some() {
        messages.push(Json::Object(message));
    }
    Ok(())
}

/// What a message's blocks come to.
#[derive(Default)]
struct Blocks {
    texts: Vec<Json>,
    calls: Vec<Json>,
    reasoning: Option<String>,
}

impl Blocks {
    fn add(&mut self, block: Json, is_user: bool, messages: &mut Vec<Json>) -> Result<(), Bypass> {
        let (kind, mut block) = block_of(block)?;
        match &*kind {
            "text" => {
                let text = text_of(&mut block)?;
                if !text.is_empty() {
                    self.texts.push(Json::object([("type", Json::text("text")), ("text", Json::Text(text))]));
                }
            }
            "thinking" => {
                let thinking = block.get("thinking").and_then(Json::as_text).ok_or(CONTENT)?;
                self.reasoning.get_or_insert_default().push_str(thinking);
            }
            "redacted_thinking" | "tool_reference" => {}
            "tool_use" => self.calls.push(call(block)?),
            "tool_result" if is_user => result(block, messages)?,
            "image" | "document" => return Err(Bypass::Multimodal),
            _ => return Err(CONTENT),
        }
        Ok(())
    }

    fn finish(mut self, message: &mut Members) {
        if let Some(reasoning) = self.reasoning {
            message.set("reasoning", Json::Text(reasoning.into()));
        }
        if !self.calls.is_empty() {
            message.set("tool_calls", Json::list(self.calls));
        }
        match self.texts.as_mut_slice() {
            [] => {}
            [Json::Object(only)] => message.set("content", only.take("text").unwrap_or_default()),
            _ => message.set("content", Json::list(self.texts)),
        }
    }
}

fn call(mut block: Members) -> Result<Json, Bypass> {
    // Without an id the engine makes one up from the time.
    let id = block.take("id").filter(|id| !id.is_falsy()).ok_or(Bypass::Invalid("messages.content.id"))?;
    let name = block.take("name").filter(|name| !name.is_falsy()).unwrap_or_else(|| Json::text(""));
    let arguments = block.take("input").unwrap_or_default();
    let function = Json::object([("name", name), ("arguments", arguments)]);
    Ok(Json::object([("id", id), ("type", Json::text("function")), ("function", function)]))
}

fn result(mut block: Members, messages: &mut Vec<Json>) -> Result<(), Bypass> {
    let id = block.take("tool_use_id").filter(|id| !id.is_falsy()).unwrap_or_else(|| Json::text(""));
    let mut references = Vec::new();
    let text = match block.take("content").unwrap_or_default() {
        Json::Text(text) => text,
        Json::List(items) => {
            let mut texts = Vec::new();
            for item in items {
                let (kind, mut item) = block_of(item)?;
                match &*kind {
                    "text" => texts.push(text_of(&mut item)?),
                    "tool_reference" => references.extend(reference(item)),
                    _ => return Err(Bypass::Multimodal),
                }
            }
            texts.join("\n").into()
        }
        Json::Null | Json::Bool(_) | Json::Whole(_) | Json::Huge(_) | Json::Float(_) | Json::Object(_) => "".into(),
    };
    let tool = |content: Json| {
        Json::object([("role", Json::text("tool")), ("tool_call_id", id.clone()), ("content", content)])
    };
    messages.push(tool(Json::Text(text)));
    if !references.is_empty() {
        messages.push(tool(Json::list(references)));
    }
    Ok(())
}

fn reference(mut item: Members) -> Option<Json> {
    let name = item.take("tool_name").filter(|name| !name.is_falsy()).or_else(|| item.take("name"))?;
    (!name.is_falsy()).then(|| Json::object([("type", Json::text("tool_reference")), ("name", name)]))
}
