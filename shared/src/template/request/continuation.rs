//! A last message that the model is to go on with. Templates close every message; so the text gets a mark at its end, and the
//! prompt is cut where the mark shows up. This is transformers' way, with its mark: a template may trim the mark's space.

use super::super::bypass::Bypass;
use super::super::json_tree::{Json, Members};
use super::super::text::Text;

const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";
const INVALID: Bypass = Bypass::Invalid("continue_final_message");

/// Where to cut a prompt.
pub(in super::super) struct Continuation {
    /// The text that the prompt must end with, but for space.
    text: Box<str>,
}

impl Continuation {
    /// Marks the last text of the last message.
    pub(super) fn mark(messages: &mut [Json]) -> Result<Self, Bypass> {
        let Some(Json::Object(message)) = messages.last_mut() else { return Err(INVALID) };
        let content = message.take("content").ok_or(INVALID)?;
        let (text, content) = match content {
            Json::Text(text) => (text.clone(), Json::text(&[&text, MARK].concat())),
            Json::List(parts) => {
                let mut parts = parts.into_vec();
                (mark_part(&mut parts)?, Json::list(parts))
            }
            Json::Null | Json::Bool(_) | Json::Whole(_) | Json::Huge(_) | Json::Float(_) | Json::Object(_) => {
                return Err(INVALID);
            }
        };
        message.set("content", content);
        Ok(Self { text: Box::from(&*text) })
    }

    /// The prompt up to the mark; nothing when the template dropped or changed the text.
    pub(in super::super) fn cut(&self, mut prompt: String) -> Option<String> {
        let place = prompt.rfind(MARK.trim_end()).filter(|_| prompt.contains(self.text.trim()))?;
        let is_whole = prompt.get(place..).is_some_and(|rest| rest.starts_with(MARK));
        prompt.truncate(place);
        if !is_whole {
            prompt.truncate(prompt.trim_end().len());
        }
        Some(prompt)
    }
}

fn mark_part(parts: &mut [Json]) -> Result<Text, Bypass> {
    let objects =
        parts.iter_mut().rev().filter_map(|part| if let Json::Object(members) = part { Some(members) } else { None });
    for part in objects {
        let text =
            part.get("text").and_then(|text| if let Json::Text(text) = text { Some(text.clone()) } else { None });
        if let Some(text) = text {
            Members::set(part, "text", Json::text(&[&text, MARK].concat()));
            return Ok(text);
        }
    }
    Err(INVALID)
}
