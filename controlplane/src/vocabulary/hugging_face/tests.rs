use serde_json::json;

use crate::vocabulary::testing::{byte_level, gemma, hugging_face, llama_2, proven, refused, unigram};
use crate::vocabulary::{ReadError, Vocabulary};
use shared::text_form::{LeadingSpace, Normalizer, Spaces};

fn decoded(vocabulary: &Vocabulary, tokens: &[u32]) -> String {
    let mut bytes = Vec::new();
    vocabulary.decode(tokens, vocabulary.root(), &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn bytes_of_byte_level_tokens_spell_every_text() {
    let (vocabulary, encoder) = proven(&hugging_face(&byte_level()));
    assert_eq!(vocabulary.size(), 264);
    let tokens = encoder.encode("<|im_start|>in the thing<|im_end|>").unwrap();
    assert_eq!(tokens, [262, 259, 258, 220, 256, 260, 263]);
    assert_eq!(decoded(&vocabulary, &tokens), "<|im_start|>in the thing<|im_end|>");
}

#[test]
fn a_space_added_to_every_stretch_is_dropped_after_every_special_token() {
    let (vocabulary, encoder) = proven(&hugging_face(&llama_2()));
    assert_eq!(vocabulary.form().spaces, Spaces::SentencePiece(LeadingSpace::EveryStretch));
    let tokens = encoder.encode("<s>that</s> this").unwrap();
    assert_eq!(decoded(&vocabulary, &tokens), "<s>that</s> this");
    assert_eq!(vocabulary.form().completion("a\u{2581}b"), "<s>a b");
}

#[test]
fn blocks_decode_alike_however_a_chain_is_cut() {
    let (vocabulary, encoder) = proven(&hugging_face(&llama_2()));
    let tokens = encoder.encode("<s>that</s> this</s>").unwrap();
    let whole = decoded(&vocabulary, &tokens);
    for cut in 0..tokens.len() {
        let mut bytes = Vec::new();
        let seam = vocabulary.decode(&tokens[..cut], vocabulary.root(), &mut bytes).unwrap();
        vocabulary.decode(&tokens[cut..], seam, &mut bytes).unwrap();
        assert_eq!(bytes, whole.as_bytes(), "cut at {cut}");
    }
}

#[test]
fn sentence_piece_without_an_added_space_keeps_all_spaces() {
    let (vocabulary, _) = proven(&hugging_face(&gemma()));
    assert_eq!(vocabulary.form().rendered(" a"), " a");
}

#[test]
fn a_space_added_to_the_first_word_only_is_told_from_those_of_the_text() {
    let (vocabulary, encoder) = proven(&hugging_face(&unigram()));
    assert_eq!(encoder.encode("a b").unwrap(), encoder.encode(" a b").unwrap());
    assert_eq!(vocabulary.form().rendered(" a b"), "a b");
    assert_eq!(vocabulary.form().completion("a b"), "<s> a b");
}

#[test]
fn a_normaliser_of_the_tokenizer_is_one_of_the_form() {
    for (name, expected) in [("NFC", Normalizer::Nfc), ("NFKC", Normalizer::Nfkc)] {
        let mut json = byte_level();
        json["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": name}]});
        assert_eq!(proven(&hugging_face(&json)).0.form().normalizer, expected);
    }
}

#[test]
fn two_vocabularies_that_differ_in_form_alone_have_different_ids() {
    let mut json = byte_level();
    let plain = hugging_face(&json).vocabulary().unwrap().id();
    json["normalizer"] = json!({"type": "NFC"});
    assert_ne!(hugging_face(&json).vocabulary().unwrap().id(), plain);
}

#[test]
fn what_would_change_text_is_refused_with_its_place() {
    let cases = [
        (
            "/normalizer",
            json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}),
            "normalizer.normalizers[1].type: Lowercase is not supported",
        ),
        (
            "/normalizer",
            json!({"type": "Replace", "pattern": {"Regex": " +"}, "content": " "}),
            "normalizer.pattern: {\"Regex\":\" +\"} is not supported",
        ),
        (
            "/pre_tokenizer/pretokenizers/0/behavior",
            json!("Removed"),
            "pre_tokenizer.pretokenizers[0].behavior: \"Removed\" is not supported",
        ),
        (
            "/pre_tokenizer/pretokenizers/1/add_prefix_space",
            json!(true),
            "pre_tokenizer.pretokenizers[1].add_prefix_space: true is not supported",
        ),
        ("/pre_tokenizer", json!({"type": "Whitespace"}), "pre_tokenizer.type: Whitespace is not supported"),
        ("/decoder", json!({"type": "WordPiece"}), "decoder.type: WordPiece is not supported"),
        ("/model/type", json!("WordPiece"), "model.type: WordPiece is not supported"),
        ("/model/end_of_word_suffix", json!("</w>"), "model.end_of_word_suffix: </w> is not supported"),
        ("/post_processor", json!({"type": "BertProcessing"}), "post_processor.type: BertProcessing is not supported"),
    ];
    for (at, value, expected) in cases {
        let mut json = byte_level();
        *json.pointer_mut(at).unwrap() = value;
        let error = refused(&json).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn an_added_token_that_strips_is_refused_by_name() {
    let mut json = byte_level();
    json["added_tokens"][1]["rstrip"] = json!(true);
    let expected = ReadError::Strips { content: "<|im_end|>".to_owned(), id: 263, side: "rstrip" };
    assert_eq!(refused(&json), expected);
}

#[test]
fn a_vocabulary_without_all_bytes_is_refused() {
    let mut json = byte_level();
    json["model"]["vocab"].as_object_mut().unwrap().remove("Ċ");
    assert!(matches!(refused(&json), ReadError::ByteMissing { byte: b'\n', .. }));
}

#[test]
fn ids_beyond_any_vocabulary_are_refused() {
    let mut json = byte_level();
    json["added_tokens"][0]["id"] = json!(u32::MAX);
    assert!(matches!(refused(&json), ReadError::TokenId { id, .. } if id == u64::from(u32::MAX)));
}
