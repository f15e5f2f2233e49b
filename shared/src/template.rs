//! Prompts as the engines render them: chat templates (Jinja, as transformers runs it), compiled once and rendered for every
//! request, and the variables that vLLM derives from a request body.
//!
//! A prompt that differs from the engine's in one byte is worth nothing: what cannot be rendered exactly is an error here,
//! never a guess.

mod bypass;
mod completion;
mod content_format;
mod environment;
mod error;
mod json_reader;
mod json_text;
mod json_tree;
mod json_values;
mod local_time;
mod python_methods;
mod python_text;
mod request;
mod source;
mod text;
mod tokenizer_config;

use minijinja::{Environment, Value};

pub use bypass::{Bypass, Unrendered};
pub use completion::{raw_prompt, sglang_prompt};
pub use content_format::ContentFormat;
pub use error::{Location, TemplateError};
pub use json_reader::JsonError;
pub use json_tree::{Json, List, Members};
pub use local_time::LocalTime;
pub use text::Text;
pub use tokenizer_config::{ConfigError, TokenizerConfig};

use environment::{NAME, environment};
use json_values::{CLOCK, Variables};
use request::{Model, anthropic, variables};

use crate::api::ApiKind;
use crate::table::rendering::{Frontend, Rendering};

/// Instructions that one rendering may take: some hundred messages with tools take 50,000. vLLM's Rust frontend has the same limit.
pub const DEFAULT_FUEL: u64 = 500_000;

/// What stands beside a template's source.
#[derive(Clone, Debug)]
pub struct TemplateOptions {
    /// Instructions of the engine before it gives up.
    pub fuel: u64,
    /// What a message's content is given as; nothing means as the template's loops tell.
    pub content_format: Option<ContentFormat>,
    /// Which of vLLM's servers prepares the messages.
    pub frontend: Frontend,
    /// `bos_token`, `eos_token` and their like.
    pub special_tokens: Members,
    /// `chat_template_kwargs` of the server.
    pub default_kwargs: Members,
    /// vLLM's `--exclude-tools-when-tool-choice-none`.
    pub hides_unused_tools: bool,
}

impl Default for TemplateOptions {
    fn default() -> Self {
        Self {
            fuel: DEFAULT_FUEL,
            content_format: None,
            frontend: Frontend::Python,
            special_tokens: Members::default(),
            default_kwargs: Members::default(),
            hides_unused_tools: false,
        }
    }
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    content_format: ContentFormat,
    /// The names that the template reads and does not define, sorted.
    variables: Vec<String>,
    knows_developer: bool,
    options: TemplateOptions,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// When its syntax is wrong, with the place.
    pub fn compile(source: &str, options: TemplateOptions) -> Result<Self, TemplateError> {
        let source = source::adapted(source);
        let content_format = options.content_format.unwrap_or_else(|| ContentFormat::detect(&source));
        let knows_developer = ["\"developer\"", "'developer'"].iter().any(|name| source.contains(name));
        let failed = |error| TemplateError::of(&error, &source, options.fuel);
        let mut environment = environment(options.fuel).map_err(failed)?;
        environment.add_template_owned(NAME, source.clone().into_owned()).map_err(failed)?;
        let names = environment.get_template(NAME).map_err(failed)?.undeclared_variables(false);
        let mut variables: Vec<String> = names.into_iter().collect();
        variables.sort_unstable();
        Ok(Self { environment, content_format, variables, knows_developer, options })
    }

    /// Compiles a model's template as the table tells it.
    ///
    /// # Errors
    /// When the template's syntax is wrong, the model has none, or the default kwargs are no JSON object.
    pub fn of(rendering: &Rendering) -> Result<Self, Unrendered> {
        if rendering.template.is_empty() {
            return Err(Bypass::NoTemplate.into());
        }
        let default_kwargs = match rendering.default_kwargs.as_str() {
            "" => Members::default(),
            text => object(text.as_bytes()).map_err(|_| Bypass::Invalid("default_kwargs"))?,
        };
        let mut special_tokens = Members::default();
        for (name, text) in &rendering.special_tokens {
            special_tokens.set(name, Json::text(text));
        }
        let options = TemplateOptions {
            frontend: rendering.frontend,
            special_tokens,
            default_kwargs,
            ..TemplateOptions::default()
        };
        Ok(Self::compile(&rendering.template, options)?)
    }

    /// What a message's content is given as.
    #[must_use]
    pub fn content_format(&self) -> ContentFormat {
        self.content_format
    }

    /// Whether the template reads the time: its prompts then change with it.
    #[must_use]
    pub fn reads_clock(&self) -> bool {
        self.reads(CLOCK)
    }

    /// Whether the template reads a variable of this name.
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        self.variables.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    /// Renders with these variables and no others; without a time, `strftime_now` is not defined.
    ///
    /// # Errors
    /// When the template refuses them or fails on them, with the place.
    pub fn render_context(&self, context: Members, now: Option<LocalTime>) -> Result<String, TemplateError> {
        let clock = now.filter(|_| self.reads_clock());
        let clock = clock.map(|now| Value::from_function(move |format: &str| now.format(format)));
        let template = self.environment.get_template(NAME).map_err(|error| self.failed(&error))?;
        let context = Value::from_object(Variables { members: context, clock });
        template.render(context).map_err(|error| self.failed(&error))
    }

    /// The prompt of a chat completion's body.
    ///
    /// # Errors
    /// When the engine's prompt cannot be known exactly, or the template fails.
    pub fn render_chat(&self, body: Members, now: Option<LocalTime>) -> Result<String, Unrendered> {
        if now.is_none() && self.reads_clock() {
            return Err(Bypass::Clock.into());
        }
        let model = Model {
            frontend: self.options.frontend,
            format: self.content_format,
            special_tokens: &self.options.special_tokens,
            default_kwargs: &self.options.default_kwargs,
            hides_unused_tools: self.options.hides_unused_tools,
            knows_developer: self.knows_developer,
        };
        let (variables, continuation) = variables(body, &model)?;
        let prompt = self.render_context(variables, now)?;
        match continuation {
            None => Ok(prompt),
            Some(continuation) => {
                continuation.cut(prompt).ok_or_else(|| Bypass::Invalid("continue_final_message").into())
            }
        }
    }

    /// The prompt of a request's body, for the APIs whose bodies are conversations.
    ///
    /// # Errors
    /// As [`Self::render_chat`]; the other APIs have no template.
    pub fn render(&self, api: ApiKind, body: Members, now: Option<LocalTime>) -> Result<String, Unrendered> {
        match api {
            ApiKind::ChatCompletions => self.render_chat(body, now),
            ApiKind::Messages => self.render_chat(anthropic::chat_body(body)?, now),
            ApiKind::RawPredict if body.given("anthropic_version").is_some() => {
                self.render_chat(anthropic::chat_body(body)?, now)
            }
            ApiKind::RawPredict if body.given("messages").is_some() => self.render_chat(body, now),
            ApiKind::Completions
            | ApiKind::Embeddings
            | ApiKind::Responses
            | ApiKind::RawPredict
            | ApiKind::VllmGenerate
            | ApiKind::SglangGenerate
            | ApiKind::Images
            | ApiKind::GrpcGenerate
            | ApiKind::GrpcEmbed => Err(Bypass::NoTemplate.into()),
        }
    }

    /// [`Self::render`] of a body's bytes.
    ///
    /// # Errors
    /// As there, and when the bytes are no JSON object.
    pub fn render_body(&self, api: ApiKind, body: &[u8], now: Option<LocalTime>) -> Result<String, Unrendered> {
        self.render(api, object(body)?, now)
    }

    #[cold]
    fn failed(&self, error: &minijinja::Error) -> TemplateError {
        let template = self.environment.get_template(NAME);
        TemplateError::of(error, template.as_ref().map_or("", |template| template.source()), self.options.fuel)
    }
}

/// Reads a JSON object.
///
/// # Errors
/// [`Bypass::Unreadable`] when it is none.
pub fn object(text: &[u8]) -> Result<Members, Bypass> {
    if let Ok(Json::Object(members)) = Json::parse(text) { Ok(members) } else { Err(Bypass::Unreadable) }
}
