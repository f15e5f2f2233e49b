//! Durations as Go writes them (`1m30s`) and quantities as Kubernetes writes them (`1Gi`, `500M`, `1k`). Both are stricter
//! or wider than our own forms: Go has compound durations, Kubernetes has decimal, binary and exponent suffixes.

use std::time::Duration;

/// `None` when it is not a duration, is negative, or has no unit (only `0` may have none).
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(end)?;
        seconds += number
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = next;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// Rounded up to a whole number. `None` when it is not a quantity, or is negative.
pub(super) fn quantity(text: &str) -> Option<u64> {
    let (number, suffix) = leading_number(text.strip_prefix('+').unwrap_or(text))?;
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        _ => 10_f64.powi(suffix.strip_prefix(['e', 'E'])?.parse::<i8>().ok()?.into()),
    };
    if factor >= 1.0 && number.fract() == 0.0 && suffix.is_empty() {
        return text.strip_prefix('+').unwrap_or(text).parse().ok();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and casts saturate")]
    let whole = (number * factor).ceil() as u64;
    Some(whole)
}

/// Digits with at most one point, and what follows.
fn leading_number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, millis) in
            [("0", 0), ("0s", 0), ("200ms", 200), ("1.5s", 1500), ("1m30s", 90_000), ("1h0m1s", 3_601_000)]
        {
            assert_eq!(go_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "5", "-1s", "1d", "s", "1s2", "1..2s", "1 s"] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let good = [
            ("0", 0),
            ("5000", 5000),
            ("1k", 1000),
            ("500M", 500_000_000),
            ("1Gi", 1 << 30),
            ("1.5Ki", 1536),
            ("3Mi", 3 << 20),
            ("2Ti", 2 << 40),
            ("1T", 1_000_000_000_000),
            ("1e3", 1000),
            ("2E2", 200),
            ("100m", 1),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, amount) in good {
            assert_eq!(quantity(text), Some(amount), "{text}");
        }
        for bad in ["", "-1", "1 Gi", "1GB", "1KiB", "Gi", "1ki", "0x10", "1e"] {
            assert_eq!(quantity(bad), None, "{bad}");
        }
    }
}
