use serde_json::{Value, json};

use crate::vocabulary::model_files::TokenizerFile;
use crate::vocabulary::testing::{proven, ranked, tekken};
use crate::vocabulary::{ReadError, Vocabulary};

fn read(json: &Value) -> Result<Vocabulary, ReadError> {
    ranked(TokenizerFile::Tekken(json.to_string().into_bytes()), None).vocabulary()
}

#[test]
fn ids_are_ranks_behind_the_special_tokens_up_to_the_stated_size() {
    let (vocabulary, _) = proven(&ranked(TokenizerFile::Tekken(tekken().to_string().into_bytes()), None));
    // 24 special tokens and 261 of 262 ranks.
    assert_eq!(vocabulary.size(), 285);
    assert_eq!(vocabulary.table().bytes_of(24 + 65), Some(&b"A"[..]));
    assert_eq!(vocabulary.table().bytes_of(3), Some(&b"[INST]"[..]));
    assert_eq!(vocabulary.table().bytes_of(23), Some(&b"<SPECIAL_23>"[..]));
    assert_eq!(vocabulary.form().bos, "<s>");
}

#[test]
fn listed_special_tokens_replace_the_early_ones() {
    let mut json = tekken();
    json["special_tokens"] = json!([{"rank": 0, "token_str": "<a>", "is_control": true}]);
    let vocabulary = read(&json).unwrap();
    assert_eq!(vocabulary.table().bytes_of(0), Some(&b"<a>"[..]));
    assert_eq!(vocabulary.table().bytes_of(1), Some(&b"<SPECIAL_1>"[..]));
    assert_eq!(vocabulary.form().bos, "");
}

#[test]
fn a_special_token_among_the_ranks_is_refused() {
    let mut json = tekken();
    json["special_tokens"] = json!([{"rank": 24, "token_str": "<a>", "is_control": true}]);
    assert!(matches!(read(&json), Err(ReadError::TokenId { id: 24, .. })));
}
