//! A straight line through a stream of samples: discounted least squares, tied to a prior line by pseudo-samples.
//!
//! The pseudo-samples do not fade. Without them a workload whose abscissae hardly differ has no leverage on the slope,
//! and the slope drifts to its bound.

/// Weight that a sample keeps when the next one arrives: 500 samples count.
const KEEP: f64 = 0.998;
/// Pseudo-samples at either end of the prior line.
const ANCHOR_WEIGHT: f64 = 10.0;

/// y = intercept + slope * x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// y at 0.
    pub intercept: f64,
    /// y per x.
    pub slope: f64,
}

impl Line {
    /// y at `x`.
    #[must_use]
    pub fn at(&self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }
}

/// Where a fit starts and how far it may go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    /// What is believed without samples.
    pub line: Line,
    /// A typical abscissa: the anchors stand at 0 and at twice this.
    pub typical: f64,
    /// Least and greatest intercept.
    pub intercepts: (f64, f64),
    /// Least and greatest slope.
    pub slopes: (f64, f64),
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    weight: f64,
    x: f64,
    xx: f64,
    y: f64,
    xy: f64,
}

impl Sums {
    fn add(&mut self, x: f64, y: f64, weight: f64) {
        self.weight += weight;
        self.x += weight * x;
        self.xx += weight * x * x;
        self.y += weight * y;
        self.xy += weight * x * y;
    }

    fn fade(&mut self) {
        for sum in [&mut self.weight, &mut self.x, &mut self.xx, &mut self.y, &mut self.xy] {
            *sum *= KEEP;
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            weight: self.weight + other.weight,
            x: self.x + other.x,
            xx: self.xx + other.xx,
            y: self.y + other.y,
            xy: self.xy + other.xy,
        }
    }
}

/// The fit: ten numbers, ten operations per sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LineFit {
    prior: Prior,
    anchors: Sums,
    samples: Sums,
}

impl LineFit {
    /// Without samples it is the prior line.
    #[must_use]
    pub fn new(prior: Prior) -> Self {
        let mut anchors = Sums::default();
        let far = 2.0 * prior.typical;
        anchors.add(0.0, prior.line.at(0.0), ANCHOR_WEIGHT);
        anchors.add(far, prior.line.at(far), ANCHOR_WEIGHT);
        Self { prior, anchors, samples: Sums::default() }
    }

    /// Takes a sample; anything that is not finite and >= 0 is ignored.
    pub fn observe(&mut self, x: f64, y: f64) {
        if x.is_finite() && y.is_finite() && x >= 0.0 && y >= 0.0 {
            self.samples.fade();
            self.samples.add(x, y, 1.0);
        }
    }

    /// The best line within the bounds. A bound that bites on one coefficient lets the other one adapt.
    #[must_use]
    pub fn line(&self) -> Line {
        let sums = self.anchors.plus(self.samples);
        let spread = sums.weight * sums.xx - sums.x * sums.x;
        if !spread.is_normal() || spread < 0.0 {
            return self.prior.line;
        }
        let free = (sums.weight * sums.xy - sums.x * sums.y) / spread;
        let (least, most) = self.prior.slopes;
        let slope = free.clamp(least, most);
        let free_intercept = (sums.y - slope * sums.x) / sums.weight;
        let (lowest, highest) = self.prior.intercepts;
        let intercept = free_intercept.clamp(lowest, highest);
        if (lowest..=highest).contains(&free_intercept) {
            return Line { intercept, slope };
        }
        Line { intercept, slope: ((sums.xy - intercept * sums.x) / sums.xx).clamp(least, most) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIOR: Prior = Prior {
        line: Line { intercept: 0.03, slope: 65e-6 },
        typical: 4000.0,
        intercepts: (0.0, 1.0),
        slopes: (65e-6 / 4.0, 65e-6 * 4.0),
    };

    #[test]
    fn without_samples_the_prior_stands() {
        let line = LineFit::new(PRIOR).line();
        assert!((line.intercept - 0.03).abs() < 1e-12 && (line.slope - 65e-6).abs() < 1e-15);
    }

    #[test]
    fn samples_with_leverage_move_the_line_to_the_truth() {
        let mut fit = LineFit::new(PRIOR);
        for i in 0..2000u32 {
            let x = f64::from(i % 20) * 1000.0;
            fit.observe(x, 0.1 + 150e-6 * x);
        }
        let line = fit.line();
        assert!((line.slope / 150e-6 - 1.0).abs() < 0.03, "{line:?}");
        assert!((line.intercept - 0.1).abs() < 0.03, "{line:?}");
    }

    #[test]
    fn the_bounds_hold_for_absurd_samples() {
        let mut fit = LineFit::new(PRIOR);
        for i in 0..1000u32 {
            fit.observe(f64::from(i), 1e9 * f64::from(i));
            fit.observe(f64::NAN, f64::INFINITY);
        }
        let line = fit.line();
        assert!(line.slope <= 65e-6 * 4.0 && (0.0..=1.0).contains(&line.intercept), "{line:?}");
    }
}
