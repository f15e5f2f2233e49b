//! Loads what exact residency needs of a model: its tokenizer, proven by its self-test, and its chat template.

use std::path::Path;
use std::sync::Arc;

use shared::template::ChatTemplate;
use shared::text_form::{LeadingSpace, Normalizer, Spaces, TextForm};
use shared::wire::{Normalization, Rendering, Spaces as WireSpaces};

use super::ExactModel;
use super::inquiries::Inquiries;
use super::judge::{Judge, LONGEST};
use super::token_ids::VocabularyRows;
use crate::config::{Exact, ModelFiles};
use crate::vocabulary::canonical::Canonical;
use crate::vocabulary::fetch::{Hub, Source, model_files};
use crate::vocabulary::model_files::{DEFAULT_TEMPLATE, ModelFiles as Found, RankHints};
use crate::vocabulary::{Seam, self_test};

/// What a gateway can take in one piece.
const LONGEST_TEMPLATE: usize = 60 << 10;

/// Letters and digits in the names and types of models whose prompts vLLM renders with code of its own, whatever template
/// their files bring.
const OWN_RENDERERS: [&str; 6] = ["gptoss", "deepseekv32", "deepseekv4", "kimik3", "cohere", "inkling"];

/// A model, and what judges the text that it generates; `None`: its tokenizer is not known well enough, or nobody wants it.
pub(super) struct Loaded {
    pub(super) model: ExactModel,
    pub(super) judge: Option<Judge>,
}

/// Loads the model that requests call `name`.
///
/// # Errors
/// Why its residency cannot be exact, for people.
pub(super) async fn load(exact: &Exact, name: &str) -> Result<Loaded, String> {
    let found = model_files(&source(exact), RankHints::default()).await.map_err(|error| error.to_string())?;
    let template = template(exact, &found).await?;
    if let Some(family) = own_renderer(exact, name).await
        && exact.chat_template.is_none()
    {
        return Err(format!("vLLM renders prompts of {family} models itself, not with their chat template"));
    }
    let bos_and_eos = [("bos_token", &found.config.bos_token), ("eos_token", &found.config.eos_token)];
    let special_tokens = bos_and_eos.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.clone()?)));
    let rendering = Rendering {
        model: name.to_owned(),
        template,
        special_tokens: special_tokens.collect(),
        default_kwargs: exact.chat_template_kwargs.clone(),
        frontend: exact.frontend.into(),
        ..Rendering::default()
    };
    let (checks, token_prompts) = (exact.check_generated, exact.token_prompts);
    let work = move || prove(&found, rendering, checks, token_prompts);
    // Parsing a tokenizer takes seconds, and a fault in it must not take the control plane down.
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("the tokenizer cannot be read: {error}"))?
}

/// Where it comes from, for people.
pub(super) fn origin(exact: &Exact) -> String {
    match source(exact) {
        Source::Path(path) => path.display().to_string(),
        Source::Hub(hub) => format!("{}/{} ({})", hub.endpoint, hub.model, hub.revision),
    }
}

fn source(exact: &Exact) -> Source {
    match &exact.files {
        ModelFiles::Folder(path) => Source::Path(path.clone()),
        ModelFiles::Hub { endpoint, model, revision } => {
            let hub = Hub::from_environment(model, |name| std::env::var(name).ok());
            let endpoint = endpoint.clone().unwrap_or_else(|| hub.endpoint.clone());
            Source::Hub(Hub { endpoint, revision: revision.clone(), ..hub })
        }
    }
}

async fn template(exact: &Exact, found: &Found) -> Result<String, String> {
    let text = match &exact.chat_template {
        Some(path) => tokio::fs::read_to_string(path).await.map_err(|error| format!("{}: {error}", path.display()))?,
        None if found.templates.iter().any(|template| template.name != DEFAULT_TEMPLATE) => {
            let names: Vec<&str> = found.templates.iter().map(|template| template.name.as_str()).collect();
            return Err(format!(
                "the model has several chat templates ({}): name one in chatTemplate",
                names.join(", ")
            ));
        }
        None => found.template(DEFAULT_TEMPLATE).unwrap_or_default().to_owned(),
    };
    if text.len() > LONGEST_TEMPLATE {
        return Err(format!("the chat template has {} bytes; gateways take {LONGEST_TEMPLATE}", text.len()));
    }
    Ok(text)
}

/// The family of the model when vLLM renders its prompts with code of its own.
async fn own_renderer(exact: &Exact, name: &str) -> Option<String> {
    let told = match &exact.files {
        ModelFiles::Folder(path) => model_type(path).await,
        ModelFiles::Hub { model, .. } => Some(model.clone()),
    };
    [told.as_deref(), Some(name)].into_iter().flatten().find_map(family).map(str::to_owned)
}

/// The family that a name or type of a model belongs to; spellings differ in case and punctuation only.
fn family(name: &str) -> Option<&'static str> {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    OWN_RENDERERS.into_iter().find(|family| plain.contains(family))
}

async fn model_type(folder: &Path) -> Option<String> {
    let text = tokio::fs::read(folder.join("config.json")).await.ok()?;
    let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
    config.get("model_type")?.as_str().map(str::to_owned)
}

/// Reads, tests, compiles.
fn prove(found: &Found, rendering: Rendering, checks: bool, token_prompts: Option<bool>) -> Result<Loaded, String> {
    let vocabulary = found.vocabulary().map_err(|error| error.to_string())?;
    let encoder = found.encoder(&vocabulary).map_err(|error| error.to_string())?;
    self_test::run(&vocabulary, &encoder).map_err(|refusal| format!("the tokenizer's self-test failed: {refusal}"))?;
    if vocabulary.root() == Seam::Edge {
        return Err("the tokenizer adds spaces before text, which is not followed yet".to_owned());
    }
    let form = vocabulary.form();
    let rendering = with_form(rendering, form);
    if !rendering.template.is_empty() {
        let checked = shared::table::codec::rendering(rendering.clone()).map_err(|error| error.to_string())?;
        ChatTemplate::of(&checked.1).map_err(|error| format!("the chat template: {error}"))?;
    }
    let tokens = vocabulary.table().clone();
    let canonical = if checks { Canonical::new(Arc::new(vocabulary), encoder, LONGEST) } else { None };
    let judge = canonical.map(Judge::new);
    let inquiries = judge.as_ref().map(|_| Inquiries::default());
    let for_gateways = VocabularyRows::new(&rendering.model, &tokens, token_prompts);
    let model = ExactModel { name: rendering.model.clone(), rendering, tokens, inquiries, for_gateways };
    Ok(Loaded { model, judge })
}

fn with_form(rendering: Rendering, form: &TextForm) -> Rendering {
    let normalization = match form.normalizer {
        Normalizer::None => Normalization::None,
        Normalizer::Nfc => Normalization::Nfc,
        Normalizer::Nfkc => Normalization::Nfkc,
    };
    let spaces = match form.spaces {
        Spaces::Plain => WireSpaces::Plain,
        Spaces::SentencePiece(LeadingSpace::Absent) => WireSpaces::Absent,
        Spaces::SentencePiece(LeadingSpace::First) => WireSpaces::First,
        Spaces::SentencePiece(LeadingSpace::EveryStretch) => WireSpaces::EveryStretch,
    };
    Rendering { normalization: normalization.into(), spaces: spaces.into(), bos: form.bos.clone(), ..rendering }
}

#[cfg(test)]
mod tests {
    use super::family;

    #[test]
    fn models_with_renderers_of_their_own_are_known_in_every_spelling() {
        for (name, want) in [
            ("openai/gpt-oss-20b", Some("gptoss")),
            ("gpt_oss", Some("gptoss")),
            ("deepseek-ai/DeepSeek-V3.2-Exp", Some("deepseekv32")),
            ("deepseek_v32", Some("deepseekv32")),
            ("deepseek-ai/DeepSeek-V3", None),
            ("moonshotai/Kimi-K3", Some("kimik3")),
            ("Qwen/Qwen3-8B", None),
            ("meta-llama/Llama-3.1-8B-Instruct", None),
        ] {
            assert_eq!(family(name), want, "{name}");
        }
    }
}
