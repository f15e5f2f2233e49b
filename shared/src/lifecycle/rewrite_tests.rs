//! Requests that get another model than they name: which one, with whose prefixes, and the name in the answer.

use super::*;
use crate::api::edited;
use crate::headers;
use crate::testing::{CHAT, Driven, at, brain, chat_body, pool, post};
use crate::wire;

const HEAD: &str = "10.0.0.1:1";

fn rule(models: &[&str], targets: &[(&str, u32)]) -> wire::ModelRewrite {
    let target = |&(model, weight): &(&str, u32)| wire::RewriteTarget { model: model.to_owned(), weight };
    let models = models.iter().map(|&model| model.to_owned()).collect();
    wire::ModelRewrite { models, targets: targets.iter().map(target).collect() }
}

/// With an adapter `lora` of the first model.
fn rewriting(mut change: wire::PoolChange, rules: Vec<wire::ModelRewrite>) -> wire::PoolChange {
    change.settings.as_mut().unwrap().rewrites = rules;
    let models = &mut change.models.as_mut().unwrap().models;
    let base = models[0].name.clone();
    models.push(wire::Model { name: "lora".to_owned(), base });
    change
}

/// The body that goes on.
fn sent(driven: &Driven, body: &str) -> String {
    let edits = driven.effects.iter().find_map(|effect| {
        let Effect::EditBody { edits, .. } = effect else { return None };
        Some(edits.clone())
    });
    String::from_utf8(edited(body.as_bytes(), &edits.unwrap_or_default()).unwrap()).unwrap()
}

fn removed<'a>(driven: &'a Driven) -> impl Iterator<Item = &'static str> + 'a {
    driven.effects.iter().filter_map(|effect| {
        let Effect::RemoveHeader(name) = effect else { return None };
        Some(*name)
    })
}

fn answered(driven: &mut Driven, brain: &mut Brain, encoded: bool, chunks: &[&str]) -> (Vec<Effect>, String) {
    let head = Input::ResponseHeaders { status: 200, event_stream: true, encoded, served_by: Some(HEAD) };
    let mut effects = driven.on(head, brain, at(5));
    let mut body = Vec::new();
    for (number, chunk) in (1..).zip(chunks) {
        let end_of_stream = number == chunks.len();
        let told = driven.on(Input::ResponseBody { chunk: chunk.as_bytes(), end_of_stream }, brain, at(6));
        let replaced = told.iter().find_map(|effect| {
            let Effect::ReplaceChunk(bytes) = effect else { return None };
            Some(bytes.clone())
        });
        body.extend(replaced.unwrap_or_else(|| chunk.as_bytes().to_vec()));
        effects.extend(told);
    }
    (effects, String::from_utf8(body).unwrap())
}

#[test]
fn the_engine_gets_the_target_and_the_client_its_own_name() {
    let mut brain = brain(vec![rewriting(pool("p", &[1], &["m"]), vec![rule(&["mine"], &[("m", 0)])])]);
    let body = chat_body("mine", "hello");
    let extra = [("content-length", "99"), ("accept-encoding", "gzip")];
    let mut driven = post(&mut brain, CHAT, &extra, body.as_bytes(), at(0));
    assert_eq!(sent(&driven, &body), body.replace("\"mine\"", "\"m\""));
    assert_eq!(removed(&driven).collect::<Vec<_>>(), ["content-length", "accept-encoding"]);
    let chunks = ["data: {\"model\":\"m", "\",\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\n"];
    let (effects, answer) = answered(&mut driven, &mut brain, false, &chunks);
    assert_eq!(answer, chunks.concat().replace("\"m\"", "\"mine\""));
    assert!(effects.contains(&Effect::RemoveResponseHeader("content-length")));
    assert_eq!(brain.report(1).pools[0].completions[0].prompt_tokens, 9);
}

#[test]
fn a_request_that_keeps_its_model_is_not_touched() {
    let mut brain = brain(vec![rewriting(pool("p", &[1], &["m"]), vec![rule(&[], &[("m", 0)])])]);
    let body = chat_body("m", "hello");
    let mut driven = post(&mut brain, CHAT, &[], body.as_bytes(), at(0));
    assert!(!driven.effects.iter().any(|effect| matches!(effect, Effect::EditBody { .. })));
    let (effects, _) = answered(&mut driven, &mut brain, false, &["data: {\"model\":\"m\"}\n\n"]);
    let changes = |effect: &Effect| matches!(effect, Effect::RemoveResponseHeader(_) | Effect::ReplaceChunk(_));
    assert!(!effects.iter().any(changes));
}

#[test]
fn a_compressed_answer_is_left_as_it_is() {
    let mut brain = brain(vec![rewriting(pool("p", &[1], &["m"]), vec![rule(&[], &[("m", 0)])])]);
    let mut driven = post(&mut brain, CHAT, &[], chat_body("mine", "hello").as_bytes(), at(0));
    let (effects, answer) = answered(&mut driven, &mut brain, true, &["{\"model\":\"m\"}"]);
    assert_eq!(answer, "{\"model\":\"m\"}");
    assert!(!effects.contains(&Effect::RemoveResponseHeader("content-length")));
}

#[test]
fn a_header_names_the_target_and_does_not_go_on() {
    for name in headers::MODEL_REWRITE {
        let mut brain = brain(vec![rewriting(pool("p", &[1], &["m", "n"]), vec![rule(&["mine"], &[("m", 0)])])]);
        for client in ["mine", "m", "nobody"] {
            let body = chat_body(client, "hello");
            let driven = post(&mut brain, CHAT, &[(name, "n")], body.as_bytes(), at(0));
            assert_eq!(sent(&driven, &body), chat_body("n", "hello"), "{client}");
            assert!(removed(&driven).any(|removed| removed == name));
        }
        let body = chat_body("mine", "hello");
        assert_eq!(post(&mut brain, CHAT, &[(name, "nobody")], body.as_bytes(), at(0)).reply().0, 404);
    }
}

#[test]
fn what_no_pool_has_and_no_rule_names_is_not_found() {
    let mut brain = brain(vec![
        rewriting(pool("a", &[1], &["m"]), vec![rule(&["mine"], &[("m", 0)]), rule(&["lost"], &[("gone", 0)])]),
        pool("b", &[2], &["n"]),
    ]);
    for client in ["other", "lost"] {
        let (status, text) = post(&mut brain, CHAT, &[], chat_body(client, "x").as_bytes(), at(0)).reply();
        assert_eq!(status, 404);
        assert!(text.contains(client), "{text}");
    }
    for (client, to) in [("mine", "10.0.0.1:1"), ("m", "10.0.0.1:1"), ("n", "10.0.0.1:2")] {
        assert_eq!(post(&mut brain, CHAT, &[], chat_body(client, "x").as_bytes(), at(0)).destination(), [to]);
    }
}

#[test]
fn a_rule_for_any_name_takes_what_nobody_else_does() {
    let any = rewriting(pool("a", &[1], &["m"]), vec![rule(&[], &[("m", 0)])]);
    let mut brain = brain(vec![any, pool("b", &[2], &["n"])]);
    for (client, to) in [("other", "10.0.0.1:1"), ("n", "10.0.0.1:2")] {
        assert_eq!(post(&mut brain, CHAT, &[], chat_body(client, "x").as_bytes(), at(0)).destination(), [to]);
    }
    let long = "x".repeat(257);
    assert_eq!(post(&mut brain, CHAT, &[], chat_body(&long, "x").as_bytes(), at(0)).reply().0, 404);
}

#[test]
fn prefixes_are_those_of_the_target() {
    let ports: Vec<u16> = (1..=8).collect();
    let rules = vec![rule(&["mine"], &[("lora", 0)]), rule(&["yours"], &[("m", 0)])];
    let mut brain = brain(vec![rewriting(pool("p", &ports, &["m"]), rules)]);
    let long = "prefix ".repeat(400);
    let mut to = std::collections::BTreeMap::new();
    for (id, client) in [("a", "lora"), ("b", "m"), ("c", "mine"), ("d", "yours"), ("e", "mine")] {
        let mut driven = post(&mut brain, CHAT, &[("x-request-id", id)], chat_body(client, &long).as_bytes(), at(0));
        to.insert(id, driven.destination()[0].to_owned());
        driven.on(Input::Ended, &mut brain, at(1));
    }
    assert_ne!(to["a"], to["b"], "an adapter's prefixes are its own");
    assert_eq!((&to["c"], &to["e"], &to["d"]), (&to["a"], &to["a"], &to["b"]));
}

#[test]
fn a_rule_that_comes_while_the_body_does_is_too_late() {
    let mut brain = brain(vec![pool("p", &[1], &["m"])]);
    let mut driven = Driven { lifecycle: Lifecycle::default(), effects: Vec::new() };
    let headers: [(&[u8], &[u8]); 2] = [(b":method", b"POST"), (b":path", CHAT.as_bytes())];
    driven.on(Input::RequestHeaders { headers: &headers, end_of_stream: false }, &mut brain, at(0));
    let ruled = rewriting(pool("p", &[1], &["m"]), vec![rule(&["mine"], &[("m", 0)])]);
    brain.fold(&crate::testing::snapshot(2, vec![ruled]), at(1)).unwrap();
    let body = chat_body("mine", "x");
    let input = Input::RequestBody { chunk: body.as_bytes(), end_of_stream: true };
    driven.effects = driven.on(input, &mut brain, at(2));
    assert_eq!(driven.reply().0, 404);
    post(&mut brain, CHAT, &[], body.as_bytes(), at(3)).destination();
}

#[test]
fn a_forbidden_key_and_the_name_are_changed_together() {
    let mut brain = brain(vec![rewriting(pool("p", &[1], &["m"]), vec![rule(&["mine"], &[("m", 0)])])]);
    let hidden = "x".repeat("kv_cache_report_mode".len());
    let [key, model] = [r#""vllm_xargs":{"kv_cache_report_mode":1}"#, r#""model":"mine""#];
    for members in [[key, model], [model, key]] {
        let body = format!(r#"{{{},"messages":[]}}"#, members.join(","));
        let driven = post(&mut brain, CHAT, &[], body.as_bytes(), at(0));
        assert_eq!(sent(&driven, &body), body.replace("mine", "m").replace("kv_cache_report_mode", &hidden));
    }
}

#[test]
fn routes_are_told_the_model_and_its_base_where_nobody_else_has_chosen_the_pool() {
    let mut brain = brain(vec![rewriting(pool("p", &[1], &["m"]), vec![rule(&["mine"], &[("lora", 0)])])]);
    let forged = [(headers::MODEL, "forged"), (headers::BASE_MODEL, "forged")];
    let set = |driven: &Driven| -> Vec<(&'static str, String)> {
        let set = driven.effects.iter().filter_map(|effect| {
            let Effect::SetHeader(name, value) = effect else { return None };
            Some((*name, value.clone()))
        });
        set.collect()
    };
    for (client, model, base) in [("mine", "lora", "m"), ("m", "m", "m")] {
        let driven = post(&mut brain, CHAT, &forged, chat_body(client, "x").as_bytes(), at(0));
        assert_eq!(set(&driven), [(headers::MODEL, model.to_owned()), (headers::BASE_MODEL, base.to_owned())]);
        assert_eq!(removed(&driven).collect::<Vec<_>>(), [headers::MODEL, headers::BASE_MODEL]);
    }
    let plan = Plan { pool: Some("p".to_owned()), ..Plan::default() };
    let mut lifecycle = Lifecycle::default();
    let headers: [(&[u8], &[u8]); 3] =
        [(b":method", b"POST"), (b":path", CHAT.as_bytes()), (headers::MODEL.as_bytes(), b"of the route")];
    let mut effects =
        lifecycle.on(Input::RequestHeaders { headers: &headers, end_of_stream: false }, &mut brain, &plan, at(1));
    let body = chat_body("m", "x");
    let input = Input::RequestBody { chunk: body.as_bytes(), end_of_stream: true };
    effects.extend(lifecycle.on(input, &mut brain, &plan, at(1)));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::SetHeader(..) | Effect::RemoveHeader(_))));
}

#[test]
fn the_explanation_names_the_model_and_what_it_was_asked_for_as() {
    let mut brain = brain(vec![rewriting(pool("p", &[1], &["m"]), vec![rule(&["mine"], &[("m", 0)])])]);
    let mut driven = post(&mut brain, CHAT, &[("x-kvasir-explain", "1")], chat_body("mine", "x").as_bytes(), at(0));
    let (effects, _) = answered(&mut driven, &mut brain, false, &["{}"]);
    let told = effects.iter().find_map(|effect| {
        let Effect::AddResponseHeader(name, value) = effect else { return None };
        (name == headers::DECISION).then(|| serde_json::from_str::<serde_json::Value>(value).unwrap())
    });
    let told = told.unwrap();
    assert_eq!((&told["model"], &told["rewritten_from"]), (&"m".into(), &"mine".into()));
}
