//! The forbidden key is found wherever it counts, however it is spelt and cut, and nothing else is touched.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::api::{Edit, Problem, edited};

const KEY: &str = "kv_cache_report_mode";

fn found<'c>(kind: ApiKind, chunks: impl IntoIterator<Item = &'c [u8]>) -> Result<Vec<Range<u64>>, BodyError> {
    let mut scanner = BodyScanner::new(kind);
    for chunk in chunks {
        scanner.push(chunk)?;
    }
    scanner.finish().map(|view| view.forbidden_keys.to_vec())
}

/// A quoted name, any of its characters escaped.
pub(super) fn spelt(name: &'static str) -> impl Strategy<Value = String> {
    vec(0_u8..6, name.len()).prop_map(move |escapes| {
        let unit = |(character, escape): (char, u8)| match escape {
            0 => format!("\\u{:04x}", u32::from(character)),
            1 => format!("\\u{:04X}", u32::from(character)),
            _ => character.to_string(),
        };
        format!("\"{}\"", name.chars().zip(escapes).map(unit).collect::<String>())
    })
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t ")]
}

fn argument() -> impl Strategy<Value = String> {
    let forbidden =
        (spelt(KEY), space(), prop_oneof![Just("\"full\""), Just("null"), Just("{\"kv_cache_report_mode\":[1]}")])
            .prop_map(|(key, space, value)| format!("{space}{key}{space}:{space}{value}"));
    let harmless = prop_oneof![
        Just(r#""top_a":0.5"#),
        Just(r#""kv_cache_report_mod":"full""#),
        Just(r#""kv_cache_report_mode_":"full""#),
        Just(r#""Kv_cache_report_mode":"full""#),
        Just(r#""deeper":{"kv_cache_report_mode":"full"}"#),
        Just(r#""list":[{"kv_cache_report_mode":"full"},"kv_cache_report_mode"]"#),
        Just(r#""vllm_xargs":{"kv_cache_report_mode":"full"}"#),
        Just("\"é\\ud83d\\ude00\\\"\":\"\\\\\""),
    ];
    prop_oneof![2 => forbidden, 3 => harmless.prop_map(str::to_owned)]
}

/// Members of a body; at most eight forbidden keys among them.
fn members() -> impl Strategy<Value = Vec<String>> {
    let object =
        (vec(argument(), 0..5), space()).prop_map(|(arguments, space)| format!("{{{space}{}}}", arguments.join(",")));
    let value = prop_oneof![
        4 => object,
        1 => prop_oneof![Just(r#"[{"kv_cache_report_mode":"full"}]"#), Just("null"), Just("\"kv_cache_report_mode\"")]
            .prop_map(str::to_owned),
    ];
    let arguments =
        (spelt("vllm_xargs"), space(), value).prop_map(|(key, space, value)| format!("{key}{space}:{space}{value}"));
    let others = vec(
        prop_oneof![
            Just(r#""kv_cache_report_mode":"full""#),
            Just(r#""metadata":{"vllm_xargs":{"kv_cache_report_mode":"full"}}"#),
            Just(r#""vllm_xarg":{"kv_cache_report_mode":"full"}"#),
            Just(r#""tools":[{"vllm_xargs":{"kv_cache_report_mode":"full"}}]"#),
            Just(r#""stream_options":{"kv_cache_report_mode":"full","vllm_xargs":{"kv_cache_report_mode":"full"}}"#),
        ]
        .prop_map(str::to_owned),
        0..3,
    );
    let needed = [
        r#""model":"m""#,
        r#""messages":[{"role":"user","kv_cache_report_mode":"full","content":"\"vllm_xargs\":{\"kv_cache_report_mode\":\"full\"}"}]"#,
        r#""prompt":"p""#,
        r#""input":"i""#,
        r#""token_ids":[1]"#,
    ];
    (vec(arguments, 0..3), others)
        .prop_map(move |(arguments, others)| [arguments, others, needed.map(str::to_owned).to_vec()].concat())
        .prop_shuffle()
}

pub(super) fn overwritten(body: &str, keys: &[Range<u64>]) -> String {
    let edits: Vec<Edit> = keys.iter().cloned().map(Edit::Disarm).collect();
    String::from_utf8(edited(body.as_bytes(), &edits).unwrap()).unwrap()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

proptest! {
    #[test]
    fn what_serde_json_reads_afterwards_lacks_the_key_and_nothing_else(members in members()) {
        let body = format!("{{{}}}", members.join(","));
        for kind in KINDS {
            let after = overwritten(&body, &found(kind, [body.as_bytes()]).unwrap());
            prop_assert_eq!(after.len(), body.len());
            let (mut before, mut after): (Value, Value) =
                (serde_json::from_str(&body).unwrap(), serde_json::from_str(&after).unwrap());
            let (mut asked, mut got) = (object(&before["vllm_xargs"]), object(&after["vllm_xargs"]));
            prop_assert!(!got.contains_key(KEY), "{}", body);
            asked.remove(KEY);
            got.retain(|key, _| !key.bytes().all(|byte| byte == b'x'));
            prop_assert_eq!(got, asked);
            for tree in [&mut before, &mut after] {
                let tree = tree.as_object_mut().unwrap();
                tree.entry("vllm_xargs").and_modify(|value| if value.is_object() { *value = Value::Null });
            }
            prop_assert_eq!(after, before);
        }
    }

    #[test]
    fn overwriting_touches_the_insides_of_the_keys_only(members in members()) {
        let body = format!("{{{}}}", members.join(","));
        let keys = found(ApiKind::ChatCompletions, [body.as_bytes()]).unwrap();
        let after = overwritten(&body, &keys);
        for (at, (before, after)) in (0..).zip(body.bytes().zip(after.bytes())) {
            let inside = keys.iter().any(|key| key.contains(&at));
            prop_assert_eq!(after, if inside { b'x' } else { before });
        }
        for key in &keys {
            let raw = &body[usize::try_from(key.start).unwrap() - 1..=usize::try_from(key.end).unwrap()];
            prop_assert_eq!(serde_json::from_str::<String>(raw).unwrap(), KEY);
        }
        // A second look finds nothing, so every occurrence was found, those that a later one hides included.
        prop_assert_eq!(found(ApiKind::ChatCompletions, [after.as_bytes()]).unwrap(), []);
        prop_assert_eq!(!keys.is_empty(), members.iter().any(|member| is_forbidden(member)));
    }

    #[test]
    fn cuts_do_not_move_the_ranges(members in members(), cuts in vec(0_usize..600, 0..8)) {
        let body = format!(" {{{}}}", members.join(","));
        let body = body.as_bytes();
        let whole = found(ApiKind::ChatCompletions, [body]).unwrap();
        prop_assert_eq!(&found(ApiKind::ChatCompletions, body.chunks(1)).unwrap(), &whole);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(body.len())).chain([0, body.len()]).collect();
        cuts.sort_unstable();
        let cut = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]);
        prop_assert_eq!(&found(ApiKind::ChatCompletions, cut).unwrap(), &whole);
    }

    #[test]
    fn ranges_of_another_body_are_an_error_and_no_panic(body in vec(any::<u8>(), 0..60), start in any::<u64>(), near in 0_u64..70, end in 0_u64..70) {
        for key in [start..end, near..end, end..start, near..u64::MAX] {
            let inside = |at: u64| usize::try_from(at).ok().and_then(|at| body.get(at)) == Some(&b'"');
            let quoted = key.start <= key.end && key.start.checked_sub(1).is_some_and(inside) && inside(key.end);
            prop_assert_eq!(edited(&body, &[Edit::Disarm(key)]).is_ok(), quoted);
        }
    }
}

/// By eye, not by scanner: does this member of the body carry the key where it counts?
fn is_forbidden(member: &str) -> bool {
    let tree: Value = serde_json::from_str(&format!("{{{member}}}")).unwrap();
    tree.get("vllm_xargs").and_then(Value::as_object).is_some_and(|arguments| arguments.contains_key(KEY))
}

#[test]
fn more_than_eight_are_refused_even_when_the_last_object_has_none() {
    let body = |keys: usize| {
        let keys = vec![r#""kv_cache_report_mode":"full""#; keys].join(",");
        format!(r#"{{"vllm_xargs":{{{keys}}},"vllm_xargs":{{}},"model":"m","messages":[]}}"#)
    };
    assert_eq!(found(ApiKind::ChatCompletions, [body(8).as_bytes()]).unwrap().len(), 8);
    let error = found(ApiKind::ChatCompletions, [body(9).as_bytes()]).unwrap_err();
    assert_eq!((error.offset, error.problem), (255, Problem::Repeated { most: 8 }));
    assert_eq!(error.to_string(), "kv_cache_report_mode stands there more than 8 times, at byte 255");
}

#[test]
fn the_next_body_starts_without_the_last_ones_keys() {
    let keys = |count: usize| vec![r#""kv_cache_report_mode":1"#; count].join(",");
    let body = |count| format!(r#"{{"vllm_xargs":{{{}}},"model":"m","messages":[]}}"#, keys(count));
    let mut scanner = BodyScanner::new(ApiKind::ChatCompletions);
    for (count, wanted) in [(1, Some(1)), (9, None), (0, Some(0))] {
        scanner.restart(ApiKind::ChatCompletions);
        scanner.push(body(count).as_bytes()).unwrap();
        assert_eq!(scanner.finish().ok().map(|view| view.forbidden_keys.len()), wanted);
    }
}
