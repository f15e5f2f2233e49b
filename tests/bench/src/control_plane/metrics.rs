//! The control plane's own metrics, as far as the bench reads them: sums over all label sets of a name.

/// What one scrape said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    text: String,
}

impl Reading {
    pub(crate) fn new(text: &[u8]) -> Reading {
        Reading { text: String::from_utf8_lossy(text).into_owned() }
    }

    /// The sum over all samples called `name`; 0 without any.
    pub(crate) fn value(&self, name: &str) -> f64 {
        let samples = self.text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = rest.strip_prefix(' ').or_else(|| Some(rest.strip_prefix('{')?.split_once("} ")?.1))?;
            value.split_ascii_whitespace().next()?.parse::<f64>().ok()
        });
        samples.sum()
    }

    /// The same of a counter.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counters are whole; the cast saturates"
    )]
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.value(name) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_all_pools_are_summed_and_longer_names_are_others() {
        let text = "# TYPE a counter\na_total{pool=\"x\"} 3\na_total{pool=\"y\"} 4\na_total_more 9\nb 1.5\n";
        let reading = Reading::new(text.as_bytes());
        assert_eq!(reading.count("a_total"), 7);
        assert!((reading.value("b") - 1.5).abs() < 1e-9 && reading.count("c") == 0);
    }
}
