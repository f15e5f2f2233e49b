//! The command `kvasir render`, as its users run it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread::JoinHandle;

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
    assert!(refused("t.jinja", "broken.json").contains("broken.json: line 2, byte 2 of the text"));
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

/// Answers one request after another with these statuses and bodies. Returns its address and, at its end, the requests.
fn engine(answers: Vec<(u16, String)>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = move || {
        let answer = |(status, body): (u16, String)| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            // Bodies here are small JSON objects: nothing comes after the last brace.
            while !request.ends_with(b"}") {
                let mut part = [0; 4096];
                let read = stream.read(&mut part).unwrap();
                assert!(read > 0, "a request that breaks off");
                request.extend(part.iter().take(read));
            }
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        };
        answers.into_iter().map(answer).collect()
    };
    (address, std::thread::spawn(serve))
}

const BODY: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "hi"}]}"#;
const BRIEF: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";

#[test]
fn an_engine_without_a_render_endpoint_is_asked_for_the_prompts_text() {
    let folder = Folder::new("compare", &[("t.jinja", BRIEF), ("r.json", BODY)]);
    for (text, code, want) in [("<user>hi", 0, "equal: 8 bytes\n"), ("<user>Hi", 1, "different from byte 6 on")] {
        let answers = vec![(404, "{}".to_owned()), (200, serde_json::json!({"prompt_text": text}).to_string())];
        let (address, engine) = engine(answers);
        let output = folder.render(&["--template", "t.jinja", "--request", "r.json", "--compare", &address]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(want));
        let requests = engine.join().unwrap();
        assert!(requests[0].starts_with("POST /v1/chat/completions/render "), "{requests:?}");
        assert!(requests[1].starts_with("POST /v1/chat/completions ") && requests[1].contains(r#""max_tokens":1"#));
    }
}

#[test]
fn token_ids_are_compared_by_the_bytes_of_the_vocabulary() {
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        (0u8..=255).map(|byte| (letter(byte).to_string(), byte.into())).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": []},
    });
    let files = [("t.jinja", BRIEF), ("r.json", BODY), ("tokenizer.json", &tokenizer.to_string())];
    let folder = Folder::new("compare-tokens", &files);
    for (text, code, want) in [("<user>hi", 0, "equal: 8 bytes\n"), ("<user>hi\n", 1, "different from byte 8 on")] {
        let (address, engine) = engine(vec![(200, serde_json::json!({"token_ids": text.as_bytes()}).to_string())]);
        let asked = ["--template", "t.jinja", "--request", "r.json", "--tokenizer", ".", "--compare", &address];
        let output = folder.render(&asked);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(want));
        engine.join().unwrap();
    }
}

/// GPT-2's letter for a byte.
fn letter(byte: u8) -> char {
    let plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if plain(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !plain(other)).count();
    char::from_u32(256 + u32::try_from(before).unwrap()).unwrap()
}

#[test]
fn a_comparison_that_cannot_be_made_is_neither_equal_nor_different() {
    let folder = Folder::new("compare-fails", &[("t.jinja", BRIEF), ("r.json", BODY)]);
    let (address, engine) = engine(vec![(404, "{}".to_owned()), (400, "no such field".to_owned())]);
    let output = folder.render(&["--template", "t.jinja", "--request", "r.json", "--compare", &address]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty() && String::from_utf8(output.stderr).unwrap().contains("no such field"));
    engine.join().unwrap();
}
