//! The answer of `/v1/models` → model names, pure. vLLM lists adapters with the base model in `parent`; other engines
//! list base models only.

use serde::Deserialize;
use shared::wire::Model;

#[derive(Deserialize)]
struct List {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    parent: Option<String>,
}

/// The names in `body`, sorted, each once.
///
/// # Errors
/// When it is not an OpenAI model list.
pub fn parse(body: &[u8]) -> Result<Vec<Model>, serde_json::Error> {
    let list: List = serde_json::from_slice(body)?;
    let mut models: Vec<Model> = list
        .data
        .into_iter()
        .map(|entry| Model { name: entry.id, base: entry.parent.unwrap_or_default() })
        .filter(|model| !model.name.is_empty())
        .collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    models.dedup_by(|a, b| a.name == b.name);
    Ok(models)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_name_their_base() {
        let body = br#"{"object":"list","data":[{"id":"sql","object":"model","parent":"llama"},
            {"id":"llama","parent":null,"root":"x"},{"id":"llama"}]}"#;
        let models = parse(body).unwrap();
        let got: Vec<(&str, &str)> = models.iter().map(|m| (m.name.as_str(), m.base.as_str())).collect();
        assert_eq!(got, [("llama", ""), ("sql", "llama")]);
    }

    #[test]
    fn anything_else_is_an_error() {
        for body in [&b"{}"[..], b"", b"[]", br#"{"data":[{}]}"#] {
            assert!(parse(body).is_err());
        }
    }
}
