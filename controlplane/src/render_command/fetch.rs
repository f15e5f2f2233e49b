//! Asks an engine which prompt it makes of a request: its render endpoint where there is one, which computes nothing; else
//! the shortest answer, with the prompt's text in it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::StatusCode;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;
use shared::template::{Json, Members};

/// A model that is busy answers late.
const WITHIN: Duration = Duration::from_secs(60);

/// A prompt, as an engine tells it.
pub(super) enum Told {
    /// Its text.
    Text(String),
    /// Its tokens.
    Tokens(Vec<u32>),
}

/// The prompt that the engine at `url` makes of `body`, sent to `path`. `tokens`: token ids will do.
pub(super) async fn prompt(url: &str, path: &str, body: Members, tokens: bool) -> anyhow::Result<Told> {
    let client = reqwest::Client::builder().no_proxy().timeout(WITHIN).build()?;
    let base = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let endpoint = format!("{}{path}", base.trim_end_matches('/'));
    let body = Json::Object(body);
    if let Some(told) = post(&client, &format!("{endpoint}/render"), &body).await? {
        let request = told.get(0).unwrap_or(&told);
        if let Some(text) = request.get("prompt_text").and_then(Value::as_str) {
            return Ok(Told::Text(text.to_owned()));
        }
        if tokens {
            let ids = request.get("token_ids").and_then(Value::as_array).context("the answer has no token_ids")?;
            let ids = ids.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()));
            return Ok(Told::Tokens(ids.collect::<Option<_>>().context("token_ids: not all are token ids")?));
        }
    }
    let answer = post(&client, &endpoint, &shortest(body)).await?.with_context(|| format!("{endpoint}: not found"))?;
    match answer.get("prompt_text").and_then(Value::as_str) {
        Some(text) => Ok(Told::Text(text.to_owned())),
        None => bail!("{endpoint}: the answer has no prompt_text; give --tokenizer to compare by token ids"),
    }
}

/// The same request for one token, with the prompt's text.
fn shortest(body: Json) -> Json {
    let Json::Object(mut members) = body else { return body };
    for name in ["stream_options", "max_completion_tokens", "min_tokens", "n"] {
        members.remove(name);
    }
    members.set("stream", Json::Bool(false));
    members.set("max_tokens", Json::Whole(1));
    members.set("return_prompt_text", Json::Bool(true));
    Json::Object(members)
}

/// `None`: there is nothing at that URL.
async fn post(client: &reqwest::Client, url: &str, body: &Json) -> anyhow::Result<Option<Value>> {
    let text = serde_json::to_vec(&InOrder(body))?;
    let request = client.post(url).header("content-type", "application/json").body(text);
    let response = request.send().await.with_context(|| url.to_owned())?;
    let status = response.status();
    let answer = response.text().await.with_context(|| url.to_owned())?;
    if status == StatusCode::NOT_FOUND || status == StatusCode::METHOD_NOT_ALLOWED {
        return Ok(None);
    }
    if !status.is_success() {
        bail!("{url}: HTTP {status}: {}", answer.chars().take(400).collect::<String>());
    }
    serde_json::from_str(&answer).map(Some).with_context(|| url.to_owned())
}

/// Members in the order they came in: templates print tools in it.
struct InOrder<'a>(&'a Json);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::Whole(value) => serializer.serialize_i64(*value),
            Json::Huge(value) => serializer.serialize_u64(*value),
            Json::Float(value) => serializer.serialize_f64(*value),
            Json::Text(text) => serializer.serialize_str(text),
            Json::List(items) => serializer.collect_seq(items.iter().map(InOrder)),
            Json::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members.iter() {
                    map.serialize_entry(&**name, &InOrder(value))?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &Json) -> String {
        serde_json::to_string(&InOrder(json)).unwrap()
    }

    #[test]
    fn a_request_is_sent_as_it_was_written() {
        let text = r#"{"z":[1,1.0,-2,18446744073709551615,null,true],"a":{"é":"\n","b":[]}}"#;
        assert_eq!(written(&Json::parse(text.as_bytes()).unwrap()), text);
    }

    #[test]
    fn the_shortest_answer_keeps_the_prompt_and_changes_the_rest() {
        let body = br#"{"model":"m","n":2,"stream":true,"stream_options":{},"messages":[],"max_completion_tokens":9}"#;
        let want = r#"{"model":"m","stream":false,"messages":[],"max_tokens":1,"return_prompt_text":true}"#;
        assert_eq!(written(&shortest(Json::parse(body).unwrap())), want);
    }
}
