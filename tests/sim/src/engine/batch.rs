//! Continuous batching: what a step contains and what it leaves behind.
//!
//! Order decides everything here: running sequences first, in order of admission, then newcomers first come first served. A
//! step that preempts admits nobody. Blocks become visible to others when their computation is scheduled, as in vLLM, so two
//! newcomers of one step can share.

use super::contents::ReportMode;
use super::event::EngineEvent;
use super::groups::Stretch;
use super::kv_cache::{KvCache, PrefixMatch};
use super::ledger::Medium;
use super::sequence::{Phase, Rounding, Sequence, SlotId, blocks_for};
use super::tiers::TierMatch;
use super::{Engine, EventDetail, Step, StepWork};

/// Whether running sequences kept their blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pressure {
    None,
    Preempted,
}

impl Engine {
    /// Forms the next step at `now`; None when nothing can run.
    pub(super) fn begin_step(&mut self, now: f64, events: &mut Vec<EngineEvent>) -> Option<Step> {
        while let Some(&slot) = self.arriving.front()
            && self.slots.get(slot).ready_at <= now
        {
            self.arriving.pop_front();
            self.waiting.push_back(slot);
        }
        let mut budget = self.config.max_num_batched_tokens;
        let mut work = StepWork::default();
        if self.schedule_running(now, &mut budget, &mut work, events) == Pressure::None {
            self.admit(now, &mut budget, &mut work);
        }
        if work.is_empty() {
            return None;
        }
        let seconds = self.config.cost.seconds(&work) / self.config.speed;
        self.counters.steps += 1;
        self.counters.busy_seconds += seconds;
        Some(Step { ends_at: now + seconds })
    }

    /// One token for every decode, the next chunk for every unfinished prompt.
    fn schedule_running(
        &mut self,
        now: f64,
        budget: &mut u32,
        work: &mut StepWork,
        events: &mut Vec<EngineEvent>,
    ) -> Pressure {
        let mut pressure = Pressure::None;
        let mut position = 0;
        while *budget > 0
            && let Some(&slot) = self.running.get(position)
        {
            position += 1;
            let sequence = self.slots.get(slot);
            let chunk = (sequence.known() - sequence.computed).min(*budget);
            let needed = blocks_for(sequence.computed + chunk, self.config.block_size, Rounding::Up);
            while self.slots.get(slot).blocks.len() < needed {
                if let Some(block) = self.kv.take() {
                    self.slots.get_mut(slot).blocks.push(block);
                    continue;
                }
                pressure = Pressure::Preempted;
                if self.preempt_latest(now, events) == Some(slot) {
                    return pressure;
                }
            }
            self.schedule(slot, chunk, work);
            *budget -= chunk;
        }
        pressure
    }

    /// Throws out the sequence admitted last; it goes back to the head of the queue.
    fn preempt_latest(&mut self, now: f64, events: &mut Vec<EngineEvent>) -> Option<SlotId> {
        let slot = self.running.pop()?;
        let mut blocks = std::mem::take(&mut self.slots.get_mut(slot).blocks);
        while let Some(block) = blocks.pop() {
            self.kv.release(block);
        }
        let sequence = self.slots.get_mut(slot);
        sequence.phase = Phase::Prefill;
        sequence.computed = 0;
        sequence.sealed = 0;
        sequence.usage.preemptions += 1;
        events.push(EngineEvent::Preempted { id: sequence.id, at: now });
        self.waiting.push_front(slot);
        self.counters.preemptions += 1;
        self.openings += 1;
        Some(slot)
    }

    /// Admits from the head of the queue while budget, seats and blocks last.
    fn admit(&mut self, now: f64, budget: &mut u32, work: &mut StepWork) {
        let seats = usize::try_from(self.config.max_num_seqs).unwrap_or(usize::MAX);
        while *budget > 0
            && self.running.len() < seats
            && self.blocked_at != Some(self.openings)
            && let Some(&slot) = self.waiting.front()
        {
            let block_size = self.config.block_size;
            let sequence = self.slots.get(slot);
            let found = self.kv.reusable(sequence.reusable_blocks(block_size));
            let needed = sequence.known().div_ceil(block_size) - found.blocks;
            if self.kv.available() - found.idle < needed {
                // Only a release or a prefill elsewhere can change this answer: no lookup until then.
                self.blocked_at = Some(self.openings);
                return;
            }
            self.waiting.pop_front();
            self.running.push(slot);
            let loaded = self.place(slot, found, needed, now);
            work.cpu_loads += u64::from(loaded.cpu * block_size);
            work.storage_loads += u64::from(loaded.storage * block_size);
            let sequence = self.slots.get(slot);
            let chunk = (sequence.known() - sequence.computed).min(*budget);
            self.schedule(slot, chunk, work);
            *budget -= chunk;
        }
    }

    /// Gives an admitted sequence its cached and its fresh blocks, the whole prompt at once, and fills from the tiers what they
    /// have beyond the device.
    fn place(&mut self, slot: SlotId, found: PrefixMatch, fresh: u32, now: f64) -> TierMatch {
        let block_size = self.config.block_size;
        let Self { slots, kv, counters, .. } = self;
        let sequence = slots.get_mut(slot);
        let reused = usize::try_from(found.blocks).unwrap_or(usize::MAX);
        let full = kv.longest_match(sequence.reusable_blocks(block_size)).blocks;
        sequence.junction = if full > found.blocks { usize::try_from(full).unwrap_or(0) } else { 0 };
        let loaded = kv.tiers.use_prefix(sequence.reusable_blocks(block_size).get(reused..).unwrap_or_default());
        sequence.blocks.extend(sequence.spec.blocks.iter().take(reused).filter_map(|&identity| kv.hold(identity)));
        sequence.blocks.extend((0..fresh).filter_map(|_| kv.take()));
        let present = found.blocks + loaded.blocks();
        sequence.sealed = reused;
        if let Some(aside) = &mut kv.aside {
            aside.touch(sequence.spec.blocks.get(..reused).unwrap_or_default());
        }
        if let (Some(ledger), Some(contents)) = (&mut kv.ledger, &sequence.contents)
            && contents.report == ReportMode::Full
        {
            ledger.store(contents, 0, reused, Medium::Gpu);
        }
        seal_up_to(kv, sequence, usize::try_from(present).unwrap_or(usize::MAX));
        sequence.computed = present * block_size;
        if !sequence.admitted {
            sequence.admitted = true;
            sequence.usage.scheduled_at = now;
            sequence.usage.cached_tokens = sequence.computed;
            counters.prefix_queries += u64::from(sequence.spec.prompt_tokens);
            counters.prefix_hits += u64::from(found.blocks * block_size);
            counters.external_queries += u64::from(sequence.spec.prompt_tokens - found.blocks * block_size);
            counters.external_hits += u64::from(loaded.blocks() * block_size);
        }
        loaded
    }

    fn schedule(&mut self, slot: SlotId, chunk: u32, work: &mut StepWork) {
        let block_size = self.config.block_size;
        let Self { slots, kv, openings, .. } = self;
        let sequence = slots.get_mut(slot);
        sequence.scheduled = chunk;
        match sequence.phase {
            Phase::Prefill => {
                work.add_prefill(sequence.computed, chunk);
                *openings += 1;
            }
            Phase::Decode => work.add_decode(sequence.computed + chunk),
        }
        seal_up_to(kv, sequence, blocks_for(sequence.computed + chunk, block_size, Rounding::Down));
    }

    /// Books the step that ends at `now`: computed tokens, new tokens, finished sequences.
    pub(super) fn finish_step(&mut self, now: f64, events: &mut Vec<EngineEvent>) {
        self.step = None;
        if let Some(ledger) = &mut self.kv.ledger {
            ledger.finish_step(now);
        }
        let mut finished = 0_usize;
        for &slot in &self.running {
            let sequence = self.slots.get_mut(slot);
            let scheduled = std::mem::take(&mut sequence.scheduled);
            sequence.computed += scheduled;
            if scheduled == 0 || sequence.computed < sequence.known() {
                continue;
            }
            sequence.phase = Phase::Decode;
            if sequence.generated == 0 {
                sequence.usage.first_token_at = now;
                self.counters.prompt_tokens += u64::from(sequence.spec.prompt_tokens);
                self.counters.cached_prompt_tokens += u64::from(sequence.usage.cached_tokens);
            }
            if sequence.generated < sequence.spec.output_tokens {
                sequence.generated += 1;
                self.counters.generation_tokens += 1;
                report_token(sequence, now, self.config.detail, events);
            }
            finished += usize::from(sequence.generated == sequence.spec.output_tokens);
        }
        if finished > 0 {
            self.retire(now, events);
        }
    }

    /// Removes the sequences whose output is complete.
    fn retire(&mut self, now: f64, events: &mut Vec<EngineEvent>) {
        let running = std::mem::take(&mut self.running);
        for slot in running {
            let sequence = self.slots.get(slot);
            let complete = sequence.phase == Phase::Decode && sequence.generated == sequence.spec.output_tokens;
            if !complete {
                self.running.push(slot);
                continue;
            }
            let mut sequence = self.slots.remove(slot);
            self.by_id.remove(&sequence.id);
            self.release_blocks(&mut sequence);
            sequence.usage.output_tokens = sequence.generated;
            sequence.usage.finished_at = now;
            events.push(EngineEvent::Finished { id: sequence.id, at: now, usage: sequence.usage });
            self.counters.finished += 1;
        }
        self.openings += 1;
    }
}

/// Publishes a sequence's blocks before `full` that are not yet; those without identity stay private.
fn seal_up_to(kv: &mut KvCache, sequence: &mut Sequence, full: usize) {
    let first = sequence.sealed;
    let end = full.min(sequence.spec.blocks.len()).min(sequence.blocks.len());
    for index in first..end {
        if let (Some(&block), Some(&identity)) = (sequence.blocks.get(index), sequence.spec.blocks.get(index)) {
            kv.seal(block, identity, (sequence.contents.as_ref(), index));
        }
    }
    sequence.sealed = full.max(first);
    if let (Some(ledger), Some(contents)) = (&mut kv.ledger, &sequence.contents) {
        ledger.store(contents, first, end, Medium::Gpu);
    }
    if end > first {
        let identities = &sequence.spec.blocks;
        let marks = [sequence.resumes_at, sequence.junction];
        kv.keep_aside(Stretch { identities, contents: sequence.contents.as_ref(), first, end, marks });
    }
}

fn report_token(sequence: &Sequence, now: f64, detail: EventDetail, events: &mut Vec<EngineEvent>) {
    let (id, at) = (sequence.id, now);
    match (sequence.generated, detail) {
        (1, _) => events.push(EngineEvent::FirstToken { id, at, cached_tokens: sequence.usage.cached_tokens }),
        (_, EventDetail::EveryToken) => events.push(EngineEvent::Token { id, at }),
        (_, EventDetail::Milestones) => {}
    }
}
