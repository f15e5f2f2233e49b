//! CPU time of processes, and the kernel's text it is read from. The scheduler's own counters are exact to the nanosecond
//! for a process that is asleep when it is read; the fallback (`stat`) counts in ticks of 10 ms.

pub(crate) mod poll;

use std::time::Duration;

/// One tick of `/proc/PID/stat`: USER_HZ is 100 on every Linux that Rust supports.
const TICK: Duration = Duration::from_millis(10);

/// Time on a CPU from `/proc/PID/task/TID/schedstat`: "run_ns wait_ns timeslices".
fn from_schedstat(text: &str) -> Option<Duration> {
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// User and system time from `/proc/PID/stat`: fields 14 and 15; the name in field 2 may hold spaces and brackets.
fn from_stat(text: &str) -> Option<Duration> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let ticks: u32 = fields.next()?.parse::<u32>().ok()?.checked_add(fields.next()?.parse().ok()?)?;
    Some(TICK * ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_schedstat_field_is_nanoseconds_on_a_cpu() {
        assert_eq!(from_schedstat("58622 52601 2\n"), Some(Duration::from_nanos(58_622)));
        assert_eq!(from_schedstat(""), None);
    }

    #[test]
    fn a_process_name_with_brackets_does_not_shift_the_fields() {
        let stat = "42 (wrk:(a b)) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 3 0 100 1 1";
        assert_eq!(from_stat(stat), Some(Duration::from_millis(1_750)));
        assert_eq!(from_stat("42 (x"), None);
    }
}
