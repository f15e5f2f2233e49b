//! The closed loop of exact residency: engines whose caches overflow, followed through their KV events, against what a
//! gateway predicts from them. Run with `--nocapture` for the figures.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "functions that tests share are test code too, though clippy counts only #[test] functions as such"
)]

use lab::exactness::{Caches, Lesion, Setting, Tally, run};

const GRID: [(u32, u16); 3] = [(16, 128), (64, 128), (64, 256)];
/// A chunk spans several blocks here: pods that differ by less than it look alike.
const COARSE: (u32, u16) = (16, 256);

fn ran(setting: Setting) -> Tally {
    let tally = run(&setting).unwrap();
    println!(
        "{:>2} pods, blocks of {:>2}, chunks of {:>3}, {:<10} {:<18} contested {:>4}/{:>4} near best {:>6.2} % ({} of {} misses are ties) | over p99 {:>6.2} \
         max {:>6.2} | under p99 {:>5.2} max {:>6.2} blocks | found {:.3} of best | removed {} | orphans {} | \
         {} slips {} alarms",
        setting.pods,
        setting.block_size,
        setting.chunk_bytes,
        match setting.caches {
            Caches::Plain => "plain".to_owned(),
            Caches::Hybrid { retention_interval } => format!("hybrid {retention_interval}"),
            Caches::Mixed => "mixed".to_owned(),
        },
        format!("{:?}", setting.lesion),
        tally.contested,
        tally.decisions,
        100.0 * tally.share_near_best(),
        tally.ties_lost,
        tally.contested - tally.near_best,
        tally.over(0.99),
        tally.over(1.0),
        tally.under(0.99),
        tally.under(1.0),
        tally.found.0 as f64 / tally.found.1 as f64,
        tally.removals,
        tally.counters.orphans,
        tally.slips,
        tally.alarms,
    );
    tally
}

const fn setting(pods: u32, (block_size, chunk_bytes): (u32, u16), lesion: Lesion) -> Setting {
    Setting { pods, block_size, chunk_bytes, caches: Caches::Plain, requests: 6000, slips: 0, lesion, seed: 7 }
}

fn holds(pods: u32) {
    for point in GRID {
        let tally = ran(setting(pods, point, Lesion::Nothing));
        assert!(
            tally.contested >= 300 && tally.removals >= 1000,
            "{pods} {point:?} proves nothing: {}",
            tally.contested
        );
        assert!(tally.share_near_best() >= 0.995, "{pods} {point:?}: {}", tally.share_near_best());
        assert!(tally.over(0.99) <= 2.0, "{pods} {point:?}: {} blocks", tally.over(0.99));
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
        assert!(tally.contested >= 300 && tally.removals >= 1000, "{pods}: {}", tally.contested);
        assert!(tally.share_near_best() >= 0.98, "{pods}: {}", tally.share_near_best());
        assert_eq!(tally.ties_lost, tally.contested - tally.near_best, "{pods}: misses that are no ties");
        assert!(tally.over(0.99) <= 2.0, "{pods}: {} blocks", tally.over(0.99));
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
        assert!(checked.passes() && checked.over(quantile) <= 2.0, "{slips}: {} blocks", checked.over(quantile));
        assert!(unchecked.over(quantile) > 2.0, "{slips}: {} blocks prove nothing", unchecked.over(quantile));
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
            assert!(tally.contested >= 200 && tally.removals >= 1000, "{point:?} proves nothing: {}", tally.contested);
            assert!(tally.share_near_best() >= 0.985, "{caches:?} {point:?}: {}", tally.share_near_best());
            assert!(tally.over(0.99) <= most, "{caches:?} {point:?}: {} blocks", tally.over(0.99));
            assert_eq!((tally.counters.orphans, tally.counters.shed, tally.alarms), (0, 0, 0));
        }
    }
}

#[test]
fn without_checkpoints_hybrid_engines_are_thought_to_hold_far_more_than_they_can_use() {
    for caches in [Caches::Hybrid { retention_interval: 0 }, Caches::Mixed] {
        let tally = ran(Setting { caches, ..setting(8, (16, 128), Lesion::CheckpointsIgnored) });
        assert!(!tally.passes() && tally.over(0.99) > 10.0, "{caches:?}: {} blocks", tally.over(0.99));
    }
}
