//! Bodies that are only searched: the key is found at any depth directly inside the engine's arguments, nowhere else.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;

use super::forbidden::{overwritten, spelt};
use crate::api::{BodyError, KeySearch, Problem, Syntax};

const KEY: &str = "kv_cache_report_mode";

fn found<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Result<Vec<Range<u64>>, BodyError> {
    let mut search = KeySearch::default();
    chunks.into_iter().try_for_each(|chunk| search.push(chunk))?;
    search.finish().map(<[_]>::to_vec)
}

/// What an engine may see of `body`.
fn disarmed(body: &str) -> String {
    overwritten(body, &found([body.as_bytes()]).unwrap())
}

/// A document with its spelling, members that come twice included.
#[derive(Clone, Debug)]
enum Tree {
    Scalar(&'static str),
    List(Vec<Self>),
    Object(Vec<(&'static str, String, Self)>),
}

fn members(value: impl Strategy<Value = Tree> + Clone + 'static) -> impl Strategy<Value = Tree> {
    let names = [KEY, KEY, "vllm_xargs", "vllm_xargs", "extra_args", "sampling_params", "kv_cache_report_mod", "x"];
    let member =
        prop::sample::select(names.to_vec()).prop_flat_map(move |name| (Just(name), spelt(name), value.clone()));
    vec(member, 0..8).prop_map(Tree::Object)
}

/// Objects mostly, so that most documents have the key where it counts and where it does not.
fn tree() -> impl Strategy<Value = Tree> {
    let scalars = ["1", "\"full\"", "\"kv_cache_report_mode\"", "null", "true", r#""{\"vllm_xargs\":\"\\\"""#];
    let leaf = prop::sample::select(scalars.to_vec()).prop_map(Tree::Scalar);
    let value = leaf.prop_recursive(
        5,
        40,
        4,
        |inner| prop_oneof![1 => vec(inner.clone(), 0..4).prop_map(Tree::List), 2 => members(inner)],
    );
    let object = members(value).boxed();
    prop_oneof![2 => object.clone(), 1 => vec(object, 0..5).prop_map(Tree::List)]
}

/// Appends the tree's text; `keys`: where the key counts in it.
fn write(tree: &Tree, arguments: bool, text: &mut String, keys: &mut Vec<Range<u64>>) {
    match tree {
        Tree::Scalar(scalar) => text.push_str(scalar),
        Tree::List(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { " ," });
                write(item, false, text, keys);
            }
            text.push(']');
        }
        Tree::Object(members) => {
            text.push('{');
            for (at, (name, spelling, value)) in members.iter().enumerate() {
                text.push_str(if at == 0 { " " } else { ",\n" });
                let start = text.len() as u64 + 1;
                text.push_str(spelling);
                if arguments && *name == KEY {
                    keys.push(start..text.len() as u64 - 1);
                }
                text.push(':');
                write(value, matches!(*name, "vllm_xargs" | "extra_args"), text, keys);
            }
            text.push('}');
        }
    }
}

proptest! {
    #[test]
    fn the_key_is_found_directly_inside_the_arguments_and_nowhere_else(tree in tree(), cuts in vec(0_usize..900, 0..8)) {
        let (mut text, mut keys) = (String::new(), Vec::new());
        write(&tree, false, &mut text, &mut keys);
        let whole = found([text.as_bytes()]);
        match &whole {
            Ok(found) => prop_assert_eq!(found, &keys),
            Err(error) => {
                prop_assert_eq!(error.problem, Problem::Repeated { most: 8 });
                prop_assert_eq!(error.offset + 1, keys[8].start);
            }
        }
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        prop_assert_eq!(&found(cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]])), &whole);
        prop_assert_eq!(&found(text.as_bytes().chunks(1)), &whole);
    }

    #[test]
    fn bytes_that_are_taken_are_json_and_none_panic(chunks in vec(vec(prop_oneof![any::<u8>(), prop::sample::select(b"[]{}\":,\\u0".to_vec())], 0..30), 0..6)) {
        if found(chunks.iter().map(Vec::as_slice)).is_ok() {
            let whole = chunks.concat();
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&whole).is_ok());
        }
    }
}

#[test]
fn each_of_the_engines_forms_is_disarmed() {
    for (before, after) in [
        (
            r#"{"messages":[[{"role":"user","content":"a"}],[{"role":"user","content":"b"}]],"vllm_xargs":{"kv_cache_report_mode":"full","a":1}}"#,
            r#"{"messages":[[{"role":"user","content":"a"}],[{"role":"user","content":"b"}]],"vllm_xargs":{"xxxxxxxxxxxxxxxxxxxx":"full","a":1}}"#,
        ),
        (
            r#"{"token_ids":[1,2],"sampling_params":{"extra_args":{"kv_cache_report_mod\u0065":"full"},"n":1}}"#,
            r#"{"token_ids":[1,2],"sampling_params":{"extra_args":{"xxxxxxxxxxxxxxxxxxxxxxxxx":"full"},"n":1}}"#,
        ),
        (
            r#"{"sampling_params":{"vllm_\u0078args":{"kv_cache_report_mode":1}},"vllm_xargs":{"kv_cache_report_mode":2}}"#,
            r#"{"sampling_params":{"vllm_\u0078args":{"xxxxxxxxxxxxxxxxxxxx":1}},"vllm_xargs":{"xxxxxxxxxxxxxxxxxxxx":2}}"#,
        ),
        (
            r#"{"extra_args":{"kv_cache_report_mode":1,"kv_cache_report_mode":2},"extra_args":{"kv_cache_report_mode":3}}"#,
            r#"{"extra_args":{"xxxxxxxxxxxxxxxxxxxx":1,"xxxxxxxxxxxxxxxxxxxx":2},"extra_args":{"xxxxxxxxxxxxxxxxxxxx":3}}"#,
        ),
    ] {
        assert_eq!(disarmed(before), after);
    }
}

#[test]
fn the_key_elsewhere_is_text() {
    for body in [
        r#"{"kv_cache_report_mode":"full"}"#,
        r#"[{"vllm_xargs":1},{"kv_cache_report_mode":1}]"#,
        r#"{"vllm_xargs":[{"kv_cache_report_mode":1}]}"#,
        r#"{"vllm_xargs":{"deeper":{"kv_cache_report_mode":1},"list":["kv_cache_report_mode"]}}"#,
        r#"{"vllm_xargs":null,"other":{"kv_cache_report_mode":1}}"#,
        r#"{"a":"vllm_xargs","b":{"kv_cache_report_mode":1}}"#,
        r#"{"vllm_xargs":"{\"kv_cache_report_mode\":1}"}"#,
    ] {
        assert_eq!(disarmed(body), body);
    }
}

#[test]
fn the_key_is_found_as_deep_as_documents_go() {
    let body = |lists: usize| {
        let object = r#"{"extra_args":{"kv_cache_report_mode":1}}"#;
        format!("{}{object}{}", "[".repeat(lists), "]".repeat(lists))
    };
    assert_eq!(disarmed(&body(125)), body(125).replace(KEY, &"x".repeat(KEY.len())));
    let error = found([body(126).as_bytes()]).unwrap_err();
    assert_eq!(error.problem, Problem::Syntax(Syntax::TooDeep));
}

#[test]
fn what_only_other_readers_take_for_json_is_refused() {
    let armed = r#"{"vllm_xargs":{"kv_cache_report_mode":"full"}}"#;
    let utf16: Vec<u8> = armed.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [b"\xEF\xBB\xBF", armed.as_bytes()].concat();
    for body in [utf16.as_slice(), &marked, b"", b"NaN", &armed.as_bytes()[1..], &armed.as_bytes()[..40]] {
        let error = found([body]).unwrap_err();
        assert!(matches!(error.problem, Problem::Syntax(_)), "{error:?}");
    }
}
