//! Chat templates: Jinja as Hugging Face runs it, by minijinja with Python's string and dict methods.
//!
//! Not every Python habit is imitated (lists printed inside text, `strftime_now`, `generation` blocks that are read back): this
//! renders templates that keep to Jinja.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::Serialize;

use super::LanguageError;

const NAME: &str = "chat";

/// How a template takes a message's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentForm {
    /// As text.
    Text,
    /// As a list of parts.
    Parts,
}

/// What is rendered.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    /// Messages as the template sees them.
    pub(crate) messages: Vec<Value>,
    /// None when the request has none.
    pub(crate) tools: Option<Value>,
    /// `chat_template_kwargs`; they override everything else.
    pub(crate) kwargs: Value,
    /// Whether the head of an answer ends the prompt.
    pub(crate) add_generation_prompt: bool,
}

/// A compiled template.
#[derive(Debug)]
pub(super) struct Template {
    environment: Environment<'static>,
    content_form: ContentForm,
}

impl Template {
    pub(super) fn compile(source: String) -> Result<Self, LanguageError> {
        let failed = |error: Error| LanguageError::Template(error.to_string());
        let content_form = content_form(&source);
        let mut environment = Environment::new();
        let mut syntax = minijinja::syntax::SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().map_err(failed)?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, without_generation_tags(&source)).map_err(failed)?;
        Ok(Self { environment, content_form })
    }

    pub(super) fn content_form(&self) -> ContentForm {
        self.content_form
    }

    pub(super) fn render(&self, conversation: Conversation) -> Result<String, String> {
        let Conversation { messages, tools, kwargs, add_generation_prompt } = conversation;
        let base = context! { messages, tools, add_generation_prompt, bos_token => "", eos_token => "" };
        let all = if kwargs.kind() == ValueKind::Map {
            context! { ..kwargs, ..base }
        } else {
            base
        };
        let template = self.environment.get_template(NAME).map_err(|error| error.to_string())?;
        template.render(all).map_err(|error| error.detail().map_or_else(|| error.to_string(), str::to_owned))
    }
}

/// A template that walks through a message's content wants parts.
fn content_form(source: &str) -> ContentForm {
    let walks =
        ["in message['content']", "in message[\"content\"]", "in message.content", "in content ", "in m.content"];
    if walks.iter().any(|walk| source.contains(walk)) { ContentForm::Parts } else { ContentForm::Text }
}

/// `{% generation %}` marks what was generated, for training; rendering ignores it.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tag)) = rest.split_once("{%") {
        let Some((inside, after)) = tag.split_once("%}") else { break };
        let name = inside.trim_matches(['-', '+', ' ', '\n', '\t']);
        out.push_str(before);
        if matches!(name, "generation" | "endgeneration") {
            // An empty block keeps the tag's effect on the white space around it.
            let replaced = inside.replace(name, "set _generation = none");
            out.push_str(&format!("{{%{replaced}%}}"));
        } else {
            out.push_str(&format!("{{%{inside}%}}"));
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Python's `json.dumps(…, ensure_ascii=False)`: a space after commas and colons, unless `indent` is given.
fn to_json(value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    let ascii: Option<bool> = kwargs.get("ensure_ascii")?;
    kwargs.assert_all_used()?;
    let mut out = Vec::new();
    let written = match indent {
        Some(width) => {
            let indent = " ".repeat(width);
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)),
    };
    let failed = |error: String| Error::new(ErrorKind::BadSerialization, error);
    written.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8(out).map_err(|error| failed(error.to_string()))?;
    let text = if ascii == Some(true) { escape_non_ascii(&text) } else { text };
    Ok(Value::from_safe_string(text))
}

fn escape_non_ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str, messages: &str, kwargs: &str) -> Result<String, String> {
        let messages: Vec<Value> = serde_json::from_str(messages).unwrap();
        let kwargs = serde_json::from_str(kwargs).unwrap();
        let conversation = Conversation { messages, tools: None, kwargs, add_generation_prompt: true };
        Template::compile(source.to_owned()).unwrap().render(conversation)
    }

    #[test]
    fn blocks_are_trimmed_and_python_methods_exist() {
        let source = "{% for m in messages %}\n  {% if m.role.startswith('us') %}\n[{{ m.content.strip() }}]\n  {% endif %}\n{% endfor %}\n";
        assert_eq!(rendered(source, r#"[{"role":"user","content":" hi "}]"#, "null").unwrap(), "[hi]\n");
    }

    #[test]
    fn json_is_spelled_as_python_spells_it_and_keeps_its_order() {
        let messages = r#"[{"z":1,"a":[1.5,true,null,"é<"]}]"#;
        assert_eq!(
            rendered("{{ messages[0] | tojson }}", messages, "null").unwrap(),
            r#"{"z": 1, "a": [1.5, true, null, "é<"]}"#
        );
    }

    #[test]
    fn kwargs_reach_the_template_and_an_exception_is_its_own_words() {
        assert_eq!(rendered("{{ enable_thinking }}", "[]", r#"{"enable_thinking":false}"#).unwrap(), "False");
        assert_eq!(rendered("{{ raise_exception('no system role') }}", "[]", "null").unwrap_err(), "no system role");
    }

    #[test]
    fn generation_tags_vanish() {
        assert_eq!(rendered("a {%- generation -%} b {%- endgeneration %} c", "[]", "null").unwrap(), "ab c");
    }
}
