use super::{FoundFiles, ModelFiles, RankHints, TokenizerFile};

fn with(found: FoundFiles) -> ModelFiles {
    ModelFiles::new(TokenizerFile::HuggingFace(Vec::new()), &found, RankHints::default()).unwrap()
}

fn config(json: &str) -> FoundFiles {
    FoundFiles { config: Some(json.as_bytes().to_vec()), ..FoundFiles::default() }
}

#[test]
fn a_list_of_templates_is_kept_by_name() {
    let files = with(config(
        r#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#,
    ));
    assert_eq!((files.template("default"), files.template("tool_use")), (Some("D"), Some("T")));
    assert_eq!(files.templates[0].name, "default");
}

#[test]
fn a_template_file_replaces_the_configurations() {
    let mut found = config(r#"{"chat_template": "old"}"#);
    assert_eq!(with(found.clone()).template("default"), Some("old"));
    found.template_json = Some(br#"{"chat_template": "newer"}"#.to_vec());
    assert_eq!(with(found.clone()).template("default"), Some("newer"));
    found.jinja = Some(b"newest".to_vec());
    assert_eq!(with(found).template("default"), Some("newest"));
}

#[test]
fn tokens_are_texts_or_objects_with_one() {
    let files = with(config(r#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>"}"#));
    assert_eq!((files.config.bos_token.as_deref(), files.config.eos_token.as_deref()), (Some("<s>"), Some("</s>")));
}
