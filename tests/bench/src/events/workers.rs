//! Envoy's workers, asked one by one. Envoy says in its statistics which worker accepted a connection, and a connection stays
//! with its worker, so one kept connection per worker reaches each of them.

pub(crate) mod poll;

/// How many connections each worker has accepted, by its number, from the admin interface's `/stats`.
fn accepted(stats: &str) -> Vec<(usize, u64)> {
    let of = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        let worker = name.strip_suffix(".downstream_cx_total")?.rsplit_once(".worker_")?.1.parse().ok()?;
        Some((worker, value.trim().parse().ok()?))
    };
    let mut workers: Vec<(usize, u64)> =
        stats.lines().filter(|line| line.starts_with("listener.") && !line.contains("admin")).filter_map(of).collect();
    workers.sort_unstable();
    workers
}

/// The worker that accepted one connection between two readings.
fn grown(before: &[(usize, u64)], after: &[(usize, u64)]) -> Option<usize> {
    let count = |worker: usize| before.iter().find(|(known, _)| *known == worker).map_or(0, |(_, count)| *count);
    let mut grown = after.iter().filter(|(worker, now)| *now > count(*worker)).map(|(worker, _)| *worker);
    grown.next().filter(|_| grown.next().is_none())
}

/// The value of the unsigned member `name` of a decision, wherever it stands in an answer's head.
fn member(answer: &[u8], name: &str) -> Option<u64> {
    let mark = format!("\"{name}\":");
    let at = answer.windows(mark.len()).position(|window| window == mark.as_bytes())?;
    let digits = answer.get(at + mark.len()..)?.iter().take_while(|byte| byte.is_ascii_digit());
    let digits: Vec<u8> = digits.copied().collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

/// Prompt tokens that a decision saw on the device of `endpoint`; `None` when it does not list it.
fn matched(answer: &[u8], endpoint: &str) -> Option<u64> {
    let mark = format!("{{\"endpoint\":\"{endpoint}\"");
    let at = answer.windows(mark.len()).position(|window| window == mark.as_bytes())?;
    member(answer.get(at..)?, "matched_tokens")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_that_accepted_is_told_by_the_statistics() {
        let stats = |zero: u64, one: u64| {
            accepted(&format!(
                "listener.127.0.0.1_0.downstream_cx_total: 9\nlistener.admin.main_thread.downstream_cx_total: 3\n\
                 listener.127.0.0.1_0.worker_1.downstream_cx_total: {one}\n\
                 listener.127.0.0.1_0.worker_0.downstream_cx_total: {zero}\n"
            ))
        };
        assert_eq!(stats(4, 5), [(0, 4), (1, 5)]);
        assert_eq!(grown(&stats(4, 5), &stats(4, 6)), Some(1));
        assert_eq!(grown(&stats(4, 5), &stats(5, 6)), None);
    }

    #[test]
    fn a_decision_is_read_from_the_head_of_an_answer() {
        let answer = br#"x-kvasir-decision: {"table_version":77,"candidates":[{"endpoint":"a:1","matched_tokens":0.0},{"endpoint":"b:2","choice":1,"matched_tokens":384.0}]}"#;
        assert_eq!(member(answer, "table_version"), Some(77));
        assert_eq!(
            (matched(answer, "b:2"), matched(answer, "a:1"), matched(answer, "c:3")),
            (Some(384), Some(0), None)
        );
    }
}
