//! Control plane and a supervised Envoy in one: for a laptop, a single machine, a test. How long to wait before a dead
//! Envoy is started again is decided here; `drive` does it.

pub mod drive;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// An Envoy that ran this long was fine: the next restart is immediate again.
const STABLE: Duration = Duration::from_secs(30);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long to wait before a restart, after a run of `ran` that itself followed a wait of `previous`.
#[must_use]
pub fn restart_wait(previous: Duration, ran: Duration) -> Duration {
    if ran >= STABLE { FIRST_WAIT } else { previous.saturating_mul(2).clamp(FIRST_WAIT, LONGEST_WAIT) }
}

/// Where Envoy is: what was asked for, else `ENVOY_BIN`, else the first `envoy` on the search path that `exists`.
#[must_use]
pub fn find_envoy(
    asked: Option<PathBuf>,
    from_env: Option<PathBuf>,
    search_path: &[PathBuf],
    exists: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    asked.or(from_env).or_else(|| search_path.iter().map(|folder| folder.join("envoy")).find(|path| exists(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loop_backs_off_and_a_stable_run_resets_it() {
        let mut wait = Duration::ZERO;
        for expected in [100, 200, 400] {
            wait = restart_wait(wait, Duration::from_secs(1));
            assert_eq!(wait.as_millis(), expected);
        }
        assert_eq!(restart_wait(Duration::from_secs(9), Duration::ZERO), LONGEST_WAIT);
        assert_eq!(restart_wait(LONGEST_WAIT, STABLE), FIRST_WAIT);
    }

    #[test]
    fn what_is_asked_for_wins_over_the_environment_and_that_over_the_search_path() {
        let path = |text: &str| Some(PathBuf::from(text));
        let folders = [PathBuf::from("/a"), PathBuf::from("/b")];
        let in_b = |candidate: &Path| candidate == Path::new("/b/envoy");
        assert_eq!(find_envoy(path("/x"), path("/y"), &folders, in_b), path("/x"));
        assert_eq!(find_envoy(None, path("/y"), &folders, in_b), path("/y"));
        assert_eq!(find_envoy(None, None, &folders, in_b), path("/b/envoy"));
        assert_eq!(find_envoy(None, None, &folders, |_| false), None);
    }
}
