//! Stacks that tests share, since each start costs seconds. Tests that only send requests share one at the same time;
//! tests that inject faults or load have it for themselves, and get it quiet.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::stack::{Mode, Stack};

/// One shared stack.
pub struct Shared {
    mode: Mode,
    stack: RwLock<Option<Stack>>,
    broken: AtomicBool,
}

static HOLD: Shared = Shared::new(Mode::Hold);
static STATE: Shared = Shared::new(Mode::State);
static PICKER: Shared = Shared::new(Mode::Picker);

/// The right to use a shared stack.
pub struct Lent<'a> {
    stack: Guard<'a>,
    broken: &'a AtomicBool,
}

enum Guard<'a> {
    Together(RwLockReadGuard<'a, Option<Stack>>),
    Alone(RwLockWriteGuard<'a, Option<Stack>>),
}

impl Shared {
    const fn new(mode: Mode) -> Self {
        Self { mode, stack: RwLock::const_new(None), broken: AtomicBool::new(false) }
    }

    /// The stack of `mode`.
    #[must_use]
    pub const fn of(mode: Mode) -> &'static Self {
        match mode {
            Mode::Hold => &HOLD,
            Mode::State => &STATE,
            Mode::Picker => &PICKER,
        }
    }

    /// Together with others; `None` when binaries are missing.
    pub async fn share(&self) -> Option<Lent<'_>> {
        loop {
            let stack = self.stack.read().await;
            if stack.is_some() {
                return Some(Lent { stack: Guard::Together(stack), broken: &self.broken });
            }
            drop(stack);
            self.start_if_needed(&mut *self.stack.write().await).await?;
        }
    }

    /// Alone, with nothing in flight and no faults; `None` when binaries are missing.
    pub async fn alone(&self) -> Option<Lent<'_>> {
        let mut stack = self.stack.write().await;
        self.start_if_needed(&mut stack).await?;
        if let Some(stack) = &*stack {
            stack.wait_until_quiet().await;
        }
        Some(Lent { stack: Guard::Alone(stack), broken: &self.broken })
    }

    async fn start_if_needed(&self, stack: &mut Option<Stack>) -> Option<()> {
        if self.broken.swap(false, Ordering::Relaxed) {
            *stack = None;
        }
        if stack.is_none() {
            let workers = if self.mode == Mode::Hold { 4 } else { 2 };
            *stack = Some(Stack::new().mode(self.mode).workers(workers).start().await?);
        }
        Some(())
    }
}

impl std::ops::Deref for Lent<'_> {
    type Target = Stack;

    fn deref(&self) -> &Stack {
        let stack = match &self.stack {
            Guard::Together(stack) => stack.as_ref(),
            Guard::Alone(stack) => stack.as_ref(),
        };
        stack.expect("a lent stack is there")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dump();
            // The next test that wants it for itself gets a new one.
            self.broken.fetch_or(matches!(self.stack, Guard::Alone(_)), Ordering::Relaxed);
        }
    }
}
