//! Child processes that cannot outlive their owner: ended by pid and reaped on every way out of a scope.
//! Should the owner itself be killed, the kernel ends them.

pub(crate) mod spawn;

use std::process::Child;

/// A running child; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Guarded {
    child: Child,
}

impl Guarded {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // It may have ended by itself already; both calls then fail, and there is nothing left to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
