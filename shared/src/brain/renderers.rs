//! The compiled side of the table's renderings: from a request body to the text that the engine tokenizes. Compiled when
//! the table changes, never while a request waits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::ApiKind;
use crate::clock::Timestamp;
use crate::table::Pool;
use crate::table::rendering::Rendering;
use crate::template::{Bypass, ChatTemplate, LocalTime, Unrendered, object, raw_prompt, sglang_prompt};

/// By pool, then by base model.
#[derive(Debug, Default)]
pub(crate) struct Renderers {
    pools: BTreeMap<String, BTreeMap<String, Renderer>>,
}

/// One model's rendering, ready for use.
#[derive(Debug)]
pub(crate) struct Renderer {
    row: Arc<Rendering>,
    template: Result<ChatTemplate, Unrendered>,
}

impl Renderers {
    /// Follows the table; what did not change is kept.
    pub(crate) fn align(&mut self, pools: &BTreeMap<String, Pool>) {
        self.pools.retain(|name, _| pools.get(name).is_some_and(|pool| !pool.renderings.is_empty()));
        for (name, pool) in pools.iter().filter(|(_, pool)| !pool.renderings.is_empty()) {
            let known = self.pools.entry(name.clone()).or_default();
            known.retain(|model, _| pool.renderings.contains_key(model));
            for (model, row) in &pool.renderings {
                if known.get(model).is_none_or(|renderer| !Arc::ptr_eq(&renderer.row, row)) {
                    known.insert(model.clone(), Renderer::new(row));
                }
            }
        }
    }

    /// Could a request to this pool (`None`: any) need its whole body?
    pub(crate) fn wants_bodies(&self, pool: Option<&str>) -> bool {
        pool.map_or(!self.pools.is_empty(), |pool| self.pools.contains_key(pool))
    }

    /// The renderer of base model `model` in `pool`.
    pub(crate) fn get(&self, pool: &str, model: &str) -> Option<&Renderer> {
        self.pools.get(pool)?.get(model)
    }
}

impl Renderer {
    fn new(row: &Arc<Rendering>) -> Self {
        Self { row: Arc::clone(row), template: ChatTemplate::of(row) }
    }

    /// The text whose bytes the engine's tokens stand for, of a request that came at `now`.
    ///
    /// # Errors
    /// When it cannot be known exactly; the prompt's prefix is then looked up by what was learned.
    pub(crate) fn prompt(&self, api: ApiKind, body: &[u8], now: Timestamp) -> Result<String, Unrendered> {
        let raw = match api {
            ApiKind::Completions => Some(raw_prompt(object(body)?)?),
            ApiKind::SglangGenerate => Some(sglang_prompt(object(body)?)?),
            ApiKind::VllmGenerate | ApiKind::GrpcGenerate | ApiKind::GrpcEmbed => return Err(Bypass::TokenIds.into()),
            ApiKind::ChatCompletions
            | ApiKind::Embeddings
            | ApiKind::Responses
            | ApiKind::Messages
            | ApiKind::Images
            | ApiKind::RawPredict => None,
        };
        if let Some(prompt) = raw {
            return Ok(self.row.form.completion(&prompt).into_owned());
        }
        let template = self.template.as_ref().map_err(Clone::clone)?;
        let prompt = template.render_body(api, body, Some(local_time(now)))?;
        Ok(match self.row.form.rendered(&prompt) {
            Cow::Owned(changed) => changed,
            Cow::Borrowed(same) if same.len() == prompt.len() => prompt,
            Cow::Borrowed(part) => part.to_owned(),
        })
    }
}

/// Engines in containers live in UTC.
fn local_time(now: Timestamp) -> LocalTime {
    LocalTime { unix_seconds: i64::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(i64::MAX), utc_offset_seconds: 0 }
}
