//! The order of one rank's batches, sans I/O: numbers in, decisions out. A publisher counts from 0 and drops silently, so
//! a hole in the numbers is the only sign of loss, and numbers that start again the only sign of a restart.
//!
//! A restarted publisher may already have passed the number that we wait for. Therefore every batch carries a mark (its
//! own time): after a reconnect the last batch is asked for again, and one with another mark belongs to another life.
//! What must be kept in mind: answers to replays are late duplicates of live batches and the other way round; only what
//! the marks contradict, or what goes backwards on one connection, is a restart.

use std::collections::VecDeque;
use std::time::Duration;

use shared::clock::Timestamp;

mod counters;
mod held;
mod step;
#[cfg(test)]
mod tests;

pub use counters::Counters;
use held::{Held, Put};
pub use step::{Coverage, Numbered, Replay, ResetReason, Settings, Step};

/// Marks of this many latest batches are remembered, to tell duplicates from another life.
const MARKS: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Sequence<T> {
    settings: Settings,
    /// The number that comes next; `None` before anything is known.
    next: Option<u64>,
    coverage: Coverage,
    /// Highest number seen live on this connection.
    live: Option<u64>,
    /// Highest number that a replay brought in this life of the publisher, on this connection.
    replayed: Option<u64>,
    marks: VecDeque<(u64, u64)>,
    asked: Option<Asked>,
    held: Held<T>,
    last_good: Option<Timestamp>,
    counters: Counters,
}

/// A replay that runs.
#[derive(Clone, Copy, Debug)]
struct Asked {
    why: Why,
    from: u64,
    /// Of the last answer, or of the question.
    heard: Timestamp,
    answers: Answers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Nothing is known yet: all there is, please.
    Beginning,
    /// Is it still the same publisher, and what came meanwhile?
    Reconnect,
    /// A hole, with a later batch at hand: what this replay does not bring is gone.
    Gap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    None,
    /// Nothing that could be applied.
    Stale,
    /// The stream went on.
    Progress,
}

impl<T> Sequence<T> {
    /// Before the first connection.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            next: None,
            coverage: Coverage::Partial,
            live: None,
            replayed: None,
            marks: VecDeque::with_capacity(MARKS),
            asked: None,
            held: Held::new(settings.held, settings.held_bytes),
            last_good: None,
            counters: Counters::default(),
        }
    }

    /// What has happened so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Does the state reach back to the beginning?
    #[must_use]
    pub const fn coverage(&self) -> Coverage {
        self.coverage
    }

    /// When [`Self::tick`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.asked.map(|asked| asked.heard.after(self.settings.patience))
    }

    /// A connection to the publisher stands, and what it publishes from now on will be told; or batches may have been lost
    /// without a trace since the last that was told.
    pub fn connected(&mut self, now: Timestamp, steps: &mut Vec<Step<T>>) {
        self.live = None;
        self.replayed = None;
        self.held.clear();
        self.asked = None;
        if self.settings.replay == Replay::Absent {
            return;
        }
        match self.next.and_then(|next| next.checked_sub(1)) {
            None => self.ask(Why::Beginning, 0, now, steps),
            Some(last) => self.ask(Why::Reconnect, last, now, steps),
        }
    }

    /// A batch as it was published.
    pub fn live(&mut self, batch: Numbered<T>, now: Timestamp, steps: &mut Vec<Step<T>>) {
        let backwards = self.live.replace(batch.seq).is_some_and(|before| batch.seq <= before);
        match self.next {
            Some(next) if batch.seq < next => self.late(batch, backwards, now, steps),
            Some(_) | None if backwards => self.restart(batch, now, steps),
            Some(_) | None if self.asked.is_some() => self.hold(batch),
            Some(next) if batch.seq == next => self.apply(batch, now, steps),
            Some(next) => self.gap(next, batch, now, steps),
            None => self.begin(batch, now, steps),
        }
    }

    /// A live batch whose number has been passed.
    fn late(&mut self, batch: Numbered<T>, backwards: bool, now: Timestamp, steps: &mut Vec<Step<T>>) {
        let overtaken = !backwards && self.replayed.is_some_and(|high| batch.seq <= high);
        if self.known(&batch).unwrap_or(overtaken) {
            self.counters.duplicates += 1;
        } else {
            self.restart(batch, now, steps);
        }
    }

    /// A batch that a replay brought.
    pub fn replayed(&mut self, batch: Numbered<T>, now: Timestamp, steps: &mut Vec<Step<T>>) {
        let Some(mut asked) = self.asked else { return };
        asked.heard = now;
        if asked.answers == Answers::None {
            asked.answers = Answers::Stale;
            self.first_answer(asked, batch.seq, now, steps);
        }
        self.asked = Some(asked);
        self.replayed = self.replayed.max(Some(batch.seq));
        let next = self.next.unwrap_or(0);
        if batch.seq < next {
            if self.known(&batch) == Some(false) {
                self.reset(ResetReason::Restarted, steps);
                self.ask(Why::Beginning, 0, now, steps);
            } else {
                self.counters.duplicates += 1;
            }
        } else if batch.seq == next {
            self.asked = Some(Asked { answers: Answers::Progress, ..asked });
            self.counters.replayed += 1;
            self.apply(batch, now, steps);
        } else {
            self.hold(batch);
        }
    }

    /// The oldest batch that the publisher still has is `seq`. Is it old enough?
    fn first_answer(&mut self, asked: Asked, seq: u64, now: Timestamp, steps: &mut Vec<Step<T>>) {
        if seq <= asked.from {
            return;
        }
        if let Some(next) = self.next {
            let missing = seq.saturating_sub(next);
            if asked.why != Why::Gap && missing > 0 {
                self.missing(missing, now, steps);
            }
            self.counters.lost += missing;
            self.reset(ResetReason::Unrecoverable, steps);
        }
        self.next = Some(seq);
    }

    /// The replay has told all it has.
    pub fn replay_ended(&mut self, now: Timestamp, steps: &mut Vec<Step<T>>) {
        let Some(asked) = self.asked.take() else { return };
        // A publisher always remembers its last batch: one that has none has not published yet, or is another.
        match (asked.why, asked.answers) {
            (Why::Reconnect, Answers::None) => {
                self.reset(ResetReason::Restarted, steps);
                return self.ask(Why::Beginning, 0, now, steps);
            }
            (Why::Beginning, Answers::None) => {
                self.next = Some(0);
                self.coverage = Coverage::Complete;
            }
            (Why::Beginning | Why::Reconnect | Why::Gap, _) => {}
        }
        self.settle(asked, ResetReason::Unrecoverable, now, steps);
    }

    /// The replay broke off, or could not be asked for.
    pub fn replay_failed(&mut self, now: Timestamp, steps: &mut Vec<Step<T>>) {
        let Some(asked) = self.asked.take() else { return };
        self.counters.replays_failed += 1;
        self.next = self.next.or(self.held.first());
        self.settle(Asked { why: Why::Gap, ..asked }, ResetReason::ReplayUnavailable, now, steps);
    }

    /// Time has passed: gives up a replay that fell silent.
    pub fn tick(&mut self, now: Timestamp, steps: &mut Vec<Step<T>>) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.replay_failed(now, steps);
        }
    }

    /// After a replay: applies what was held back. What is still missing is asked for again, unless this replay was
    /// asked for it already and did not bring the stream on.
    fn settle(&mut self, asked: Asked, blame: ResetReason, now: Timestamp, steps: &mut Vec<Step<T>>) {
        self.drain(now, steps);
        if let (Some(next), Some(first)) = (self.next, self.held.first()) {
            if asked.answers == Answers::Progress {
                return self.ask(Why::Gap, next, now, steps);
            }
            if asked.why == Why::Gap {
                self.counters.lost += first - next;
                self.reset(blame, steps);
                self.next = Some(first);
                self.drain(now, steps);
            }
        }
        match (self.next, self.held.pop()) {
            (Some(next), Some(batch)) => self.gap(next, batch, now, steps),
            (Some(_), None) => steps.push(Step::Synced(self.coverage)),
            (None, _) => {}
        }
    }

    /// The first batch, with nobody to ask for earlier ones.
    fn begin(&mut self, batch: Numbered<T>, now: Timestamp, steps: &mut Vec<Step<T>>) {
        self.apply(batch, now, steps);
        steps.push(Step::Synced(self.coverage));
    }

    fn apply(&mut self, batch: Numbered<T>, now: Timestamp, steps: &mut Vec<Step<T>>) {
        if batch.seq == 0 {
            self.coverage = Coverage::Complete;
        }
        if self.marks.len() == MARKS {
            self.marks.pop_front();
        }
        self.marks.push_back((batch.seq, batch.mark));
        self.next = Some(batch.seq.saturating_add(1));
        self.last_good = Some(now);
        self.counters.applied += 1;
        steps.push(Step::Apply(batch.content));
    }

    /// Is it the batch that was applied under its number? `None`: too long ago to say.
    fn known(&self, batch: &Numbered<T>) -> Option<bool> {
        self.marks.iter().rev().find(|(seq, _)| *seq == batch.seq).map(|(_, mark)| *mark == batch.mark)
    }

    fn gap(&mut self, next: u64, batch: Numbered<T>, now: Timestamp, steps: &mut Vec<Step<T>>) {
        let missing = batch.seq - next;
        self.missing(missing, now, steps);
        match self.settings.replay {
            Replay::Available => {
                self.hold(batch);
                self.ask(Why::Gap, next, now, steps);
            }
            Replay::Absent => {
                self.counters.lost += missing;
                self.reset(ResetReason::ReplayUnavailable, steps);
                self.begin(batch, now, steps);
            }
        }
    }

    fn missing(&mut self, missing: u64, now: Timestamp, steps: &mut Vec<Step<T>>) {
        let detected_after = self.last_good.map_or(Duration::ZERO, |good| now.since(good));
        self.counters.gaps += 1;
        self.counters.missed += missing;
        self.counters.last_detection = detected_after;
        steps.push(Step::Gap { missing, detected_after });
    }

    /// A batch of another life.
    fn restart(&mut self, batch: Numbered<T>, now: Timestamp, steps: &mut Vec<Step<T>>) {
        self.held.clear();
        self.replayed = None;
        self.reset(ResetReason::Restarted, steps);
        if batch.seq == 0 || self.settings.replay == Replay::Absent {
            self.begin(batch, now, steps);
        } else {
            self.hold(batch);
            self.ask(Why::Beginning, 0, now, steps);
        }
    }

    fn drain(&mut self, now: Timestamp, steps: &mut Vec<Step<T>>) {
        while let (Some(next), Some(first)) = (self.next, self.held.first()) {
            if first > next {
                break;
            }
            let Some(batch) = self.held.pop() else { break };
            if first == next {
                self.apply(batch, now, steps);
            } else {
                self.counters.duplicates += 1;
            }
        }
    }

    fn hold(&mut self, batch: Numbered<T>) {
        self.counters.overflowed += u64::from(self.held.put(batch) == Put::Dropped);
    }

    /// What is held back stays: it is newer than whatever made the state void.
    fn reset(&mut self, reason: ResetReason, steps: &mut Vec<Step<T>>) {
        self.counters.resets += 1;
        self.next = None;
        self.coverage = Coverage::Partial;
        self.marks.clear();
        self.asked = None;
        steps.push(Step::Reset(reason));
    }

    fn ask(&mut self, why: Why, from: u64, now: Timestamp, steps: &mut Vec<Step<T>>) {
        self.counters.replays += 1;
        self.asked = Some(Asked { why, from, heard: now, answers: Answers::None });
        steps.push(Step::AskReplay(from));
    }
}
