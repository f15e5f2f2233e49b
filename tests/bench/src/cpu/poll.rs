//! Reads CPU times from `/proc`. The threads are summed one by one: `/proc/PID/schedstat` shows the main thread only.

use super::{from_schedstat, from_stat};
use anyhow::Context;
use std::fs;
use std::time::Duration;

/// CPU time of all threads of a process that are alive now.
pub(crate) fn of_process(pid: u32) -> anyhow::Result<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} is gone"))?;
    let mut sum = Duration::ZERO;
    for thread in threads {
        // A thread may end between the listing and the read.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { return of_process_in_ticks(pid) };
        sum += from_schedstat(&text).with_context(|| format!("schedstat of {pid}: {text:?}"))?;
    }
    Ok(sum)
}

fn of_process_in_ticks(pid: u32) -> anyhow::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    from_stat(&text).with_context(|| format!("stat of {pid}: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_done_by_a_thread_shows_up() {
        let before = of_process(std::process::id()).expect("readable");
        let start = Instant::now();
        let mut sum = 0_u64;
        while start.elapsed() < Duration::from_millis(60) {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        std::hint::black_box(sum);
        let after = of_process(std::process::id()).expect("readable");
        assert!(after - before >= Duration::from_millis(5), "{before:?} {after:?}");
    }
}
