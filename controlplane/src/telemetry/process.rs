//! CPU time and memory of a process from the texts under `/proc/<pid>`, pure. Times there are in ticks of 1/100 s on
//! every Linux that user space sees, whatever the kernel's own tick is.

/// What a process has used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    /// User and system time since its start, seconds.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident_bytes: i64,
}

const TICKS_PER_SECOND: f64 = 100.0;

/// From the texts of `stat` and `status`; `None` when they are not such texts.
#[must_use]
pub fn parse(stat: &str, status: &str) -> Option<Process> {
    // The name in parentheses may hold spaces: fields count from after it, where `state` is number 3.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<u32>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = resident.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(Process {
        cpu_seconds: (f64::from(user) + f64::from(system)) / TICKS_PER_SECOND,
        resident_bytes: kilobytes.checked_mul(1024)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_memory_are_found_behind_an_awkward_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 5 0 100 1 1";
        let status = "Name:\ta\nVmRSS:\t    2048 kB\nThreads:\t5\n";
        assert_eq!(parse(stat, status), Some(Process { cpu_seconds: 2.0, resident_bytes: 2 << 20 }));
        assert_eq!(parse("", status), None);
        assert_eq!(parse(stat, ""), None);
    }
}
