//! Builders for tests: tables as they come off the wire, and a request driven through its life.

use prost::Message;

use crate::brain::Brain;
use crate::clock::Timestamp;
use crate::lifecycle::{Effect, Input, Lifecycle, Plan};
use crate::wire;

pub(crate) fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(ms * 1_000_000)
}

pub(crate) fn settings() -> wire::PoolSettings {
    wire::PoolSettings {
        chunk_bytes: 16,
        slo_ttft_seconds: 2.0,
        slo_tpot_seconds: 0.05,
        choices: 3,
        explain: true,
        max_body_bytes: 10_000,
        session_header: "x-session-token".to_owned(),
        stale_after_ms: 2000,
        profile: None,
        flow: None,
        objectives: Vec::new(),
        rewrites: Vec::new(),
        admission: None,
    }
}

/// A pool of `ports.len()` ready endpoints on 10.0.0.1, in slot order, that serves the models named.
pub(crate) fn pool(name: &str, ports: &[u16], models: &[&str]) -> wire::PoolChange {
    let endpoints = (0..).zip(ports).map(|(slot, port)| wire::Endpoint {
        slot,
        address: format!("10.0.0.1:{port}"),
        ..wire::Endpoint::default()
    });
    let models = models.iter().map(|name| wire::Model { name: (*name).to_owned(), base: String::new() });
    wire::PoolChange {
        name: name.to_owned(),
        settings: Some(settings()),
        models: Some(wire::ModelList { models: models.collect() }),
        endpoints: endpoints.collect(),
        ..wire::PoolChange::default()
    }
}

pub(crate) fn snapshot(version: u64, pools: Vec<wire::PoolChange>) -> Vec<u8> {
    wire::Segment { epoch: 1, version, part: 1, parts: 1, pools }.encode_to_vec()
}

pub(crate) fn brain(pools: Vec<wire::PoolChange>) -> Brain {
    let mut brain = Brain::default();
    brain.fold(&snapshot(1, pools), at(0)).unwrap();
    brain
}

/// One request and what came of it.
pub(crate) struct Driven {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) effects: Vec<Effect>,
}

pub(crate) const CHAT: &str = "/v1/chat/completions";

pub(crate) fn chat_body(model: &str, content: &str) -> String {
    serde_json::json!({"model": model, "stream": true, "messages": [{"role": "user", "content": content}]}).to_string()
}

/// POSTs `body` to `path` with further headers, up to the decision.
pub(crate) fn post(brain: &mut Brain, path: &str, extra: &[(&str, &str)], body: &[u8], now: Timestamp) -> Driven {
    let mut headers: Vec<(&[u8], &[u8])> = vec![(b":method", b"POST"), (b":path", path.as_bytes())];
    headers.extend(extra.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let mut lifecycle = Lifecycle::default();
    let plan = Plan::default();
    let begin = Input::RequestHeaders { headers: &headers, end_of_stream: false };
    let mut effects = lifecycle.on(begin, brain, &plan, now);
    effects.extend(lifecycle.on(Input::RequestBody { chunk: body, end_of_stream: true }, brain, &plan, now));
    Driven { lifecycle, effects }
}

impl Driven {
    pub(crate) fn on(&mut self, input: Input<'_>, brain: &mut Brain, now: Timestamp) -> Vec<Effect> {
        self.lifecycle.on(input, brain, &Plan::default(), now)
    }

    /// The steering list, best first.
    pub(crate) fn destination(&self) -> Vec<&str> {
        let steered = self.effects.iter().find_map(|effect| {
            let Effect::Steer { destination, .. } = effect else { return None };
            Some(destination.split(',').collect())
        });
        steered.unwrap_or_else(|| panic!("not steered: {:?}", self.effects))
    }

    /// Status and body of the answer made here.
    pub(crate) fn reply(&self) -> (u16, String) {
        let reply = self.effects.iter().find_map(|effect| {
            let Effect::Reply(reply) = effect else { return None };
            Some((reply.status, String::from_utf8(reply.body.clone()).unwrap()))
        });
        reply.unwrap_or_else(|| panic!("not answered: {:?}", self.effects))
    }
}
