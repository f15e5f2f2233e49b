//! Messages as vLLM's Rust server hands them to a template. Unlike Python's it leaves a text a text where the template takes
//! parts, puts nothing between the parts of a text, drops names, and refuses a call whose arguments are no JSON.

use super::super::bypass::Bypass;
use super::super::content_format::ContentFormat;
use super::super::json_tree::{Json, List, Members};
use super::super::text::Text;
use super::{Model, tools};

const CONTENT: Bypass = Bypass::Invalid("messages.content");
const CALLS: Bypass = Bypass::Invalid("messages.tool_calls");

pub(super) fn messages(messages: List, model: &Model<'_>) -> Result<Vec<Json>, Bypass> {
    messages.into_iter().map(|given| message(given, model).map(Json::Object)).collect()
}

fn message(given: Json, model: &Model<'_>) -> Result<Members, Bypass> {
    let Json::Object(mut given) = given else { return Err(Bypass::Invalid("messages")) };
    let Some(Json::Text(role)) = given.take("role") else { return Err(Bypass::Invalid("messages.role")) };
    let content = given.take("content").unwrap_or_default();
    let mut message = Members::default();
    message.set("role", Json::Text(role.clone()));
    match &*role {
        "system" | "user" => message.set("content", formatted(content, model.format)?),
        "developer" => {
            if !model.knows_developer {
                return Err(Bypass::DeveloperRole);
            }
            message.set("content", formatted(content, model.format)?);
            if let Some(given) = given.given("tools").and_then(Json::as_list).filter(|given| !given.is_empty()) {
                message.set("tools", tools::list(given)?);
            }
        }
        "tool" => {
            message.set("content", formatted(content, model.format)?);
            let id = given.take("tool_call_id").filter(|id| id.as_text().is_some());
            message.set("tool_call_id", id.ok_or(Bypass::Invalid("messages.tool_call_id"))?);
        }
        "assistant" => add_of_assistant(&mut message, content, given)?,
        _ => return Err(Bypass::Invalid("messages.role")),
    }
    Ok(message)
}

fn formatted(content: Json, format: ContentFormat) -> Result<Json, Bypass> {
    match (content, format) {
        (Json::Text(text), _) => Ok(Json::Text(text)),
        (Json::List(parts), ContentFormat::Text) => Ok(Json::text(&texts(parts)?.concat())),
        (Json::List(parts), ContentFormat::Parts) => {
            let part = |text| Json::object([("type", Json::text("text")), ("text", Json::Text(text))]);
            Ok(Json::List(texts(parts)?.into_iter().map(part).collect()))
        }
        _ => Err(CONTENT),
    }
}

fn texts(parts: List) -> Result<Vec<Text>, Bypass> {
    let text = |part: Json| {
        let Json::Object(mut part) = part else { return Err(CONTENT) };
        if part.get("type").and_then(Json::as_text) != Some("text") {
            return Err(Bypass::Multimodal);
        }
        if let Some(Json::Text(text)) = part.take("text") { Ok(text) } else { Err(CONTENT) }
    };
    parts.into_iter().map(text).collect()
}

fn add_of_assistant(message: &mut Members, content: Json, mut given: Members) -> Result<(), Bypass> {
    let was_given = content != Json::Null;
    let text = match content {
        Json::Null => Json::text(""),
        Json::List(parts) => Json::text(&texts(parts)?.concat()),
        text @ Json::Text(_) => text,
        Json::Bool(_) | Json::Whole(_) | Json::Huge(_) | Json::Float(_) | Json::Object(_) => return Err(CONTENT),
    };
    message.set("content", text);
    let old = given.take("reasoning_content").filter(|value| *value != Json::Null);
    let reasoning = given.take("reasoning").filter(|value| *value != Json::Null).or(old);
    let reasoning = reasoning.filter(|reasoning| reasoning.as_text() != Some(""));
    let calls = match given.take("tool_calls") {
        None | Some(Json::Null) => Vec::new(),
        Some(Json::List(calls)) => calls.into_iter().map(call).collect::<Result<_, _>>()?,
        Some(_) => return Err(CALLS),
    };
    if !was_given && reasoning.is_none() && calls.is_empty() {
        return Err(CONTENT);
    }
    if let Some(reasoning) = reasoning {
        message.set("reasoning", reasoning.clone());
        message.set("reasoning_content", reasoning);
    }
    if !calls.is_empty() {
        message.set("tool_calls", Json::list(calls));
    }
    Ok(())
}

fn call(given: Json) -> Result<Json, Bypass> {
    let Json::Object(mut given) = given else { return Err(CALLS) };
    let Some(Json::Object(mut function)) = given.take("function") else { return Err(CALLS) };
    let (Some(id @ Json::Text(_)), Some(name @ Json::Text(_))) = (given.take("id"), function.take("name")) else {
        return Err(CALLS);
    };
    let arguments = match function.take("arguments") {
        None | Some(Json::Null) => Json::Object(Members::default()),
        Some(Json::Text(text)) => Json::parse(text.as_bytes()).map_err(|_| CALLS)?,
        Some(_) => return Err(CALLS),
    };
    let function = Json::object([("name", name), ("arguments", arguments)]);
    Ok(Json::object([("id", id), ("type", Json::text("function")), ("function", function)]))
}
