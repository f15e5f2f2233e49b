//! The engines' own APIs through a request's life: whose model, which pod, what is counted, how a refusal reads.

use super::*;
use crate::api::grpc::written::{framed, generate};
use crate::testing::{Driven, at, brain, pool, post};
use crate::wire;

const GRPC: &str = "/vllm.grpc.engine.VllmEngine/Generate";

fn pods(count: u16) -> Brain {
    let mut row = pool("p", &(1..=count).collect::<Vec<_>>(), &["m"]);
    let adapter = wire::Model { name: "tuned".to_owned(), base: "m".to_owned() };
    row.models.as_mut().unwrap().models.push(adapter);
    brain(vec![row])
}

/// The same ids in each dialect that takes them.
fn of_ids(seed: u32) -> [(&'static str, Vec<u8>); 4] {
    let ids: Vec<u32> = (0..1500).map(|place| 1000 + seed * 7919 + place).collect();
    [
        ("/inference/v1/generate", format!(r#"{{"token_ids":{ids:?},"sampling_params":{{}}}}"#).into_bytes()),
        ("/generate", format!(r#"{{"input_ids":{ids:?}}}"#).into_bytes()),
        ("/v1/completions", format!(r#"{{"model":"m","prompt":{ids:?}}}"#).into_bytes()),
        (GRPC, generate(&ids)),
    ]
}

fn by_load(brain: &mut Brain, path: &str, body: &str) -> Driven {
    post(brain, path, &[], body.as_bytes(), at(0))
}

#[test]
fn the_same_ids_are_one_prefix_in_every_dialect() {
    for first in 0..4 {
        for second in 0..4 {
            let mut brain = brain(vec![wire::PoolChange {
                settings: Some(wire::PoolSettings { max_body_bytes: 100_000, ..crate::testing::settings() }),
                ..pool("p", &[1, 2, 3, 4, 5, 6, 7, 8], &["m"])
            }]);
            let seed = first * 4 + second;
            let dialect = |which: u32| of_ids(seed)[usize::try_from(which).unwrap()].clone();
            let (path, body) = dialect(first);
            let mut sent = post(&mut brain, path, &[("x-request-id", "a")], &body, at(0));
            let to = sent.destination()[0].to_owned();
            sent.on(Input::Ended, &mut brain, at(1));
            let (path, body) = dialect(second);
            let again = post(&mut brain, path, &[("x-request-id", "b")], &body, at(100));
            assert_eq!(again.destination()[0], to, "{first} then {second}");
        }
    }
}

#[test]
fn a_request_that_names_no_model_is_for_the_one_of_the_pool() {
    let mut brain = pods(2);
    for (path, body) in of_ids(1).iter().filter(|(path, _)| *path == GRPC) {
        assert!(!post(&mut brain, path, &[], body, at(0)).destination().is_empty());
    }
    for (path, body, served) in [
        ("/inference/v1/generate", r#"{"token_ids":[1]}"#, true),
        ("/inference/v1/generate", r#"{"token_ids":[1],"model":"m"}"#, true),
        ("/inference/v1/generate", r#"{"token_ids":[1],"model":"other"}"#, false),
        ("/generate", r#"{"text":"a"}"#, true),
        ("/generate", r#"{"text":"a","lora_path":"tuned"}"#, true),
        ("/generate", r#"{"text":"a","lora_path":"other"}"#, false),
        ("/v1/images/generations", r#"{"prompt":"a"}"#, true),
        ("/v1/publishers/x/models/m:rawPredict", r#"{"messages":[]}"#, true),
        ("/v1/publishers/x/models/other:rawPredict", r#"{"messages":[]}"#, false),
        ("/v1/publishers/x/models/other:rawPredict", r#"{"messages":[],"model":"m"}"#, true),
    ] {
        let driven = by_load(&mut brain, path, body);
        if served {
            assert!(!driven.destination().is_empty(), "{path} {body}");
        } else {
            assert_eq!(driven.reply().0, 404, "{path} {body}");
        }
    }
}

#[test]
fn what_only_renders_or_counts_goes_to_the_idlest_pod_and_is_not_watched() {
    let long = "prefix ".repeat(400);
    let body = format!(r#"{{"model":"m","prompt":"{long}","messages":[{{"role":"user","content":"{long}"}}]}}"#);
    for (base, path) in [
        ("/v1/chat/completions", "/v1/chat/completions/render"),
        ("/v1/completions", "/v1/completions/render"),
        ("/v1/messages", "/v1/messages/render"),
        ("/v1/messages", "/v1/messages/count_tokens"),
    ] {
        let mut brain = pods(2);
        let inference = by_load(&mut brain, base, &body);
        let mut prepared = by_load(&mut brain, path, &body);
        let to = prepared.destination()[0].to_owned();
        assert_ne!(inference.destination()[0], to, "{path}");
        let head = Input::ResponseHeaders { status: 200, event_stream: false, encoded: false, served_by: Some(&to) };
        prepared.on(head, &mut brain, at(10));
        let usage = Input::ResponseBody { chunk: br#"{"usage":{"prompt_tokens":5}}"#, end_of_stream: true };
        assert!(prepared.on(usage, &mut brain, at(20)).is_empty(), "{path}");
        let refused = by_load(&mut brain, path, &body.replace(r#""model":"m""#, r#""model":"other""#)).reply();
        assert_eq!(refused.0, 404);
        assert_eq!(refused.1.starts_with(r#"{"type":"error""#), base == "/v1/messages", "{}", refused.1);
    }
}

#[test]
fn a_grpc_stream_is_measured_by_its_messages() {
    let mut brain = pods(2);
    // A text, a limit of four tokens, a stream.
    let request = framed(&[0x1A, 2, b'h', b'i', 0x22, 2, 0x40, 4, 0x28, 1]);
    let mut call = post(&mut brain, GRPC, &[("content-type", "application/grpc")], &request, at(0));
    let to = call.destination()[0].to_owned();
    assert!(call.lifecycle.asked_for_events());
    call.on(
        Input::ResponseHeaders { status: 200, event_stream: true, encoded: false, served_by: Some(&to) },
        &mut brain,
        at(10),
    );
    let chunk = framed(&[0x0A, 3, 0x0A, 1, 5]);
    let (a, b) = chunk.split_at(7);
    assert!(call.on(Input::ResponseBody { chunk: a, end_of_stream: false }, &mut brain, at(40)).is_empty());
    let first = call.on(Input::ResponseBody { chunk: b, end_of_stream: false }, &mut brain, at(50));
    assert!(matches!(first.as_slice(), [Effect::Count(Event::FirstToken { milliseconds: 50, .. })]), "{first:?}");
    let whole = framed(&[0x12, 9, 0x0A, 1, 5, 0x18, 50, 0x20, 3, 0x28, 32]);
    call.on(Input::ResponseBody { chunk: &whole, end_of_stream: false }, &mut brain, at(70));
    let end = call.on(Input::ResponseBody { chunk: &[], end_of_stream: true }, &mut brain, at(70));
    let Some(Effect::Count(Event::Completed { tpot_microseconds, prompt_tokens, cached_tokens, .. })) = end.first()
    else {
        panic!("{end:?}")
    };
    assert_eq!((*tpot_microseconds, *prompt_tokens, *cached_tokens), (Some(10_000), 50, 32));
}

#[test]
fn a_grpc_call_is_refused_by_its_own_status() {
    for (body, code, counted) in [(framed(&[0x0B]), "3", 400), (vec![b' '; 10_001], "8", 413)] {
        let driven = post(&mut pods(1), GRPC, &[], &body, at(0));
        let refused = driven.effects.iter().find_map(|effect| {
            let Effect::Reply(reply) = effect else { return None };
            Some((reply.status, reply.body.len(), reply.headers[1].1.clone()))
        });
        assert_eq!(refused, Some((200, 0, code.to_owned())));
        assert!(driven.effects.contains(&Effect::Count(Event::Rejected { status: counted })));
    }
}

#[test]
fn a_form_with_an_image_is_not_read() {
    let form = [("content-type", "multipart/form-data; boundary=x")];
    let driven = post(&mut pods(1), "/v1/images/edits", &form, b"--x", at(0));
    assert!(!driven.effects.contains(&Effect::Hold) && !driven.destination().is_empty());
    assert_eq!(post(&mut pods(1), "/v1/images/edits", &[], b"--x", at(0)).reply().0, 400);
}
