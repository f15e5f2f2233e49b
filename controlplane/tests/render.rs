//! The command `kvasir render`, as its users run it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::path::PathBuf;
use std::process::{Command, Output};

const TEMPLATE: &str = "\
{{ bos_token }}{% for message in messages %}
<{{ message.role }}>{{ message.content | trim }}
{% endfor %}
{% if add_generation_prompt %}<assistant>{{ strftime_now('%d %b %Y') }}{% endif %}
";

/// A folder of its own for every test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("kvasir-render-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        Self(folder)
    }

    fn render(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_kvasir")).arg("render").args(arguments).current_dir(&self.0).output().unwrap()
    }

    fn rendered(&self, arguments: &[&str]) -> String {
        let output = self.render(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.render(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_behind = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_prompt_of_a_request_is_all_that_is_printed() {
    let config = serde_json::json!({"chat_template": TEMPLATE, "bos_token": {"content": "<s>"}}).to_string();
    let body = r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": " é "}]}], "echo": false}"#;
    let folder = Folder::new("request", &[("t.jinja", TEMPLATE), ("tokenizer_config.json", &config), ("r.json", body)]);
    let asked = ["--request", "r.json", "--now", "2026-07-09T23:30:00-02:00"];
    let prompt = "<user>é\n<assistant>09 Jul 2026";
    assert_eq!(
        folder.rendered(&[&["--template", "tokenizer_config.json"], &asked[..]].concat()),
        ["<s>", prompt].concat()
    );
    let with_bos = ["--template", "t.jinja", "--bos", "<b>"];
    assert_eq!(folder.rendered(&[&with_bos, &asked[..]].concat()), ["<b>", prompt].concat());
}

#[test]
fn variables_are_passed_as_they_are() {
    let context = r#"{"messages": [{"role": "a", "content": "b"}], "add_generation_prompt": false}"#;
    let folder = Folder::new("context", &[("t.jinja", TEMPLATE), ("c.json", context)]);
    assert_eq!(folder.rendered(&["--template", "t.jinja", "--context", "c.json"]), "<a>b\n");
}

#[test]
fn a_raw_prompt_has_the_bos_before_it() {
    let folder = Folder::new("raw", &[("t.jinja", ""), ("r.json", r#"{"prompt": "once\n"}"#)]);
    let asked = ["--template", "t.jinja", "--request", "r.json", "--path", "/v1/completions", "--bos", "<s>"];
    assert_eq!(folder.rendered(&asked), "<s>once\n");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let bad = "line one\n  {{ raise_exception('no ' ~ messages | length) }}";
    let folder = Folder::new(
        "wrong",
        &[
            ("bad.jinja", bad),
            ("syntax.jinja", "\n{% if %}"),
            ("t.jinja", TEMPLATE),
            ("r.json", r#"{"messages": []}"#),
            ("image.json", r#"{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}"#),
            ("broken.json", "{\n,"),
        ],
    );
    let refused = |template: &str, request: &str| folder.refused(&["--template", template, "--request", request]);
    let said = refused("bad.jinja", "r.json");
    assert!(said.contains("bad.jinja: template line 2, column 6: the template raised: no 0"), "{said}");
    assert!(refused("syntax.jinja", "r.json").contains("syntax.jinja: template line 2, column"));
    assert!(refused("t.jinja", "image.json").contains("parts that are not text"));
    assert!(refused("t.jinja", "broken.json").contains("broken.json: key must be a string at line 2 column 1"));
    assert!(refused("none.jinja", "r.json").contains("none.jinja: No such file"));
    let said = folder.refused(&["--template", "t.jinja", "--request", "r.json", "--now", "noon"]);
    assert!(said.contains("--now noon: must be like"), "{said}");
}

#[test]
fn the_help_teaches_by_examples() {
    let folder = Folder::new("help", &[]);
    let help = folder.rendered(&["--help"]);
    assert!(help.contains("kvasir render --template tokenizer_config.json --request body.json"), "{help}");
    let neither = folder.render(&["--template", "t.jinja"]);
    assert_eq!(neither.status.code(), Some(2), "{neither:?}");
}
