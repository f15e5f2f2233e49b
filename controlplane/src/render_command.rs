//! `kvasir render`: the prompt that an engine makes of a request, to the byte. The same code renders in the filter; so what
//! differs from the engine's prompt here, differs there.

mod difference;
mod fetch;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail};
use controlplane::vocabulary::Vocabulary;
use controlplane::vocabulary::fetch::{Source, model_files};
use controlplane::vocabulary::model_files::RankHints;
use shared::api::ApiKind;
use shared::table::rendering::Frontend;
use shared::template::{
    ChatTemplate, ContentFormat, Json, LocalTime, Members, TemplateOptions, TokenizerConfig, raw_prompt,
};
use shared::text_form::TextForm;

pub(crate) use self::difference::Comparison;
use self::fetch::Told;
use crate::cli::{Render, RenderFormat, RenderFrontend};

/// What is to be printed.
pub(crate) fn render(asked: &Render) -> anyhow::Result<String> {
    let now = asked.now.as_deref().map_or_else(|| Ok(utc_now()), time)?;
    match (&asked.input.context, &asked.input.request) {
        (Some(file), _) => {
            let (template, tokens) = template(asked, false)?;
            let mut variables = tokens;
            for (name, value) in object(file)?.iter() {
                variables.set(name, value.clone());
            }
            let rendered = template.render_context(variables, Some(now));
            rendered.with_context(|| asked.template.display().to_string())
        }
        (None, Some(file)) => of_request(asked, object(file)?, now, file),
        (None, None) => bail!("give --request or --context"),
    }
}

/// Our prompt against that of the engine at `url`.
pub(crate) async fn compare(asked: &Render, url: &str) -> anyhow::Result<Comparison> {
    let file = asked.input.request.as_deref().context("--compare: give --request")?;
    let ours = render(asked)?;
    let vocabulary = match &asked.tokenizer {
        Some(path) => Some(vocabulary(path).await?),
        None => None,
    };
    match (fetch::prompt(url, &asked.path, object(file)?, vocabulary.is_some()).await?, vocabulary) {
        (Told::Text(text), _) => Ok(difference::compare(ours.as_bytes(), text.as_bytes())),
        (Told::Tokens(ids), Some(vocabulary)) => {
            let mut bytes = Vec::new();
            vocabulary.decode(&ids, vocabulary.root(), &mut bytes).context("--tokenizer is not the engine's")?;
            Ok(difference::compare(vocabulary.form().rendered(&ours).as_bytes(), &bytes))
        }
        (Told::Tokens(_), None) => bail!("give --tokenizer to compare by token ids"),
    }
}

async fn vocabulary(path: &Path) -> anyhow::Result<Vocabulary> {
    let name = || path.display().to_string();
    let found = model_files(&Source::Path(path.to_owned()), RankHints::default()).await.with_context(name)?;
    found.vocabulary().with_context(name)
}

fn of_request(asked: &Render, body: Members, now: LocalTime, file: &Path) -> anyhow::Result<String> {
    match ApiKind::from_path(asked.path.as_bytes()) {
        Some(ApiKind::Completions) => {
            let (_, tokens) = source(asked, false)?;
            let prompt = raw_prompt(body).map_err(|why| anyhow!("{}: {why}", file.display()))?;
            let bos = tokens.get("bos_token").and_then(Json::as_text).unwrap_or_default().to_owned();
            Ok(TextForm { bos, ..TextForm::default() }.completion(&prompt).into_owned())
        }
        Some(api @ (ApiKind::ChatCompletions | ApiKind::Messages)) => {
            let with_tools = body.given("tools").is_some();
            let (template, _) = template(asked, with_tools)?;
            let rendered = template.render(api, body, Some(now));
            rendered.with_context(|| format!("{} with {}", file.display(), asked.template.display()))
        }
        Some(
            ApiKind::Embeddings
            | ApiKind::Responses
            | ApiKind::VllmGenerate
            | ApiKind::SglangGenerate
            | ApiKind::Images
            | ApiKind::RawPredict
            | ApiKind::GrpcGenerate
            | ApiKind::GrpcEmbed,
        )
        | None => {
            bail!("--path {}: must be that of chat completions, messages or completions", asked.path)
        }
    }
}

/// The template's source and the special tokens.
fn source(asked: &Render, with_tools: bool) -> anyhow::Result<(String, Members)> {
    let name = asked.template.display();
    let text = std::fs::read_to_string(&asked.template).with_context(|| name.to_string())?;
    let (source, mut tokens) = if asked.template.extension().is_some_and(|end| end == "json") {
        let config = TokenizerConfig::parse(text.as_bytes()).with_context(|| name.to_string())?;
        let source = config.template(with_tools).with_context(|| {
            format!(
                "{name}: has no chat_template; there may be a chat_template.jinja beside it: give that as --template"
            )
        })?;
        (source.to_owned(), config.special_tokens().clone())
    } else {
        (text, Members::default())
    };
    for (name, given) in [("bos_token", &asked.bos), ("eos_token", &asked.eos)] {
        if let Some(text) = given {
            tokens.set(name, Json::text(text));
        }
    }
    Ok((source, tokens))
}

fn template(asked: &Render, with_tools: bool) -> anyhow::Result<(ChatTemplate, Members)> {
    let (source, special_tokens) = source(asked, with_tools)?;
    let default_kwargs = match asked.default_kwargs.as_deref().map(|text| Json::parse(text.as_bytes())).transpose() {
        Ok(None) => Members::default(),
        Ok(Some(Json::Object(kwargs))) => kwargs,
        Ok(Some(_)) => bail!("--default-kwargs: must be a JSON object"),
        Err(error) => return Err(error).context("--default-kwargs"),
    };
    let options = TemplateOptions {
        content_format: match asked.content_format {
            RenderFormat::Auto => None,
            RenderFormat::String => Some(ContentFormat::Text),
            RenderFormat::Openai => Some(ContentFormat::Parts),
        },
        frontend: match asked.frontend {
            RenderFrontend::Python => Frontend::Python,
            RenderFrontend::Rust => Frontend::Rust,
        },
        special_tokens: special_tokens.clone(),
        default_kwargs,
        ..TemplateOptions::default()
    };
    let template = ChatTemplate::compile(&source, options).with_context(|| asked.template.display().to_string())?;
    Ok((template, special_tokens))
}

fn object(file: &Path) -> anyhow::Result<Members> {
    let text = std::fs::read(file).with_context(|| file.display().to_string())?;
    let Json::Object(members) = Json::parse(&text).with_context(|| file.display().to_string())? else {
        bail!("{}: must be a JSON object", file.display());
    };
    Ok(members)
}

fn time(text: &str) -> anyhow::Result<LocalTime> {
    LocalTime::parse(text).with_context(|| format!("--now {text}: must be like 2026-07-09T18:00:00+02:00"))
}

fn utc_now() -> LocalTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    LocalTime { unix_seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), utc_offset_seconds: 0 }
}
