//! The closed loop of exact residency: engines whose caches overflow, followed through their KV events, against what a
//! gateway predicts from them. Run with `--nocapture` for the figures.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "functions that tests share are test code too, though clippy counts only #[test] functions as such"
)]

use lab::exactness::{Account, Caches, Errors, Lesion, News, Setting, Tally, run};

const GRID: [(u32, u16); 3] = [(16, 128), (64, 128), (64, 256)];
/// A chunk spans several blocks here: pods that differ by less than it look alike.
const COARSE: (u32, u16) = (16, 256);

fn ran(setting: Setting) -> Tally {
    let tally = run(&setting).unwrap();
    println!(
        "{} pods of {:>5} tokens ({:.2} in use), blocks of {:>2}, chunks of {:>3}, {}/s, {:?}, seed {}, {:?}, {:?}: removed {} | twins {} | \
         orphans {} | {} slips {} alarms",
        setting.pods,
        setting.pod_tokens,
        tally.used(0.5),
        setting.block_size,
        setting.chunk_bytes,
        setting.rate,
        setting.caches,
        setting.seed,
        setting.news,
        setting.lesion,
        tally.removals,
        tally.twins,
        tally.counters.orphans,
        tally.slips,
        tally.alarms,
    );
    for (truth, account) in [("held", &tally.held), ("told", &tally.told)] {
        println!(
            "    {truth:<8} {} | contested {:>4}/{:>4} near best {:>6.2} % ({} of {} misses are ties) | found {:.3} of best",
            of(&account.errors),
            account.contested,
            account.decisions,
            100.0 * account.share_near_best(),
            account.ties_lost,
            account.contested - account.near_best,
            account.found.0 as f64 / account.found.1 as f64,
        );
    }
    println!(
        "    reported {} | cached {:.4} of prompts",
        of(&tally.reported),
        tally.cached.0 as f64 / tally.cached.1 as f64
    );
    tally
}

fn of(errors: &Errors) -> String {
    format!(
        "over p99 {:>6.2} max {:>6.2} (> 2: {:>5.2} %) under p99 {:>6.2} max {:>6.2} blocks",
        errors.over(0.99),
        errors.over(1.0),
        100.0 * errors.share_over(),
        errors.under(0.99),
        errors.under(1.0),
    )
}

const fn setting(pods: u32, (block_size, chunk_bytes): (u32, u16), lesion: Lesion) -> Setting {
    Setting {
        pods,
        block_size,
        chunk_bytes,
        pod_tokens: 24_000,
        rate: 2,
        caches: Caches::Plain,
        requests: 6000,
        echoes: 0,
        slips: 0,
        news: News::AtStepEnd,
        lesion,
        seed: 7,
    }
}

fn holds(pods: u32) {
    for point in GRID {
        let tally = ran(setting(pods, point, Lesion::Nothing));
        assert!(
            tally.held.contested >= 300 && tally.removals >= 1000,
            "{pods} {point:?} proves nothing: {}",
            tally.held.contested
        );
        assert!(tally.held.share_near_best() >= 0.995, "{pods} {point:?}: {}", tally.held.share_near_best());
        assert!(tally.held.errors.over(0.99) <= 2.0, "{pods} {point:?}: {} blocks", tally.held.errors.over(0.99));
        assert_eq!((tally.counters.orphans, tally.counters.shed, tally.alarms), (0, 0, 0));
    }
}

#[test]
fn eight_pods_are_predicted_to_the_block() {
    holds(8);
}

#[test]
fn four_pods_are_predicted_to_the_block() {
    holds(4);
}

#[test]
fn chunks_longer_than_blocks_lose_nothing_but_ties() {
    for pods in [4, 8] {
        let tally = ran(setting(pods, COARSE, Lesion::Nothing));
        assert!(tally.held.contested >= 300 && tally.removals >= 1000, "{pods}: {}", tally.held.contested);
        assert!(tally.held.share_near_best() >= 0.98, "{pods}: {}", tally.held.share_near_best());
        assert_eq!(
            tally.held.ties_lost,
            tally.held.contested - tally.held.near_best,
            "{pods}: misses that are no ties"
        );
        assert!(tally.held.errors.over(0.99) <= 2.0, "{pods}: {} blocks", tally.held.errors.over(0.99));
    }
}

#[test]
fn a_broken_loop_misses_the_bars() {
    let lesions =
        [Lesion::RemovalsIgnored, Lesion::EventsIgnored, Lesion::OtherModel, Lesion::OtherSalt, Lesion::AnyPod];
    for lesion in lesions {
        assert!(!ran(setting(8, (16, 128), lesion)).passes(), "{lesion:?} goes unnoticed");
    }
}

#[test]
fn answers_that_no_tokenizer_would_write_are_found_out_and_no_longer_counted_as_held() {
    for (slips, quantile) in [(500, 0.999), (2000, 0.99)] {
        let run = |lesion| ran(Setting { slips, ..setting(8, (16, 128), lesion) });
        let (checked, unchecked) = (run(Lesion::Nothing), run(Lesion::Unchecked));
        assert!(checked.slips >= 300 && checked.alarms * 10 >= checked.slips * 3, "{slips}: {}", checked.alarms);
        assert!(
            checked.passes() && checked.held.errors.over(quantile) <= 2.0,
            "{slips}: {} blocks",
            checked.held.errors.over(quantile)
        );
        assert!(
            unchecked.held.errors.over(quantile) > 2.0,
            "{slips}: {} blocks prove nothing",
            unchecked.held.errors.over(quantile)
        );
    }
}

/// Caches of about 1.1 times what their running requests hold: whoever is let in evicts.
const fn pressed(point: (u32, u16), seed: u64) -> Setting {
    Setting { pod_tokens: 6000, rate: 40, requests: 2000, echoes: 5, seed, ..setting(8, point, Lesion::Nothing) }
}

/// Never more than one block too many, never less than a chunk allows, and all runs together at the bar.
fn follows(runs: &[(Setting, Tally)], account: fn(&Tally) -> &Account) {
    let (mut contested, mut near_best) = (0, 0);
    for (setting, tally) in runs {
        let Account { errors, .. } = account(tally);
        assert!(errors.over(1.0) <= 1.0, "{setting:?}: {} blocks too many", errors.over(1.0));
        assert!(errors.under(1.0) <= 4.0, "{setting:?}: {} blocks too few", errors.under(1.0));
        assert!(tally.used(0.5) >= 1.0 / 1.3 && tally.removals >= 10_000, "{setting:?} is no pressure");
        assert!(tally.twins >= 10, "{setting:?}: {} blocks were stored twice", tally.twins);
        assert_eq!((tally.counters.orphans, tally.counters.shed, tally.alarms), (0, 0, 0));
        contested += account(tally).contested;
        near_best += account(tally).near_best;
    }
    assert!(contested >= 600, "{contested} contested decisions prove nothing");
    assert!(f64::from(near_best) >= 0.995 * f64::from(contested), "{near_best} of {contested}");
}

#[test]
fn under_pressure_what_engines_have_published_is_predicted_to_the_block() {
    let seeds = [7, 8, 9].map(|seed| pressed(GRID[0], seed));
    let settings = seeds.into_iter().chain([pressed(GRID[1], 7), pressed(GRID[2], 7)]);
    let runs: Vec<_> = settings.map(|setting| (setting, ran(setting))).collect();
    follows(&runs, |tally| &tally.told);
    let lagging = runs.iter().filter(|(_, tally)| !tally.held.passes()).count();
    assert_eq!(lagging, runs.len(), "steps are too short here to tell what is held from what was published");
}

#[test]
fn under_pressure_nothing_but_the_wait_for_the_step_to_end_separates_prediction_and_truth() {
    let settings = GRID.map(|point| Setting { news: News::AtStepBegin, ..pressed(point, 7) });
    let runs = settings.map(|setting| (setting, ran(setting)));
    follows(&runs, |tally| &tally.held);
}

#[test]
fn under_pressure_a_broken_loop_misses_what_was_published() {
    for lesion in [Lesion::RemovalsIgnored, Lesion::EventsIgnored, Lesion::OtherModel, Lesion::AnyPod] {
        let tally = ran(Setting { lesion, requests: 1000, ..pressed(GRID[0], 7) });
        assert!(!tally.told.passes(), "{lesion:?} goes unnoticed");
    }
}

/// Sparse checkpoints, one every 512 tokens, one at every block; and pods with and without side groups in one pool.
const HYBRIDS: [Caches; 4] = [
    Caches::Hybrid { retention_interval: 0 },
    Caches::Hybrid { retention_interval: 512 },
    Caches::Hybrid { retention_interval: 1 },
    Caches::Mixed,
];

/// Sparse checkpoints and chunks of 256 bytes miss the bar of two blocks: the first prompt that parts from another in the
/// bytes between a chunk's end and a checkpoint is taken for one that has it, and the longer the chunk the more do.
const COARSE_SPARSE: (Caches, (u32, u16), f64) = (HYBRIDS[0], (64, 256), 3.0);

#[test]
fn engines_with_several_cache_groups_are_predicted_to_the_block() {
    for caches in HYBRIDS {
        for point in GRID {
            let tally = ran(Setting { caches, ..setting(8, point, Lesion::Nothing) });
            let most = if (caches, point) == (COARSE_SPARSE.0, COARSE_SPARSE.1) { COARSE_SPARSE.2 } else { 2.0 };
            assert!(
                tally.held.contested >= 200 && tally.removals >= 1000,
                "{point:?} proves nothing: {}",
                tally.held.contested
            );
            assert!(tally.held.share_near_best() >= 0.985, "{caches:?} {point:?}: {}", tally.held.share_near_best());
            assert!(
                tally.held.errors.over(0.99) <= most,
                "{caches:?} {point:?}: {} blocks",
                tally.held.errors.over(0.99)
            );
            assert_eq!((tally.counters.orphans, tally.counters.shed, tally.alarms), (0, 0, 0));
        }
    }
}

#[test]
fn without_checkpoints_hybrid_engines_are_thought_to_hold_far_more_than_they_can_use() {
    for caches in [Caches::Hybrid { retention_interval: 0 }, Caches::Mixed] {
        let tally = ran(Setting { caches, ..setting(8, (16, 128), Lesion::CheckpointsIgnored) });
        assert!(
            !tally.passes() && tally.held.errors.over(0.99) > 10.0,
            "{caches:?}: {} blocks",
            tally.held.errors.over(0.99)
        );
    }
}
