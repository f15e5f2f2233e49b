//! Medians, percentiles, and how far to trust them: percentile bootstrap over rounds. Rounds are resampled whole, so that
//! a figure made of several variants keeps what they had in common in a round (a busy machine hits all of them).

use crate::draw::Draw;
use serde::Serialize;

/// Resamples per interval: enough for two digits of a 95 % interval.
const RESAMPLES: usize = 2_000;

/// A figure and its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The value at or below which a share `rank` (0..=1) of the sorted `values` lies; NaN of nothing.
pub(crate) fn percentile(sorted: &[f64], rank: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = rank.clamp(0.0, 1.0) * last as f64;
    // The smallest index at or above the position, found without a cast from a float.
    let upper = (0..=last).find(|index| *index as f64 >= position).unwrap_or(last);
    let lower = upper.saturating_sub(1);
    let (Some(low), Some(high)) = (sorted.get(lower), sorted.get(upper)) else { return f64::NAN };
    let weight = (position - lower as f64).clamp(0.0, 1.0);
    // Rounding must not carry the result out of its neighbours.
    let between = low + (high - low) * weight;
    if between.is_nan() { between } else { between.clamp(*low, *high) }
}

/// The median of `values`, in any order.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    percentile(&values, 0.5)
}

/// `figure` over all `rounds`, with the interval it takes when the rounds are drawn again with replacement.
pub(crate) fn bootstrap<R: Copy>(rounds: &[R], figure: impl Fn(&[R]) -> f64) -> Option<Estimate> {
    let value = figure(rounds);
    if !value.is_finite() {
        return None;
    }
    let mut draw = Draw::new(0x6b76_6173_6972);
    let resample = |_| {
        let again: Vec<R> = (0..rounds.len()).filter_map(|_| rounds.get(draw.below(rounds.len())).copied()).collect();
        figure(&again)
    };
    let mut figures: Vec<f64> = (0..RESAMPLES).map(resample).filter(|figure| !figure.is_nan()).collect();
    figures.sort_by(f64::total_cmp);
    Some(Estimate { value, low: percentile(&figures, 0.025), high: percentile(&figures, 0.975) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_interpolate_between_neighbours() {
        let sorted = [10.0, 20.0, 30.0, 40.0];
        for (rank, expected) in [(0.0, 10.0), (0.5, 25.0), (0.9, 37.0), (1.0, 40.0)] {
            assert!((percentile(&sorted, rank) - expected).abs() < 1e-9, "{rank}");
        }
        assert!(percentile(&[], 0.5).is_nan() && percentile(&[1.0, f64::NAN], 0.5).is_nan());
        assert!(percentile(&[0.1 + 0.2; 3], 0.77) <= 0.1 + 0.2, "rounding stays inside");
        assert!((percentile(&[7.0], 0.99) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn the_interval_of_constant_rounds_is_a_point() {
        let estimate = bootstrap(&[3.0; 9], |rounds| median(rounds.iter().copied())).expect("finite");
        assert_eq!(estimate, Estimate { value: 3.0, low: 3.0, high: 3.0 });
    }

    #[test]
    fn rounds_are_resampled_whole() {
        // Both variants drift by the same amount from round to round: their difference does not vary at all.
        let rounds: Vec<(f64, f64)> = [0.0, 50.0, 900.0, 20.0].map(|drift| (100.0 + drift, 130.0 + drift)).to_vec();
        let added =
            bootstrap(&rounds, |rounds| median(rounds.iter().map(|(plain, with)| with - plain))).expect("finite");
        assert!((added.high - added.low).abs() < 1e-9, "{added:?}");
    }

    #[test]
    fn a_figure_without_data_has_no_estimate() {
        assert_eq!(bootstrap(&[] as &[f64], |rounds| median(rounds.iter().copied())), None);
    }

    proptest! {
        #[test]
        fn the_median_lies_in_its_interval_and_the_interval_in_the_data(values in prop::collection::vec(0.0_f64..1e6, 3..30)) {
            let estimate = bootstrap(&values, |rounds| median(rounds.iter().copied())).expect("finite");
            let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
            prop_assert!(least <= estimate.low && estimate.low <= estimate.value);
            prop_assert!(estimate.value <= estimate.high && estimate.high <= most);
        }
    }
}
