//! Messages as vLLM's Python server hands them to a template. Content is what the template asks for, a text or a list of
//! parts, whatever the client sent; calls' arguments are objects, whatever the client wrote into the string.

use super::super::bypass::Bypass;
use super::super::content_format::ContentFormat;
use super::super::json_reader::JsonError;
use super::super::json_tree::{Json, List, Members};
use super::super::text::Text;
use super::Model;

const CONTENT: Bypass = Bypass::Invalid("messages.content");
const CALLS: Bypass = Bypass::Invalid("messages.tool_calls");

/// A line that Claude Code puts before its system prompt, different in every request.
pub(super) const BILLING_HEADER: &str = "x-anthropic-billing-header";

/// Members of content parts that a template does not see of a text.
const KNOWN_OF_PARTS: [&str; 18] = [
    "type",
    "text",
    "refusal",
    "thinking",
    "closed",
    "image_url",
    "input_audio",
    "file",
    "audio_url",
    "video_url",
    "image_pil",
    "image_embeds",
    "audio_embeds",
    "video_embeds",
    "prompt_embeds",
    "data",
    "name",
    "uuid",
];

pub(super) fn messages(messages: List, model: &Model<'_>) -> Result<Vec<Json>, Bypass> {
    let mut all = messages.into_iter().map(|given| message(given, model.format)).collect::<Result<Vec<_>, _>>()?;
    if !model.knows_developer && all.iter().any(|message| role_of(message) == "developer") {
        all = without_developers(all, model.format)?;
    }
    Ok(all.into_iter().map(Json::Object).collect())
}

fn role_of(message: &Members) -> &str {
    message.get("role").and_then(Json::as_text).unwrap_or_default()
}

fn message(given: Json, format: ContentFormat) -> Result<Members, Bypass> {
    let Json::Object(mut given) = given else { return Err(Bypass::Invalid("messages")) };
    let Some(Json::Text(role)) = given.take("role") else { return Err(Bypass::Invalid("messages.role")) };
    let content = content(given.take("content").unwrap_or_default(), &role, format)?;
    let mut message = Members::default();
    message.set("role", Json::Text(role.clone()));
    message.set("content", content);
    match &*role {
        "assistant" => add_of_assistant(&mut message, &mut given)?,
        "tool" => {
            if let Some(id) = given.take("tool_call_id") {
                message.set("tool_call_id", id);
            }
        }
        _ => {}
    }
    for name in ["name", "task"] {
        if let Some(text) = given.take(name).filter(|text| text.as_text().is_some()) {
            message.set(name, text);
        }
    }
    if &*role == "developer" {
        message.set("tools", given.take("tools").unwrap_or_default());
    }
    Ok(message)
}

fn content(given: Json, role: &str, format: ContentFormat) -> Result<Json, Bypass> {
    let parts = parts(given, role)?;
    Ok(match format {
        ContentFormat::Text => joined(&parts),
        // What tools answer is a text wherever it can be: few templates expect anything else.
        ContentFormat::Parts if role == "tool" && parts.iter().all(|part| !part.is_reference) => {
            let texts: Vec<&str> = parts.iter().map(|part| &*part.text).collect();
            Json::text(&texts.join("\n"))
        }
        ContentFormat::Parts => Json::List(parts.into_iter().map(Part::into_json).collect()),
    })
}

/// A text of a message's content.
struct Part {
    text: Text,
    /// It names a tool instead of being a text.
    is_reference: bool,
    /// Members that the API does not know.
    others: Vec<(Text, Json)>,
}

impl Part {
    fn plain(text: Text) -> Self {
        Self { text, is_reference: false, others: Vec::new() }
    }

    fn into_json(self) -> Json {
        let (kind, name) = if self.is_reference { ("tool_reference", "name") } else { ("text", "text") };
        let mut members = Members::default();
        members.set("type", Json::text(kind));
        members.set(name, Json::Text(self.text));
        for (name, value) in self.others {
            members.set(&name, value);
        }
        Json::Object(members)
    }
}

fn joined(parts: &[Part]) -> Json {
    let mut texts = parts.iter().map(|part| &part.text).filter(|text| !text.is_empty());
    match (texts.next(), texts.next()) {
        (None, _) => Json::text(""),
        (Some(only), None) => Json::Text(only.clone()),
        (Some(first), Some(second)) => {
            let mut all = [first, "\n", second].concat();
            for text in texts {
                all.push('\n');
                all.push_str(text);
            }
            Json::Text(all.into())
        }
    }
}

fn parts(content: Json, role: &str) -> Result<Vec<Part>, Bypass> {
    let items = match content {
        Json::Null => Vec::new(),
        Json::Text(_) => vec![content],
        Json::List(items) => items.into_vec(),
        Json::Bool(_) | Json::Whole(_) | Json::Huge(_) | Json::Float(_) | Json::Object(_) => return Err(CONTENT),
    };
    let mut parts = Vec::with_capacity(items.len());
    for item in items {
        let Some(mut part) = part(item)? else { continue };
        if role == "system" && !part.is_reference && part.text.starts_with(BILLING_HEADER) {
            match part.text.split_once('\n') {
                Some((_, rest)) if !rest.is_empty() => part.text = rest.into(),
                _ => continue,
            }
        }
        parts.push(part);
    }
    Ok(parts)
}

fn part(item: Json) -> Result<Option<Part>, Bypass> {
    let mut members = match item {
        Json::Text(text) => return Ok(Some(Part::plain(text))),
        Json::Object(members) => members,
        Json::Null | Json::Bool(_) | Json::Whole(_) | Json::Huge(_) | Json::Float(_) | Json::List(_) => {
            return Err(CONTENT);
        }
    };
    let kind = members.get("type").and_then(Json::as_text);
    let (name, is_reference) = match kind {
        Some("text" | "input_text" | "output_text") => ("text", false),
        Some("refusal") => ("refusal", false),
        Some("thinking") => ("thinking", false),
        Some("tool_reference") => ("name", true),
        _ => return Err(Bypass::Multimodal),
    };
    if members.given("uuid").is_some() {
        return Err(Bypass::Multimodal);
    }
    let may_be_null = matches!(kind, Some("text" | "refusal"));
    match members.take(name) {
        Some(Json::Text(text)) => {
            let mut others = members.into_pairs();
            others.retain(|(name, _)| !is_reference && !KNOWN_OF_PARTS.contains(&&**name));
            Ok(Some(Part { text, is_reference, others }))
        }
        None | Some(Json::Null) if may_be_null => Ok(None),
        _ => Err(CONTENT),
    }
}

fn add_of_assistant(message: &mut Members, given: &mut Members) -> Result<(), Bypass> {
    match given.take("tool_calls") {
        None | Some(Json::Null) => {}
        Some(Json::List(calls)) if calls.is_empty() => {}
        Some(Json::List(calls)) => {
            let calls = calls.into_iter().map(call).collect::<Result<_, _>>()?;
            message.set("tool_calls", Json::List(calls));
        }
        Some(_) => return Err(CALLS),
    }
    let old = given.take("reasoning_content").filter(|value| *value != Json::Null);
    match given.take("reasoning").filter(|value| *value != Json::Null).or(old) {
        None => {}
        Some(Json::Text(reasoning)) => {
            message.set("reasoning", Json::Text(reasoning.clone()));
            message.set("reasoning_content", Json::Text(reasoning));
        }
        Some(_) => return Err(Bypass::Invalid("messages.reasoning")),
    }
    Ok(())
}

/// The engine reads calls into types of its own: their members come in its order, what it does not know behind them.
fn call(given: Json) -> Result<Json, Bypass> {
    let Json::Object(mut given) = given else { return Err(CALLS) };
    if given.get("type").is_some_and(|kind| kind.as_text() != Some("function")) {
        return Err(CALLS);
    }
    let Some(Json::Object(function)) = given.take("function") else { return Err(CALLS) };
    let mut function = ordered(function, &["arguments", "name"]);
    let arguments = arguments(function.take("arguments").unwrap_or_default())?;
    function.set("arguments", arguments);
    given.set("function", Json::Object(function));
    Ok(Json::Object(ordered(given, &["id", "function", "type"])))
}

fn ordered(mut members: Members, names: &[&str]) -> Members {
    let mut ordered: Vec<(Text, Json)> =
        names.iter().filter_map(|&name| Some((name.into(), members.remove(name)?))).collect();
    ordered.extend(members.into_pairs());
    Members::unique(ordered)
}

/// An object, whatever was written: a conversation must be able to go on after a model's broken call.
fn arguments(given: Json) -> Result<Json, Bypass> {
    let mut read = given;
    if let Some(text) = read.as_text().filter(|text| !text.is_empty()) {
        read = match Json::parse(text.as_bytes()) {
            Ok(read) => read,
            Err(error) if may_be_json(text, error) => return Err(Bypass::Unreadable),
            Err(_) => Json::Null,
        };
    }
    Ok(if read.as_object().is_some() { read } else { Json::Object(Members::default()) })
}

/// Python reads what is not read here: what the template gets of it is not known.
fn may_be_json(text: &str, error: JsonError) -> bool {
    let is_deep = text.bytes().filter(|letter| matches!(letter, b'[' | b'{')).count() > 100;
    is_deep || error == JsonError::Number || ["\\u", "NaN", "Infinity"].iter().any(|sign| text.contains(sign))
}

/// A template that does not know developers gets their words as a system's: one message before all others.
fn without_developers(messages: Vec<Members>, format: ContentFormat) -> Result<Vec<Members>, Bypass> {
    if format == ContentFormat::Parts {
        return Err(Bypass::DeveloperRole);
    }
    let (systems, others): (Vec<_>, Vec<_>) =
        messages.into_iter().partition(|message| matches!(role_of(message), "system" | "developer"));
    let texts: Vec<&str> =
        systems.iter().filter_map(|message| message.get("content").and_then(Json::as_text)).collect();
    if texts.iter().any(|text| text.is_empty()) {
        return Err(Bypass::DeveloperRole);
    }
    let mut system = Members::default();
    system.set("role", Json::text("system"));
    system.set("content", Json::text(&texts.join("\n\n")));
    Ok(std::iter::once(system).chain(others).collect())
}
