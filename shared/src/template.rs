//! Prompts as the engines render them: chat templates (Jinja, as transformers runs it), compiled once and rendered for every
//! request, and the variables that vLLM derives from a request body.
//!
//! A prompt that differs from the engine's in one byte is worth nothing: what cannot be rendered exactly is an error here,
//! never a guess.

mod content_format;
mod environment;
mod error;
mod json_text;
pub mod json_tree;
mod json_values;
mod local_time;
mod python_text;
mod source;

use std::sync::Arc;

use minijinja::{Environment, Value};

pub use content_format::ContentFormat;
pub use error::{Location, TemplateError};
pub use json_tree::{Json, Members};
pub use local_time::LocalTime;

use environment::{NAME, environment};
use json_values::PythonDict;

/// Instructions that one rendering may take: some hundred messages with tools take 50,000. vLLM's Rust frontend has the same limit.
pub const DEFAULT_FUEL: u64 = 500_000;

/// What stands beside a template's source.
#[derive(Clone, Debug)]
pub struct TemplateOptions {
    /// Instructions of the engine before it gives up.
    pub fuel: u64,
    /// What a message's content is given as; nothing means as the template's loops tell.
    pub content_format: Option<ContentFormat>,
}

impl Default for TemplateOptions {
    fn default() -> Self {
        Self { fuel: DEFAULT_FUEL, content_format: None }
    }
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    content_format: ContentFormat,
    /// The names that the template reads and does not define, sorted.
    variables: Vec<String>,
    fuel: u64,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// When its syntax is wrong, with the place.
    pub fn compile(source: &str, options: TemplateOptions) -> Result<Self, TemplateError> {
        let source = source::adapted(source);
        let content_format = options.content_format.unwrap_or_else(|| ContentFormat::detect(&source));
        let failed = |error| TemplateError::of(&error, &source, options.fuel);
        let mut environment = environment(options.fuel).map_err(failed)?;
        environment.add_template_owned(NAME, source.clone().into_owned()).map_err(failed)?;
        let names = environment.get_template(NAME).map_err(failed)?.undeclared_variables(false);
        let mut variables: Vec<String> = names.into_iter().collect();
        variables.sort_unstable();
        Ok(Self { environment, content_format, variables, fuel: options.fuel })
    }

    /// What a message's content is given as.
    #[must_use]
    pub fn content_format(&self) -> ContentFormat {
        self.content_format
    }

    /// Whether the template reads the time: its prompts then change with it.
    #[must_use]
    pub fn reads_clock(&self) -> bool {
        self.reads("strftime_now")
    }

    /// Whether the template reads a variable of this name.
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        self.variables.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    /// Renders with these variables and no others.
    ///
    /// # Errors
    /// When the template refuses them or fails on them, with the place.
    pub fn render_context(&self, context: Members, now: Option<LocalTime>) -> Result<String, TemplateError> {
        let mut variables: Vec<(Arc<str>, Value)> =
            context.into_pairs().into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        if let Some(now) = now.filter(|_| self.reads_clock()) {
            variables.retain(|(name, _)| **name != *"strftime_now");
            variables.push(("strftime_now".into(), Value::from_function(move |format: &str| now.format(format))));
        }
        let failed = |error: minijinja::Error| {
            let source = self.environment.get_template(NAME).map(|template| template.source().to_owned());
            TemplateError::of(&error, &source.unwrap_or_default(), self.fuel)
        };
        let template = self.environment.get_template(NAME).map_err(failed)?;
        template.render(Value::from_object(PythonDict::new(variables))).map_err(failed)
    }
}
