use serde_json::json;

use super::{Refusal, run};
use crate::vocabulary::UnknownToken;
use crate::vocabulary::testing::{added, byte_level, gemma, hugging_face, llama_2};

#[test]
fn a_form_that_leaves_a_normaliser_out_is_refused_where_it_shows() {
    let plain = hugging_face(&byte_level()).vocabulary().unwrap();
    let mut json = byte_level();
    json["normalizer"] = json!({"type": "NFC"});
    let composing = hugging_face(&json).encoder(&plain).unwrap();
    let Refusal::Differs { text, at, expected, got } = run(&plain, &composing).unwrap_err() else { panic!() };
    assert_eq!((text.as_str(), &expected[..2], &got[..2]), ("korean", "e1", "ed"), "at {at}");
}

#[test]
fn a_table_with_two_tokens_exchanged_is_refused() {
    let mut json = byte_level();
    let honest = hugging_face(&json);
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    let (x, y) = (vocab["x"].clone(), vocab["y"].clone());
    vocab.insert("x".to_owned(), y);
    vocab.insert("y".to_owned(), x);
    let wrong = hugging_face(&json).vocabulary().unwrap();
    let encoder = honest.encoder(&wrong).unwrap();
    assert!(matches!(run(&wrong, &encoder), Err(Refusal::Differs { .. })));
}

#[test]
fn a_form_that_misses_the_added_space_is_refused() {
    let without = hugging_face(&gemma()).vocabulary().unwrap();
    let encoder = hugging_face(&llama_2()).encoder(&without).unwrap();
    let Refusal::Differs { at, got, .. } = run(&without, &encoder).unwrap_err() else { panic!() };
    assert!(at <= 1 && got.starts_with("20"), "{at}: {got}");
}

#[test]
fn a_token_unknown_to_the_table_is_refused() {
    let table = hugging_face(&byte_level()).vocabulary().unwrap();
    let mut json = byte_level();
    json["added_tokens"].as_array_mut().unwrap().push(added(264, "brown"));
    let newer = hugging_face(&json).encoder(&table).unwrap();
    assert!(matches!(run(&table, &newer), Err(Refusal::Token { token: UnknownToken(264), .. })));
}
