//! Reads what the system says about this process.

use super::process::{Process, parse};

/// `None` where there is no `/proc`.
pub(super) fn process() -> Option<Process> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    parse(&stat, &status)
}
