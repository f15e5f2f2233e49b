//! The event loop: whatever happens next, in order of time, ties in the order they were scheduled. Requests travel in
//! `traffic`, tables and reports in `control`.

mod control;
mod queue;
mod traffic;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use shared::clock::Timestamp;
use vllm_sim::engine::{BlockHash, ConfigError, Engine, EngineEvent, PromptSpec, Usage};

use crate::gateway::{Gateway, Told};
use crate::outcome::{Leftovers, Outcome, Record};
use crate::plane::Plane;
use crate::policy::{Baseline, Policy};
use crate::random::Random;
use crate::scenario::{Scenario, Sharing, SpeedChange};
use crate::workload::{Arrival, ConversationId, Workload};

/// The engines' clock starts at 0, the brain's somewhere later: a timestamp of 0 means "never" to some.
const ORIGIN: f64 = 1000.0;
/// Reports, publications and scrapes go on for this long after the last request, so that everything is told.
const SETTLE: f64 = 6.5;

/// A scenario that cannot run.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum RunError {
    /// An engine parameter is out of range.
    #[error(transparent)]
    Engine(#[from] ConfigError),
    /// There must be at least one of everything.
    #[error("{0}: must be above 0")]
    Empty(&'static str),
}

/// What happens.
enum Happening {
    Arrive(Box<Arrival>),
    Submit { request: usize, pod: usize, spec: Box<PromptSpec> },
    Step { pod: usize },
    FirstToken { request: usize },
    Token { request: usize },
    Finish { request: usize, usage: Usage },
    Abort { request: usize },
    Tick { gateway: usize },
    Report { gateway: usize, bytes: Vec<u8> },
    Publish,
    Hear { gateway: usize, told: Told },
    Scrape { pod: usize },
    Scraped { pod: usize, sample: controlplane::datastore::LoadSample },
    Speed(SpeedChange),
    OutageBegins,
    OutageEnds,
    GiveUp,
}

struct Scheduled {
    at: f64,
    serial: u64,
    happening: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.total_cmp(&other.at).then(self.serial.cmp(&other.serial))
    }
}

/// What comes, in order of time.
#[derive(Default)]
struct Agenda {
    heap: BinaryHeap<Reverse<Scheduled>>,
    serial: u64,
}

impl Agenda {
    fn add(&mut self, at: f64, happening: Happening) {
        self.serial += 1;
        self.heap.push(Reverse(Scheduled { at, serial: self.serial, happening }));
    }
}

/// A pod: its engine and when it next has something to do.
struct Pod {
    address: String,
    engine: Engine,
    wakes_at: Option<f64>,
}

/// Who chooses at one gateway.
enum Chooser {
    Brain(Box<Gateway>),
    Baseline(Baseline),
}

struct World<'a> {
    scenario: &'a Scenario,
    now: f64,
    agenda: Agenda,
    workload: Workload,
    chance: Random,
    pods: Vec<Pod>,
    numbers: HashMap<String, usize>,
    choosers: Vec<Chooser>,
    /// Between begin of an outage and the moment they notice, gateways report to nobody.
    links: Vec<Link>,
    planes: Vec<Plane>,
    epoch: u64,
    silent: bool,
    records: Vec<Record>,
    conversations: HashMap<usize, ConversationId>,
    /// Prompts of requests that wait in a gateway.
    queued: HashMap<usize, PromptSpec>,
    /// Decides who asks.
    who: Random,
    said: HashSet<BlockHash>,
    in_flight: usize,
    arriving: bool,
    quiet_since: Option<f64>,
    events: Vec<EngineEvent>,
    outcome: Outcome,
}

/// A gateway's stream, as it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Up,
    Down,
}

/// Runs a scenario to its end.
///
/// # Errors
/// When the scenario makes no sense.
pub fn run(scenario: &Scenario) -> Result<Outcome, RunError> {
    for (count, name) in [(scenario.pods, "pods"), (scenario.gateways, "gateways")] {
        if count == 0 {
            return Err(RunError::Empty(name));
        }
    }
    if !(scenario.rate > 0.0 && scenario.until > 0.0) {
        return Err(RunError::Empty("rate, until"));
    }
    let mut world = World::new(scenario)?;
    world.begin();
    while let Some(Reverse(next)) = world.agenda.heap.pop() {
        world.now = next.at;
        if world.quiet_since.is_some_and(|quiet| next.at > quiet + SETTLE) {
            break;
        }
        world.happen(next.happening);
    }
    Ok(world.close())
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Result<Self, RunError> {
        let address = |pod: usize| format!("10.{}.{}.{}:8000", pod >> 16, (pod >> 8) & 255, pod & 255);
        let addresses: Vec<String> = (1..=scenario.pods).map(address).collect();
        let pod = |address: &String| {
            let engine = Engine::new(scenario.engine.clone())?;
            Ok(Pod { address: address.clone(), engine, wakes_at: None })
        };
        let pods = addresses.iter().map(pod).collect::<Result<Vec<Pod>, RunError>>()?;
        let chooser = |gateway: usize| match scenario.policy {
            Policy::Kvasir => Chooser::Brain(Box::default()),
            policy @ (Policy::RoundRobin | Policy::LeastRequest | Policy::Random) => {
                let random = Random::new(scenario.seed, 100 + u64::try_from(gateway).unwrap_or(0));
                Chooser::Baseline(Baseline::new(policy, scenario.pods, random))
            }
        };
        let planes = match (scenario.policy, scenario.sharing) {
            (Policy::Kvasir, Sharing::Shared) => 1,
            (Policy::Kvasir, Sharing::Alone) => scenario.gateways,
            (Policy::RoundRobin | Policy::LeastRequest | Policy::Random, _) => 0,
        };
        Ok(Self {
            scenario,
            now: 0.0,
            agenda: Agenda::default(),
            workload: Workload::new((scenario.workload, scenario.rhythm), scenario.rate, scenario.seed),
            chance: Random::new(scenario.seed, 3),
            numbers: addresses.iter().cloned().zip(0..).collect(),
            pods,
            choosers: (0..scenario.gateways).map(chooser).collect(),
            links: vec![Link::Up; scenario.gateways],
            planes: (0..planes).map(|_| Plane::new(1, &addresses, scenario.flow.clone())).collect(),
            epoch: 1,
            silent: false,
            records: Vec::new(),
            conversations: HashMap::new(),
            queued: HashMap::new(),
            who: Random::new(scenario.seed, 4),
            said: HashSet::new(),
            in_flight: 0,
            arriving: true,
            quiet_since: None,
            events: Vec::new(),
            outcome: Outcome { window: (scenario.warm, scenario.until), pods: scenario.pods, ..Outcome::default() },
        })
    }

    fn begin(&mut self) {
        for &change in &self.scenario.speeds {
            self.agenda.add(change.at, Happening::Speed(change));
        }
        if let Some(outage) = self.scenario.outage {
            self.agenda.add(outage.from, Happening::OutageBegins);
            self.agenda.add(outage.from + self.scenario.pace.silence, Happening::GiveUp);
            self.agenda.add(outage.until, Happening::OutageEnds);
        }
        if !self.planes.is_empty() {
            self.begin_control();
        }
        self.schedule_arrival();
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive(arrival) => self.arrive(*arrival),
            Happening::Submit { request, pod, spec } => self.submit(request, pod, *spec),
            Happening::Step { pod } => self.step(pod),
            Happening::FirstToken { request } => self.first_token(request),
            Happening::Token { request } => self.token(request),
            Happening::Finish { request, usage } => self.finish(request, &usage),
            Happening::Abort { request } => self.abort(request),
            Happening::Tick { gateway } => self.tick(gateway),
            Happening::Report { gateway, bytes } => self.report(gateway, &bytes),
            Happening::Publish => self.publish(),
            Happening::Hear { gateway, told } => self.hear(gateway, &told),
            Happening::Scrape { pod } => self.scrape(pod),
            Happening::Scraped { pod, sample } => self.scraped(pod, &sample),
            Happening::Speed(change) => {
                if let Some(pod) = self.pods.get_mut(change.pod) {
                    pod.engine.set_speed(change.speed);
                }
            }
            Happening::OutageBegins => self.silent = true,
            Happening::GiveUp => self.links.fill(Link::Down),
            Happening::OutageEnds => self.end_outage(),
        }
        if self.in_flight == 0 && !self.arriving {
            self.quiet_since.get_or_insert(self.now);
        }
    }

    /// The brain's clock.
    fn stamp(&self) -> Timestamp {
        Timestamp::from_secs_f64(ORIGIN + self.now)
    }

    fn close(mut self) -> Outcome {
        let now = self.stamp();
        let mut left = Leftovers::default();
        for chooser in &self.choosers {
            let Chooser::Brain(gateway) = chooser else { continue };
            left.bookings += gateway.brain.ledger.in_flight();
            left.queued += gateway.brain.waiting(crate::plane::POOL);
            left.streams += gateway.open_requests();
            left.busy_endpoints += gateway.brain.ledger.busy().count();
            let rows = gateway.brain.live(crate::plane::POOL).map(|live| live.endpoints.as_slice()).unwrap_or_default();
            left.busy_endpoints += rows.iter().filter(|row| !row.others.is_idle()).count();
            self.outcome.refused_messages += gateway.refused();
        }
        for plane in &mut self.planes {
            for endpoint in plane.status(now).pools.iter().flat_map(|pool| &pool.endpoints) {
                left.counted += endpoint.waiting + endpoint.decoding;
                left.queued_tokens += endpoint.queued_tokens;
            }
        }
        for pod in &self.pods {
            let metrics = pod.engine.metrics();
            left.sequences += metrics.running + metrics.waiting + metrics.arriving;
            left.broken_engines += usize::from(pod.engine.audit().is_err());
            self.outcome.preemptions += metrics.preemptions;
        }
        Outcome { records: self.records, leftovers: left, ..self.outcome }
    }
}
