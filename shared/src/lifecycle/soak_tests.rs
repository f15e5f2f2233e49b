//! Very many requests with everything that can go wrong, in one worker whose table changes under them. The books are compared
//! with the requests' phases all the time, and are empty at the end. A million requests, in less than a minute:
//! `cargo test -p shared --lib soak -- --ignored`.

use std::collections::{BTreeMap, HashMap};

use prost::Message;

use super::*;
use crate::brain::flow::Left;
use crate::circuit::Standing;
use crate::draw::Draw;
use crate::table::live::Work;
use crate::testing::{CHAT, brain, chat_body, pool, settings, snapshot};
use crate::wire;
use crate::wire::flow_control::Hold;

/// Requests that are open at a time.
const OPEN: usize = 96;
/// Longer than the longest band's time to wait and the longest deadline.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(10);
const TOKEN: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
const USAGE: &[u8] =
    b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":50,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n";

struct Open {
    lifecycle: Lifecycle,
    /// `ip:port`, best first; empty before it is steered.
    destination: Vec<String>,
    ticket: Option<Ticket>,
}

#[derive(Debug, Default)]
struct Tally {
    queued: u64,
    left_queue: u64,
    gone_from_queue: u64,
    answered_here: u64,
    complete: u64,
    aborted: u64,
    fell_back: u64,
    stalled: u64,
    opened: u64,
    closed: u64,
}

struct Soak {
    brain: Brain,
    draw: Draw,
    now: Timestamp,
    ticked: Timestamp,
    version: u64,
    number: u64,
    open: HashMap<u64, Open>,
    numbers: Vec<u64>,
    /// Who waits, since when.
    queued: BTreeMap<Ticket, (u64, Timestamp)>,
    tally: Tally,
}

/// Two pools that share two engines; the first holds requests.
fn rows(name: &str) -> wire::PoolChange {
    let band = |priority, ttl_seconds| wire::Band { priority, limit: 1.0, ttl_seconds, ..wire::Band::default() };
    let bands = vec![
        wire::Band { deadline: true, ..band(10, 0.2) },
        wire::Band { min_share: 0.2, max_requests: 30, ..band(0, 0.3) },
        band(-10, 0.6),
    ];
    let hold = Some(Hold::Prediction(wire::Prediction { token_budget: 200.0, ignore_tpot: false }));
    let flow =
        wire::FlowControl { bands, hold, max_requests: 40, max_bytes: 4000, skip: 4, ..wire::FlowControl::default() };
    let objective = |name: &str, priority| wire::Objective { name: name.to_owned(), priority };
    let (ports, models, flow): (&[u16], _, _) =
        if name == "held" { (&[1, 2, 3, 4], ["m"], Some(flow)) } else { (&[3, 4, 5], ["n"], None) };
    let settings = wire::PoolSettings {
        flow,
        objectives: vec![objective("vip", 10), objective("batch", -10)],
        first_token_timeout_seconds: 0.06,
        slow_start_seconds: 2.0,
        ..settings()
    };
    wire::PoolChange { settings: Some(settings), ..pool(name, ports, &models) }
}

impl Soak {
    fn new(seed: u64) -> Self {
        Self {
            brain: brain(vec![rows("held"), rows("free")]),
            draw: Draw::from_seed(seed),
            now: Timestamp::ZERO,
            ticked: Timestamp::ZERO,
            version: 1,
            number: 0,
            open: HashMap::new(),
            numbers: Vec::new(),
            queued: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    fn chance(&mut self, of: u32) -> bool {
        self.draw.below(of) == 0
    }

    fn pass(&mut self, wait: Duration) {
        self.now = self.now.after(wait);
        if self.now.since(self.ticked) >= TICK {
            self.tick();
        }
    }

    /// What a worker does at its ticks.
    fn tick(&mut self) {
        self.ticked = self.now;
        if self.chance(40) {
            self.change_table();
        }
        for turned in self.brain.pass_time(self.now) {
            self.count(&Event::Turned(turned));
        }
        self.brain.pump(self.now);
        for ticket in self.brain.turns() {
            let waited = self.queued.get(&ticket).map(|&(number, _)| number);
            // A client that leaves between the verdict and the turn.
            match waited {
                Some(number) if self.chance(10) => self.end(number),
                Some(number) => self.step(number, Input::Turn),
                None => {}
            }
        }
        if self.chance(5) {
            self.brain.report(1);
        }
        self.compare();
    }

    fn change_table(&mut self) {
        self.version += 1;
        let slot = self.draw.below(4);
        let whole = rows("held");
        let change = |change| wire::PoolChange { name: "held".to_owned(), ..change };
        let mut endpoint = whole.endpoints[slot as usize].clone();
        let pools = match self.draw.below(8) {
            0 => vec![change(wire::PoolChange { removed_slots: vec![slot], ..wire::PoolChange::default() })],
            1 | 2 => vec![change(wire::PoolChange { endpoints: whole.endpoints, ..wire::PoolChange::default() })],
            kind @ (3 | 4) => {
                let states = [wire::EndpointState::Unhealthy, wire::EndpointState::Draining];
                endpoint.state = states[usize::from(kind == 4)].into();
                vec![change(wire::PoolChange { endpoints: vec![endpoint], ..wire::PoolChange::default() })]
            }
            5 => {
                let settings = wire::PoolSettings { flow: None, ..whole.settings.unwrap() };
                vec![change(wire::PoolChange { settings: Some(settings), ..wire::PoolChange::default() })]
            }
            6 => vec![wire::PoolChange { name: "held".to_owned(), removed: true, ..wire::PoolChange::default() }],
            _ => {
                let pools = vec![rows("held"), rows("free")];
                self.brain.fold(&snapshot(self.version, pools), self.now).unwrap();
                return self.tell_live();
            }
        };
        let delta = wire::Segment { epoch: 1, version: self.version, pools, ..wire::Segment::default() };
        if self.brain.fold(&delta.encode_to_vec(), self.now).is_err() {
            // It changed a pool that is gone: the next snapshot heals it.
            self.version -= 1;
        }
    }

    fn tell_live(&mut self) {
        let failing = self.draw.below(6);
        let row = |slot| wire::LiveEndpoint {
            slot,
            slowness: 1.0,
            failing: slot == failing,
            ..wire::LiveEndpoint::default()
        };
        let pool = wire::LivePool {
            name: "held".to_owned(),
            gateways: 2,
            endpoints: (0..4).map(row).collect(),
            ..Default::default()
        };
        self.brain.set_live(wire::Live { epoch: 1, pools: vec![pool], counted: Vec::new() }, self.now).unwrap();
    }

    fn begin(&mut self) {
        self.number += 1;
        let number = self.number;
        let id = number.to_string();
        let objective = ["vip", "", "batch"][self.draw.below(3) as usize];
        let tenant = ["a", "b", "c"][self.draw.below(3) as usize];
        let method: &[u8] = if self.chance(20) { b"GET" } else { b"POST" };
        let headers: [(&[u8], &[u8]); 5] = [
            (b":method", method),
            (b":path", CHAT.as_bytes()),
            (b"x-request-id", id.as_bytes()),
            (b"x-llm-d-inference-objective", objective.as_bytes()),
            (b"x-llm-d-inference-fairness-id", tenant.as_bytes()),
        ];
        let open = Open { lifecycle: Lifecycle::default(), destination: Vec::new(), ticket: None };
        self.open.insert(number, open);
        self.numbers.push(number);
        self.step(number, Input::RequestHeaders { headers: &headers, end_of_stream: method == b"GET" });
        let body = self.body();
        match self.draw.below(40) {
            0 => self.end(number),
            1 => self.step(number, Input::BodyOverdue),
            2 => self.step(number, Input::RequestBody { chunk: b"{\"model\": 5}", end_of_stream: true }),
            3 => self.step(number, Input::RequestBody { chunk: &[b' '; 10_001], end_of_stream: false }),
            4 => {
                let (head, tail) = body.split_at(9);
                self.step(number, Input::RequestBody { chunk: head.as_bytes(), end_of_stream: false });
                self.step(number, Input::RequestBody { chunk: tail.as_bytes(), end_of_stream: true });
            }
            _ => self.step(number, Input::RequestBody { chunk: body.as_bytes(), end_of_stream: true }),
        }
    }

    fn body(&mut self) -> String {
        let model = ["m", "m", "m", "n", "unknown"][self.draw.below(5) as usize];
        let prompt = "word ".repeat(self.draw.below(60) as usize);
        let body = chat_body(model, &prompt);
        if self.chance(3) { body.replace("true", "false") } else { body }
    }

    fn step(&mut self, number: u64, input: Input<'_>) {
        let Some(open) = self.open.get_mut(&number) else { return };
        let effects = open.lifecycle.on(input, &mut self.brain, &Plan::default(), self.now);
        for effect in &effects {
            match effect {
                Effect::Steer { destination, .. } => {
                    open.destination = destination.split(',').map(str::to_owned).collect();
                }
                Effect::Wait(ticket) => {
                    open.ticket = Some(*ticket);
                    self.queued.insert(*ticket, (number, self.now));
                }
                Effect::Reply(_) => self.tally.answered_here += 1,
                Effect::RemoveHeader(_)
                | Effect::Hold
                | Effect::TryFor(_)
                | Effect::SetHeader(..)
                | Effect::EditBody { .. }
                | Effect::RemoveResponseHeader(_)
                | Effect::ReplaceChunk(_)
                | Effect::AddResponseHeader(..)
                | Effect::Count(_) => {}
            }
        }
        let over = open.lifecycle.is_over();
        if !open.lifecycle.is_queued() {
            open.ticket.take().map(|ticket| self.queued.remove(&ticket));
        }
        for effect in &effects {
            if let Effect::Count(event) = effect {
                self.count(event);
            }
        }
        if over {
            self.open.remove(&number);
        }
    }

    fn count(&mut self, event: &Event) {
        match event {
            Event::Queued { .. } => self.tally.queued += 1,
            Event::LeftQueue { .. } => self.tally.left_queue += 1,
            Event::Completed { .. } => self.tally.complete += 1,
            Event::FellBack { .. } => self.tally.fell_back += 1,
            Event::Turned(Turned::Stalled { .. }) => self.tally.stalled += 1,
            Event::Turned(Turned::Opened { .. }) => self.tally.opened += 1,
            Event::Turned(Turned::Closed { .. }) => self.tally.closed += 1,
            Event::Routed { .. } | Event::Rejected { .. } | Event::OverBudget { .. } | Event::FirstToken { .. } => {}
        }
    }

    /// The client is gone, or the upstream.
    fn end(&mut self, number: u64) {
        let queued = self.open.get(&number).is_some_and(|open| open.lifecycle.is_queued());
        self.tally.gone_from_queue += u64::from(queued);
        self.tally.aborted += 1;
        self.step(number, Input::Ended);
        assert!(!self.open.contains_key(&number));
    }

    /// Something happens to a request that is open.
    fn go_on(&mut self) {
        if self.numbers.is_empty() {
            return;
        }
        let at = self.draw.below(u32::try_from(self.numbers.len()).unwrap()) as usize;
        let number = self.numbers[at];
        if !self.open.contains_key(&number) {
            self.numbers.swap_remove(at);
            return;
        }
        if self.chance(30) {
            return self.end(number);
        }
        match &self.open[&number].lifecycle.phase {
            Phase::Sent(_) => {
                let by = match self.draw.below(12) {
                    0 => None,
                    1 => Some("10.9.9.9:1".to_owned()),
                    2 | 3 => open_destination(&self.open[&number], 1),
                    _ => open_destination(&self.open[&number], 0),
                };
                let refused = by.is_none();
                let status =
                    if refused { 503 } else { [200, 200, 200, 200, 200, 400, 500, 500][self.draw.below(8) as usize] };
                let event_stream = self.open[&number].lifecycle.asked_for_events();
                self.step(
                    number,
                    Input::ResponseHeaders { status, event_stream, encoded: false, served_by: by.as_deref() },
                );
            }
            Phase::Answering(_) => {
                let last = self.chance(3);
                let chunk = if last { USAGE } else { TOKEN };
                self.step(number, Input::ResponseBody { chunk, end_of_stream: last });
            }
            Phase::Reading(_) => self.end(number),
            Phase::Idle | Phase::Queued(_) | Phase::Over => {}
        }
    }

    /// In the ledger's numbers.
    fn endpoints(&mut self) -> [u32; 5] {
        [1, 2, 3, 4, 5].map(|port| self.brain.ledger.number(EndpointId::of(&format!("10.0.0.1:{port}"))))
    }

    /// The books say what the requests say.
    fn compare(&mut self) {
        let phases = || self.open.values().map(|open| &open.lifecycle.phase);
        let booked = phases().filter(|phase| matches!(phase, Phase::Sent(_) | Phase::Answering(_))).count();
        let queued = phases().filter(|phase| matches!(phase, Phase::Queued(_))).count();
        let left = self.brain.left_in_queues();
        assert_eq!(self.brain.ledger.in_flight(), booked + left.sent, "{:?}", self.tally);
        assert_eq!(queued, left.waiting + left.sent + left.refused, "{left:?} {:?}", self.tally);
        let (times, bookings) = self.brain.ledger.due();
        assert_eq!(times, bookings, "{:?}", self.tally);
        for number in self.endpoints() {
            let tried = self.brain.ledger.standing(number, self.now) == Standing::Probed;
            assert!(!tried || !self.brain.ledger.in_process(number).is_idle(), "a try was not withdrawn");
        }
        if let Some((_, &(number, since))) = self.queued.first_key_value() {
            assert!(self.now.since(since) < LONGEST_WAIT, "{number} is stuck");
        }
    }

    fn run(mut self, requests: u64) {
        while self.number < requests {
            if self.open.len() < OPEN && self.chance(4) {
                self.begin();
            } else {
                self.go_on();
            }
            let wait = Duration::from_micros(u64::from(self.draw.below(400)));
            self.pass(wait);
        }
        while !self.open.is_empty() {
            self.go_on();
            self.pass(Duration::from_millis(1));
        }
        // Whoever left last was told meanwhile.
        self.pass(TICK);
        self.assert_at_rest();
    }

    fn assert_at_rest(&mut self) {
        let Tally { queued, left_queue, gone_from_queue, .. } = self.tally;
        assert_eq!(self.brain.left_in_queues(), Left::default());
        assert_eq!((self.brain.turns(), self.queued.len()), (vec![], 0));
        assert_eq!((self.brain.ledger.in_flight(), self.brain.ledger.due()), (0, (0, 0)));
        assert_eq!(self.brain.ledger.busy().collect::<Vec<_>>(), []);
        assert_eq!(queued, left_queue + gone_from_queue, "who waited was told or left");
        for number in self.endpoints() {
            assert_eq!(self.brain.ledger.in_process(number), Work::default());
        }
        let Tally { answered_here, complete, aborted, fell_back, stalled, opened, closed, .. } = self.tally;
        let all = [queued, gone_from_queue, answered_here, complete, aborted, fell_back, stalled, opened, closed];
        assert!(all.iter().all(|&count| count > self.number / 5000), "something never happened: {:?}", self.tally);
    }
}

fn open_destination(open: &Open, at: usize) -> Option<String> {
    open.destination.get(at).or(open.destination.first()).cloned()
}

#[test]
fn soak_of_a_hundred_thousand_requests_leaves_nothing_behind() {
    Soak::new(1).run(100_000);
}

#[test]
#[ignore = "a million requests: half a minute"]
fn soak_of_a_million_requests_leaves_nothing_behind() {
    Soak::new(2).run(1_000_000);
}
