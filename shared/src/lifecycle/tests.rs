use proptest::collection::vec;
use proptest::prelude::{any, proptest};

use super::*;
use crate::api::edited;
use crate::headers;
use crate::prefix::{ChainRoot, chain};
use crate::table::live::Work;
use crate::testing::{CHAT, Driven, at, brain, chat_body, pool, post};
use crate::wire;

const STREAM_HEAD: &str = "10.0.0.1:1";

fn two_pods() -> Brain {
    brain(vec![pool("p", &[1, 2], &["m"])])
}

fn response<'a>(status: u16, served_by: Option<&'a str>) -> Input<'a> {
    Input::ResponseHeaders { status, event_stream: true, encoded: false, served_by }
}

fn chunk(text: &str) -> Input<'_> {
    Input::ResponseBody { chunk: text.as_bytes(), end_of_stream: false }
}

const TOKEN: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":50,\"completion_tokens\":3,\
                     \"prompt_tokens_details\":{\"cached_tokens\":32}}}\n\ndata: [DONE]\n\n";

fn work(brain: &Brain) -> Work {
    brain.ledger.busy().fold(Work::default(), |sum, (_, work)| sum.plus(work))
}

#[test]
fn a_streamed_chat_is_booked_measured_and_given_back() {
    let mut brain = two_pods();
    let mut chat = post(&mut brain, CHAT, &[], chat_body("m", "hello world").as_bytes(), at(100));
    let to = chat.destination()[0].to_owned();
    assert_eq!((work(&brain).waiting, work(&brain).decoding), (1, 0));

    chat.on(response(200, Some(&to)), &mut brain, at(110));
    chat.on(chunk(TOKEN), &mut brain, at(150));
    assert_eq!((work(&brain).waiting, work(&brain).decoding), (0, 1));
    chat.on(chunk(TOKEN), &mut brain, at(160));
    chat.on(chunk(TOKEN), &mut brain, at(170));
    let end = chat.on(Input::ResponseBody { chunk: USAGE.as_bytes(), end_of_stream: true }, &mut brain, at(170));
    assert!(work(&brain).is_idle());
    let Some(Effect::Count(Event::Completed { tpot_microseconds, cached_tokens, prediction_error, .. })) = end.first()
    else {
        panic!("{end:?}")
    };
    assert_eq!((*tpot_microseconds, *cached_tokens, *prediction_error), (Some(10_000), 32, Some(32)));

    let report = brain.report(1);
    let row = &report.pools[0];
    assert!(row.bookings.is_empty());
    assert_eq!(row.routes.len(), 1);
    assert!((row.first_tokens[0].ttft_seconds - 0.05).abs() < 1e-9);
    assert_eq!((row.completions[0].prompt_tokens, row.completions[0].status), (50, 200));
    assert!((row.completions[0].tpot_seconds - 0.01).abs() < 1e-9);
}

#[test]
fn the_same_prompt_goes_to_the_same_pod_before_any_table_says_so() {
    let mut brain = brain(vec![pool("p", &[1, 2, 3, 4, 5, 6, 7, 8], &["m"])]);
    let long = "prefix ".repeat(400);
    let mut first = post(&mut brain, CHAT, &[("x-request-id", "a")], chat_body("m", &long).as_bytes(), at(0));
    let to = first.destination()[0].to_owned();
    first.on(Input::Ended, &mut brain, at(1));
    for (id, ms) in [("b", 100), ("c", 900), ("d", 1800)] {
        let mut again = post(&mut brain, CHAT, &[("x-request-id", id)], chat_body("m", &long).as_bytes(), at(ms));
        assert_eq!(again.destination()[0], to);
        again.on(Input::Ended, &mut brain, at(ms + 1));
    }
}

#[test]
fn who_was_passed_over_is_ejected_and_the_booking_follows() {
    let mut brain = two_pods();
    let mut chat = post(&mut brain, CHAT, &[], chat_body("m", "hello").as_bytes(), at(0));
    let (first, second) = (chat.destination()[0].to_owned(), chat.destination()[1].to_owned());
    let effects = chat.on(response(200, Some(&second)), &mut brain, at(10));
    assert!(effects.contains(&Effect::Count(Event::FellBack { pool: "p".to_owned() })));
    let busy: Vec<_> = brain.ledger.busy().map(|(id, _)| id).collect();
    assert_eq!(busy, [EndpointId::of(&second)]);
    for id in 0..20 {
        let id = id.to_string();
        let next = post(&mut brain, CHAT, &[("x-request-id", &id)], chat_body("m", "hello").as_bytes(), at(20));
        assert_eq!(next.destination(), [second.as_str()], "{first} is ejected");
    }
    let report = brain.report(1);
    assert_eq!(report.pools[0].failures[0].endpoint, EndpointId::of(&first).0);
    chat.on(chunk(TOKEN), &mut brain, at(30));
    assert!(brain.report(2).pools[0].first_tokens.is_empty(), "a first token after a fallback teaches nothing");
}

#[test]
fn steering_headers_of_clients_are_stripped_on_every_path() {
    for path in [CHAT, "/v1/models", "/anything"] {
        for name in headers::NEVER_FROM_CLIENTS {
            let driven = post(&mut two_pods(), path, &[(name, "6.6.6.6:1")], chat_body("m", "x").as_bytes(), at(0));
            assert!(driven.effects.contains(&Effect::RemoveHeader(name)), "{path} {name}");
            assert!(driven.destination().iter().all(|to| to.starts_with("10.0.0.1:")));
        }
    }
}

#[test]
fn refusals_come_in_the_callers_dialect() {
    let body = chat_body("other", "x");
    let (status, text) = post(&mut two_pods(), CHAT, &[], body.as_bytes(), at(0)).reply();
    assert_eq!(status, 404);
    assert!(text.contains(r#""code":"model_not_found""#) && text.contains("other"), "{text}");
    let (status, text) = post(&mut two_pods(), "/v1/messages", &[], body.as_bytes(), at(0)).reply();
    assert_eq!(status, 404);
    assert!(text.starts_with(r#"{"type":"error""#), "{text}");
    let (status, text) = post(&mut two_pods(), CHAT, &[], b"{\"model\": 5}", at(0)).reply();
    assert_eq!(status, 400);
    assert!(text.contains("model"), "{text}");
    let (status, text) = post(&mut two_pods(), CHAT, &[], &vec![b' '; 10_001], at(0)).reply();
    assert_eq!(status, 413);
    assert!(text.contains("10000"), "{text}");
    let (status, _) = post(&mut two_pods(), CHAT, &[("content-length", "10001")], b"{", at(0)).reply();
    assert_eq!(status, 413);
    let (status, _) = post(&mut Brain::default(), CHAT, &[], body.as_bytes(), at(0)).reply();
    assert_eq!(status, 503);
    let (status, _) =
        post(&mut brain(vec![pool("p", &[], &["m"])]), CHAT, &[], chat_body("m", "").as_bytes(), at(0)).reply();
    assert_eq!(status, 503);
}

#[test]
fn a_key_that_no_engine_may_see_is_overwritten_before_the_request_is_steered() {
    let completions = "/v1/completions";
    for (path, prompt) in
        [(CHAT, r#""messages":[]"#), (completions, r#""prompt":"x""#), (completions, r#""prompt":[1]"#)]
    {
        let body = |arguments: &str| format!(r#"{{"model":"m",{prompt},"vllm_xargs":{arguments}}}"#);
        let armed = body(r#"{"kv_cache_report_mode":"full"}"#);
        let driven = post(&mut two_pods(), path, &[], armed.as_bytes(), at(0));
        let of = |wanted: fn(&Effect) -> bool| driven.effects.iter().position(wanted).unwrap();
        let (overwrite, steer) =
            (of(|it| matches!(it, Effect::EditBody { .. })), of(|it| matches!(it, Effect::Steer { .. })));
        assert!(overwrite < steer, "{:?}", driven.effects);
        let Effect::EditBody { edits, otherwise } = &driven.effects[overwrite] else { unreachable!() };
        let bytes = edited(armed.as_bytes(), edits).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), body(r#"{"xxxxxxxxxxxxxxxxxxxx":"full"}"#));
        assert_eq!(otherwise.status, 500);
        let harmless = post(&mut two_pods(), path, &[], body("{}").as_bytes(), at(0));
        assert!(!harmless.effects.iter().any(|it| matches!(it, Effect::EditBody { .. })));
    }
}

#[test]
fn a_body_that_is_only_searched_is_routed_unread_without_its_forbidden_keys() {
    let armed = r#"{"token_ids":[1],"sampling_params":{"extra_args":{"kv_cache_report_mode":"full"}}}"#;
    let is_overwrite = |effect: &Effect| matches!(effect, Effect::EditBody { .. });
    for path in ["/v1/chat/completions/batch/", "/invocations", "/v2/chat"] {
        let mut brain = two_pods();
        let busy = post(&mut brain, CHAT, &[], chat_body("m", "x").as_bytes(), at(0));
        let driven = post(&mut brain, path, &[], armed.as_bytes(), at(0));
        assert_ne!(busy.destination()[0], driven.destination()[0], "{path} goes to the idlest pod");
        let overwrite = driven.effects.iter().position(is_overwrite).unwrap();
        assert!(driven.effects[overwrite..].iter().any(|it| matches!(it, Effect::Steer { .. })));
        let Effect::EditBody { edits, .. } = &driven.effects[overwrite] else { unreachable!() };
        let bytes = edited(armed.as_bytes(), edits).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), armed.replace("kv_cache_report_mode", &"x".repeat(20)));
        let harmless = post(&mut brain, path, &[], b"[]", at(0));
        assert!(!harmless.effects.iter().any(is_overwrite) && !harmless.destination().is_empty());
        assert_eq!(post(&mut brain, path, &[], b"{\"a\":NaN}", at(0)).reply().0, 400);
        assert_eq!(post(&mut brain, path, &[], &vec![b' '; 10_001], at(0)).reply().0, 413);
    }
    let unknown = post(&mut two_pods(), "/v1/elsewhere", &[], armed.as_bytes(), at(0));
    assert!(!unknown.effects.iter().any(|it| is_overwrite(it) || *it == Effect::Hold));
}

#[test]
fn a_refused_body_is_left_as_it_is() {
    let body = r#"{"model":"other","messages":[],"vllm_xargs":{"kv_cache_report_mode":"full"}}"#;
    let driven = post(&mut two_pods(), CHAT, &[], body.as_bytes(), at(0));
    assert_eq!(driven.reply().0, 404);
    assert!(!driven.effects.iter().any(|it| matches!(it, Effect::EditBody { .. })));
}

#[test]
fn a_request_without_a_body_to_read_goes_to_the_idlest_pod() {
    let mut brain = two_pods();
    let busy = post(&mut brain, CHAT, &[], chat_body("m", "x").as_bytes(), at(0));
    let other = post(&mut brain, "/v1/models", &[], b"", at(0));
    assert_ne!(busy.destination()[0], other.destination()[0]);
}

#[test]
fn several_pools_are_told_apart_by_model() {
    let mut brain = brain(vec![pool("a", &[1], &["m"]), pool("b", &[2], &["n"])]);
    for (model, to) in [("m", "10.0.0.1:1"), ("n", "10.0.0.1:2")] {
        assert_eq!(post(&mut brain, CHAT, &[], chat_body(model, "x").as_bytes(), at(0)).destination(), [to]);
    }
    assert_eq!(post(&mut brain, CHAT, &[], chat_body("o", "x").as_bytes(), at(0)).reply().0, 404);
}

#[test]
fn the_explanation_names_the_winner_and_its_terms_when_asked_for() {
    let mut brain = two_pods();
    let mut asked = post(&mut brain, CHAT, &[("x-kvasir-explain", "1")], chat_body("m", "x").as_bytes(), at(0));
    let to = asked.destination()[0].to_owned();
    let effects = asked.on(response(200, Some(&to)), &mut brain, at(1));
    let explained = effects.iter().find_map(|effect| {
        let Effect::AddResponseHeader(name, value) = effect else { return None };
        (name == headers::DECISION).then(|| value.clone())
    });
    let json: serde_json::Value = serde_json::from_str(&explained.unwrap()).unwrap();
    assert_eq!(json["candidates"][0]["endpoint"], to);
    let term = |name: &str| json["candidates"][0][name].as_f64().unwrap();
    let sum = ["own_ttft_ms", "queue_harm_ms", "stall_ms", "decode_harm_ms", "preemption_risk_ms"].map(term);
    assert!((sum.iter().sum::<f64>() - term("cost_ms")).abs() < 0.01);
    let mut silent = post(&mut brain, CHAT, &[], chat_body("m", "x").as_bytes(), at(2));
    let effects = silent.on(response(200, Some(&to)), &mut brain, at(3));
    assert!(!effects.iter().any(|e| matches!(e, Effect::AddResponseHeader(name, _) if name == headers::DECISION)));
}

#[test]
fn a_session_token_brings_the_next_request_back() {
    let mut brain = brain(vec![pool("p", &[1, 2, 3, 4, 5, 6], &["m"])]);
    let mut first = post(&mut brain, CHAT, &[], chat_body("m", "x").as_bytes(), at(0));
    let to = first.destination()[0].to_owned();
    let effects = first.on(response(200, Some(&to)), &mut brain, at(1));
    let token = effects.iter().find_map(|effect| {
        let Effect::AddResponseHeader(name, value) = effect else { return None };
        (name == "x-session-token").then(|| value.clone())
    });
    let token = token.unwrap();
    for id in 0..10 {
        let id = id.to_string();
        let extra = [("x-session-token", token.as_str()), ("x-request-id", id.as_str())];
        let next = post(&mut brain, CHAT, &extra, chat_body("m", "something else").as_bytes(), at(2));
        assert_eq!(next.destination()[0], to);
    }
    let hostile = [("x-session-token", "6.6.6.6:80")];
    post(&mut brain, CHAT, &hostile, chat_body("m", "x").as_bytes(), at(3)).destination();
}

#[test]
fn a_held_request_whose_body_never_comes_is_steered_by_load() {
    let mut brain = two_pods();
    let mut lifecycle = Lifecycle::default();
    let headers: [(&[u8], &[u8]); 2] = [(b":method", b"POST"), (b":path", CHAT.as_bytes())];
    let begin = Input::RequestHeaders { headers: &headers, end_of_stream: false };
    assert_eq!(lifecycle.on(begin, &mut brain, &Plan::default(), at(0)), [Effect::Hold]);
    let effects = lifecycle.on(Input::BodyOverdue, &mut brain, &Plan::default(), at(1000));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Steer { .. })));
    lifecycle.on(Input::Ended, &mut brain, &Plan::default(), at(1001));
    assert!(work(&brain).is_idle());
}

#[test]
fn a_whole_body_response_yields_its_usage() {
    let mut brain = two_pods();
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    let mut chat = post(&mut brain, CHAT, &[], body.as_bytes(), at(0));
    chat.on(
        Input::ResponseHeaders { status: 200, event_stream: false, encoded: false, served_by: Some(STREAM_HEAD) },
        &mut brain,
        at(5),
    );
    let answer = br#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}"#;
    chat.on(Input::ResponseBody { chunk: answer, end_of_stream: true }, &mut brain, at(9));
    let report = brain.report(1);
    let seen = &report.pools[0].completions[0];
    assert_eq!((seen.prompt_tokens, seen.output_tokens, seen.has_cached_tokens), (9, 4, false));
    assert!(report.pools[0].first_tokens.is_empty());
}

proptest! {
    #[test]
    fn whatever_the_callbacks_and_bytes_every_booking_comes_back(
        steps in vec((0u8..6, vec(any::<u8>(), 0..80), any::<bool>()), 0..12), status in 0u16..600
    ) {
        let mut brain = two_pods();
        let mut driven = Driven { lifecycle: Lifecycle::default(), effects: vec![] };
        for (ms, (kind, bytes, flag)) in (0..).zip(&steps) {
            let headers: [(&[u8], &[u8]); 3] =
                [(b":method", b"POST"), (b":path", if *flag { CHAT.as_bytes() } else { bytes }), (b"x-request-id", bytes)];
            let body = chat_body("m", "x");
            let served = String::from_utf8_lossy(bytes).into_owned();
            let input = match kind {
                0 => Input::RequestHeaders { headers: &headers, end_of_stream: false },
                1 => Input::RequestBody { chunk: if *flag { body.as_bytes() } else { bytes }, end_of_stream: *flag },
                2 => {
                    let served_by = (*flag).then_some(served.as_str());
                    Input::ResponseHeaders { status, event_stream: *flag, encoded: *flag, served_by }
                },
                3 => Input::ResponseBody { chunk: bytes, end_of_stream: *flag },
                4 => Input::BodyOverdue,
                _ => chunk(TOKEN),
            };
            driven.on(input, &mut brain, at(ms));
        }
        driven.on(Input::Ended, &mut brain, at(99));
        driven.on(Input::Ended, &mut brain, at(99));
        assert!(work(&brain).is_idle());
        assert_eq!(brain.ledger.in_flight(), 0);
    }
}

const CHATML: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
                      {% if add_generation_prompt %}<|assistant|>{% endif %}";

/// A pool whose endpoints' engines tell what they hold: the one at `slot` holds `text` of model `m`.
fn exact_pool(slot: u32, text: &str) -> wire::PoolChange {
    let mut keys = Vec::new();
    chain(ChainRoot::new("m", None, None), 16, [text.as_bytes()], &mut keys);
    let tokens = (1..).map(|chunk| chunk * 4).take(keys.len()).collect();
    wire::PoolChange {
        renderings: vec![wire::Rendering {
            model: "m".to_owned(),
            template: CHATML.to_owned(),
            bos: "<s>".to_owned(),
            ..wire::Rendering::default()
        }],
        residency: vec![wire::ResidencyGroup { holders: vec![slot * 4], keys, tokens }],
        ..pool("p", &[1, 2, 3, 4], &["m"])
    }
}

fn decision(driven: &mut Driven, brain: &mut Brain) -> serde_json::Value {
    let head = Input::ResponseHeaders { status: 200, event_stream: true, encoded: false, served_by: None };
    let effects = driven.on(head, brain, at(2));
    let told = effects.iter().find_map(|effect| {
        let Effect::AddResponseHeader(name, value) = effect else { return None };
        (name == headers::DECISION).then_some(value)
    });
    serde_json::from_str(told.unwrap()).unwrap()
}

#[test]
fn a_rendered_prompt_finds_the_pod_whose_engine_holds_it() {
    let question = &"which pods hold the beginning of this conversation, and how much of it? ".repeat(40);
    let mut brain = brain(vec![exact_pool(2, &format!("<|user|>{question}<|end|><|assistant|>"))]);
    let explain = [("x-kvasir-explain", "1")];
    let mut driven = post(&mut brain, CHAT, &explain, chat_body("m", question).as_bytes(), at(1));
    assert_eq!(driven.destination()[0], "10.0.0.1:3");
    let told = decision(&mut driven, &mut brain);
    assert_eq!(told["prefix"], "exact");
    assert!(told["candidates"][0]["matched_tokens"].as_f64().unwrap() >= 700.0, "{told}");
    assert!(brain.report(1).pools[0].routes.iter().all(|route| route.rendered));
}

/// What is reported of a request of `question` that `by` answered.
fn completion(brain: &mut Brain, question: &str, by: &str) -> (wire::Completion, Vec<wire::Route>) {
    let mut driven = post(brain, CHAT, &[], chat_body("m", question).as_bytes(), at(1));
    driven.on(response(200, Some(by)), brain, at(2));
    driven.on(Input::ResponseBody { chunk: TOKEN.as_bytes(), end_of_stream: true }, brain, at(3));
    let pool = brain.report(1).pools.remove(0);
    (pool.completions[0], pool.routes)
}

#[test]
fn a_completion_says_what_was_believed_of_everybody_and_which_chain_it_was() {
    let question = &"which pods hold the beginning of this conversation, and how much of it? ".repeat(40);
    let text = format!("<|user|>{question}<|end|><|assistant|>");
    let mut brain = brain(vec![exact_pool(2, &text)]);
    let (seen, routes) = completion(&mut brain, question, "10.0.0.1:3");
    assert!(seen.predicted_cached_tokens > 700, "{seen:?}");
    assert_eq!((seen.predicted_elsewhere_tokens, seen.rendered), (Some(0), true));
    assert_eq!(seen.leaf, *routes[0].keys.last().unwrap());

    let other = format!("{text} and the next turn");
    let (seen, _) = completion(&mut brain, &other, "10.0.0.9:9");
    assert_eq!(seen.predicted_elsewhere_tokens, None, "nothing was predicted for who answered");
}

#[test]
fn what_others_hold_is_the_most_of_any_of_them() {
    let question = &"which pods hold the beginning of this conversation, and how much of it? ".repeat(40);
    let mut change = exact_pool(1, &format!("<|user|>{question}"));
    let group = change.residency[0].clone();
    let (keys, tokens) = (group.keys[..50].to_vec(), group.tokens[..50].to_vec());
    change.residency = vec![
        wire::ResidencyGroup { holders: vec![4, 13], keys: keys.clone(), tokens: tokens.clone() },
        wire::ResidencyGroup { holders: vec![4], keys: group.keys[50..].to_vec(), tokens: group.tokens[50..].to_vec() },
    ];
    let mut brain = brain(vec![change]);
    let (seen, _) = completion(&mut brain, question, "10.0.0.1:2");
    assert_eq!(seen.predicted_cached_tokens, *group.tokens.last().unwrap());
    assert_eq!(seen.predicted_elsewhere_tokens, Some(200), "in host memory, where a reload finds it");
}

#[test]
fn completions_are_looked_up_with_what_the_tokenizer_puts_before_them() {
    let prompt = "a raw prompt that goes on for many chunks, ".repeat(60);
    let mut brain = brain(vec![exact_pool(1, &format!("<s>{prompt}"))]);
    let body = serde_json::json!({"model": "m", "prompt": prompt}).to_string();
    let driven = post(&mut brain, "/v1/completions", &[], body.as_bytes(), at(1));
    assert_eq!(driven.destination()[0], "10.0.0.1:2");
}

#[test]
fn what_cannot_be_rendered_exactly_is_learned_and_says_why() {
    let mut brain = brain(vec![exact_pool(2, "<|user|>")]);
    let body = serde_json::json!({"model": "m", "stream": true, "messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]})
    .to_string();
    let mut driven = post(&mut brain, CHAT, &[("x-kvasir-explain", "1")], body.as_bytes(), at(1));
    let told = decision(&mut driven, &mut brain);
    assert_eq!(told["prefix"], "learned: the request has parts that are not text");
    assert!(brain.report(1).pools[0].routes.iter().all(|route| !route.rendered));
}

/// What a vocabulary of single letters and `<s>` sends; ids 0..=255 are bytes, 256 is none, 257 is `<s>`.
fn letters() -> wire::VocabularyPiece {
    let mut lengths = vec![1; 256];
    lengths.extend([0, 3]);
    let text: Vec<u8> = (0..=255).chain(*b"<s>").collect();
    wire::VocabularyPiece { model: "m".to_owned(), tokens: 258, bytes: 259, first: 0, lengths, text }
}

/// How a prompt of `ids` is decided: where it goes, and how that is known.
fn of_ids(pool: wire::PoolChange, ids: &[u32]) -> (String, String) {
    let mut brain = brain(vec![pool]);
    let body = serde_json::json!({"model": "m", "prompt": ids}).to_string();
    let mut driven = post(&mut brain, "/v1/completions", &[("x-kvasir-explain", "1")], body.as_bytes(), at(1));
    let destination = driven.destination()[0].to_string();
    (destination, decision(&mut driven, &mut brain)["prefix"].as_str().unwrap().to_owned())
}

#[test]
fn token_ids_are_looked_up_as_the_text_that_they_stand_for_and_nothing_is_put_before_them() {
    let prompt = "a raw prompt that goes on for many chunks, ".repeat(60);
    let ids: Vec<u32> = core::iter::once(257).chain(prompt.bytes().map(u32::from)).collect();
    let pool = || wire::PoolChange { vocabularies: vec![letters()], ..exact_pool(1, &format!("<s>{prompt}")) };
    assert_eq!(of_ids(pool(), &ids), ("10.0.0.1:2".to_owned(), "exact".to_owned()));
    let bare = of_ids(wire::PoolChange { vocabularies: vec![letters()], ..exact_pool(1, &prompt) }, &ids[1..]);
    assert_eq!(bare, ("10.0.0.1:2".to_owned(), "exact".to_owned()));
}

#[test]
fn token_ids_that_cannot_be_decoded_are_learned_and_say_why() {
    let pool = |vocabularies| wire::PoolChange { vocabularies, ..exact_pool(1, "a text") };
    let half = wire::VocabularyPiece { tokens: 300, ..letters() };
    for (vocabularies, ids, why) in [
        (vec![letters()], [65, 256], "learned: the prompt has a token id that the vocabulary does not know"),
        (vec![letters()], [65, 258], "learned: the prompt has a token id that the vocabulary does not know"),
        (vec![half], [65, 66], "learned: the prompt comes as token ids, and the vocabulary is not here yet"),
        (vec![], [65, 66], "learned: the prompt comes as token ids"),
    ] {
        assert_eq!(of_ids(pool(vocabularies), &ids).1, why);
    }
}

fn profiled(filters: Vec<wire::Filter>) -> Brain {
    let kind = Some(wire::scorer::Kind::Least(wire::Metric::WaitingRequests.into()));
    let scorers = vec![wire::Scorer { name: "queue-scorer".to_owned(), weight: 2.0, kind }];
    let profile = wire::Profile { name: "default".to_owned(), filters, scorers, ..wire::Profile::default() };
    let mut rows = pool("p", &[1, 2], &[]);
    rows.settings.as_mut().unwrap().profile = Some(profile);
    let mut brain = brain(vec![rows]);
    let scraped = |slot, waiting| wire::LiveEndpoint {
        slot,
        slowness: 1.0,
        scrape: Some(wire::Scrape { waiting, ..wire::Scrape::default() }),
        ..wire::LiveEndpoint::default()
    };
    let endpoints = vec![scraped(0, 4), scraped(1, 9)];
    let live = wire::LivePool { name: "p".to_owned(), gateways: 1, endpoints, ..wire::LivePool::default() };
    brain.set_live(wire::Live { epoch: 1, pools: vec![live], counted: Vec::new() }, at(0)).unwrap();
    brain
}

#[test]
fn a_pool_with_a_profile_chooses_by_its_scores_and_says_so() {
    let mut brain = profiled(vec![]);
    let mut driven = post(&mut brain, CHAT, &[("x-kvasir-explain", "1")], chat_body("m", "hi").as_bytes(), at(0));
    assert_eq!(driven.destination(), ["10.0.0.1:1", "10.0.0.1:2"]);
    let told = decision(&mut driven, &mut brain);
    assert_eq!((&told["decided_by"], &told["profile"]), (&"profile".into(), &"default".into()));
    assert_eq!(told["candidates"][0]["score"], 2.0);
    assert_eq!(told["candidates"][0]["scores"]["queue-scorer"], 1.0);
    assert_eq!(told["candidates"][1]["score"], 0.0);
}

#[test]
fn filters_that_leave_nobody_are_named_and_answered_429() {
    let limits = vec![wire::MetricLimit { metric: wire::Metric::WaitingRequests.into(), most: 4.0 }];
    let filter = |limits| wire::Filter {
        name: "utilization-filter".to_owned(),
        kind: Some(wire::filter::Kind::Limits(wire::MetricLimits { limits, fallback: false })),
    };
    let mut brain = profiled(vec![filter(limits)]);
    let mut driven = post(&mut brain, CHAT, &[("x-kvasir-explain", "1")], chat_body("m", "hi").as_bytes(), at(0));
    assert_eq!(driven.destination(), ["10.0.0.1:1"]);
    let dropped = &decision(&mut driven, &mut brain)["dropped"];
    assert_eq!((&dropped[0]["endpoint"], &dropped[0]["reason"]), (&"10.0.0.1:2".into(), &"utilization-filter".into()));

    let none = vec![wire::MetricLimit { metric: wire::Metric::WaitingRequests.into(), most: 3.0 }];
    let mut brain = profiled(vec![filter(none)]);
    let (status, body) = post(&mut brain, CHAT, &[], chat_body("m", "hi").as_bytes(), at(0)).reply();
    assert_eq!(status, 429, "{body}");
    assert!(body.contains("filters left none"), "{body}");
}
