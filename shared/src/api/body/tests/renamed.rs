//! The model's name is found where it counts, however it is spelt and cut, and nothing else is touched.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::forbidden::spelt;
use super::*;
use crate::api::{Edit, edited};

fn renamed(body: &str, cuts: &[usize], kind: ApiKind, name: &str) -> String {
    let mut cuts: Vec<_> = cuts.iter().map(|&cut| cut.min(body.len())).chain([0, body.len()]).collect();
    cuts.sort_unstable();
    let mut scanner = BodyScanner::new(kind);
    for cut in cuts.windows(2) {
        scanner.push(&body.as_bytes()[cut[0]..cut[1]]).unwrap();
    }
    let at = scanner.finish().unwrap().model_at;
    String::from_utf8(edited(body.as_bytes(), &[Edit::replace(at, name)]).unwrap()).unwrap()
}

/// Members of a body; the last `model` among them is the model.
fn members() -> impl Strategy<Value = Vec<String>> {
    let model = (spelt("model"), "[ -~é\u{1F600}]{1,8}")
        .prop_map(|(key, name)| format!(" {key} : {}", serde_json::to_string(&name).unwrap()));
    let others = prop_oneof![
        Just(r#""metadata":{"model":"deeper"}"#),
        Just(r#""stream":true"#),
        Just(r#""cache_salt":"\"model\":\"x\"""#),
        Just(r#""tools":[{"model":"tool"}]"#),
    ];
    let needed = [
        r#""messages":[{"role":"user","model":"text","content":"hi"}]"#,
        r#""prompt":"p""#,
        r#""input":"i""#,
        r#""token_ids":[1]"#,
    ];
    (vec(model, 1..3), vec(others.prop_map(str::to_owned), 0..3))
        .prop_map(move |(models, others)| [models, others, needed.map(str::to_owned).to_vec()].concat())
        .prop_shuffle()
}

proptest! {
    #[test]
    fn what_serde_json_reads_afterwards_has_the_new_name_and_all_else(
        members in members(), cuts in vec(0_usize..300, 0..6), name in "[ -~é\u{1F600}]{0,8}",
    ) {
        let body = format!("{{{}}}", members.join(","));
        // SGLang's body names no model.
        for kind in KINDS.into_iter().filter(|kind| *kind != ApiKind::SglangGenerate) {
            let after = renamed(&body, &cuts, kind, &name);
            let (mut before, after): (Value, Value) =
                (serde_json::from_str(&body).unwrap(), serde_json::from_str(&after).unwrap());
            before["model"] = Value::from(name.as_str());
            prop_assert_eq!(&after, &before);
        }
    }
}
