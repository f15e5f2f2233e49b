//! Chat templates of real models against what Python's Jinja renders from them. The cases live beside the workspace, not in it:
//! where they are absent this test says so and passes, and the small templates of `template`'s own tests have to do.
#![forbid(unsafe_code)]

#[cfg(test)]
mod golden {
    use std::path::Path;

    use shared::template::{ChatTemplate, Json, LocalTime, Members, TemplateOptions};

    struct Case {
        template: String,
        conv: String,
        ctx: Members,
        /// What became of it ("ok" or "err") and the text or the message.
        expected: Option<(String, String)>,
    }

    fn case(json: &Json) -> Case {
        let case = json.as_object().unwrap();
        let text = |json: Option<&Json>| json.and_then(Json::as_text).unwrap().to_owned();
        let outcome = case.given("expected").map(|pair| pair.as_list().unwrap());
        Case {
            template: text(case.get("template")),
            conv: text(case.get("conv")),
            ctx: case.get("ctx").and_then(Json::as_object).unwrap().clone(),
            expected: outcome.map(|pair| (text(pair.first()), text(pair.get(1)))),
        }
    }

    /// Template, conversation, and why ours differs.
    const EXCEPTIONS: &[(&str, &str, &str)] = &[];

    /// The day on which the expectations were rendered, 2026-11-20: some templates print it.
    const NOW: LocalTime = LocalTime { unix_seconds: 1_795_176_000, utc_offset_seconds: 0 };

    fn folder() -> std::path::PathBuf {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/templates")).to_owned()
    }

    #[test]
    fn real_templates_render_as_in_python() {
        let folder = folder();
        let Ok(text) = std::fs::read(folder.join("golden.json")) else {
            println!("SKIPPED: there is no {}/golden.json: real templates were NOT compared", folder.display());
            return;
        };
        let cases = Json::parse(&text).unwrap();
        let (mut expected, mut equal, mut refused, mut differing) = (0, 0, 0, Vec::new());
        for case in cases.as_list().unwrap().iter().map(case) {
            let source = std::fs::read_to_string(folder.join(&case.template)).unwrap();
            let name = (case.template.clone(), case.conv.clone());
            let rendered = ChatTemplate::compile(&source, TemplateOptions::default())
                .and_then(|template| template.render_context(case.ctx, Some(NOW)));
            match case.expected {
                Some((outcome, text)) if outcome == "ok" => {
                    expected += 1;
                    let is_known =
                        EXCEPTIONS.iter().any(|(template, conv, _)| (*template, *conv) == (&*name.0, &*name.1));
                    match rendered {
                        Ok(ours) if ours == text => equal += 1,
                        _ if is_known => {}
                        ours => differing.push(format!("{name:?}\n ours: {ours:?}\n want: {text:?}")),
                    }
                }
                _ => refused += usize::from(rendered.is_err()),
            }
        }
        println!("{equal} of {expected} renderings are equal; {refused} of the refused are refused");
        assert!(differing.is_empty(), "{}", differing.join("\n"));
        assert!(equal * 100 >= expected * 97, "{equal} of {expected}");
    }
}
