//! What one VM keeps between callbacks, and the one way to it. A VM outlives root contexts: a configuration update puts
//! a second root next to the old one, and both use this.
//!
//! Never borrowed across a host call that may call back (`reply`, `continue_request`).

use core::time::Duration;
use std::cell::{Cell, RefCell};

use shared::brain::Brain;
use shared::clock::Timestamp;

use crate::config::PluginConfig;
use crate::host::{self, Level};
use crate::siblings::Siblings;
use crate::stats::Stats;
use crate::stream::{Held, Queued};
use crate::table_sync::TableReader;
use crate::uplink::Uplink;

/// The state of a VM.
#[derive(Default)]
pub(crate) struct Vm {
    pub(crate) brain: Brain,
    pub(crate) stats: Stats,
    pub(crate) table: TableReader,
    pub(crate) siblings: Siblings,
    pub(crate) uplink: Uplink,
    pub(crate) held: Held,
    pub(crate) queued: Queued,
    pub(crate) config: PluginConfig,
    last_tick: Timestamp,
    caught_up: Timestamp,
}

thread_local! {
    static VM: RefCell<Vm> = RefCell::default();
    static LATEST: Cell<Timestamp> = const { Cell::new(Timestamp::ZERO) };
}

/// The host's clock.
pub(crate) fn now() -> Timestamp {
    let now = host::current_time();
    LATEST.set(now);
    now
}

/// The latest time that was read in this VM, at most a tick old: for what need not be exact.
pub(crate) fn recent() -> Timestamp {
    LATEST.get()
}

/// Runs `work` on the VM's state; `None` inside another `with`, which only a host that calls back can cause.
pub(crate) fn with<R>(work: impl FnOnce(&mut Vm) -> R) -> Option<R> {
    VM.with(|vm| {
        let Ok(mut vm) = vm.try_borrow_mut() else {
            host::log(Level::Error, "kvasir: re-entrant callback ignored");
            return None;
        };
        Some(work(&mut vm))
    })
}

/// Milliseconds between ticks; Envoy's timer makes about 12 of it.
pub(crate) const TICK_MS: u32 = 10;
/// A second root of the same VM ticks too: its tick counts only after this.
const LEAST_TICK_NANOS: u64 = 5_000_000;

impl Vm {
    /// A root context was configured: take the new settings and make the VM known.
    pub(crate) fn configure(&mut self, config: PluginConfig, now: Timestamp) {
        self.config = config;
        self.siblings.join(now);
        self.brain.outbox.worker = self.siblings.id().unwrap_or_default();
        self.table.catch_up(&mut self.brain, usize::MAX);
    }

    /// The regular work of a VM.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        if now.since(self.last_tick).as_nanos() < u128::from(LEAST_TICK_NANOS) {
            return;
        }
        self.last_tick = now;
        self.siblings.renew(now);
        self.brain.pass_time(now).iter().for_each(|turned| self.stats.turned(turned));
        self.siblings.publish(&self.brain.ledger, now);
        self.siblings.refresh(&mut self.brain.ledger, now);
        if now.since(self.caught_up) >= UNWOKEN || self.table.is_behind() {
            self.catch_up(now);
        }
        self.brain.workers = self.siblings.workers();
        self.brain.pump(now);
        self.uplink.tick(&mut self.brain, &mut self.table, &self.siblings, &self.config.cluster, now);
        self.stats.refused(self.table.take_refused());
        self.stats.tick(&self.brain, self.uplink.is_leader(), now);
    }

    /// A message for this VM: a wake-up, or observations of a sibling for the leader.
    pub(crate) fn drain_queue(&mut self, queue: u32) {
        while let Ok(Some(message)) = host::dequeue(queue) {
            self.uplink.hear_sibling(&message, &mut self.brain);
        }
        self.catch_up(now());
    }

    fn catch_up(&mut self, now: Timestamp) {
        self.caught_up = now;
        self.table.catch_up(&mut self.brain, SEGMENTS_PER_CALLBACK);
    }
}

/// The leader wakes its siblings; one that was not woken for this long looks by itself.
const UNWOKEN: Duration = Duration::from_millis(250);
/// Folding a 64 KiB segment takes some 300 us; requests wait meanwhile, so a long snapshot is taken in steps.
const SEGMENTS_PER_CALLBACK: usize = 8;
