//! Raw prompts: the bodies of `/v1/completions` and of SGLang's `/generate`.

use super::bypass::Bypass;
use super::json_tree::{Json, Members};
use super::text::Text;

/// The one text of a completion's body. What the tokenizer puts before it is [`TextForm`](crate::text_form::TextForm)'s affair.
///
/// # Errors
/// When there is no such text, or the engine does not compute it as it is.
pub fn raw_prompt(mut body: Members) -> Result<Text, Bypass> {
    if body.given("prompt_embeds").is_some() {
        return Err(Bypass::PromptEmbeds);
    }
    if body.given("truncate_prompt_tokens").is_some() {
        return Err(Bypass::Truncation);
    }
    if body.given("echo").is_some_and(|echo| !echo.is_falsy()) {
        return Err(Bypass::Echo);
    }
    if body.given("suffix").is_some() {
        return Err(Bypass::Invalid("suffix"));
    }
    if body.given("add_special_tokens").is_some_and(Json::is_falsy) {
        return Err(Bypass::SpecialTokens);
    }
    match body.take("prompt") {
        Some(Json::Text(text)) => Ok(text),
        Some(Json::List(prompts)) => match <[Json; 1]>::try_from(prompts.into_vec()) {
            Ok([Json::Text(text)]) => Ok(text),
            Ok([Json::Whole(_) | Json::List(_)]) => Err(Bypass::TokenIds),
            Err(several) if several.iter().all(|item| matches!(item, Json::Whole(_))) && !several.is_empty() => {
                Err(Bypass::TokenIds)
            }
            Err(several) if !several.is_empty() => Err(Bypass::SeveralPrompts),
            Ok(_) | Err(_) => Err(Bypass::Invalid("prompt")),
        },
        _ => Err(Bypass::Invalid("prompt")),
    }
}

/// The one text of SGLang's own body.
///
/// # Errors
/// As [`raw_prompt`].
pub fn sglang_prompt(mut body: Members) -> Result<Text, Bypass> {
    if ["image_data", "audio_data", "video_data"].iter().any(|name| body.given(name).is_some()) {
        return Err(Bypass::Multimodal);
    }
    if body.given("input_embeds").is_some() {
        return Err(Bypass::PromptEmbeds);
    }
    if body.given("input_ids").is_some() {
        return Err(Bypass::TokenIds);
    }
    match body.take("text") {
        Some(Json::Text(text)) => Ok(text),
        Some(Json::List(_)) => Err(Bypass::SeveralPrompts),
        _ => Err(Bypass::Invalid("text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(body: &str) -> Result<Text, Bypass> {
        let Json::Object(body) = Json::parse(body.as_bytes()).unwrap() else { panic!("an object") };
        raw_prompt(body)
    }

    #[test]
    fn one_text_is_a_prompt_and_nothing_else_is() {
        assert_eq!(&*prompt(r#"{"prompt": "a", "echo": false}"#).unwrap(), "a");
        assert_eq!(&*prompt(r#"{"prompt": ["a"]}"#).unwrap(), "a");
        for (body, bypass) in [
            (r#"{"prompt": ["a", "b"]}"#, Bypass::SeveralPrompts),
            (r#"{"prompt": [1, 2]}"#, Bypass::TokenIds),
            (r#"{"prompt": [[1]]}"#, Bypass::TokenIds),
            (r#"{"prompt": []}"#, Bypass::Invalid("prompt")),
            (r#"{"prompt": "a", "echo": true}"#, Bypass::Echo),
            (r#"{"prompt": "a", "truncate_prompt_tokens": 5}"#, Bypass::Truncation),
            (r#"{"prompt": "a", "add_special_tokens": false}"#, Bypass::SpecialTokens),
            (r#"{"prompt_embeds": "x"}"#, Bypass::PromptEmbeds),
        ] {
            assert_eq!(prompt(body), Err(bypass), "{body}");
        }
    }

    #[test]
    fn one_text_of_sglang_is_a_prompt_and_nothing_else_is() {
        let prompt = |body: &str| {
            let Json::Object(body) = Json::parse(body.as_bytes()).unwrap() else { panic!("an object") };
            sglang_prompt(body)
        };
        assert_eq!(&*prompt(r#"{"text": "a", "input_ids": null}"#).unwrap(), "a");
        for (body, bypass) in [
            (r#"{"text": ["a"]}"#, Bypass::SeveralPrompts),
            (r#"{"input_ids": [1, 2]}"#, Bypass::TokenIds),
            (r#"{"text": "a", "image_data": "x"}"#, Bypass::Multimodal),
            (r#"{"input_embeds": [[0.5]]}"#, Bypass::PromptEmbeds),
            (r#"{"inputs": "a"}"#, Bypass::Invalid("text")),
        ] {
            assert_eq!(prompt(body), Err(bypass), "{body}");
        }
    }
}
