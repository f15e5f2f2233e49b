//! Real tokenizers, which are too large to keep here: `KVASIR_TOKENIZERS` names a directory with one directory each.
//!
//! Every one must either pass its self-test or be refused by its reader with the place in the file; `KVASIR_TOKENIZERS`
//! unset skips all of this, and says so.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on must fail")]
#![expect(clippy::print_stdout, reason = "sizes and speeds are what one runs this for by hand")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use controlplane::vocabulary::canonical::{Canonical, Origin, Verdict};
use controlplane::vocabulary::fetch::{Source, model_files};
use controlplane::vocabulary::model_files::{ModelFiles, RankHints};
use controlplane::vocabulary::{Vocabulary, self_test};

/// Decoded in one go to measure the speed.
const REPEATS: usize = 400;

fn directories() -> Vec<PathBuf> {
    let Some(root) = std::env::var_os("KVASIR_TOKENIZERS") else {
        println!("SKIPPED: KVASIR_TOKENIZERS names no directory, so no real tokenizer was tried");
        return Vec::new();
    };
    let mut all: Vec<PathBuf> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.is_dir());
    all.sort();
    assert!(!all.is_empty(), "{}: no tokenizers", root.display());
    all
}

/// Rank files come without special tokens and pattern: stand-ins behind all ranks, and a `pattern.txt`.
fn files(directory: &Path) -> ModelFiles {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned);
    let hints = RankHints {
        pattern: std::fs::read_to_string(directory.join("pattern.txt")).ok(),
        special: (300_000..).zip(special).collect(),
    };
    runtime.block_on(model_files(&Source::Path(directory.to_owned()), hints)).unwrap()
}

/// Memory of this process.
fn resident_megabytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok()).unwrap_or_default() / 1024
}

fn megabytes_per_second(vocabulary: &Vocabulary, tokens: &[u32]) -> f64 {
    let mut bytes = Vec::new();
    let began = Instant::now();
    for _ in 0..REPEATS {
        bytes.clear();
        vocabulary.decode(tokens, vocabulary.root(), &mut bytes).unwrap();
    }
    (bytes.len() * REPEATS) as f64 / began.elapsed().as_secs_f64() / 1e6
}

#[test]
fn every_real_tokenizer_spells_its_texts() {
    for directory in directories() {
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        let files = files(&directory);
        let began = Instant::now();
        let vocabulary = files.vocabulary().unwrap_or_else(|error| panic!("{name}: {error}"));
        let read = began.elapsed();
        let (before, began) = (resident_megabytes(), Instant::now());
        let encoder = files.encoder(&vocabulary).unwrap();
        let (built, grown) = (began.elapsed(), resident_megabytes().saturating_sub(before));
        let passed = self_test::run(&vocabulary, &encoder).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        let tokens = encoder.encode(include_str!("real_vocabularies.rs")).unwrap();
        println!(
            "{name}: {} tokens, {} special, {:?}, {} KB, id {:016x}, read {read:?}, encoder {built:?} and {grown} MB, {passed:?}, {:.0} MB/s",
            vocabulary.size(),
            vocabulary.special_tokens().len(),
            vocabulary.form(),
            vocabulary.table().memory() / 1024,
            vocabulary.id(),
            megabytes_per_second(&vocabulary, &tokens),
        );
        no_false_alarms(&name, vocabulary, encoder);
    }
}

/// What the tokenizer itself encoded is canonical, wherever it is cut.
fn no_false_alarms(name: &str, vocabulary: Vocabulary, encoder: controlplane::vocabulary::encoder::Encoder) {
    let text = include_str!("real_vocabularies.rs").repeat(2) + "\n1+1? 你好 ok\nWell, that's that.\n\n  then";
    let tokens = encoder.encode(&text).unwrap();
    let Some(canonical) = Canonical::new(Arc::new(vocabulary), encoder, 4096) else { return };
    let mut counts = [0_usize; 3];
    for start in (0..tokens.len()).step_by(7) {
        for length in [16, 64, 256] {
            let run = &tokens[start..tokens.len().min(start + length)];
            let origin = if start == 0 { Origin::Anchor } else { Origin::Middle };
            match canonical.check(run, origin).verdict {
                Verdict::Unknown => counts[0] += 1,
                Verdict::Canonical => counts[1] += 1,
                Verdict::Differs(_) => counts[2] += 1,
            }
        }
    }
    println!("{name}: runs unknown/canonical/false alarms {counts:?}");
    assert_eq!(counts[2], 0, "{name}: false alarms");
}
