//! Tools as templates see them. The engine reads them into types of its own and writes them out again, so that their members
//! have its order and not the client's; what a tool's `parameters` hold stays as it came.

use super::super::bypass::Bypass;
use super::super::json_tree::{Json, Members};
use super::Model;
use crate::table::rendering::Frontend;

const INVALID: Bypass = Bypass::Invalid("tools");

/// The request's tools; nothing when it has none or they are not to be seen.
pub(super) fn tools(body: &Members, model: &Model<'_>) -> Result<Option<Json>, Bypass> {
    let Some(given) = body.given("tools") else { return Ok(None) };
    let given = given.as_list().filter(|given| !given.is_empty() || model.frontend == Frontend::Rust).ok_or(INVALID)?;
    let unused = body.get("tool_choice").and_then(Json::as_text) == Some("none");
    if given.is_empty() || (unused && (model.hides_unused_tools || model.frontend == Frontend::Rust)) {
        return Ok(None);
    }
    list(given).map(Some)
}

/// A list of tools, also a developer message's.
pub(super) fn list(given: &[Json]) -> Result<Json, Bypass> {
    Ok(Json::List(given.iter().map(tool).collect::<Result<_, _>>()?))
}

fn tool(given: &Json) -> Result<Json, Bypass> {
    let given = given.as_object().ok_or(INVALID)?;
    if given.get("type").is_some_and(|kind| kind.as_text() != Some("function")) {
        return Err(INVALID);
    }
    let function = given.get("function").and_then(Json::as_object).ok_or(INVALID)?;
    let name = function.get("name").filter(|name| name.as_text().is_some()).ok_or(INVALID)?;
    let member = |name: &str| function.get(name).cloned().unwrap_or_default();
    let mut definition = Members::default();
    definition.set("name", name.clone());
    definition.set("description", member("description"));
    definition.set("parameters", member("parameters"));
    if let Some(strict) = function.given("strict") {
        definition.set("strict", strict.clone());
    }
    let deferred = given.given("defer_loading");
    if let Some(deferred) = function.given("defer_loading").or(deferred) {
        definition.set("defer_loading", deferred.clone());
    }
    let mut tool = Members::default();
    tool.set("type", Json::text("function"));
    tool.set("function", Json::Object(definition));
    if let Some(deferred) = deferred {
        tool.set("defer_loading", deferred.clone());
    }
    Ok(Json::Object(tool))
}
