//! The script is right, and what it says of differences is in the README.
#![forbid(unsafe_code)]

#[cfg(test)]
mod native {
    use parity::native::Native;
    use parity::play::play;
    use parity::script::{Scene, Script};

    #[test]
    fn the_brain_itself_does_what_the_script_says() {
        play(&mut Native::default());
    }

    #[test]
    fn every_difference_has_a_reason_that_the_readme_gives_too_and_is_asserted_somewhere() {
        let script = Script::read();
        let readme = include_str!("../README.md");
        let differs = |scene: &Scene| -> Vec<String> {
            let differs = scene.requests.iter().flat_map(|request| request.differs.values().map(|(why, _)| why));
            differs.chain(scene.skipped.values()).cloned().collect()
        };
        let used: Vec<String> = script.scenes.iter().flat_map(differs).collect();
        assert!(used.iter().all(|why| script.differences.contains_key(why)), "{used:?}");
        for (name, reason) in &script.differences {
            assert!(used.contains(name), "{name} is asserted nowhere");
            assert!(readme.contains(&format!("| `{name}` | {reason} |")), "the README lacks {name}: {reason}");
        }
    }
}
