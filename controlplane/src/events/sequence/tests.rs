//! Cases by name, then the law: against a publisher that drops, forgets and restarts, what is applied is always one
//! life's batches in order, and ends where the publisher is.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

fn sequence(replay: Replay) -> Sequence<u64> {
    Sequence::new(Settings { replay, patience: PATIENCE, held: 8, held_bytes: 800 })
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

/// Batch `seq` of life `life`; its content is its number.
fn batch(life: u64, seq: u64) -> Numbered<u64> {
    Numbered { seq, mark: life << 32 | seq, bytes: 10, content: seq }
}

#[derive(Clone, Copy)]
enum Input {
    Connected,
    Live(u64),
    Replayed(u64),
    Ended,
    Failed,
    /// Live, of the next life.
    Reborn(u64),
    /// Replayed, of the next life.
    RebornReplayed(u64),
}

fn run(sequence: &mut Sequence<u64>, inputs: &[Input]) -> Vec<Step<u64>> {
    let mut steps = Vec::new();
    let now = at(1);
    for input in inputs {
        match *input {
            Connected => sequence.connected(now, &mut steps),
            Live(seq) => sequence.live(batch(1, seq), now, &mut steps),
            Reborn(seq) => sequence.live(batch(2, seq), now, &mut steps),
            Replayed(seq) => sequence.replayed(batch(1, seq), now, &mut steps),
            RebornReplayed(seq) => sequence.replayed(batch(2, seq), now, &mut steps),
            Ended => sequence.replay_ended(now, &mut steps),
            Failed => sequence.replay_failed(now, &mut steps),
        }
    }
    steps
}

use Input::{Connected, Ended, Failed, Live, Reborn, RebornReplayed, Replayed};
use Step::{Apply, AskReplay, Gap, Reset, Synced};

fn gap(missing: u64) -> Step<u64> {
    Gap { missing, detected_after: Duration::ZERO }
}

/// Connected, with batches 0 to 2 applied.
fn synced(replay: Replay) -> Sequence<u64> {
    let mut sequence = sequence(replay);
    run(&mut sequence, &[Connected, Ended, Live(0), Live(1), Live(2)]);
    assert_eq!((sequence.counters().applied, sequence.coverage()), (3, Coverage::Complete));
    sequence
}

#[test]
fn a_first_connection_asks_for_everything_and_holds_live_batches_back_meanwhile() {
    let steps =
        run(&mut sequence(Replay::Available), &[Connected, Live(2), Replayed(0), Replayed(1), Replayed(2), Ended]);
    assert_eq!(steps, [AskReplay(0), Apply(0), Apply(1), Apply(2), Synced(Coverage::Complete)]);
}

#[test]
fn a_publisher_that_forgot_its_beginning_is_known_in_part() {
    let steps = run(&mut sequence(Replay::Available), &[Connected, Replayed(40), Replayed(41), Ended, Live(42)]);
    assert_eq!(steps, [AskReplay(0), Apply(40), Apply(41), Synced(Coverage::Partial), Apply(42)]);
}

#[test]
fn without_replay_the_stream_starts_anywhere() {
    let steps = run(&mut sequence(Replay::Absent), &[Connected, Live(7), Live(8)]);
    assert_eq!(steps, [Apply(7), Synced(Coverage::Partial), Apply(8)]);
    let steps = run(&mut sequence(Replay::Absent), &[Connected, Live(0), Live(1)]);
    assert_eq!(steps, [Apply(0), Synced(Coverage::Complete), Apply(1)]);
}

#[test]
fn a_gap_is_healed_by_a_replay_from_the_first_missing_batch() {
    let mut sequence = synced(Replay::Available);
    let steps = run(&mut sequence, &[Live(5), Live(6), Replayed(3), Replayed(4), Replayed(5), Ended, Live(7)]);
    assert_eq!(
        steps,
        [gap(2), AskReplay(3), Apply(3), Apply(4), Apply(5), Apply(6), Synced(Coverage::Complete), Apply(7)]
    );
    let counters = sequence.counters();
    assert_eq!((counters.gaps, counters.missed, counters.lost, counters.resets), (1, 2, 0, 0));
}

#[test]
fn a_gap_that_the_replay_no_longer_covers_resets_and_goes_on_from_there() {
    let mut sequence = synced(Replay::Available);
    let steps = run(&mut sequence, &[Live(9), Replayed(7), Replayed(8), Replayed(9), Ended]);
    let reset = Reset(ResetReason::Unrecoverable);
    assert_eq!(steps, [gap(6), AskReplay(3), reset, Apply(7), Apply(8), Apply(9), Synced(Coverage::Partial)]);
    assert_eq!(sequence.counters().lost, 4);
}

#[test]
fn a_gap_without_anybody_to_ask_resets() {
    let steps = run(&mut synced(Replay::Absent), &[Live(5)]);
    assert_eq!(steps, [gap(2), Reset(ResetReason::ReplayUnavailable), Apply(5), Synced(Coverage::Partial)]);
}

#[test]
fn a_replay_that_fails_or_falls_silent_resets_and_goes_on() {
    let steps = run(&mut synced(Replay::Available), &[Live(5), Live(6), Failed]);
    let reset = Reset(ResetReason::ReplayUnavailable);
    let rest = [reset, Apply(5), Apply(6), Synced(Coverage::Partial)];
    assert_eq!(steps[2..], rest);

    let mut sequence = synced(Replay::Available);
    run(&mut sequence, &[Live(5), Live(6)]);
    let mut steps = Vec::new();
    assert_eq!(sequence.deadline(), Some(at(6)));
    sequence.tick(at(5), &mut steps);
    assert_eq!(steps, []);
    sequence.tick(at(6), &mut steps);
    assert_eq!(steps, rest);
    assert_eq!(sequence.deadline(), None);
}

#[test]
fn numbers_that_go_backwards_on_one_connection_are_a_restart() {
    let restarted = Reset(ResetReason::Restarted);
    let steps = run(&mut synced(Replay::Available), &[Reborn(0), Reborn(1)]);
    assert_eq!(steps, [restarted.clone(), Apply(0), Synced(Coverage::Complete), Apply(1)]);
    let steps = run(&mut synced(Replay::Available), &[Reborn(1), RebornReplayed(0), RebornReplayed(1), Ended]);
    assert_eq!(steps, [restarted, AskReplay(0), Apply(0), Apply(1), Synced(Coverage::Complete)]);
}

#[test]
fn duplicates_are_ignored() {
    let mut sequence = synced(Replay::Available);
    assert_eq!(run(&mut sequence, &[Live(2), Live(1), Live(3)]), [Apply(3)]);
    assert_eq!(sequence.counters().duplicates, 2);
}

#[test]
fn live_batches_that_a_replay_overtook_are_no_restart() {
    let mut sequence = sequence(Replay::Available);
    run(&mut sequence, &[Connected]);
    let all: Vec<Input> = (0..200).map(Replayed).collect();
    run(&mut sequence, &all);
    assert_eq!(run(&mut sequence, &[Ended, Live(100), Live(101), Live(200)]), [Synced(Coverage::Complete), Apply(200)]);
}

#[test]
fn after_a_reconnect_the_last_batch_is_asked_for_again_and_what_was_missed_comes() {
    let mut sequence = synced(Replay::Available);
    let steps = run(&mut sequence, &[Connected, Replayed(2), Replayed(3), Ended, Live(4)]);
    assert_eq!(steps, [AskReplay(2), Apply(3), Synced(Coverage::Complete), Apply(4)]);
}

#[test]
fn a_restarted_publisher_that_has_already_passed_us_is_found_by_its_mark() {
    let mut sequence = synced(Replay::Available);
    let steps = run(&mut sequence, &[Connected, Reborn(3), RebornReplayed(2)]);
    assert_eq!(steps, [AskReplay(2), Reset(ResetReason::Restarted), AskReplay(0)]);
    let steps = run(&mut sequence, &[0, 1, 2, 3].map(RebornReplayed));
    assert_eq!(steps, [0, 1, 2, 3].map(Apply));
    assert_eq!(run(&mut sequence, &[Ended]), [Synced(Coverage::Complete)]);
}

#[test]
fn a_restarted_publisher_that_has_said_nothing_yet_is_found_by_its_silence() {
    let steps = run(&mut synced(Replay::Available), &[Connected, Ended, Ended, Reborn(0)]);
    let restarted = Reset(ResetReason::Restarted);
    assert_eq!(steps, [AskReplay(2), restarted, AskReplay(0), Synced(Coverage::Complete), Apply(0)]);
}

#[test]
fn a_replay_with_a_hole_is_asked_again_as_long_as_it_brings_the_stream_on() {
    let mut sequence = synced(Replay::Available);
    let steps =
        run(&mut sequence, &[Live(8), Replayed(3), Replayed(4), Replayed(7), Failed, Replayed(5), Replayed(6), Ended]);
    assert_eq!(
        steps,
        [
            gap(5),
            AskReplay(3),
            Apply(3),
            Apply(4),
            AskReplay(5),
            Apply(5),
            Apply(6),
            Apply(7),
            Apply(8),
            Synced(Coverage::Complete)
        ]
    );
}

#[test]
fn a_batch_lost_between_subscribing_and_the_end_of_the_replay_is_asked_for() {
    let steps = run(&mut sequence(Replay::Available), &[Connected, Replayed(0), Live(2), Ended, Replayed(1), Ended]);
    assert_eq!(steps, [AskReplay(0), Apply(0), AskReplay(1), Apply(1), Apply(2), Synced(Coverage::Complete)]);
}

#[test]
fn what_is_held_back_is_bounded_and_found_missing_later() {
    let mut sequence = synced(Replay::Available);
    let live: Vec<Input> = (4..40).map(Live).collect();
    run(&mut sequence, &live);
    assert_eq!(sequence.counters().overflowed, 28);
    let steps = run(&mut sequence, &[Replayed(3), Ended, Live(40)]);
    assert_eq!(steps[9..], [Synced(Coverage::Complete), gap(28), AskReplay(12)]);
}

#[test]
fn detection_is_timed_from_the_last_good_batch() {
    let mut sequence = synced(Replay::Available);
    let mut steps = Vec::new();
    sequence.live(batch(1, 4), at(4), &mut steps);
    assert_eq!(steps[0], Gap { missing: 1, detected_after: Duration::from_secs(3) });
    assert_eq!(sequence.counters().last_detection, Duration::from_secs(3));
}

/// What happens next to a publisher and the way to it.
#[derive(Clone, Copy, Debug)]
enum Event {
    Publish,
    Drop,
    Deliver,
    Reconnect,
    Restart(u64),
    Serve,
    Answer,
    FailReplay,
}

/// A publisher with a short memory, its network, and a follower that checks what it is told.
struct World {
    life: u64,
    next: u64,
    memory: usize,
    buffer: VecDeque<u64>,
    wire: VecDeque<(u64, u64)>,
    asked: Option<u64>,
    answers: VecDeque<Option<(u64, u64)>>,
    sequence: Sequence<(u64, u64)>,
    applied: Vec<(u64, u64)>,
    resets: usize,
}

fn whole(life: u64, seq: u64) -> Numbered<(u64, u64)> {
    Numbered { seq, mark: life << 32 | seq, bytes: 1, content: (life, seq) }
}

impl World {
    fn new(memory: usize) -> Self {
        let settings = Settings { replay: Replay::Available, patience: PATIENCE, held: 6, held_bytes: 100 };
        let mut world = Self {
            life: 1,
            next: 0,
            memory,
            buffer: VecDeque::new(),
            wire: VecDeque::new(),
            asked: None,
            answers: VecDeque::new(),
            sequence: Sequence::new(settings),
            applied: Vec::new(),
            resets: 0,
        };
        world.step(Event::Reconnect);
        world
    }

    fn publish(&mut self, reaches_wire: bool) {
        if reaches_wire {
            self.wire.push_back((self.life, self.next));
        }
        if self.buffer.len() == self.memory {
            self.buffer.pop_front();
        }
        self.buffer.push_back(self.next);
        self.next += 1;
    }

    fn step(&mut self, event: Event) {
        let mut steps = Vec::new();
        let now = at(1);
        match event {
            Event::Publish => self.publish(true),
            Event::Drop => self.publish(false),
            Event::Deliver => {
                if let Some((life, seq)) = self.wire.pop_front() {
                    self.sequence.live(whole(life, seq), now, &mut steps);
                }
            }
            Event::Restart(published) => {
                self.life += 1;
                self.next = 0;
                self.buffer.clear();
                for _ in 0..published {
                    self.publish(false);
                }
                self.reconnect(&mut steps);
            }
            Event::Reconnect => self.reconnect(&mut steps),
            Event::Serve => {
                if let Some(from) = self.asked.take() {
                    let life = self.life;
                    self.answers =
                        self.buffer.iter().filter(|seq| **seq >= from).map(|seq| Some((life, *seq))).collect();
                    self.answers.push_back(None);
                }
            }
            Event::Answer => match self.answers.pop_front() {
                Some(Some((life, seq))) => self.sequence.replayed(whole(life, seq), now, &mut steps),
                Some(None) => self.sequence.replay_ended(now, &mut steps),
                None => {}
            },
            Event::FailReplay => {
                self.asked = None;
                self.answers.clear();
                self.sequence.replay_failed(now, &mut steps);
            }
        }
        self.obey(steps);
    }

    fn reconnect(&mut self, steps: &mut Vec<Step<(u64, u64)>>) {
        self.wire.clear();
        self.sequence.connected(at(1), steps);
    }

    fn obey(&mut self, steps: Vec<Step<(u64, u64)>>) {
        for step in steps {
            match step {
                Apply((life, seq)) => {
                    if let Some((before, last)) = self.applied.last() {
                        assert_eq!((life, seq), (*before, last + 1), "out of order");
                    }
                    self.applied.push((life, seq));
                }
                AskReplay(from) => {
                    self.asked = Some(from);
                    self.answers.clear();
                }
                Reset(_) => {
                    self.applied.clear();
                    self.resets += 1;
                }
                Synced(Coverage::Complete) => {
                    assert!(self.applied.first().is_none_or(|(_, seq)| *seq == 0), "not complete");
                }
                Synced(Coverage::Partial) | Gap { .. } => {}
            }
        }
    }

    /// Everything that is under way arrives.
    fn calm_down(&mut self) {
        for _ in 0..1000 {
            if self.wire.is_empty() && self.asked.is_none() && self.answers.is_empty() {
                return;
            }
            self.step(Event::Deliver);
            self.step(Event::Serve);
            self.step(Event::Answer);
        }
        panic!("it never ends");
    }
}

fn network() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Publish),
        1 => Just(Event::Drop),
        5 => Just(Event::Deliver),
        1 => Just(Event::Reconnect),
        3 => Just(Event::Serve),
        8 => Just(Event::Answer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn one_life_in_order_up_to_its_end_whatever_happens(
        memory in 1_usize..30,
        events in proptest::collection::vec(
            prop_oneof![20 => network(), 1 => (0_u64..12).prop_map(Event::Restart)], 0..300),
    ) {
        let mut world = World::new(memory);
        for event in events {
            world.step(event);
        }
        world.calm_down();
        world.step(Event::Publish);
        world.calm_down();
        prop_assert_eq!(world.applied.last(), Some(&(world.life, world.next - 1)));
    }

    #[test]
    fn a_publisher_that_remembers_and_lives_is_followed_without_a_single_reset(
        events in proptest::collection::vec(network(), 0..300),
    ) {
        let mut world = World::new(usize::MAX);
        for event in events {
            world.step(event);
        }
        world.calm_down();
        world.step(Event::Publish);
        world.calm_down();
        prop_assert_eq!((world.resets, world.applied.len() as u64), (0, world.next));
        prop_assert_eq!(world.sequence.coverage(), Coverage::Complete);
        let counters = world.sequence.counters();
        prop_assert_eq!((counters.lost, counters.applied), (0, world.next));
    }

    #[test]
    fn failing_replays_never_disturb_the_order(
        memory in 1_usize..30,
        events in proptest::collection::vec(prop_oneof![10 => network(), 1 => Just(Event::FailReplay)], 0..300),
    ) {
        let mut world = World::new(memory);
        for event in events {
            world.step(event);
        }
        world.calm_down();
        world.step(Event::Publish);
        world.calm_down();
        prop_assert_eq!(world.applied.last(), Some(&(1, world.next - 1)));
    }
}
