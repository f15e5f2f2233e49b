//! Small vocabularies of every shape, made in code: all bytes, the letters of a few words, a handful of merges.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::model_files::{FoundFiles, ModelFiles, RankHints, TokenizerFile};
use super::{ReadError, Vocabulary, encoder::Encoder, self_test};

pub(crate) const START: &str = "<|im_start|>";
pub(crate) const END: &str = "<|im_end|>";
/// Cuts like GPT-2's successors: a line break and what follows it never share a token.
pub(crate) const PATTERN: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Tokens beyond the single bytes, in merge order.
const WORDS: [&str; 6] = ["th", "the", " the", "in", "ing", "  "];

pub(crate) fn added(id: usize, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true})
}

/// BPE over bytes, as GPT-2, Qwen and Llama 3 have it. Ids: 256 bytes, six words, two special tokens.
pub(crate) fn byte_level() -> Value {
    let mut alphabet: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let words = ["th", "the", "Ġthe", "in", "ing", "ĠĠ"].map(str::to_owned);
    let pieces = alphabet.iter().map(char::to_string).chain(words);
    let vocab: serde_json::Map<String, Value> = pieces.zip((0..).map(|id: u32| id.into())).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [added(262, START), added(263, END)],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
            "merges": [["t", "h"], ["th", "e"], ["Ġ", "the"], ["i", "n"], ["in", "g"], ["Ġ", "Ġ"]]},
    })
}

fn sentence_pieces() -> Vec<String> {
    let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let letters = ('a'..='z').map(String::from);
    let words = ["\u{2581}", "\u{2581}t", "\u{2581}th", "\u{2581}\u{2581}"].map(str::to_owned);
    special.into_iter().chain(bytes).chain(letters).chain(words).collect()
}

fn sentence_piece(model: Value, normalizer: Value, cut: Value, decoder: Value) -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": normalizer, "pre_tokenizer": cut,
        "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": decoder, "model": model,
    })
}

fn sentence_bpe() -> Value {
    let vocab: serde_json::Map<String, Value> =
        sentence_pieces().into_iter().zip((0..).map(|id: u32| id.into())).collect();
    json!({"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
        "merges": ["\u{2581} t", "\u{2581}t h", "\u{2581} \u{2581}"]})
}

fn fallback_decoder() -> Value {
    json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})
}

/// SentencePiece BPE with a space before every stretch of text.
pub(crate) fn llama_2() -> Value {
    let normalizer = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]});
    sentence_piece(sentence_bpe(), normalizer, Value::Null, fallback_decoder())
}

/// SentencePiece BPE that adds no space.
pub(crate) fn gemma() -> Value {
    let normalizer = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    let cut = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
    sentence_piece(sentence_bpe(), normalizer, cut, fallback_decoder())
}

/// SentencePiece Unigram with a space before the first word.
pub(crate) fn unigram() -> Value {
    let vocab: Vec<Value> = sentence_pieces().into_iter().map(|piece| json!([piece, -1.0])).collect();
    let model = json!({"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": vocab});
    let cut = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": false});
    sentence_piece(model, Value::Null, cut.clone(), cut)
}

fn ranks() -> impl Iterator<Item = Vec<u8>> {
    (0..=255_u8).map(|byte| vec![byte]).chain(WORDS.map(|word| word.as_bytes().to_vec()))
}

pub(crate) fn tiktoken() -> Vec<u8> {
    let lines = ranks().enumerate().map(|(rank, bytes)| format!("{} {rank}\n", STANDARD.encode(bytes)));
    lines.collect::<String>().into_bytes()
}

pub(crate) fn tekken() -> Value {
    let vocab: Vec<Value> = ranks()
        .enumerate()
        .map(|(rank, bytes)| json!({"rank": rank, "token_bytes": STANDARD.encode(bytes), "token_str": null}))
        .collect();
    json!({"config": {"pattern": PATTERN, "num_vocab_tokens": 262, "default_vocab_size": 285,
        "default_num_special_tokens": 24, "version": "v3"}, "vocab": vocab})
}

pub(crate) fn hugging_face(json: &Value) -> ModelFiles {
    let tokenizer = TokenizerFile::HuggingFace(json.to_string().into_bytes());
    ModelFiles::new(tokenizer, &FoundFiles::default(), RankHints::default()).unwrap()
}

pub(crate) fn ranked(tokenizer: TokenizerFile, pattern: Option<&str>) -> ModelFiles {
    let special = vec![(262, START.to_owned()), (263, END.to_owned())];
    let hints = RankHints { pattern: pattern.map(str::to_owned), special };
    ModelFiles::new(tokenizer, &FoundFiles::default(), hints).unwrap()
}

/// Both halves of a model that passes its self-test.
pub(crate) fn proven(files: &ModelFiles) -> (Vocabulary, Encoder) {
    let vocabulary = files.vocabulary().unwrap();
    let encoder = files.encoder(&vocabulary).unwrap();
    self_test::run(&vocabulary, &encoder).unwrap();
    (vocabulary, encoder)
}

pub(crate) fn refused(json: &Value) -> ReadError {
    hugging_face(json).vocabulary().unwrap_err()
}
