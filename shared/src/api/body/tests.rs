//! The scanner against serde_json (`agreement`), against its own laws (`laws`), its words (`sentences`), and
//! the key that no engine may see (`forbidden`, `search` where nothing else is read), another model's name (`renamed`),
//! the engines' own dialects (`dialects`), and gRPC's messages (`messages`).

mod agreement;
mod dialects;
mod forbidden;
mod laws;
mod messages;
mod renamed;
mod search;
mod sentences;

use crate::api::{ApiKind, BodyError, BodyScanner, PromptView};

/// All whose bodies are JSON.
pub(super) const KINDS: [ApiKind; 9] = [
    ApiKind::ChatCompletions,
    ApiKind::Completions,
    ApiKind::Embeddings,
    ApiKind::Responses,
    ApiKind::Messages,
    ApiKind::VllmGenerate,
    ApiKind::SglangGenerate,
    ApiKind::Images,
    ApiKind::RawPredict,
];

/// A view that owns its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) model: Option<String>,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) max_output_tokens: Option<u32>,
    pub(super) cache_salt: Option<String>,
    pub(super) prompt: Prompt,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    Text(Vec<u8>),
    Tokens(Vec<u32>),
}

pub(super) fn scan_chunks<'c>(
    scanner: &mut BodyScanner,
    chunks: impl IntoIterator<Item = &'c [u8]>,
) -> Result<Owned, BodyError> {
    for chunk in chunks {
        scanner.push(chunk)?;
    }
    let view = scanner.finish()?;
    let prompt = match view.prompt {
        PromptView::Text(text) => {
            let bytes = text.pieces().flatten().copied().collect::<Vec<_>>();
            assert_eq!(bytes.len(), text.len_bytes());
            Prompt::Text(bytes)
        }
        PromptView::Tokens(ids) => {
            let tokens: Vec<_> = ids.bytes().as_chunks().0.iter().map(|&id| u32::from_le_bytes(id)).collect();
            assert_eq!(tokens.len(), ids.count());
            Prompt::Tokens(tokens)
        }
    };
    Ok(Owned {
        model: view.model.map(str::to_owned),
        stream: view.stream,
        include_usage: view.include_usage,
        max_output_tokens: view.max_output_tokens,
        cache_salt: view.cache_salt.map(str::to_owned),
        prompt,
    })
}

pub(super) fn scan(kind: ApiKind, body: impl AsRef<[u8]>) -> Result<Owned, BodyError> {
    scan_chunks(&mut BodyScanner::new(kind), [body.as_ref()])
}

/// The prompt's canonical text.
pub(super) fn canonical(kind: ApiKind, body: impl AsRef<[u8]>) -> Vec<u8> {
    match scan(kind, body).expect("a good body").prompt {
        Prompt::Text(text) => text,
        Prompt::Tokens(_) => panic!("token ids where text was expected"),
    }
}
