use crate::vocabulary::ReadError;
use crate::vocabulary::model_files::{FoundFiles, ModelFiles, RankHints, TokenizerFile};
use crate::vocabulary::testing::{PATTERN, byte_level, hugging_face, proven, ranked, tiktoken};

fn read(ranks: &[u8], config: Option<&str>) -> Result<crate::vocabulary::Vocabulary, ReadError> {
    let found = FoundFiles { config: config.map(|json| json.as_bytes().to_vec()), ..FoundFiles::default() };
    ModelFiles::new(TokenizerFile::Tiktoken(ranks.to_vec()), &found, RankHints::default())?.vocabulary()
}

#[test]
fn ranks_merge_as_the_same_merges_do_in_the_tokenizers_crate() {
    let (by_rank, ranks) = proven(&ranked(TokenizerFile::Tiktoken(tiktoken()), Some(PATTERN)));
    let (by_merge, merges) = proven(&hugging_face(&byte_level()));
    for text in ["in the thing  the", "  \n  thththe ingthe", "<|im_start|>the <|im_end|>", "你好 thé"] {
        let bytes = |vocabulary: &crate::vocabulary::Vocabulary, tokens: Vec<u32>| -> Vec<Vec<u8>> {
            tokens.iter().map(|token| vocabulary.table().bytes_of(*token).unwrap().to_vec()).collect()
        };
        let (ranked, merged) = (ranks.encode(text).unwrap(), merges.encode(text).unwrap());
        assert_eq!(bytes(&by_rank, ranked), bytes(&by_merge, merged), "{text}");
    }
}

#[test]
fn special_tokens_come_from_the_companion() {
    let config =
        r#"{"added_tokens_decoder": {"262": {"content": "[BOS]"}}, "bos_token": "[BOS]", "add_bos_token": true}"#;
    let vocabulary = read(&tiktoken(), Some(config)).unwrap();
    assert_eq!(vocabulary.table().bytes_of(262), Some(&b"[BOS]"[..]));
    assert_eq!(vocabulary.form().bos, "[BOS]");
}

#[test]
fn ranks_without_special_tokens_are_refused() {
    assert!(matches!(read(&tiktoken(), None), Err(ReadError::NoSpecialTokens(_))));
}

#[test]
fn a_special_token_in_place_of_a_rank_is_refused() {
    let config = r#"{"added_tokens_decoder": {"65": {"content": "[BOS]"}}}"#;
    assert!(matches!(read(&tiktoken(), Some(config)), Err(ReadError::TokenId { id: 65, .. })));
}

#[test]
fn a_malformed_line_is_named() {
    let mut ranks = tiktoken();
    ranks.extend_from_slice(b"!!! 262\n");
    assert!(read(&ranks, None).unwrap_err().to_string().contains("line 263: not base64"));
}
