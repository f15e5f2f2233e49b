//! llm-d's own configurations beside what we make of them. They live beside the workspace, not in it: where they are absent
//! this says so and passes, and the cases of `tests` have to do. `vectors.txt` holds our side.

use std::path::Path;

use super::*;

const EXPECTED: &str = include_str!("vectors.txt");

/// The document in a file; in Helm values it is a text among them.
fn embedded(text: &str) -> String {
    let value: Value = deserialize(text).unwrap();
    match value.pointer("/router/epp/pluginsCustomConfig") {
        Some(Value::Object(documents)) => documents.values().next().unwrap().as_str().unwrap().to_owned(),
        _ => text.to_owned(),
    }
}

#[test]
fn every_configuration_of_llm_d_becomes_what_is_written_down() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/llm-d-config"));
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("SKIPPED: there is no {}: llm-d's own configurations were NOT loaded", folder.display());
        return;
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut got = String::new();
    for path in &paths {
        let text = embedded(&std::fs::read_to_string(path).unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        let outcome = match load(&text) {
            Ok(loaded) => {
                assert_eq!(at_a_gateway(&loaded.profile), Ok(()), "{name}");
                explain(&loaded, "")
            }
            Err(problems) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
        };
        got += &format!("=== {name}\n{outcome}");
    }
    for (ours, expected) in got.split("=== ").zip(EXPECTED.split("=== ")) {
        assert_eq!(ours, expected);
    }
    assert_eq!(got, EXPECTED);
    assert_eq!(paths.len(), 23);
}
